"""Calibration of a fitted shopper's four parts: what it foretells beside what shoppers of a log did.

Shapes: S slates, K slots, B bins.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from .foretold import FITTED, Foretells, Foretold
from .observed import outcomes
from .priors import wilson

PARTS = ("examination", "choice", "cart", "purchase", "leaving")
_COLUMNS = ["part", "group", "count", "predicted", "observed", "low", "high"]


def calibration_table(shopper: Foretells, log: ShopLog | Foretold, *, bins: int = 10) -> pd.DataFrame:
    """Foretold and observed rates, grouped.

    Args:
        shopper: fitted on slates; one fitted on next views has nothing to hold against a log.
        log: sessions that the shopper was not fitted on, or what the shopper foretold of them.
        bins: groups of about equal size by foretold chance.

    Returns:
        One row a group: `part`, one of `PARTS`; `group`, the place (from 1) for examination, the number of the slate
        for leaving, otherwise the bin, from the lowest chance; `count`; `predicted` and `observed` mean chance; `low`
        and `high`, 95 % interval of what was observed (Wilson 1927). Empty without slates; without leaving where the
        log's sessions were sampled by length.

    Raises:
        EvidenceError: the log has nothing to judge by.
    """
    seen = log if isinstance(log, Foretold) else shopper.foretell(log)
    slates = seen.slates
    if slates is None:
        return pd.DataFrame(columns=_COLUMNS)
    chances = seen.choices[FITTED][1].exp().numpy()
    hits = slates.clicked[:, None] == np.arange(slates.items.shape[1])
    there = slates.items > 0
    place = np.broadcast_to(np.arange(1, hits.shape[1] + 1), hits.shape)
    rows = _groups("examination", place[there], chances[there], hits[there])
    rows += _groups("choice", _bins(chances[there], bins), chances[there], hits[there])

    outcome = outcomes(slates).numpy()
    for part, chance, deeper in (("cart", seen.cart, 2), ("purchase", seen.purchase, 3)):
        if chance is not None:
            reached = outcome >= deeper - 1
            foretold = chance.numpy()[reached]
            rows += _groups(part, _bins(foretold, bins), foretold, outcome[reached] >= deeper)

    if seen.leaving is not None:
        _, first = np.unique(slates.session, return_index=True)
        number = np.arange(len(slates)) - np.repeat(first, np.diff(np.append(first, len(slates)))) + 1
        rows += _groups("leaving", np.minimum(number, 2 * bins), seen.leaving.numpy(), slates.last)
    return pd.DataFrame(rows, columns=_COLUMNS)


def _bins(chances: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Number of the group of about equal size, from 1, that each chance falls into."""
    if not len(chances):
        return np.zeros(0, np.int64)
    edges = np.unique(np.quantile(chances, np.arange(1, bins) / bins))
    return 1 + np.searchsorted(edges, chances, side="right")


def _groups(
    part: str, group: NDArray[np.int64], predicted: NDArray[np.floating], happened: NDArray[np.bool_]
) -> list[tuple[str, int, int, float, float, float, float]]:
    rows = []
    for number in np.unique(group):
        there = group == number
        count, got = int(there.sum()), int(happened[there].sum())
        low, high = wilson(got, count)
        rows.append((part, int(number), count, float(predicted[there].mean()), got / count, low, high))
    return rows
