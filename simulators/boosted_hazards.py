"""Chances of what follows a choice: logistic regression, and trees on top of it where the log can bear them.

Shapes: R rows, P columns, N items.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .logistic import ItemEffects, fit_logistic, logit, sigmoid
from .trees import Doubles, Floats, Later, TreeConfig, Trees, grow

EVENTS_FOR_TREES = 300
"""Times that a thing must have happened, and not happened, before trees are tried on top of the regression."""


@dataclass(frozen=True, slots=True)
class Hazard:
    """Chance of an event: sigmoid(weights . (1, scaled columns) + effect of the item + trees).

    Attributes:
        centre, scale: (P,) of the columns, which the regression reads as 0 where nan.
        low, high: (P,) range of the columns in the log; the regression is held within it.
        weights: (1 + P,) intercept first. effects: (N + 1,).
        trees: over the columns; none where the log has too few events, or later sessions were no better foretold.
    """

    centre: Doubles
    scale: Doubles
    low: Doubles
    high: Doubles
    weights: Doubles
    effects: Doubles
    trees: Trees | None = None

    def chance(self, x: Floats, item: NDArray[np.int64]) -> Floats:
        """(R,) chances, given columns (R, P) and the items (R,) whose effect they carry, 0 for none."""
        z = self.linear(x, item)
        return sigmoid(z if self.trees is None else z + self.trees.scores(x)).astype(np.float32)

    def linear(self, x: Floats, item: NDArray[np.int64]) -> Doubles:
        """(R,) log odds by the regression alone."""
        # A sum row by row: a matrix product may round a row by what else is in its batch.
        return (self._scaled(x) * self.weights[1:]).sum(1) + self.weights[0] + self.effects[item]

    def _scaled(self, x: Floats) -> Doubles:
        return np.nan_to_num((np.clip(x.astype(np.float64), self.low, self.high) - self.centre) / self.scale)

    @classmethod
    def constant(cls, chance: float, columns: int, n_items: int) -> "Hazard":
        """The same chance always."""
        zeros, weights = np.zeros(columns), np.zeros(1 + columns)
        weights[0] = logit(min(max(chance, 1e-6), 1 - 1e-6))
        return cls(zeros, np.ones(columns), zeros, zeros, weights, np.zeros(n_items + 1))


def fit_hazard(
    x: Floats,
    happened: NDArray[np.bool_],
    weight: Doubles,
    item: NDArray[np.int64],
    late: NDArray[np.bool_],
    n_items: int,
    config: TreeConfig,
    *,
    own_sd: float = 0.3,
    start: Hazard | None = None,
) -> Hazard:
    """Fit a hazard by maximum likelihood with Gaussian priors; trees begin where the regression ends.

    Args:
        x: (R, P) columns.
        happened: (R,) some of them and not all.
        weight: (R,) how often each row counts.
        item: (R,) whose effect a row carries, 0 for none.
        late: (R,) rows of the latest sessions, which say how many trees help.
        n_items: N.
        config: how trees grow.
        own_sd: standard deviation of an item's effect at first; it is estimated from there.
        start: a fit of the same rows, weighted otherwise; as many trees are grown as it has, and `late` has no say.
    """
    hazard = _regression(x, happened, weight, item, n_items, own_sd)
    if start is not None:
        return _with_trees(hazard, x, happened, weight, item, config, 0 if start.trees is None else len(start.trees))
    events, others = float(weight @ happened), float(weight @ ~happened)
    if min(events, others) < EVENTS_FOR_TREES or not 0 < happened[late].sum() < late.sum():
        return hazard
    early = ~late
    if not 0 < happened[early].sum() < early.sum():
        return hazard
    first = _regression(x[early], happened[early], weight[early], item[early], n_items, own_sd)
    offset = first.linear(x, item)

    def losses(scores: Doubles) -> Doubles:
        z = offset[late] + scores
        return np.logaddexp(0, z) - happened[late] * z

    part = (offset[early], happened[early], weight[early])
    found = grow(
        x[early], _Logistic(*part).slope, config, rounds=config.rounds, later=Later(x[late], losses, weight[late])
    )
    return _with_trees(hazard, x, happened, weight, item, config, 0 if found is None else len(found))


def _with_trees(
    hazard: Hazard,
    x: Floats,
    happened: NDArray[np.bool_],
    weight: Doubles,
    item: NDArray[np.int64],
    config: TreeConfig,
    rounds: int,
) -> Hazard:
    """The hazard with so many trees on top of it."""
    if not rounds:
        return hazard
    whole = _Logistic(hazard.linear(x, item), happened, weight)
    return replace(hazard, trees=grow(x, whole.slope, config, rounds=rounds))


@dataclass(frozen=True, slots=True)
class _Logistic:
    """The logistic loss of rows, from an offset on."""

    offset: Doubles
    happened: NDArray[np.bool_]
    weight: Doubles

    def slope(self, scores: Doubles) -> tuple[Doubles, Doubles]:
        chance = sigmoid(self.offset + scores)
        return (chance - self.happened) * self.weight, np.maximum(chance * (1 - chance) * self.weight, 1e-9)


def _regression(
    x: Floats, happened: NDArray[np.bool_], weight: Doubles, item: NDArray[np.int64], n_items: int, own_sd: float
) -> Hazard:
    columns = x.astype(np.float64)
    known = np.isfinite(columns)
    count = np.maximum(known.sum(0), 1)
    filled = np.where(known, columns, 0)
    centre = filled.sum(0) / count
    scale = np.sqrt((np.where(known, columns - centre, 0) ** 2).sum(0) / count)
    low = np.where(known, columns, np.inf).min(0)
    high = np.where(known, columns, -np.inf).max(0)
    empty = ~known.any(0)
    low[empty], high[empty] = 0, 0
    p = x.shape[1]
    hazard = Hazard(centre, np.where(scale > 1e-6, scale, 1), low, high, np.zeros(1 + p), np.zeros(n_items + 1))
    rate = float(np.average(happened, weights=weight))
    fit = fit_logistic(
        np.column_stack([np.ones(len(x)), hazard._scaled(x)]),
        happened,
        weight,
        item,
        centre=np.append(logit(min(max(rate, 1e-6), 1 - 1e-6)), np.zeros(p)),
        spread=np.append(2.0, np.full(p, 0.5)),  # few events: a column moves the log odds by half or less
        prior=ItemEffects(np.zeros((n_items + 1, 1)), own_sd, own_sd),  # no two items are taken to be alike
    )
    return replace(hazard, weights=fit.weights, effects=fit.effects)
