"""The diary of a policy's service, and its sums by shopper, by place and by item.

Shapes: T turns (slates shown over all sessions), t of them in one step, K slots, N items, D width.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..envs.batch import Turn

Ints = NDArray[np.int64]


@dataclass
class Diary:
    """What happened, turn by turn; lists of arrays, one entry a step of the environment.

    Attributes:
        shoppers: sessions served.
        who: (t,) number of the session.
        slate: (t, K) items shown. examined: (t, K) slots looked at.
        clicked: (t,) slot clicked, -1 for none.
        carted, purchased: (t,) bool. revenue: (t,) shop's currency. reward: (t,).
    """

    shoppers: int
    who: list[Ints] = field(default_factory=list)
    slate: list[Ints] = field(default_factory=list)
    examined: list[NDArray[np.bool_]] = field(default_factory=list)
    clicked: list[Ints] = field(default_factory=list)
    carted: list[NDArray[np.bool_]] = field(default_factory=list)
    purchased: list[NDArray[np.bool_]] = field(default_factory=list)
    revenue: list[NDArray[np.float64]] = field(default_factory=list)
    reward: list[NDArray[np.float64]] = field(default_factory=list)

    def note(self, who: Ints, turn: Turn) -> None:
        """Write down one step; rows whose `who` is -1 are passed over."""
        rows = who >= 0
        self.who.append(who[rows])
        for column, tensor in (
            (self.slate, turn.slate),
            (self.examined, turn.response.examined),
            (self.clicked, turn.response.clicked),
            (self.carted, turn.response.carted),
            (self.purchased, turn.response.purchased),
            (self.revenue, turn.response.revenue),
        ):
            column.append(tensor.detach().cpu().numpy()[rows])
        self.reward.append(turn.rewards[rows])


def tally(
    diary: Diary, vectors: NDArray[np.float32], categories: Ints | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Sum a diary by shopper, by place and by item; columns as in `Outcomes`.

    Args:
        diary: of one policy.
        vectors: (N + 1, D) unit rows, for the distance between items of a slate.
        categories: (N + 1,) category numbers.
    """
    who, slate, clicked = (np.concatenate(column) for column in (diary.who, diary.slate, diary.clicked))
    examined, reward = np.concatenate(diary.examined), np.concatenate(diary.reward)
    carted, purchased = np.concatenate(diary.carted), np.concatenate(diary.purchased)
    revenue = np.concatenate(diary.revenue).astype(np.float64)
    shown, hit = slate > 0, clicked >= 0

    def counted(values: NDArray[Any]) -> Ints:
        return np.bincount(who, values, minlength=diary.shoppers).astype(np.int64)

    frame = pd.DataFrame(
        {
            "shopper": np.arange(diary.shoppers),
            "slates": np.bincount(who, minlength=diary.shoppers),
            "clicks": counted(hit),
            "carts": counted(carted),
            "purchases": counted(purchased),
            "revenue": np.bincount(who, revenue, minlength=diary.shoppers),
            "reward": np.bincount(who, reward, minlength=diary.shoppers),
            "slots": counted(shown.sum(1)),
            "examined": counted((examined & shown).sum(1)),
            "distinct_items": _distinct(who, slate, diary.shoppers),
            "distinct_categories": np.nan
            if categories is None
            else _distinct(who, np.where(shown, categories[slate] + 1, 0), diary.shoppers),
            "spread": np.bincount(who, slate_spread(slate, vectors), minlength=diary.shoppers),
        }
    )
    k = slate.shape[1]
    places = pd.DataFrame(
        {
            "place": np.arange(k),
            "shown": shown.sum(0),
            "examined": (examined & shown).sum(0),
            "clicked": np.bincount(clicked[hit], minlength=k),
        }
    )
    taken = slate[np.flatnonzero(hit), clicked[hit]]
    n = len(vectors)
    items = pd.DataFrame(
        {
            "item": np.arange(n),
            "shown": np.bincount(slate.ravel(), minlength=n),
            "clicked": np.bincount(taken, minlength=n),
            "purchased": np.bincount(taken, purchased[hit], minlength=n).astype(np.int64),
        }
    )
    return frame, places, items[(items["item"] > 0) & (items["shown"] > 0)].reset_index(drop=True)


def _distinct(who: Ints, values: Ints, shoppers: int) -> Ints:
    """(shoppers,) different values above 0 that each shopper was shown; `values` is (T, K)."""
    base = int(values.max(initial=0)) + 1
    pairs = np.unique(who[:, None] * base + values)
    return np.bincount(pairs[pairs % base > 0] // base, minlength=shoppers)


def slate_spread(slate: Ints, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean cosine distance between two items of a slate; 0 with fewer than two.

    Args:
        slate: (T, K) items, 0 for an empty slot.
        vectors: (N + 1, D) unit rows, row 0 zero.

    Returns:
        (T,) in [0, 2]. Of unit vectors, the squared length of their sum is n plus twice the sum over pairs.
    """
    spread = np.zeros(len(slate))
    for begin in range(0, len(slate), 4096):  # in blocks: the vectors of all slates at once would be large
        part = slate[begin : begin + 4096]
        filled = (part > 0).sum(1)
        squared = (vectors[part].astype(np.float64).sum(1) ** 2).sum(1)
        pairs = np.maximum(filled * (filled - 1), 1)
        spread[begin : begin + 4096] = np.where(filled > 1, 1 - (squared - filled) / pairs, 0)
    return np.clip(spread, 0, 2)
