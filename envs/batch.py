"""What both environments share: B shoppers behind a slate-shaped door, their encoder's memory, and what an agent sees.

Shapes: B rows (shoppers), n some of them, K slots, T tokens, H tokens kept in a history, N items, D state width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..encoders.state import StateEncoder
from ..simulators.shopper import Response, Shopper, without_repeats
from .doubt import Doubt
from .observations import candidate_space, history_spaces, is_plain, mask_space, parts_of, real
from .recent import Recent
from .retrieval import Retrieval
from .rewards import SlateOutcome, paid
from .settings import ShopSettings, as_mask
from .spaces import SlateSpace

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Observation = Any
"""(B, D) float32 under `observation="state"`, else a dict of arrays."""


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
        settings: all the rest.

    Raises:
        ValueError: a setting is out of range, or the encoder knows another number of items than the shopper, or doubt
            is asked of a shopper without an ensemble.
    """

    def __init__(self, rows: int, shopper: Shopper, encoder: StateEncoder, settings: ShopSettings) -> None:
        _check(rows, shopper, encoder)
        self.rows, self.shopper, self.encoder, self.settings = rows, shopper, encoder, settings
        self.reward, self.k, self.max_slates = settings.reward, settings.k, settings.max_slates
        self.doubt = None if settings.doubt is None else Doubt.of(shopper, settings.reward, settings.doubt)
        self.available = as_mask(settings.available, shopper.n_items)
        self.parts = parts_of(settings.observation, candidates=settings.candidates is not None)
        self.retrieval = self._made_retrieval()
        self.action_space = self._made_action_space()
        self.observation_space = self._made_observation_space()
        self.slates = np.zeros(rows, np.int64)
        self.shopper_seeds = np.zeros(rows, np.int64)
        self.last: Turn | None = None
        self._shown_allowed = None if self.available is None else torch.from_numpy(self.available).to(shopper.device)
        self._encoder_device = encoder.item_vectors.device
        self._plain = is_plain(settings.observation, self.parts)
        self._candidates = torch.zeros(0)  # (B, M + 1) once shoppers have arrived, where there is retrieval
        self._never = torch.zeros(rows, dtype=torch.bool, device=shopper.device)
        self._no_days = torch.zeros(rows, device=shopper.device)
        self._here: Arrivals | None = None

    def _made_retrieval(self) -> Retrieval | None:
        size, retrieve = self.settings.candidates, self.settings.retrieve
        return None if size is None else Retrieval(size, self.encoder, self.shopper.prices, self.available, retrieve)

    def _made_action_space(self) -> SlateSpace:
        if self.retrieval is not None and self.settings.by_place:
            return SlateSpace(self.retrieval.size, self.k)
        return SlateSpace(self.shopper.n_items, self.k, self.available)

    def _made_observation_space(self) -> gym.Space[Any]:
        parts, state, settings = self.parts, real(self.encoder.dim), self.settings
        if is_plain(settings.observation, parts):
            return state
        spaces: dict[str, gym.Space[Any]] = {"state": state}
        if "history" in parts:
            spaces |= history_spaces(self.shopper.n_items, settings.history_len, self.k)
        if self.retrieval is not None:
            spaces["candidates"] = candidate_space(self.shopper.n_items, self.retrieval.size)
            if "candidate_features" in parts:
                spaces["candidate_features"] = real((self.retrieval.size + 1) * self.retrieval.width)
        if "action_mask" in parts:
            spaces["action_mask"] = mask_space(self.k * (self.action_space.n_items + 1))
        return gym.spaces.Dict(spaces)

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
        recent = Recent.empty(len(seeds), self.settings.history_len, self.k) if "history" in self.parts else None
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
        self._retrieve(rows)

    def _retrieve(self, rows: Ints | None = None) -> None:
        """Look for the candidates of some rows, or all, anew."""
        if self.retrieval is None:
            return
        states = self.here.memory.state
        if rows is None or len(rows) == self.rows:
            self._candidates = self.retrieval.find(states)
        else:
            places = torch.from_numpy(rows).to(states.device)
            self._candidates[places] = self.retrieval.find(states[places])

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
            slates: (B, K) integers in [0, n_items], best place first; or, by places, in [0, M].

        Raises:
            ValueError: another shape, no integers, or an item or a place that does not exist.
        """
        here, slate = self.here, self._legal(slates)
        gap = here.state.gap.clone()  # the token's gap; `respond` uses the state up
        doubt = None if self.doubt is None else self.doubt.about(here.state, slate)
        response, here.state = self.shopper.respond(here.state, slate)
        here.memory = self._append(here.memory, here.recent, *response.tokens(slate), gap, slate)
        self.slates += 1
        terminated = _numpy(response.left)
        truncated = (self.slates >= self.max_slates) & ~terminated
        rewards = paid(self.reward, SlateOutcome(slate, response, self._never, self._no_days))
        figures = _figures(slate, response)
        if self.doubt is not None and doubt is not None:
            figures["doubt"] = doubt
            rewards = rewards - self.doubt.price * doubt
        self._retrieve()
        self.last = Turn(slate, response, rewards, terminated, truncated, figures)
        return self.last

    def _legal(self, slates: ArrayLike) -> Tensor:
        array = np.asarray(slates)
        if array.shape != (self.rows, self.k) or array.dtype.kind not in "iu":
            raise ValueError(
                f"slates must be integers of shape ({self.rows}, {self.k}), got {array.dtype} of shape {array.shape}"
            )
        most = self.action_space.n_items
        if array.min() < 0 or array.max() > most:
            strange = array[(array < 0) | (array > most)][0]
            named = "places of candidates" if self.settings.by_place else "items"
            raise ValueError(f"slates hold {named} in [0, {most}], 0 an empty slot, got {strange}")
        slate = torch.from_numpy(array.astype(np.int64)).to(self.shopper.device)
        if self.settings.by_place:
            slate = self._candidates.to(slate.device).gather(1, slate)
        if _may_repeat(array):
            slate = without_repeats(slate)
        return slate if self._shown_allowed is None else slate * self._shown_allowed[slate]

    def masks(self, rows: Ints | None = None) -> Bools:
        """(B, n + 1) whether each item, or place, can be shown; entry 0, an empty slot, always is."""
        if self.settings.by_place:
            found = _numpy(
                self._candidates
                if rows is None
                else self._candidates[torch.from_numpy(rows).to(self._candidates.device)]
            )
            masks = found > 0
        else:
            count = self.rows if rows is None else len(rows)
            able = np.ones(self.shopper.n_items + 1, np.bool_) if self.available is None else self.available
            masks = np.tile(able, (count, 1))
        masks[:, 0] = True
        return masks

    def action_masks(self, rows: Ints | None = None) -> Bools:
        """(B, K * (n + 1)) the masks once for each slot, as sb3-contrib lays them out for a `MultiDiscrete`."""
        return np.tile(self.masks(rows), (1, self.k))

    def candidates(self) -> Ints:
        """(B, M + 1) the candidates now, best first; entry 0, and those left over at the end, are 0.

        Raises:
            ValueError: there is no retrieval.
        """
        if self.retrieval is None:
            raise ValueError("there are no candidates; make the environment with candidates=, how many to retrieve")
        return _numpy(self._candidates).copy()

    def observe(self, rows: Ints | None = None, out: Observation | None = None) -> Observation:
        """What the agent sees of some rows, or all: arrays of its own, or those of `out`, overwritten."""
        states = self.here.memory.state
        states = states if rows is None else states[torch.from_numpy(rows).to(states.device)]
        if self._plain:
            return np.clip(_numpy(states), -1.0, 1.0, out=out)  # rounding may carry a unit vector's entry past 1
        seen = self._told(states, rows)
        if out is None:
            out = {name: np.array(column) for name, column in seen.items()}
            out["state"] = np.clip(_numpy(states), -1.0, 1.0)
            return out
        for name, column in seen.items():
            np.copyto(out[name], column)
        np.clip(_numpy(states), -1.0, 1.0, out=out["state"])
        return out

    @torch.no_grad()
    def _told(self, states: Tensor, rows: Ints | None) -> dict[str, NDArray[Any]]:
        """All parts of an observation but the state; arrays may be the batch's own."""
        chosen, recent = slice(None) if rows is None else rows, self.here.recent
        told: dict[str, NDArray[Any]] = {}
        if recent is not None:
            told = {"events": recent.events, "gaps": recent.gaps, "items": recent.items, "lengths": recent.lengths}
            told["slates"] = recent.slates.reshape(len(recent.slates), -1)
            told = {name: column[chosen] for name, column in told.items()}
        if self.retrieval is not None:
            found = self._candidates[chosen if rows is None else torch.from_numpy(rows).to(states.device)]
            told["candidates"] = _numpy(found)
            if "candidate_features" in self.parts:
                told["candidate_features"] = _numpy(self.retrieval.features(states, found).flatten(1))
        if "action_mask" in self.parts:
            told["action_mask"] = self.action_masks(rows).astype(np.int8)
        return told


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


def _check(rows: int, shopper: Shopper, encoder: StateEncoder) -> None:
    if rows < 1:
        raise ValueError(f"num_envs must be at least 1, got {rows}")
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
