"""Gradient-boosted trees for any loss, grown and kept by LightGBM.

The loss is told by its slope and curvature at the current scores, so that whole slates may share one likelihood. Models
are stored as LightGBM's own text.

Source: Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017; Newton steps in the
leaves, Chen and Guestrin, "XGBoost", KDD 2016, section 2.2.

Shapes: R rows, P columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
ROWS_OF_A_BIN = 3
"""Rows that a value, or a range of values, needs to be told apart from others."""
Slope = Callable[[Doubles], tuple[Doubles, Doubles]]
"""(R,) scores -> (R,) first and (R,) second derivative of the loss, the second above 0."""


@dataclass(frozen=True, kw_only=True)
class TreeConfig:
    """How trees are grown."""

    rounds: int = 400
    """Trees at most; later sessions say earlier when to stop."""
    learning_rate: float = 0.15
    """Share of a tree's steps that is taken, in (0, 1]."""
    leaves: int = 6
    """Leaves of a tree, at least 2; few, for clicks are rare, and so a slate is answered fast."""
    leaf_events: float = 10.0
    """Curvature that a leaf needs, above 0: about the clicks (carts, departures) that it would have to foretell."""
    shrinkage: float = 10.0
    """L2 penalty on a leaf's step, in the same unit, at least 0."""
    patience: int = 25
    """Trees without gain on later sessions after which growing stops, at least 1."""

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("leaves", 2), ("patience", 1), ("shrinkage", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate must be in (0, 1], got {self.learning_rate}")
        if not self.leaf_events > 0:
            raise ValueError(f"leaf_events must be above 0, got {self.leaf_events}")


@dataclass(frozen=True)
class Trees:
    """A sum of trees.

    Attributes:
        text: LightGBM's text format.
    """

    text: str

    @cached_property
    def _booster(self) -> Any:
        import lightgbm  # and with it scikit-learn, where installed, which takes seconds: only where trees are used

        return lightgbm.Booster(model_str=self.text)

    def __len__(self) -> int:
        return self._booster.num_trees()

    def scores(self, x: Floats) -> Floats:
        """(R,) sums of the trees for rows (R, P), each by itself, on as many threads as torch has."""
        if not len(x):
            return np.zeros(0, np.float32)
        return self._booster.predict(np.ascontiguousarray(x), num_threads=torch.get_num_threads()).astype(np.float32)

    def gains(self) -> Doubles:
        """(P,) how much each column lowered the loss."""
        return np.asarray(self._booster.feature_importance("gain"), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Later:
    """Cases that say when to stop.

    Attributes:
        x: (R, P) rows. losses: (R,) scores -> (C,) loss of each case.
        weight: (C,) how often each counts, some above 0.
        told: (C,) losses with 0, 1, 2, ... trees, as far as trees were grown; growing fills it in.
    """

    x: Floats
    losses: Callable[[Doubles], Doubles]
    weight: Doubles
    told: list[Floats] = field(default_factory=list)

    def loss(self, scores: Doubles) -> float:
        """Mean loss with one tree more than before."""
        each = self.losses(scores)
        self.told.append(each.astype(np.float32))
        return float(np.average(each, weights=self.weight))


def grow(
    x: Floats,
    slope: Slope,
    config: TreeConfig,
    *,
    rounds: int,
    later: Later | None = None,
    falling: Sequence[int] = (),
    seed: int = 0,
) -> Trees | None:
    """Trees that lower a loss, one after the other.

    Args:
        x: (R, P) rows; nan where a column says nothing.
        slope: of the loss; asked once a tree, with the scores so far.
        config: how to grow.
        rounds: trees at most.
        later: rows that say when to stop: at the tree after which their loss was least.
        falling: columns in which scores never rise.
        seed: of LightGBM, which draws nothing with these settings.

    Returns:
        The trees; none where no tree lowers the loss, or no column tells rows apart.
    """
    if not _varies(x):
        return None
    import lightgbm

    constraints = np.zeros(x.shape[1], np.int64)
    constraints[list(falling)] = -1
    settings: dict[str, Any] = {
        "objective": "none",
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_sum_hessian_in_leaf": config.leaf_events,
        "min_data_in_leaf": 1,  # the curvature says what a leaf may rest on
        "lambda_l2": config.shrinkage,
        "max_bin": 63,
        "min_data_in_bin": ROWS_OF_A_BIN,
        "feature_pre_filter": False,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }
    if len(falling):
        settings["monotone_constraints"] = constraints.tolist()
    data = lightgbm.Dataset(x, params=settings)
    booster = lightgbm.Booster(settings, data)
    if later is not None:
        booster.add_valid(lightgbm.Dataset(later.x, reference=data, params=settings), "later")
    best, least = (rounds, np.inf) if later is None else (0, later.loss(np.zeros(len(later.x))))
    for done in range(1, rounds + 1):
        if booster.update(fobj=lambda scores, _: slope(scores)):
            best = min(best, done - 1)  # nothing left to split
            break
        if later is None:
            continue
        loss = booster.eval_valid(lambda scores, _: ("loss", later.loss(scores), False))[0][2]
        if loss < least:
            best, least = done, loss
        elif done - best >= config.patience:
            break
    return Trees(booster.model_to_string(num_iteration=best)) if best else None


def _varies(x: Floats) -> bool:
    """Whether LightGBM tells rows apart by some column; it fails where all rows fall into one bin of every column."""
    for column in x.T:
        known = column[~np.isnan(column)]
        if len(known) >= 2 * ROWS_OF_A_BIN:
            low, high = np.partition(known, (ROWS_OF_A_BIN - 1, -ROWS_OF_A_BIN))[[ROWS_OF_A_BIN - 1, -ROWS_OF_A_BIN]]
            if low < high:
                return True
    return False
