"""Calibration of a fitted shopper's four parts: what it foretells beside what shoppers of a log did.

Shapes: S slates, K slots, B bins.
"""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from .fitted import FittedShopper
from .likelihood import choice_chances
from .observed import Observed, chosen_items, leaving_rows, outcomes
from .priors import wilson

PARTS = ("examination", "choice", "cart", "purchase", "leaving")
_COLUMNS = ["part", "group", "count", "predicted", "observed", "low", "high"]


@torch.no_grad()
def calibration_table(shopper: FittedShopper, log: ShopLog | Observed, *, bins: int = 10) -> pd.DataFrame:
    """Foretold and observed rates, grouped.

    Args:
        shopper: fitted on slates; one fitted on next views has nothing to hold against a log.
        log: sessions that the shopper was not fitted on, or what `Observed.by` made of them.
        bins: groups of about equal size by foretold chance.

    Returns:
        One row a group: `part`, one of `PARTS`; `group`, the place (from 1) for examination, the number of the slate
        for leaving, otherwise the bin, from the lowest chance; `count`; `predicted` and `observed` mean chance; `low`
        and `high`, 95 % interval of what was observed (Wilson 1927). Empty without slates; without leaving where the
        log's sessions were sampled by length.

    Raises:
        EvidenceError: the log has nothing to judge by.
    """
    seen = log if isinstance(log, Observed) else Observed.by(shopper, log)
    slates, data, model = seen.slates, seen.data, shopper.model.to(torch.device("cpu"))
    if slates is None:
        return pd.DataFrame(columns=_COLUMNS)
    chances = choice_chances(model.choice.to(torch.device("cpu"), torch.float64), data)[1].exp().numpy()
    hits = slates.clicked[:, None] == np.arange(slates.items.shape[1])
    there = slates.items > 0
    place = np.broadcast_to(np.arange(1, hits.shape[1] + 1), hits.shape)
    rows = _groups("examination", place[there], chances[there], hits[there])
    rows += _groups("choice", _bins(chances[there], bins), chances[there], hits[there])

    outcome, item = outcomes(slates).numpy(), chosen_items(slates)
    took = np.flatnonzero(slates.clicked >= 0)
    features = data.features[took, slates.clicked[took]].float()
    for part, stage, deeper in (("cart", model.cart, 2), ("purchase", model.purchase, 3)):
        reached = outcome[took] >= deeper - 1
        foretold = stage.chance(features, item[took]).numpy()[reached]
        rows += _groups(part, _bins(foretold, bins), foretold, outcome[took][reached] >= deeper)

    if seen.length_biased:
        return pd.DataFrame(rows, columns=_COLUMNS)
    at, taken = leaving_rows(slates, seen.seen, data)
    foretold = model.leaving.chance(at.float(), taken).numpy()
    number = np.minimum(seen.seen.slates.numpy() + 1, 2 * bins)
    rows += _groups("leaving", number, foretold, slates.last)
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
