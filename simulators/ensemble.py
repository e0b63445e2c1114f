"""The members of an ensemble: fits on shoppers drawn with replacement from a log's, by some of the features.

Resampling tells what luck a log had, but all members would share what the form of the model gets wrong. So each does
without some features: where policies lead away from the log, what is foretold hangs on them, and members part ways.

Source: Ho, "The random subspace method for constructing decision forests", IEEE TPAMI 20(8), 1998.

Shapes: A arrivals, N items.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from .choice import ChoiceWeights
from .features import ITEM_FEATURES, OUTSIDE_FEATURES
from .learn_after import LearnedRest
from .members import Parts
from .observed import shopper_numbers

NEEDED = ("match", "popularity", "price", "category_share", "nothing")
"""Features that every member has: without them it would not be the same shopper."""


def left_out(share: float, seed: int, number: int) -> frozenset[str]:
    """Names of the features of choice that a member does without, each with a chance in [0, 1)."""
    names = [name for name in (*ITEM_FEATURES, *OUTSIDE_FEATURES) if name not in NEEDED]
    gone = np.random.default_rng([seed, 2, number]).random(len(names)) < share
    return frozenset(name for name, out in zip(names, gone, strict=True) if out)


def resampled(log: ShopLog, members: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """(sessions,) how often each session counts for each member: as often as its shopper was drawn."""
    for number in range(members):
        yield drawn_shoppers(log, np.random.default_rng([seed, 1, number]))


def drawn_shoppers(log: ShopLog, rng: np.random.Generator) -> NDArray[np.float64]:
    """(sessions,) how often each session counts when as many shoppers as the log has are drawn with replacement."""
    shopper = shopper_numbers(log)
    n = int(shopper.max()) + 1
    return np.bincount(rng.integers(n, size=n), minlength=n)[shopper].astype(np.float64)


def rows_drawn(often: NDArray[np.float64]) -> NDArray[np.int64]:
    """(A,) rows of the arrivals as often, (A,), as they count; as many as there are, so that members can be stacked."""
    rows = np.repeat(np.arange(len(often)), often.astype(np.int64))
    return rows[np.arange(len(often)) * len(rows) // len(often)] if len(rows) else np.arange(len(often))


def parts_of(choice: ChoiceWeights, rest: LearnedRest, often: NDArray[np.float64]) -> Parts:
    """Of a shopper, or a member: what was fitted for it, and the arrivals as often, (A,), as they count for it."""
    return Parts(
        choice=choice.to(torch.device("cpu")),
        cart=rest.funnel.cart,
        purchase=rest.funnel.purchase,
        leaving=rest.leaving.leaving,
        dwell=rest.dwell.pauses,
        returning=rest.returning.returning,
        quantities=rest.quantities.quantities,
        arrivals=torch.from_numpy(rows_drawn(often)),
    )
