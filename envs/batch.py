"""What both environments share: B shoppers behind a slate-shaped door, their encoder's memory, and what an agent sees.

Shapes: B rows (shoppers), n some of them, K slots, T tokens, H tokens kept in a history, N items, D state width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..datasets.schema import N_EVENTS
from ..encoders.state import StateEncoder
from ..simulators.shopper import Response, Shopper, without_repeats
from .doubt import Doubt
from .rewards import RewardMix
from .spaces import SlateSpace

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Observation = Any
"""(B, D) float32 under `observation="state"`, a dict of arrays under `"history"`."""
ObservationKind = Literal["state", "history"]

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class Recent:
    """The last H tokens of each of B rows, left-aligned, oldest first, zeros after the end.

    Attributes:
        items: (B, H) int64. events: (B, H) int64. gaps: (B, H) float32 seconds. lengths: (B, 1) int64.
        slates: (B, H, K) int64 the slate that each token answers, zeros where the shopper brought the token along.
    """

    items: Ints
    events: Ints
    gaps: Floats
    lengths: Ints
    slates: Ints

    @classmethod
    def empty(cls, rows: int, width: int, k: int) -> "Recent":
        """No tokens yet."""
        items, slates = np.zeros((rows, width), np.int64), np.zeros((rows, width, k), np.int64)
        return cls(items, items.copy(), np.zeros((rows, width), np.float32), np.zeros((rows, 1), np.int64), slates)

    def add(self, items: Ints, events: Ints, gaps: Floats, slates: Ints | None = None) -> None:
        """Append one token; a row whose item is 0 stays as it was, a full one forgets its oldest.

        Args:
            items: (B,).
            events: (B,).
            gaps: (B,).
            slates: (B, K) what the tokens answer; None for tokens brought along.
        """
        width = self.items.shape[1]
        new = np.flatnonzero(items)
        full = new[self.lengths[new, 0] == width]
        for column in (self.items, self.events, self.gaps, self.slates):
            column[full, :-1] = column[full, 1:]
        place = np.minimum(self.lengths[new, 0], width - 1)
        self.items[new, place], self.events[new, place], self.gaps[new, place] = items[new], events[new], gaps[new]
        self.slates[new, place] = 0 if slates is None else slates[new]
        self.lengths[new, 0] = place + 1

    def put(self, rows: Ints, other: "Recent") -> None:
        """Overwrite some rows with all rows of `other`."""
        self.items[rows], self.events[rows] = other.items, other.events
        self.gaps[rows], self.lengths[rows] = other.gaps, other.lengths
        self.slates[rows] = other.slates


@dataclass(slots=True)
class Arrivals:
    """Shoppers who have come, with what is remembered of them.

    Attributes:
        state: the simulator's. memory: the encoder's. recent: last tokens, where the observation shows them.
    """

    state: Any
    memory: Any
    recent: Recent | None

    def put(self, rows: Ints, other: "Arrivals") -> None:
        """Overwrite some rows, in place, with all rows of `other`."""
        places = torch.from_numpy(rows)
        self.state.put(places.to(self.state.seed.device), other.state)
        self.memory.put(places.to(self.memory.state.device), other.memory)
        if self.recent is not None and other.recent is not None:
            self.recent.put(rows, other.recent)


@dataclass(frozen=True, slots=True)
class Turn:
    """One slate shown to each of B shoppers, and what came of it.

    Attributes:
        slate: (B, K) int64 as the shoppers saw it: repeats and unavailable items are empty slots.
        response: what the shoppers did.
        rewards: (B,) float64.
        terminated: (B,) bool, the shopper left. truncated: (B,) bool, the limit of slates was reached first.
        figures: business figures by name, (B,) each; see `ShopEnv`.
    """

    slate: Tensor
    response: Response
    rewards: NDArray[np.float64]
    terminated: Bools
    truncated: Bools
    figures: dict[str, NDArray[Any]]


class ShopBatch:
    """B shoppers who arrive, see slates and leave; rows are independent of each other.

    Args:
        rows: number of shoppers, B, at least 1.
        shopper: who arrives and how they respond.
        encoder: turns what they do into the state an agent sees; over the same items as `shopper`.
        k: slots in a slate, in [1, n_items].
        reward: what a slate earns.
        max_slates: slates after which an episode is truncated, at least 1.
        observation: `"state"` or `"history"`.
        history_len: tokens kept in a history observation, at least 1.
        available: (n_items + 1,) bool, whether an item may be shown; entry 0 is passed over. All by default.
        doubt: price of the disagreement of the shopper's ensemble (see `doubt.Doubt`), which is then a figure too;
            0 tells it only, None not even.

    Raises:
        ValueError: a setting is out of range, or the encoder knows another number of items than the shopper, or doubt
            is asked of a shopper without an ensemble.
    """

    def __init__(
        self,
        rows: int,
        shopper: Shopper,
        encoder: StateEncoder,
        k: int,
        reward: RewardMix,
        max_slates: int,
        observation: ObservationKind,
        history_len: int,
        available: ArrayLike | None,
        doubt: float | None = None,
    ) -> None:
        _check(rows, shopper, encoder, max_slates, observation, history_len)
        self.doubt = None if doubt is None else Doubt.of(shopper, reward, doubt)
        self.rows, self.shopper, self.encoder, self.reward = rows, shopper, encoder, reward
        self.k, self.max_slates, self.history_len = k, max_slates, history_len
        self.available = _as_mask(available, shopper.n_items)
        self.action_space = SlateSpace(shopper.n_items, k, self.available)
        self.observation_space = _space(observation, encoder.dim, shopper.n_items, history_len, k)
        self.slates = np.zeros(rows, np.int64)
        self.shopper_seeds = np.zeros(rows, np.int64)
        self.last: Turn | None = None
        self._shown_allowed = None if self.available is None else torch.from_numpy(self.available).to(shopper.device)
        self._encoder_device = encoder.item_vectors.device
        self._tells_history = observation == "history"
        self._here: Arrivals | None = None

    @property
    def started(self) -> bool:
        """Whether shoppers have arrived."""
        return self._here is not None

    @property
    def here(self) -> Arrivals:
        """The shoppers who are in the shop now."""
        assert self._here is not None, "arrive() comes first"
        return self._here

    @torch.no_grad()
    def prepare(self, seeds: Ints) -> Arrivals:
        """Shoppers of these seeds, (n,), as they are when they arrive."""
        state = self.shopper.reset(torch.from_numpy(seeds).to(self.shopper.device))
        memory = self.encoder.start(len(seeds))
        recent = Recent.empty(len(seeds), self.history_len, self.k) if self._tells_history else None
        came = state.arrival
        for place in range(int(came.lengths.max())):
            token = came.items[:, place], came.events[:, place], came.gaps[:, place]
            memory = self._append(memory, recent, *token)
        return Arrivals(state, memory, recent)

    def arrive(self, rows: Ints, seeds: Ints, arrivals: Arrivals | None = None) -> None:
        """Shoppers take the places of some rows, (n,) each; the first time, of all rows in order.

        Args:
            rows: ascending row numbers.
            seeds: of the shoppers.
            arrivals: the shoppers, where they are prepared already.
        """
        arrivals = arrivals or self.prepare(seeds)
        if self._here is None or len(rows) == self.rows:
            self._here = arrivals
        else:
            self._here.put(rows, arrivals)
        self.slates[rows] = 0
        self.shopper_seeds[rows] = seeds

    def _append(
        self,
        memory: Any,
        recent: Recent | None,
        items: Tensor,
        events: Tensor,
        gaps: Tensor,
        slate: Tensor | None = None,
    ) -> Any:
        if recent is not None:
            recent.add(_numpy(items), _numpy(events), _numpy(gaps), None if slate is None else _numpy(slate))
        to = self._encoder_device
        return self.encoder.step(memory, items.to(to), events.to(to), gaps.to(to))

    @torch.no_grad()
    def show(self, slates: ArrayLike) -> Turn:
        """Show a slate to each shopper.

        Args:
            slates: (B, K) integers in [0, n_items], best place first.

        Raises:
            ValueError: another shape, no integers, or an item that does not exist.
        """
        here, slate = self.here, self._legal(slates)
        gap = here.state.gap.clone()  # the token's gap; `respond` uses the state up
        doubt = None if self.doubt is None else self.doubt.about(here.state, slate)
        response, here.state = self.shopper.respond(here.state, slate)
        here.memory = self._append(here.memory, here.recent, *response.tokens(slate), gap, slate)
        self.slates += 1
        terminated = _numpy(response.left)
        truncated = (self.slates >= self.max_slates) & ~terminated
        rewards = _numpy(self.reward(response)).astype(np.float64)
        figures = _figures(slate, response)
        if self.doubt is not None and doubt is not None:
            figures["doubt"] = doubt
            rewards = rewards - self.doubt.price * doubt
        self.last = Turn(slate, response, rewards, terminated, truncated, figures)
        return self.last

    def _legal(self, slates: ArrayLike) -> Tensor:
        array = np.asarray(slates)
        if array.shape != (self.rows, self.k) or array.dtype.kind not in "iu":
            raise ValueError(
                f"slates must be integers of shape ({self.rows}, {self.k}), got {array.dtype} of shape {array.shape}"
            )
        if array.min() < 0 or array.max() > self.shopper.n_items:
            strange = array[(array < 0) | (array > self.shopper.n_items)][0]
            raise ValueError(f"slates hold items in [0, {self.shopper.n_items}], 0 an empty slot, got {strange}")
        slate = torch.from_numpy(array.astype(np.int64)).to(self.shopper.device)
        if _may_repeat(array):
            slate = without_repeats(slate)
        return slate if self._shown_allowed is None else slate * self._shown_allowed[slate]

    def observe(self, rows: Ints | None = None, out: Observation | None = None) -> Observation:
        """What the agent sees of some rows, or all: arrays of its own, or those of `out`, overwritten."""
        states, recent = self.here.memory.state, self.here.recent
        states = _numpy(states if rows is None else states[torch.from_numpy(rows).to(states.device)])
        if recent is None:
            return np.clip(states, -1.0, 1.0, out=out)  # rounding may carry a unit vector's entry past 1
        chosen = slice(None) if rows is None else rows
        seen = {"events": recent.events, "gaps": recent.gaps, "items": recent.items, "lengths": recent.lengths}
        seen["slates"] = recent.slates.reshape(len(recent.slates), -1)
        if out is None:
            out = {name: np.array(column[chosen]) for name, column in seen.items()}
            out["state"] = np.clip(states, -1.0, 1.0)
            return out
        for name, column in seen.items():
            np.copyto(out[name], column[chosen])
        np.clip(states, -1.0, 1.0, out=out["state"])
        return out


def _may_repeat(slates: NDArray[Any]) -> bool:
    """Whether some slate may hold an item twice: most policies' never do, and looking is cheaper than emptying."""
    places = np.ascontiguousarray(slates.T)  # (K, B)
    return any((places[apart:] == places[:-apart]).any() for apart in range(1, len(places)))


def _figures(slate: Tensor, response: Response) -> dict[str, NDArray[Any]]:
    clicked = response.clicked
    item = slate.gather(1, clicked.clamp(min=0)[:, None])[:, 0] * (clicked >= 0)
    return {
        "clicked": _numpy(clicked),
        "clicked_item": _numpy(item),
        "carted": _numpy(response.carted),
        "purchased": _numpy(response.purchased),
        "quantity": _numpy(response.quantity),
        "revenue": _numpy(response.revenue),
        "dwell": _numpy(response.dwell),
        "examined": _numpy(response.examined.sum(1)),
    }


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()


def _as_mask(available: ArrayLike | None, n_items: int) -> Bools | None:
    if available is None:
        return None
    mask = np.array(available, dtype=np.bool_)
    if mask.shape != (n_items + 1,):
        raise ValueError(
            f"available must have shape ({n_items + 1},), an entry an item and one for 0, got {mask.shape}"
        )
    mask[0] = False
    if not mask.any():
        raise ValueError("no item is available; there is nothing to show")
    return mask


def _space(observation: ObservationKind, dim: int, n_items: int, history_len: int, k: int) -> gym.Space[Any]:
    state = Box(-1.0, 1.0, (dim,), np.float32)
    if observation == "state":
        return state
    return gym.spaces.Dict(
        {
            "events": Box(0, N_EVENTS - 1, (history_len,), np.int64),  # pyright: ignore[reportArgumentType]
            "gaps": Box(0.0, _LARGEST, (history_len,), np.float32),
            "items": Box(0, n_items, (history_len,), np.int64),  # pyright: ignore[reportArgumentType]
            "lengths": Box(0, history_len, (1,), np.int64),  # pyright: ignore[reportArgumentType]
            # Flat, since stable-baselines3 warns of any box that is neither a vector nor an image.
            "slates": Box(0, n_items, (history_len * k,), np.int64),  # pyright: ignore[reportArgumentType]
            "state": state,
        }
    )


def _check(
    rows: int, shopper: Shopper, encoder: StateEncoder, max_slates: int, observation: str, history_len: int
) -> None:
    for name, value in (("num_envs", rows), ("max_slates", max_slates), ("history_len", history_len)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if observation not in ("state", "history"):
        raise ValueError(f"observation must be 'state' or 'history', got {observation!r}")
    if encoder.n_items != shopper.n_items:
        raise ValueError(
            f"the encoder knows {encoder.n_items} items and the shopper {shopper.n_items}; make both from one catalogue"
        )


def with_masks(figures: Mapping[str, NDArray[Any]], present: Bools) -> dict[str, NDArray[Any]]:
    """Figures as Gymnasium's vector infos have them: zero in rows without them, and a mask `_name` beside each."""
    infos: dict[str, NDArray[Any]] = {}
    everywhere = bool(present.all())
    for name, values in figures.items():
        infos[name] = values if everywhere else values * present
        infos[f"_{name}"] = present.copy()
    return infos
