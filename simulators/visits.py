"""Sessions as realism compares them: what shoppers of a log did with their slates, and what simulated ones do.

Shapes: S sessions, R slates, K slots, B shoppers simulated at a time.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from .arrivals import Arrivals
from .foretold import FITTED, Foretold
from .known_truth_state import VISIT_BITS, visit_seed
from .learn import arrivals
from .randomness import gumbel, uniform
from .replay import Progress
from .shopper import Shopper

_BORROWED, _VIEWED = 4200, 4201  # streams of random numbers, far from the shoppers' own


@dataclass(frozen=True, slots=True)
class Visits:
    """Slates of sessions and what came of them, a row a slate, in order of session and time.

    Attributes:
        shopper: (S,) whose session each is, as a number from 0.
        session: (R,) number of the session, from 0.
        items: (R, K) int64 dense indices, best place first, 0 in empty slots.
        clicked: (R,) slot, -1 for none.
        carted, purchased: (R,) bool.
        dwell: (R,) seconds to the next slate or action, nan for a session's last slate.
        borrowed: (R,) bool, whether the slate was shown in another session of the log.
    """

    shopper: Ints
    session: Ints
    items: Ints
    clicked: Ints
    carted: NDArray[np.bool_]
    purchased: NDArray[np.bool_]
    dwell: NDArray[np.float64]
    borrowed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.session)

    @property
    def lengths(self) -> Ints:
        """(S,) slates of each session."""
        return np.bincount(self.session, minlength=len(self.shopper))


@runtime_checkable
class Arrives(Protocol):
    """A shopper that can be told what it had done before its first slate."""

    def arrive(self, seeds: Tensor, came: Arrivals) -> Any:
        """Shoppers, one for each of the (B,) seeds, who arrive having done what is given."""
        ...


def logged_visits(log: ShopLog) -> tuple[Visits, Ints]:
    """The sessions of a log that were shown slates, by their ids, so that their order in the log does not matter.

    Returns:
        The sessions, and (S,) their numbers in the log.
    """
    slates = log.slates
    there = np.unique(slates.session)
    ids = log.sessions["session_id"].to_numpy(dtype=object).astype(str)[there]
    number = there[np.argsort(ids, kind="stable")]
    rank = np.full(len(log), -1, np.int64)
    rank[number] = np.arange(len(number))
    rows = np.argsort(rank[slates.session], kind="stable")
    names = log.sessions["shopper_id"].to_numpy(dtype=object).astype(str)[number]
    carted, purchased = slates.carted | slates.purchased, slates.purchased
    visits = Visits(
        shopper=np.unique(names, return_inverse=True)[1].astype(np.int64),
        session=rank[slates.session][rows],
        items=slates.items[rows],
        clicked=slates.clicked[rows],
        carted=carted[rows],
        purchased=purchased[rows],
        dwell=np.where(slates.last, np.nan, slates.dwell)[rows].astype(np.float64),
        borrowed=np.zeros(len(rows), bool),
    )
    return visits, number


def seeds_of(log: ShopLog, sessions: Ints, seed: int) -> Tensor:
    """(S,) int64 seeds of some sessions, by the ids of shopper and session: one shopper's visits share their taste."""
    names = log.sessions[["shopper_id", "session_id"]].iloc[sessions].astype(str).reset_index(drop=True)
    shopper = pd.util.hash_array((f"{seed}/" + names["shopper_id"]).to_numpy(dtype=object))
    visit = names.groupby("shopper_id")["session_id"].rank(method="first").to_numpy().astype(np.int64)
    lasting = torch.from_numpy((shopper >> np.uint64(64 - VISIT_BITS)).astype(np.int64))
    return visit_seed(lasting, torch.from_numpy(visit))


@torch.no_grad()
def simulated_visits(
    shopper: Shopper,
    log: ShopLog,
    *,
    seed: int = 0,
    same_length: bool = False,
    batch: int = 1024,
    progress: Progress | None = None,
) -> Visits:
    """The sessions of a log again, with simulated shoppers in place of the real ones.

    A simulated shopper arrives having done what the real one had done before its first slate (one that cannot be told,
    such as a known-truth shopper, arrives as it does), and is shown that session's slates in turn until it leaves. One
    who outlives the session is shown a stretch of another session of the log, drawn by chance, each slate alike: so
    slates come as often as the log showed them. It goes on until the longest session of the log would have ended.

    A logged slate is not an answer to what the simulated shopper did. Where the shop chose slates by what shoppers had
    just done, a simulated shopper soon meets slates meant for someone else, more so the further it is into its session.

    Args:
        shopper: of the log's catalogue.
        log: sessions with slates.
        seed: decides the shoppers' luck.
        same_length: show each shopper the slates of its session, no more and no fewer, whenever it would leave.
        batch: shoppers simulated at a time; does not change the result.
        progress: told (sessions done, sessions, words).

    Returns:
        Sessions and shoppers numbered as by `logged_visits`.
    """
    real, number = logged_visits(log)
    came = arrivals(log, len(log), np.random.default_rng(0), 0)[0]
    by_number = torch.from_numpy(np.argsort(np.argsort(number)))  # arrivals come in order of the log's sessions
    walk = _Walk(shopper, real, came.rows(by_number), seeds_of(log, number, seed), same_length)
    shown = walk.run(min(batch, len(number)), progress)
    session, row, clicked, carted, purchased, dwell, step = (torch.cat(parts).cpu().numpy() for parts in shown)
    order = np.lexsort((step, session))
    session, row = session[order], row[order]
    last = np.append(session[1:] != session[:-1], True)[: len(session)]
    return Visits(
        shopper=real.shopper,
        session=session,
        items=real.items[row],
        clicked=clicked[order],
        carted=carted[order],
        purchased=purchased[order],
        dwell=np.where(last, np.nan, dwell[order].astype(np.float64)),
        borrowed=real.session[row] != session,
    )


class _Walk:
    """Simulated shoppers on their way through the slates of a log; who leaves makes room for who comes next."""

    def __init__(self, shopper: Shopper, real: Visits, came: Arrivals, seeds: Tensor, same_length: bool) -> None:
        device = shopper.device
        self.shopper, self.came, self.seeds, self.same_length = shopper, came, seeds.to(device), same_length
        self.items, self.owner = torch.from_numpy(real.items).to(device), torch.from_numpy(real.session).to(device)
        self.length = torch.from_numpy(real.lengths).to(device)
        self.first = self.length.cumsum(0) - self.length

    def run(self, rows: int, progress: Progress | None) -> list[tuple[Tensor, ...]]:
        """Columns of the slates shown, in parts: session, row of the log, clicked, carted, purchased, dwell, step."""
        total, shown = len(self.length), []
        session = torch.arange(rows, device=self.shopper.device)
        state, row, step = self._arrive(session), self.first[session], torch.zeros_like(session)
        here, next_one, done = torch.ones_like(session, dtype=torch.bool), rows, 0
        longest = int(self.length.max())
        while bool(here.any()):
            response, state = self.shopper.respond(state, self.items[row].clone())
            outcome = (response.clicked, response.carted, response.purchased, response.dwell)
            shown.append(tuple(column[here].clone() for column in (session, row, *outcome, step)))
            step = step + 1
            ended = step >= self.length[session] if self.same_length else response.left | (step >= longest)
            gone = torch.nonzero(here & ended).squeeze(1)
            row = self._following(session, row, step)
            come = gone[: total - next_one]
            if len(come):
                session = session.clone()
                session[come] = torch.arange(next_one, next_one + len(come), device=session.device)
                step[come], row[come] = 0, self.first[session[come]]
                state.put(come, self._arrive(session[come]))
            here[gone[len(come) :]] = False
            next_one, done = next_one + len(come), done + len(gone)
            if progress:
                progress(done, total, "sessions simulated")
        columns = zip(*shown, strict=True)
        return [tuple(column) for column in columns]

    def _arrive(self, session: Tensor) -> Any:
        seeds = self.seeds[session]
        if isinstance(self.shopper, Arrives):
            return self.shopper.arrive(seeds, self.came.rows(session.cpu()))
        return self.shopper.reset(seeds)

    def _following(self, session: Tensor, row: Tensor, step: Tensor) -> Tensor:
        """The row of the log that each shopper is shown next: the stretch's next, or the start of another one."""
        following = (row + 1).clamp(max=len(self.owner) - 1)
        goes_on = (row + 1 < len(self.owner)) & (self.owner[following] == self.owner[row])
        drawn = uniform(self.seeds[session], step, _BORROWED, 2).double()
        # Two draws of 23 bits, for logs of more slates than one can tell apart.
        another = ((drawn[:, 0] + drawn[:, 1] * 2.0**-23) * len(self.owner)).long().clamp(max=len(self.owner) - 1)
        return torch.where(goes_on, following, another)


def next_views_made(log: ShopLog, seen: Foretold, seed: int) -> tuple[Visits, Visits]:
    """Next views of a log, and those that the shopper would have made in their place.

    Each choice follows what the real shopper did before and is among the item viewed and sampled alternatives; if the
    shopper is right, what it draws by its own chances is distributed as what was viewed, whatever the alternatives.

    Args:
        log: the sessions.
        seen: next views, foretold.
        seed: of the draws.
    """
    assert seen.correction is not None
    there = np.unique(seen.session)
    rank, shopper = np.searchsorted(there, seen.session), np.zeros(len(there), np.int64)
    shopper[rank] = np.unique(seen.shopper, return_inverse=True)[1]
    seeds = seeds_of(log, there, seed)[torch.from_numpy(rank)]
    first = np.flatnonzero(np.append(True, rank[1:] != rank[:-1]))
    turn = torch.from_numpy(np.arange(len(rank)) - first[rank])
    score = (seen.choices[FITTED][1] + seen.correction).masked_fill(seen.items == 0, -torch.inf)
    score[:, 0] += torch.log1p((seen.items == 0).sum(1))  # empty slots are the item viewed, sampled again
    drawn = (score + gumbel(seeds, turn, _VIEWED, score.shape[1])).argmax(1).numpy()
    nothing, unknown = np.zeros(len(rank), bool), np.full(len(rank), np.nan)

    def visits(chosen: Ints) -> Visits:
        return Visits(shopper, rank, seen.items.numpy(), chosen, nothing, nothing, unknown, nothing)

    return visits(np.zeros(len(rank), np.int64)), visits(drawn)
