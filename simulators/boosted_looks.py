"""What the slates of a log looked like to the boosted shopper: its columns, by tables of other shoppers.

Whether an item is liked, and what it is alike to, is counted from the clicks that are to be foretold. So that no click
foretells itself, shoppers are cut into folds, and what a fold's shoppers see is counted on the other folds
(out-of-fold target encoding).

Shapes: S occasions, K slots, F item columns, Q shopper columns.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from .boosted_choice import Offers
from .hand_features import (
    ITEM_COLUMNS,
    SHOPPER_COLUMNS,
    ItemTables,
    alternatives,
    item_columns,
    learn_tables,
    leaving_columns,
    shopper_columns,
)
from .observed import shopper_numbers
from .occasions import Occasions
from .replay import Progress, follow

FOLDS = 5
"""Folds of shoppers."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Columns of occasions, on the CPU.

    Attributes:
        occasions: what was offered.
        items: (S, K, F) float32. shoppers: (S, Q) float32.
        last_clicked: (S,) int64 latest item clicked before, 0 for none.
    """

    occasions: Occasions
    items: Tensor
    shoppers: Tensor
    last_clicked: Tensor

    @classmethod
    def empty(cls, occasions: Occasions) -> "Looks":
        """Columns still to be filled in."""
        n, k = occasions.items.shape
        items, shoppers = torch.zeros(n, k, len(ITEM_COLUMNS)), torch.zeros(n, len(SHOPPER_COLUMNS))
        return cls(occasions, items, shoppers, torch.zeros(n, dtype=torch.int64))

    @classmethod
    def at(cls, log: ShopLog, occasions: Occasions, tables: ItemTables, progress: Progress | None = None) -> "Looks":
        """All occasions of a log, by one set of tables."""
        looks = cls.empty(occasions)
        looks.fill(log, np.arange(len(occasions)), tables, progress)
        return looks

    @classmethod
    def across_folds(
        cls,
        log: ShopLog,
        occasions: Occasions,
        weight: NDArray[np.float64],
        learn: NDArray[np.bool_],
        seed: int,
        progress: Progress | None = None,
    ) -> "Looks":
        """Occasions by tables of other shoppers.

        Args:
            log: the sessions.
            occasions: of it.
            weight: (sessions,) how often each session counts.
            learn: (sessions,) which of them tables may know; the others look by tables of all these.
            seed: cuts the folds.
            progress: told of steps.
        """
        looks, number = cls.empty(occasions), shopper_numbers(log)
        fold = np.random.default_rng(seed).integers(FOLDS, size=int(number.max(initial=0)) + 1)[number]
        group = np.where(learn, fold, FOLDS)
        for one in range(FOLDS + 1):
            rows = np.flatnonzero(group[occasions.session] == one)
            if len(rows):
                tables = learn_tables(log, occasions, weight, learn & (group != one))
                looks.fill(log, rows, tables, progress)
        return looks

    def fill(self, log: ShopLog, rows: Ints, tables: ItemTables, progress: Progress | None = None) -> None:
        """Fill in some rows (R,), whole sessions of them, in place."""
        some = self.occasions
        moments = follow(
            log.tokens,
            some.session[rows],
            some.before[rows],
            some.items[rows],
            price=tables.price_in_category,
            shown=some.correction is None,
            progress=progress,
        )
        for moment in moments:
            at = torch.from_numpy(rows)[moment.rows]
            self.items[at] = item_columns(moment.trail, moment.items, tables)
            self.shoppers[at] = shopper_columns(moment.trail)
            self.last_clicked[at] = moment.trail.clicked[:, 0]

    @property
    def filled(self) -> Tensor:
        """(S, K) bool, slots that hold an item."""
        return torch.from_numpy(self.occasions.items > 0)

    def offers(self, weight: NDArray[np.float64] | None = None, rows: NDArray[np.bool_] | None = None) -> Offers:
        """What the choice likelihood reads, of all occasions or some (S,), each once or `weight` (S,) times."""
        weight = np.ones(len(self.occasions)) if weight is None else weight
        kept = weight > 0 if rows is None else rows & (weight > 0)
        at, part = torch.from_numpy(kept), self.occasions
        correction = part.correction
        filled = self.filled[at]
        x = alternatives(self.items[at], self.shoppers[at], filled, filled.sum(1) if correction is None else None)
        correction = None if correction is None else correction[kept]
        return Offers(x, part.items[kept], part.clicked[kept], weight[kept], correction, part.given_click)

    def chosen(self) -> NDArray[np.float32]:
        """(S, F + Q) columns of the item in the slot clicked, or viewed next; of the first slot without a click."""
        place = torch.from_numpy(np.maximum(self.occasions.clicked, 0))
        return torch.cat([self.items[torch.arange(len(place)), place], self.shoppers], 1).numpy()

    def leaving(self, outcome: Ints, item: Ints) -> tuple[NDArray[np.float32], Ints]:
        """Columns of leaving after each slate, and the latest item clicked (S,).

        Args:
            outcome: (S,) codes of `funnel.OUTCOMES`.
            item: (S,) the item clicked, 0 for none.
        """
        columns = leaving_columns(self.items, self.shoppers, self.filled, torch.from_numpy(outcome))
        return columns, np.where(item > 0, item, self.last_clicked.numpy())
