"""Logistic regression with Gaussian priors and an effect of each item, for the funnel and for leaving.

Shapes: R rows, P features, N items, D width of item vectors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Doubles = NDArray[np.float64]
SPREAD_ROUNDS = 4
LEAST_SPREAD = 0.02
"""Standard deviation, in logits, below which item effects are not told apart from none."""


@dataclass(frozen=True, slots=True)
class ItemEffects:
    """Prior of what an item adds beyond its features: a linear function of its vector, and something of its own.

    So an item that the log hardly knows is taken to be like those of similar text.

    Attributes:
        vectors: (N + 1, D) unit rows, row 0 zero.
        alike: standard deviation of the part that similar items share, > 0.
        own: standard deviation of the item's own part, > 0.
    """

    vectors: Doubles
    alike: float
    own: float


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """Most likely weights and effects.

    Attributes:
        weights: (P,). errors: (P,) their standard errors given the effects. effects: (N + 1,) of the items.
        prior: of the effects, with the spread that was found. found: (P + D + N + 1,) weights, what similar items
            share, and what is an item's own.
    """

    weights: Doubles
    errors: Doubles
    effects: Doubles
    prior: ItemEffects
    found: Doubles


def logit(chance: float) -> float:
    """Log odds of a chance in (0, 1)."""
    return float(np.log(chance / (1 - chance)))


def sigmoid(z: Doubles) -> Doubles:
    """Chance of these log odds, without overflow."""
    return np.exp(-np.logaddexp(0, -z))


def fit_logistic(
    x: Doubles,
    y: NDArray[np.bool_],
    weight: Doubles,
    item: NDArray[np.int64],
    *,
    centre: Doubles,
    spread: Doubles,
    prior: ItemEffects,
    start: LogisticFit | None = None,
    estimated: bool = True,
    luck: np.random.Generator | None = None,
) -> LogisticFit:
    """Most likely weights and item effects.

    The spread of the effects' prior is estimated along, as in `choice_fit.fit_choice`, which takes many events.

    Given `luck`, the means of the prior are drawn from the prior. What the rows say little of then differs from fit to
    fit as much as it is unknown, where otherwise all fits would agree on the prior's mean.

    Source of the last: Osband et al., "Randomized prior functions for deep reinforcement learning", NeurIPS 2018
    (arXiv 1806.03335), section 3, where for Gaussian regression it is shown to draw from the posterior.

    Args:
        x: (R, P) features, a column of ones among them.
        y: (R,) outcomes.
        weight: (R,) how often each row counts.
        item: (R,) the item whose effect a row carries, 0 for none.
        centre: (P,) mean of the weights' prior.
        spread: (P,) its standard deviation.
        prior: of the effects; its spreads are where the estimate begins.
        start: a fit of the same rows, weighted otherwise, to begin from; its spreads are kept.
        estimated: whether the spread of the effects' prior is estimated; otherwise it is taken as it is.
        luck: draws the means of the prior; by default they are `centre`, and 0 for effects.
    """
    p, d = x.shape[1], prior.vectors.shape[1]
    prior, found = (prior, None) if start is None else (start.prior, start.found)
    effects, weights = np.zeros(len(prior.vectors)), centre
    mean = np.concatenate([centre, np.zeros(d + len(effects))])
    drawn = np.zeros_like(mean) if luck is None else luck.normal(size=len(mean))
    for left in reversed(range(SPREAD_ROUNDS if start is None and estimated else 1)):
        scale = np.concatenate([spread, np.full(d, prior.alike), np.full(len(effects), prior.own)])
        found = _most_likely(x, y, weight, item, mean + scale * drawn, scale, prior, found)
        weights, alike, own = np.split(found, [p, p + d])
        effects = _effects(prior, alike, own)
        if not left:
            break
        chance = sigmoid(x @ weights + effects[item])
        held = np.bincount(item, weight * chance * (1 - chance), minlength=len(effects))  # information on each item
        known = held.astype(np.float64)
        fresh = _wider_or_narrower(prior, alike, own, known)
        if np.allclose([fresh.alike, fresh.own], [prior.alike, prior.own], rtol=0.15):
            break
        prior = fresh
    chance = sigmoid(x @ weights + effects[item])
    curvature = (x * (weight * chance * (1 - chance))[:, None]).T @ x + np.diag(1 / spread**2)
    assert found is not None
    return LogisticFit(weights, np.sqrt(np.diag(np.linalg.inv(curvature))), effects, prior, found)


def _effects(prior: ItemEffects, alike: Doubles, own: Doubles) -> Doubles:
    effects = prior.vectors @ alike + own
    effects[0] = 0
    return effects


def _wider_or_narrower(prior: ItemEffects, alike: Doubles, own: Doubles, known: Doubles) -> ItemEffects:
    """The prior with the spread that the effects found speak for, what stays unknown of each added."""
    seen = np.flatnonzero(known[1:] > 0) + 1
    if not len(seen):
        return prior
    unknown = 1 / (known[seen] + 1 / prior.own**2)
    shared = 1 / (known @ prior.vectors**2 + 1 / prior.alike**2)
    spreads = (float(np.sqrt(np.mean(part))) for part in (alike**2 + shared, own[seen] ** 2 + unknown))
    wide, narrow = (max(one, LEAST_SPREAD) for one in spreads)
    return ItemEffects(prior.vectors, wide, narrow)


def _most_likely(
    x: Doubles,
    y: NDArray[np.bool_],
    weight: Doubles,
    item: NDArray[np.int64],
    mean: Doubles,
    scale: Doubles,
    prior: ItemEffects,
    start: Doubles | None,
) -> Doubles:
    """Weights (P,), what similar items share (D,), and what is an item's own (N + 1,), in a row; a priori normal."""
    p, d = x.shape[1], prior.vectors.shape[1]

    def loss(free: Doubles) -> tuple[float, Doubles]:
        theta = mean + scale * free  # the prior has unit variance in `free`, which evens out the curvature
        z = x @ theta[:p] + _effects(prior, theta[p : p + d], theta[p + d :])[item]
        slope = weight * (sigmoid(z) - y)
        by_item = np.bincount(item, slope, minlength=len(prior.vectors))
        by_item[0] = 0
        gradient = np.concatenate([x.T @ slope, prior.vectors.T @ by_item, by_item])
        return float(weight @ (np.logaddexp(0, z) - y * z) + 0.5 * free @ free), scale * gradient + free

    begin = np.zeros_like(mean) if start is None else (start - mean) / scale
    best = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-10})
    return mean + scale * best.x
