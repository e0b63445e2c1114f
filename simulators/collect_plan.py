"""Who comes to a simulated shop when: visits at times of their own, or that follow from the visits before.

Shapes: S sessions.
"""

from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.known_shop import DAY_ZERO
from ..datasets.tokens import Floats, Ints
from .known_truth_state import visit_seed
from .randomness import uniform

DAY = 24 * 3600 * 10**6
"""Microseconds of a day."""
_VISIT_APART = 2 * 3600 * 10**6  # microseconds at least between the starts of one shopper's visits
_COMING_STREAM = 4100  # far from the streams of shoppers and of logging policies
_HOURS = np.arange(24)
# Two humps, at noon and at eight in the evening, and hardly anyone at four in the morning.
_RHYTHM = 0.1 + np.exp(-(((_HOURS - 20) / 3.0) ** 2)) + 0.6 * np.exp(-(((_HOURS - 12) / 3.0) ** 2))


@dataclass(frozen=True)
class Plan:
    """Who comes when; (S,) arrays, in order of the sessions' start."""

    shopper: Ints
    visit: Ints
    key: Ints  # names the shopper in its seed
    start: Ints  # microseconds since 1970
    organic: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.shopper)

    @property
    def seeds(self) -> Tensor:
        """(S,) int64 seeds of the sessions."""
        return visit_seed(torch.as_tensor(self.key), torch.as_tensor(self.visit))

    @property
    def days(self) -> Tensor:
        """(S,) float32 days from `DAY_ZERO` to the sessions."""
        return torch.as_tensor((self.start - microseconds(DAY_ZERO)) / DAY, dtype=torch.float32)

    def part(self, rows: NDArray[np.bool_] | Ints) -> "Plan":
        """Some of the sessions, in the order given."""
        return Plan(*(getattr(self, one.name)[rows] for one in fields(self)))

    @staticmethod
    def joined(plans: list["Plan"]) -> "Plan":
        """The sessions of all plans, one plan after the other."""
        return Plan(*(np.concatenate([getattr(plan, one.name) for plan in plans]) for one in fields(Plan)))


def plan_visits(
    sessions: int, visits: float, share_organic: float, start: datetime | str, days: int, rng: np.random.Generator
) -> Plan:
    """Sessions whose times have nothing to do with each other.

    Args:
        sessions: how many.
        visits: sessions a shopper on average, at least 1.
        share_organic: share of sessions in which what is shown is not logged.
        start: first day, UTC.
        days: the sessions start within this many days.
        rng: decides all of it.
    """
    shopper = rng.integers(max(1, round(sessions / visits)), size=sessions)
    hour = rng.choice(24, size=sessions, p=_RHYTHM / _RHYTHM.sum())
    at = (rng.integers(days, size=sessions) * 24 + hour) * (DAY // 24) + rng.integers(DAY // 24, size=sessions)
    order = np.lexsort((at, shopper))
    shopper, at = shopper[order], at[order]
    visit = np.asarray(pd.Series(shopper).groupby(shopper).cumcount(), dtype=np.int64)
    # Visits of one shopper are moved apart, so that none begins before the last one ended.
    apart = visit * _VISIT_APART
    at = pd.Series(at - apart).groupby(shopper).cummax().to_numpy(dtype=np.int64) + apart
    base = int(rng.integers(2**40))
    order = np.argsort(at, kind="stable")
    organic = rng.random(sessions) < share_organic
    key = (base + shopper) % 2**40
    return Plan(shopper[order], visit[order], key[order], microseconds(start) + at[order], organic)


def microseconds(time: datetime | str) -> int:
    """Microseconds from 1970 to a time, UTC where it has no zone; whole seconds."""
    time = pd.Timestamp(time)
    return int(time.tz_localize("UTC").timestamp() if time.tz is None else time.timestamp()) * 10**6


@dataclass(frozen=True)
class Timetable:
    """When shoppers come who come again by themselves; what each does depends on its own number alone.

    Attributes:
        base: names the first shopper in its seed, in [0, 2**40).
        start: first day, UTC.
        days: the sessions start within this many days.
        share_organic: share of sessions in which what is shown is not logged.
    """

    base: int
    start: datetime | str
    days: int
    share_organic: float

    def first(self, shopper: Ints) -> Plan:
        """The first visits of shoppers, given by number (S,), anywhere in the days."""
        key = (self.base + shopper) % 2**40
        visit = np.zeros_like(shopper)
        luck = _luck(key, visit)
        at = np.floor(luck[:, 0] * self.days).astype(np.int64) * DAY + _time_of_day(luck)
        return Plan(shopper, visit, key, microseconds(self.start) + at, luck[:, 3] < self.share_organic)

    def after(self, plan: Plan, coming: NDArray[np.bool_], wait: Floats) -> tuple[Plan, Ints]:
        """The visits that follow within the days, and the rows of the plan that they follow.

        Args:
            plan: S visits.
            coming: (S,) whether each shopper comes again.
            wait: (S,) days until then.
        """
        visit = plan.visit + 1
        luck = _luck(plan.key, visit)
        since = plan.start - microseconds(self.start)
        at = np.floor(since / DAY + wait.astype(np.float64)).astype(np.int64) * DAY + _time_of_day(luck)
        at = np.maximum(at, since + _VISIT_APART)
        rows = np.flatnonzero(coming & (at < self.days * DAY))
        organic = luck[:, 3] < self.share_organic
        return Plan(plan.shopper, visit, plan.key, microseconds(self.start) + at, organic).part(rows), rows


def _luck(key: Ints, visit: Ints) -> Floats:
    """(S, 4) uniform numbers of each visit: day, hour, time within the hour, organic or not."""
    seeds = visit_seed(torch.as_tensor(key), torch.as_tensor(visit))
    return uniform(seeds, 0, _COMING_STREAM, 4).numpy()


def _time_of_day(luck: Floats) -> Ints:
    """(S,) microseconds since midnight, more in the evening than at night."""
    hour = np.searchsorted(np.cumsum(_RHYTHM / _RHYTHM.sum()), luck[:, 1]).clip(max=23)
    return hour * (DAY // 24) + (luck[:, 2].astype(np.float64) * (DAY // 24)).astype(np.int64)
