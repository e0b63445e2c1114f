"""Metrics: the figures a shop reads, each a ratio of two sums over shoppers.

A ratio of sums, not a mean of ratios: a click rate weighs every slate alike, whoever saw it. Intervals resample the
shoppers and take the ratio anew (`intervals`), which is what a ratio's interval has to do.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import EvidenceError
from .outcomes import Outcomes

Unit = Literal["share", "count", "money", "reward", "index"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure: the sum of one column over the sum of another, over the shoppers judged.

    Attributes:
        name: the key in tables and files.
        label: what people read, a noun.
        over: column summed above the line.
        under: column summed below the line; `"sessions"` counts shoppers.
        unit: `"share"` in [0, 1], `"count"` a session, `"money"` in the shop's currency, `"reward"`, or `"index"`.
        meaning: one sentence for the report.
    """

    name: str
    label: str
    over: str
    under: str
    unit: Unit
    meaning: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "reward",
            "Reward a session",
            "reward",
            "sessions",
            "reward",
            "What the environment paid, summed over a session.",
        ),
        Metric(
            "revenue",
            "Revenue a session",
            "revenue",
            "sessions",
            "money",
            "Price of what was bought, summed over a session.",
        ),
        Metric(
            "ctr", "Click rate", "clicks", "slates", "share", "Clicks over slates shown; at most one click a slate."
        ),
        Metric("clicks", "Clicks a session", "clicks", "sessions", "count", "Slates that were clicked, a session."),
        Metric(
            "cart_rate",
            "Cart rate",
            "carted",
            "sessions",
            "share",
            "Sessions with something put in the cart, over all.",
        ),
        Metric(
            "conversion", "Conversion", "converted", "sessions", "share", "Sessions with a purchase, over all sessions."
        ),
        Metric("slates", "Slates a session", "slates", "sessions", "count", "Slates shown before the shopper left."),
        Metric("looked", "Slots looked at", "examined", "slots", "share", "Slots looked at, over slots filled."),
        Metric(
            "freshness",
            "New items",
            "distinct_items",
            "slots",
            "share",
            "Different items, over slots filled, in a session.",
        ),
        Metric(
            "diversity",
            "Slate diversity",
            "spread",
            "slates",
            "index",
            "Mean cosine distance between two items of a slate.",
        ),
    )
}
"""Every metric by name, in the order in which reports show them. Diversity: intra-list dissimilarity, Ziegler et al.,
WWW 2005."""

COVERAGE = Metric(
    "coverage",
    "Catalogue coverage",
    "shown",
    "available",
    "share",
    "Items shown to anyone judged, over items that may be shown.",
)
"""A count of different items is no sum over shoppers: a resample of them always holds fewer, so it has no interval."""

ALL_METRICS: dict[str, Metric] = {**METRICS, COVERAGE.name: COVERAGE}


def metric_named(name: str) -> Metric:
    """The metric of that name.

    Raises:
        EvidenceError: there is none; names those there are.
    """
    if name not in METRICS:
        raise EvidenceError(f"no metric {name!r} that has intervals; choose from {list(METRICS)}")
    return METRICS[name]


def column(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """(rows,) one summand a session, by the names that metrics use; derived ones are computed from the counts.

    Raises:
        EvidenceError: the frame lacks the column.
    """
    if name == "sessions":
        return np.ones(len(frame))
    if name in ("converted", "carted"):
        return (column(frame, {"converted": "purchases", "carted": "carts"}[name]) > 0).astype(np.float64)
    if name not in frame:
        raise EvidenceError(f"outcomes lack column {name!r}; they have {list(frame.columns)}")
    return frame[name].to_numpy(dtype=np.float64)


def coverage(outcomes: Outcomes) -> pd.DataFrame:
    """Catalogue coverage of each policy: the mean over its training seeds of the share of items shown to anyone.

    Returns:
        Columns `simulator`, `policy`, `metric`, `mean`, `low`, `high` (nan: see `COVERAGE`); empty where `available`,
        the number of items that may be shown, is not among a simulator's facts.
    """
    keys = ["simulator", "policy", "training_seed"]
    counted = outcomes.items.groupby(keys, sort=False).size().groupby(keys[:2], sort=False).mean()
    rows = [
        {"simulator": simulator, "policy": policy, "metric": COVERAGE.name, "mean": mean / facts["available"]}
        for (simulator, policy), mean in counted.items()  # pyright: ignore[reportGeneralTypeIssues]
        if (facts := outcomes.facts.get(simulator, {})).get("available")
    ]
    return pd.DataFrame(rows, columns=["simulator", "policy", "metric", "mean", "low", "high"])
