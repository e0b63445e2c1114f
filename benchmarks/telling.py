"""How well trees tell simulated sessions from real ones, for several simulators on the same shoppers.

Shapes: S sessions, F features, H halvings, P shoppers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from slatewise.datasets import ShopLog
from slatewise.simulators import realism
from slatewise.simulators.choice_evidence import ALL_CLICKED
from slatewise.simulators.distances import halvings
from slatewise.simulators.session_measures import Comparable, ItemColumns, session_features
from slatewise.simulators.two_sample import cross_validated_auc
from slatewise.simulators.visits import Visits, logged_visits, next_views_made, simulated_visits

FLOOR = "real (floor)"
_HALVED, _FOLDS = 20, 5  # as in the realism report


def telling(
    shoppers: Mapping[str, Any], log: ShopLog, against: str, seed: int, told: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """One row a simulator, and the floor, which is how well real sessions are told from other shoppers' real ones.

    Args:
        shoppers: by name; all foretell.
        log: sessions that none was fitted on.
        against: the one whose AUC the others are held against.
        seed: of simulations, halves and folds, the same for all, so that differences are paired.
        told: hears what is done.

    Returns:
        Rows of `model`; `auc` and `interval`, as in the realism report; `less`, by how much that of `against` is
        higher, with `less_interval` by the same halvings; `by`, the features that told most; `apart`, the measures
        whose distance is beyond chance, out of so many `measures`.
    """
    rows: list[dict[str, Any]] = []
    floor: dict[str, Any] = {}
    base = halved_aucs(shoppers[against], log, seed)
    for model, shopper in shoppers.items():
        judged = realism(shopper, log, seed=seed)
        simulated, real = judged.classifier.to_dict("records")
        less = base - (base if model == against else halved_aucs(shopper, log, seed))
        margin = float(student_t.ppf(0.975, len(less) - 1) * less.std(ddof=1))
        row = {"model": model, "auc": simulated["auc"], "interval": [simulated["low"], simulated["high"]]}
        row |= {"less": float(less.mean()), "less_interval": [float(less.mean()) + side * margin for side in (-1, 1)]}
        row["by"] = judged.telling.head(4).to_dict("records")
        row["apart"] = sorted(set(judged.distances["measure"][judged.distances["apart"]]))
        rows.append(row | {"measures": int(judged.distances["measure"].nunique())})
        floor = {"model": FLOOR, "auc": real["auc"], "interval": [real["low"], real["high"]]}
        told(f"held against real sessions: {model}")
    return [*rows, floor]


def halved_aucs(shopper: Any, log: ShopLog, seed: int) -> NDArray[np.float64]:
    """(H,) AUC of real sessions of half of the shoppers against simulated ones of the others, a halving each."""
    real, simulated, can = _both(shopper, log, seed)
    columns = ItemColumns.of(log.catalogue, real.items)
    ours, theirs = (session_features(one, columns, can)[1] for one in (real, simulated))
    found = []
    for number, half in enumerate(halvings(int(real.shopper.max()) + 1, _HALVED, seed)):
        mine = half[real.shopper]
        x = np.concatenate([ours[mine], theirs[~mine]]).astype(np.float32)
        owner = np.concatenate([real.shopper[mine], real.shopper[~mine]])
        rng = np.random.default_rng([seed, number])
        found.append(cross_validated_auc(x, np.arange(len(x)) < mine.sum(), owner, _FOLDS, rng))
    return np.array(found)


def _both(shopper: Any, log: ShopLog, seed: int) -> tuple[Visits, Visits, Comparable]:
    """Real and simulated sessions, and what can be compared, as the realism report has them."""
    slates = log.slates
    known = len(slates) > 0 and float((slates.clicked >= 0).mean()) <= ALL_CLICKED
    can = Comparable(len(slates) > 0, not log.facts.get("length_biased"), known)
    if not can.slates:
        return *next_views_made(log, shopper.foretell(log, seed=seed), seed), can
    same_length = not (can.length and can.click_rate)
    return logged_visits(log)[0], simulated_visits(shopper, log, seed=seed, same_length=same_length), can
