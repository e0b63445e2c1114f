"""Run simulated sessions under a logging policy, many shoppers at a time.

Shapes: B shoppers at a time, K slots, N items, S sessions, R slates, M items bought.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..datasets.tokens import Ints
from .collect_plan import Plan
from .known_truth import KnownTruthShopper
from .logging_policies import LoggingPolicy
from .shopper import ComesAgain, Shopper

Progress = Callable[[int, int, str], None]


@dataclass(slots=True)
class Arrivals:
    """What shoppers brought along; a row a session, arrays on the CPU."""

    session: Any
    items: Any
    events: Any
    gaps: Any
    lengths: Any


@dataclass(slots=True)
class Shown:
    """Slates and what was done with them; a row a slate."""

    session: Any
    step: Any
    gap: Any
    slate: Any
    propensity: Any
    clicked: Any
    carted: Any
    purchased: Any
    quantity: Any
    dwell: Any


@dataclass(slots=True)
class Ended:
    """How sessions ended; a row a session."""

    session: Any
    coming: Any  # whether the shopper comes again
    wait: Any  # days until then
    owned: Any  # (M,) items bought on this visit and earlier ones


_Part = TypeVar("_Part", Arrivals, Shown, Ended)


def joined(parts: list[_Part]) -> _Part:
    """The rows of all parts, tensors, in order of session and step, as NumPy arrays."""
    kind = type(parts[0])
    columns = {one.name: torch.cat([getattr(part, one.name) for part in parts]).cpu().numpy() for one in fields(kind)}
    step = columns.get("step", columns["session"])
    order = np.lexsort((step, columns["session"]))
    return kind(**{name: column[order] for name, column in columns.items()})


def renumbered(parts: list[_Part], number: Ints) -> _Part:
    """The rows of all parts, NumPy arrays, that keep a session, under its new number and in order of it.

    Args:
        parts: their sessions are numbered on from one part to the next.
        number: the new number of each session, -1 for those left out.
    """
    kind = type(parts[0])
    columns = {one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(kind)}
    columns["session"] = number[columns["session"]]
    order = np.lexsort((columns.get("step", columns["session"]), columns["session"]))
    order = order[columns["session"][order] >= 0]
    return kind(**{name: column[order] for name, column in columns.items()})


@torch.no_grad()
def simulate(
    shopper: Shopper,
    policy: LoggingPolicy,
    plan: Plan,
    *,
    max_slates: int,
    rows: int,
    owned: Tensor | None = None,
    progress: Progress | None = None,
) -> tuple[Arrivals, Shown, Ended | None]:
    """Run all sessions of a plan, `rows` at a time; who leaves makes room for who comes next.

    Args:
        shopper: who comes. Of a known-truth shop's it is told when and owning what, if that matters there.
        policy: shows the slates.
        plan: S sessions.
        max_slates: a session ends after this many slates at the latest.
        rows: shoppers simulated at a time, at most S.
        owned: (S, M) items bought on earlier visits.
        progress: told (sessions done, sessions, words).

    Returns:
        What shoppers brought along, the slates, and how the sessions ended where shoppers come again by themselves.
    """
    total, device, seeds = len(plan), shopper.device, plan.seeds.to(shopper.device)
    known = shopper if isinstance(shopper, KnownTruthShopper) else None
    again = shopper if isinstance(shopper, ComesAgain) and shopper.comes_again else None
    arrive = _arrive_by(shopper, seeds, plan, owned)
    session = torch.arange(rows, device=device)
    state = arrive(session)
    step = torch.zeros(rows, dtype=torch.int64, device=device)
    here = torch.ones(rows, dtype=torch.bool, device=device)
    arrivals, shown, ended, next_one, done = [_arrivals(session, state)], [], [], rows, 0
    while bool(here.any()):
        if known and known.config.turnover:
            slate, propensity = policy.sample(seeds[session], step, known.there(state.day))
        else:
            slate, propensity = policy.sample(seeds[session], step)
        gap = state.gap.clone()
        response, state = shopper.respond(state, slate)
        columns = (session, step, gap, slate, propensity, response.clicked, response.carted, response.purchased)
        shown.append(Shown(*(column[here] for column in (*columns, response.quantity, response.dwell))))
        step = step + 1
        gone = torch.nonzero(here & (response.left | (step >= max_slates))).squeeze(1)
        if again:
            columns = (session, *again.returns(state), state.belongings())
            ended.append(Ended(*(column[gone] for column in columns)))
        come = gone[: total - next_one]
        if len(come):
            session = session.clone()
            session[come] = torch.arange(next_one, next_one + len(come), device=device)
            step[come] = 0
            fresh = arrive(session[come])
            arrivals.append(_arrivals(session[come], fresh))
            state.put(come, fresh)
        here[gone[len(come) :]] = False
        next_one, done = next_one + len(come), done + len(gone)
        if progress is not None:
            progress(done, total, "sessions simulated")
    return joined(arrivals), joined(shown), joined(ended) if ended else None


def _arrive_by(shopper: Shopper, seeds: Tensor, plan: Plan, owned: Tensor | None) -> Callable[[Tensor], Any]:
    """What resets the shoppers of sessions, given by number."""
    if isinstance(shopper, KnownTruthShopper) and (shopper.config.keeps_time or owned is not None):
        days = plan.days.to(shopper.device)
        owned = None if owned is None else owned.to(shopper.device)
        return lambda session: shopper.reset(seeds[session], days[session], None if owned is None else owned[session])
    return lambda session: shopper.reset(seeds[session])


def _arrivals(session: Tensor, state: Any) -> Arrivals:
    brought = state.arrival
    return Arrivals(*(one.clone() for one in (session, brought.items, brought.events, brought.gaps, brought.lengths)))
