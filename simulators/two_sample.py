"""Whether a classifier can tell simulated sessions from real ones.

Source: the classifier two-sample test, Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017
(arXiv 1610.06545). AUC in place of accuracy, which needs no threshold: 0.5 where nothing can be told, 1 where all can.

Shapes: S sessions, F features, H halvings, P shoppers.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from ..datasets.tokens import Ints
from .distances import Doubles
from .trees import Floats, TreeConfig, Trees, grow

_TREES = TreeConfig(learning_rate=0.1, leaves=6, leaf_events=4.0, shrinkage=1.0)
_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class TwoSample:
    """What a classifier made of sessions.

    Attributes:
        table: rows `simulated` and `real`, what real sessions were told from: `against`, `auc`, `low`, `high` of its
            95 % interval over shoppers,
            in [0, 1].
        telling: what told real from simulated sessions, a row a feature: `feature`, `share` of the trees' gain.
    """

    table: pd.DataFrame
    telling: pd.DataFrame


def classifier_two_sample(
    names: list[str],
    real: Doubles,
    simulated: Doubles,
    shopper: Ints,
    halves: NDArray[np.bool_],
    *,
    folds: int = 5,
    seed: int = 0,
) -> TwoSample:
    """Tell real sessions of half of the shoppers from simulated ones of the others, and from those others' real ones.

    So both classifiers learn from equally many shoppers, none of them on both sides. A session is scored by trees that
    saw no session of its shopper, and ranked among those scored by the same trees: scores of different ones, pooled,
    would put the AUC of what cannot be told apart below 0.5. Intervals are those of `distances`: halvings, each with
    trees of its own, vary about the whole as whole samples vary about the truth.

    Args:
        names: of the features.
        real: (S, F), nan where a session has no value.
        simulated: (S, F), of the same shoppers.
        shopper: (S,) from 0 to P - 1.
        halves: (H, P), a few of `halvings`, at least 2.
        folds: parts of the shoppers, each scored by trees grown on the others.
        seed: of the folds.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for against, other in (("simulated", simulated), ("real", real)):
        found = []
        for half in halves:
            ours = half[shopper]
            x = np.concatenate([real[ours], other[~ours]]).astype(np.float32)
            owner = np.concatenate([shopper[ours], shopper[~ours]])
            found.append(cross_validated_auc(x, np.arange(len(x)) < ours.sum(), owner, folds, rng))
        middle, margin = np.mean(found), student_t.ppf(0.975, len(found) - 1) * np.std(found, ddof=1)
        rows.append((against, float(middle), *np.clip([middle - margin, middle + margin], 0, 1).tolist()))
    both = np.concatenate([real, simulated]).astype(np.float32)
    trees = _grown(both, np.arange(len(both)) < len(real))
    gains = np.zeros(len(names)) if trees is None else trees.gains()
    telling = pd.DataFrame({"feature": names, "share": gains / max(gains.sum(), 1e-12)})
    telling = telling.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)
    return TwoSample(pd.DataFrame(rows, columns=["against", "auc", "low", "high"]), telling)


def cross_validated_auc(
    x: Floats, happened: NDArray[np.bool_], group: Ints, folds: int, rng: np.random.Generator
) -> float:
    """AUC of rows (S, F) within folds, each scored by trees grown on the others; folds are drawn by group (S,)."""
    numbers, of_row = np.unique(group, return_inverse=True)
    fold = (rng.permutation(len(numbers)) % folds)[of_row]
    score = np.zeros(len(x))
    for number in np.unique(fold):
        held = fold == number
        trees = _grown(x[~held], happened[~held])
        score[held] = 0.0 if trees is None else trees.scores(x[held])
    return auc(score, happened, fold)


def _grown(x: Floats, happened: NDArray[np.bool_]) -> Trees | None:
    """Trees for the log odds; none where no split helps."""
    target = happened.astype(np.float64)
    if not 0 < target.mean() < 1:
        return None

    def slope(scores: Doubles) -> tuple[Doubles, Doubles]:
        chance = 1 / (1 + np.exp(-scores))
        return chance - target, np.maximum(chance * (1 - chance), 1e-6)

    return grow(np.ascontiguousarray(x), slope, _TREES, rounds=_ROUNDS)


def auc(score: Doubles, happened: NDArray[np.bool_], stratum: Ints) -> float:
    """Chance that a row where it happened scores above one of its stratum where it did not, ties half.

    Args:
        score: (S,) any numbers.
        happened: (S,) which rows.
        stratum: (S,) from 0; each weighs as many pairs as it holds.

    Returns:
        In [0, 1]; 0.5 where there is no pair.
    """
    values, rank = np.unique(score, return_inverse=True)
    cells = (int(stratum.max(initial=0)) + 1, len(values))
    place = stratum * cells[1] + rank
    yes, no = (np.bincount(place[kind], minlength=cells[0] * cells[1]).reshape(cells) for kind in (happened, ~happened))
    pairs = (yes.sum(1) * no.sum(1)).sum()
    return float((yes * (no.cumsum(1) - no / 2)).sum() / pairs) if pairs else 0.5
