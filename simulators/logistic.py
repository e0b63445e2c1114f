"""Logistic regression with Gaussian priors and an effect of each item, for the funnel and for leaving.

Shapes: R rows, P features, N items, D width of item vectors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Doubles = NDArray[np.float64]


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
    """Weights (P,), their standard errors (P,) given the effects, and the effects (N + 1,) of the items."""

    weights: Doubles
    errors: Doubles
    effects: Doubles


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
) -> LogisticFit:
    """Most likely weights and item effects.

    Args:
        x: (R, P) features, a column of ones among them.
        y: (R,) outcomes.
        weight: (R,) how often each row counts.
        item: (R,) the item whose effect a row carries, 0 for none.
        centre: (P,) mean of the weights' prior.
        spread: (P,) its standard deviation.
        prior: of the effects.
    """
    p, d = x.shape[1], prior.vectors.shape[1]
    mean = np.concatenate([centre, np.zeros(d + len(prior.vectors))])
    scale = np.concatenate([spread, np.full(d, prior.alike), np.full(len(prior.vectors), prior.own)])

    def loss(free: Doubles) -> tuple[float, Doubles]:
        theta = mean + scale * free  # the prior has unit variance in `free`, which evens out the curvature
        effects = prior.vectors @ theta[p : p + d] + theta[p + d :]
        effects[0] = 0
        z = x @ theta[:p] + effects[item]
        slope = weight * (sigmoid(z) - y)
        by_item = np.bincount(item, slope, minlength=len(effects))
        by_item[0] = 0
        gradient = np.concatenate([x.T @ slope, prior.vectors.T @ by_item, by_item])
        return float(weight @ (np.logaddexp(0, z) - y * z) + 0.5 * free @ free), scale * gradient + free

    best = minimize(loss, np.zeros_like(mean), jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-10})
    theta = mean + scale * best.x
    effects = prior.vectors @ theta[p : p + d] + theta[p + d :]
    effects[0] = 0
    chance = sigmoid(x @ theta[:p] + effects[item])
    curvature = (x * (weight * chance * (1 - chance))[:, None]).T @ x + np.diag(1 / spread**2)
    return LogisticFit(theta[:p], np.sqrt(np.diag(np.linalg.inv(curvature))), effects)
