"""What both environments share: B shoppers behind a slate-shaped door, their encoder's memory, and what an agent sees.

Shapes: B rows (shoppers), n some of them, K slots, T tokens, H tokens kept in a history, N items, D state width.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..datasets.catalogue import Catalogue
from ..encoders.state import StateEncoder
from ..simulators.known_truth_state import first_visit
from ..simulators.shopper import Response, Shopper
from .context import context
from .doubt import Doubt
from .figures import Bools, Ints, Totals, figures_of, numpy_of, within_one
from .observations import parts_of, space_of
from .recent import Recent
from .rewards import RewardMix, SlateOutcome, paid
from .rows import rows_of
from .search import Search
from .settings import ShopSettings
from .shelf import Shelf
from .visits import DAY, Return, Visits

Floats = NDArray[np.float32]
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
        catalogue: what searches look in, where their vectors are not among the settings.

    Raises:
        ValueError: a setting is out of range, or the encoder knows another number of items than the shopper, or doubt
            is asked of a shopper without an ensemble.
    """

    def __init__(
        self,
        rows: int,
        shopper: Shopper,
        encoder: StateEncoder,
        settings: ShopSettings,
        catalogue: Catalogue | None = None,
    ) -> None:
        _check(rows, shopper, encoder)
        self.rows, self.shopper, self.encoder, self.settings = rows, shopper, encoder, settings
        self.reward, self.k, self.max_slates = settings.reward, settings.k, settings.max_slates
        self.doubt = None if settings.doubt is None else Doubt.of(shopper, settings.reward, settings.doubt)
        self.parts = parts_of(settings)
        self.search = Search(shopper, encoder, catalogue, settings.query_vectors) if settings.search else None
        self.shelf = Shelf(rows, shopper, encoder, settings)
        self.available, self.action_space = self.shelf.available, self.shelf.action_space
        self.observation_space = space_of(self.parts, settings, self.shelf, self.search, encoder.dim)
        self.slates = np.zeros(rows, np.int64)
        self.shopper_seeds = np.zeros(rows, np.int64)
        self.last: Turn | None = None
        self._encoder_device = encoder.item_vectors.device
        self._moved = not self._encoder_device.type == shopper.device.type == "cpu"
        limits = settings.max_visits, settings.max_days, settings.day_discount
        self.visits = Visits(rows, shopper, *limits) if settings.visits else None
        self._nobody = Return.never(rows, shopper.device)
        self._pause = torch.zeros(rows, device=shopper.device)  # seconds since the last visit, until a token tells it
        self._asked = torch.zeros(rows, dtype=torch.int64, device=self._encoder_device)  # numbers of searches
        self._idle = np.zeros(rows, np.int64)  # slates since the last click
        self.totals = Totals(rows)
        self._by_clicks = isinstance(self.reward, RewardMix) and (self.visits is None or not self.reward.returned)
        """Whether only clicks can earn anything."""
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

    @property
    def gap(self) -> Tensor:
        """(B,) float32 seconds since each shopper's last token, on an earlier visit where it is remembered."""
        return self.here.state.gap + self._pause

    @torch.no_grad()
    def prepare(self, seeds: Ints) -> Arrivals:
        """Shoppers of these seeds, (n,), as they are when they arrive."""
        named = torch.from_numpy(seeds).to(self.shopper.device)
        state = self.shopper.reset(named if self.visits is None else first_visit(named))
        return self._brought(Arrivals(state, *self._unknown(len(seeds))))

    def _unknown(self, rows: int) -> tuple[Any, Recent | None]:
        """What is remembered of shoppers who have done nothing."""
        recent = Recent.empty(rows, self.settings.history_len, self.k) if "history" in self.parts else None
        return self.encoder.start(rows), recent

    def _brought(self, arrivals: Arrivals, pause: Tensor | None = None) -> Arrivals:
        """Add the tokens that shoppers bring along, the first of them after a pause of (n,) seconds."""
        came = arrivals.state.arrival
        for place in range(int(came.lengths.max())):
            gaps = came.gaps[:, place]
            gaps = gaps if pause is None or place else gaps + pause
            token = numpy_of(came.items[:, place]), numpy_of(came.events[:, place]), gaps
            arrivals.memory = self._append(arrivals.memory, arrivals.recent, *token)
        return arrivals

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
        self._idle[rows] = 0
        self.totals.begin(rows)
        self.shopper_seeds[rows] = seeds
        if self.visits is not None:
            self.shopper_seeds[rows] = first_visit(seeds)
            self.visits.begin(rows)
            self._pause[torch.from_numpy(rows).to(self._pause.device)] = 0.0
        self._welcome(rows, arrivals.state)
        self.shelf.retrieve(self._states(), rows)

    def _welcome(self, rows: Ints, state: Any) -> None:
        """What shoppers who have just come, (n,) in these states, search for, and what is there for them."""
        self.shelf.stock(rows, state)
        if self.search is not None:
            self._asked[torch.from_numpy(rows).to(self._asked.device)] = self.search.asked(state)

    def _states(self, rows: Ints | None = None) -> Tensor:
        """(n, D) the states that an agent is told, of some rows or all: turned towards what the shoppers search for."""
        states, asked = self.here.memory.state, self._asked
        if rows is not None:
            places = torch.from_numpy(rows).to(states.device)
            states, asked = states[places], asked[places]
        return states if self.search is None else self.search.towards(states, asked)

    def _append(
        self, memory: Any, recent: Recent | None, items: Ints, events: Ints, gaps: Tensor, slate: Tensor | None = None
    ) -> Any:
        if recent is not None:
            recent.add(items, events, numpy_of(gaps), None if slate is None else numpy_of(slate))
        token = torch.from_numpy(items), torch.from_numpy(events), gaps
        if self._moved:
            token = tuple(column.to(self._encoder_device) for column in token)
        if slate is None or self.search is None or not self.search.reads:
            return self.encoder.step(memory, *token)
        read: Any = self.encoder  # each slate answers the search
        return read.step(memory, *token, self.search.vectors[self._asked])

    @torch.no_grad()
    def show(self, slates: ArrayLike) -> Turn:
        """Show a slate to each shopper.

        Args:
            slates: (B, K) integers in [0, n_items], best place first; or, by places, in [0, M].

        Raises:
            ValueError: another shape, no integers, or an item or a place that does not exist.
        """
        here, slate = self.here, self.shelf.legal(slates)
        gap = self.gap  # the token's; `respond` uses the state up
        doubt = None if self.doubt is None else self.doubt.about(here.state, slate)
        response, here.state = self.shopper.respond(here.state, slate)
        figures, items, events = figures_of(slate, response)
        here.memory = self._append(here.memory, here.recent, items, events, gap, slate)
        left, happened = numpy_of(response.left).copy(), bool(figures["clicked_item"].any())
        self.slates += 1
        if "context" in self.parts:
            self._idle = np.where(figures["clicked"] < 0, self._idle + 1, 0)
        if happened:
            self.totals.add(figures)
        figures |= self.totals.told()
        back, terminated, late = self._nobody, left, self.slates >= self.max_slates
        if self.visits is not None:
            back = self.visits.after(here.state, response)
            terminated, late = left & ~numpy_of(back.came), late | back.late
        truncated = late & ~terminated
        rewards = np.zeros(self.rows)
        if happened or not self._by_clicks:
            rewards = paid(self.reward, SlateOutcome(slate, response, back.came, back.days))
        if self.doubt is not None and doubt is not None:
            figures["doubt"] = doubt
            rewards = rewards - self.doubt.price * doubt
        if self.visits is not None:
            rewards = rewards * self.visits.worth
            came = numpy_of(back.came)
            figures |= {"returned": came, "days_away": numpy_of(back.days), "discount": self.visits.worth}
            self._pause = self._pause * torch.from_numpy(items == 0).to(self._pause.device)
            self._come_again(np.flatnonzero(came), numpy_of(back.days))
        if self.shelf.retrieval is not None:
            self.shelf.retrieve(self._states())
        self.last = Turn(slate, response, rewards, terminated, truncated, figures)
        return self.last

    def _come_again(self, rows: Ints, days: Floats) -> None:
        """The next visits of some rows begin; (B,) says how many days after the last ones."""
        if self.visits is None or not len(rows):
            return
        state = self.visits.next(self.here.state, rows, days[rows])
        pause = torch.from_numpy(days[rows] * np.float32(DAY)).to(self._pause.device)
        if self.settings.remembers:
            memory, recent = rows_of(self.here.memory, rows), rows_of(self.here.recent, rows)
            arrivals = self._brought(Arrivals(state, memory, recent), pause)
            told = state.arrival.lengths.to(pause.device) > 0
            self._pause[torch.from_numpy(rows).to(pause.device)] = torch.where(told, 0.0, pause)
        else:
            arrivals = self._brought(Arrivals(state, *self._unknown(len(rows))))
        self.here.put(rows, arrivals)
        self._welcome(rows, state)
        self._idle[rows] = 0

    def episode(self) -> dict[str, NDArray[Any]]:
        """(B,) each: where the episodes stand, as `info` tells it."""
        told: dict[str, NDArray[Any]] = {"slates": self.slates.copy(), "shopper_seed": self.shopper_seeds.copy()}
        if self.visits is not None:
            told |= {"visit": self.visits.visit.copy(), "day": self.visits.day.copy()}
        if self.search is not None:
            told["query"] = numpy_of(self._asked).copy()
        return told

    def observe(self, rows: Ints | None = None, out: Observation | None = None) -> Observation:
        """What the agent sees of some rows, or all: arrays of its own, or those of `out`, overwritten."""
        states = self._states(rows)
        if not isinstance(self.observation_space, gym.spaces.Dict):
            return within_one(states, out)
        seen = self._told(states, rows)
        if out is None:
            out = {name: np.array(column) for name, column in seen.items()}
            out["state"] = within_one(states)
            return out
        for name, column in seen.items():
            np.copyto(out[name], column)
        within_one(states, out["state"])
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
        if self.shelf.retrieval is not None:
            found = self.shelf.candidates(rows)
            told["candidates"] = numpy_of(found)
            if "candidate_features" in self.parts:
                told["candidate_features"] = numpy_of(self.shelf.retrieval.features(states, found).flatten(1))
        if "context" in self.parts:
            told["context"] = self._context()[chosen]
        if "query" in self.parts and self.search is not None:
            told["query"] = np.clip(numpy_of(self.search.vectors[self._asked])[chosen], -1.0, 1.0)
        if "action_mask" in self.parts:
            told["action_mask"] = self.shelf.action_masks(rows).astype(np.int8)
        return told

    def _context(self) -> Floats:
        state, visits, none = self.here.state, self.visits, np.zeros(self.rows)
        day = getattr(state, "day", None)
        return context(
            slates=(self.slates / self.max_slates).astype(np.float32),
            idle=self._idle,
            gap=numpy_of(self.gap),
            horizon=np.zeros((self.rows, 2)) if visits is None else visits.horizon,
            days_away=none if visits is None else visits.days_away,
            bought=self.totals.purchases,
            day=None if day is None else numpy_of(day),
        )


def _check(rows: int, shopper: Shopper, encoder: StateEncoder) -> None:
    if rows < 1:
        raise ValueError(f"num_envs must be at least 1, got {rows}")
    if encoder.n_items != shopper.n_items:
        raise ValueError(
            f"the encoder knows {encoder.n_items} items and the shopper {shopper.n_items}; make both from one catalogue"
        )
