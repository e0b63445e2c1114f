"""Shoppers who come again: their visits as one episode.

Whether and when is the shopper's own affair (`simulators.ComesAgain`): its return hazard hangs on how the visit went,
so what satisfies today pays in the visits to come.

Shapes: B rows (shoppers), n some of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.known_truth import KnownTruthShopper
from ..simulators.known_truth_state import first_visit, visit_seed
from ..simulators.shopper import ComesAgain, Response, Shopper
from .rows import rows_of

Ints = NDArray[np.int64]
DAY = 24 * 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Return:
    """Who comes again after a slate.

    Attributes:
        came: (B,) bool, the shopper left, and comes again.
        days: (B,) float32 days until then; 0 where it does not.
        late: (B,) bool, it does, but the limit of visits or of days is reached.
    """

    came: Tensor
    days: Tensor
    late: NDArray[np.bool_]

    @classmethod
    def never(cls, rows: int, device: torch.device) -> "Return":
        """Nobody does."""
        came = torch.zeros(rows, dtype=torch.bool, device=device)
        return cls(came, torch.zeros(rows, device=device), np.zeros(rows, np.bool_))


class Visits:
    """Where each of B shoppers is on its way through its visits.

    Args:
        rows: shoppers, B.
        shopper: who says by itself whether it comes again.
        max_visits: visits of an episode at most.
        max_days: days from the first visit to the last at most.
        day_discount: what a reward keeps of its worth for every day since the first visit began.

    Raises:
        ValueError: the shopper does not come again.
    """

    def __init__(self, rows: int, shopper: Shopper, max_visits: int, max_days: float, day_discount: float) -> None:
        if not isinstance(shopper, ComesAgain) or not shopper.comes_again:
            raise ValueError(
                f"visits need shoppers who come again by themselves, and those of this {type(shopper).__name__} do "
                "not; take a known-truth shop with come_back above 0, or a fitted shopper of the family transformer"
            )
        self._shopper: Any = shopper
        self._max_visits, self._max_days, self._day_discount = max_visits, max_days, day_discount
        self.visit = np.zeros(rows, np.int64)
        """(B,) visits before this one."""
        self.day = np.zeros(rows)
        """(B,) float64 days from the beginning of the first visit to that of this one."""
        self.days_away = np.zeros(rows)
        """(B,) float64 days from the beginning of the last visit to that of this one; 0 on the first."""

    @property
    def worth(self) -> NDArray[np.float64]:
        """(B,) what a reward counts on this visit, in (0, 1]."""
        return self._day_discount**self.day

    @property
    def horizon(self) -> NDArray[np.float64]:
        """(B, 2) shares of the limits, of visits and of days, that are used up, in [0, 1]."""
        used = np.stack([self.visit / self._max_visits, self.day / self._max_days], 1)
        return np.minimum(used, 1.0)

    def begin(self, rows: Ints) -> None:
        """Other shoppers take the places of some rows."""
        for counted in (self.visit, self.day, self.days_away):
            counted[rows] = 0

    def after(self, state: Any, response: Response) -> Return:
        """Who comes again, of shoppers in these states after a slate."""
        coming, days = self._shopper.returns(state)
        came = response.left & coming
        days = torch.where(came, days, 0.0)
        there, wait = came.cpu().numpy(), days.cpu().numpy()
        late = there & ((self.visit + 1 >= self._max_visits) | (self.day + wait > self._max_days))
        return Return(came, days, late)

    def next(self, state: Any, rows: Ints, days: NDArray[np.float32]) -> Any:
        """States of the next visits of some rows, so many days (n,) after this one began."""
        self.visit[rows] += 1
        self.days_away[rows] = days
        self.day[rows] += days
        before = rows_of(state, rows)
        device = before.seed.device
        seeds = visit_seed(first_visit(before.seed), torch.from_numpy(self.visit[rows]).to(device))
        if isinstance(self._shopper, KnownTruthShopper):  # its shoppers live by a calendar, and keep what they bought
            return self._shopper.reset(seeds, before.day + torch.from_numpy(days).to(device), before.belongings())
        return self._shopper.reset(seeds)
