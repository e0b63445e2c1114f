"""Fit a step of the funnel: carts given clicks, or purchases given carts.

Purchases are few. So what moves carts is taken to move purchases too, by a share that is estimated: what is learnt of
hundreds of carts need not be learnt again of tens of purchases. And how far features and items may move a step beyond
that is chosen by cross-validation over shoppers: where a log has little to say, looser models foretell worse than one
chance for all.

Sources: continuation-ratio models, Agresti, "Categorical Data Analysis", 3rd ed., section 8.3.6; weights of models by
their cross-validated likelihood, Yao et al., "Using stacking to average Bayesian predictive distributions", Bayesian
Analysis 13(3), 2018, section 3.4 (pseudo-BMA).

Shapes: R clicks that got as far as the step, F item features, P weights, N items.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from .funnel import COLUMNS, FUNNEL_WEIGHTS, Stage
from .logistic import Doubles, ItemEffects, LogisticFit, fit_logistic, logit

LOOSE = (1.0, 0.4, 0.1)
"""Shares of the widest priors that are tried."""
FEATURE_SD, UTILITY_SD = 0.2, 0.5
"""Widest prior of a feature's weight, in logits a unit, and the prior of the utility's, which is always the same."""
SHARE = (0.5, 0.5)
"""Mean and standard deviation of the prior of how far what moves the step before moves this one."""
FOLDS = 4
Rows = tuple[Doubles, NDArray[np.int64], NDArray[np.bool_], Doubles]
"""Columns, items, whether each passed, and how often each counts."""


@dataclass(frozen=True, slots=True)
class StageFit:
    """A fitted step.

    Attributes:
        weights: (P,) see `FUNNEL_WEIGHTS`. effects: (N + 1,). errors: (P,) standard errors of the weights.
        chances: (len(LOOSE),) chance that each looseness is the right one.
        own: the regression behind it, of what the step before does not say. before: (P,) weights of the step before,
            and share: how much of them counts; zeros where there is none.
    """

    weights: Doubles
    effects: Doubles
    errors: Doubles
    chances: Doubles
    own: LogisticFit

    @property
    def stage(self) -> Stage:
        """As shoppers use it."""
        return Stage(torch.from_numpy(self.weights).float(), torch.from_numpy(self.effects).float())

    def score(self, x: Doubles, items: NDArray[np.int64]) -> Doubles:
        """(R,) log odds of passing, of rows as of `columns`."""
        return x @ self.weights + self.effects[items]

    @classmethod
    def of(cls, own: LogisticFit, chances: Doubles, before: "StageFit | None") -> Self:
        """The step as one regression, of its own part and what the step `before` moves."""
        if before is None:
            return cls(own.weights, own.effects, own.errors, chances, own)
        (rest, share), (errors, unsure) = np.split(own.weights, [-1]), np.split(own.errors, [-1])
        return cls(
            rest + share * before.weights,
            own.effects + share * before.effects,
            np.sqrt(errors**2 + (share * before.errors) ** 2 + (unsure * before.weights) ** 2),
            chances,
            own,
        )


def columns(scaled: Doubles, utility: Doubles) -> Doubles:
    """(R, P) what the weights of a step belong to, of scaled item features (R, F) and utilities (R,)."""
    return np.column_stack([np.ones(len(utility)), scaled[:, COLUMNS], utility])


def fit_stage(
    x: Doubles,
    items: NDArray[np.int64],
    passed: NDArray[np.bool_],
    weight: Doubles,
    shopper: NDArray[np.int64],
    *,
    effects: ItemEffects,
    before: StageFit | None = None,
    start: StageFit | None = None,
    luck: np.random.Generator | None = None,
) -> StageFit:
    """One step of the funnel.

    Args:
        x: (R, P) `columns` of those who got as far as this step.
        items: (R,) their items.
        passed: (R,) whether they passed it, some of them and not all.
        weight: (R,) how often each counts.
        shopper: (R,) whose they are.
        effects: widest prior of the items' effects.
        before: the fit of the step before.
        start: a fit of the same clicks, weighted otherwise, to begin from. Its looseness is not looked for again.
        luck: draws the looseness and the means of the priors, for a member of an ensemble.
    """
    if before is not None:
        x = np.column_stack([x, before.score(x, items)])
    rows = x, items, passed, weight
    if start is None:
        fold = np.unique(shopper, return_inverse=True)[1] % FOLDS
        tried = [_validated(rows, fold, effects, loose, before is not None) for loose in LOOSE]
        chances = np.exp(np.array(tried) - max(tried))
        chances /= chances.sum()
    else:
        chances = start.chances
    number = int(chances.argmax()) if luck is None else int(luck.choice(len(LOOSE), p=chances))
    begin = start.own if start is not None and len(start.own.weights) == x.shape[1] else None
    own = _fitted(rows, effects, LOOSE[number], before is not None, begin, luck)
    return StageFit.of(own, chances, before)


def _validated(rows: Rows, fold: NDArray[np.int64], effects: ItemEffects, loose: float, follows: bool) -> float:
    """Log-likelihood of rows, each foretold from other folds; a fold is left out whose others all passed, or none."""
    total = 0.0
    for one in range(FOLDS):
        kept, (x, items, passed, weight) = _of(rows, fold != one), _of(rows, fold == one)
        if not 0 < kept[2].sum() < len(kept[2]):
            continue
        fit = _fitted(kept, effects, loose, follows)
        z = x @ fit.weights + fit.effects[items]
        total += float(weight @ (passed * z - np.logaddexp(0, z)))
    return total


def _of(rows: Rows, which: NDArray[np.bool_]) -> Rows:
    x, items, passed, weight = rows
    return x[which], items[which], passed[which], weight[which]


def _fitted(
    rows: Rows,
    effects: ItemEffects,
    loose: float,
    follows: bool,
    start: LogisticFit | None = None,
    luck: np.random.Generator | None = None,
) -> LogisticFit:
    """The regression with priors so wide; if it `follows` a step, the last column is what that one says."""
    x, items, passed, weight = rows
    features = np.full(len(COLUMNS), loose * FEATURE_SD)
    centre = np.append(logit(float(np.average(passed, weights=weight))), np.zeros(len(FUNNEL_WEIGHTS) - 1))
    spread = np.concatenate([[2.0], features, [loose * FEATURE_SD if follows else UTILITY_SD]])
    if follows:
        centre, spread = np.append(centre, SHARE[0]), np.append(spread, SHARE[1])
    prior = replace(effects, alike=loose * effects.alike, own=loose * effects.own)
    start = None if start is None else replace(start, prior=prior)
    how = {"centre": centre, "spread": spread, "prior": prior, "start": start, "estimated": False, "luck": luck}
    return fit_logistic(x, passed, weight, items, **how)
