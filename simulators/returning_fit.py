"""Fit the return hazard by maximum posterior likelihood, and hold what it foretells against later visits.

Shapes: V visits, R return features, P parameters.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from ..datasets.log import ShopLog
from .logistic import logit
from .priors import LEARNED, Evidence, Priors, wilson
from .returning import RETURN_FEATURES, SPREAD, Returning, Revisits

Doubles = NDArray[np.float64]
HALF = 0.5
"""Days by which a wait may lie beside what was logged: many logs have a clock by days, and orders minutes apart would
otherwise decide the spread."""
HORIZONS = (7.0, 30.0)
"""Days within which coming again is judged."""
WEIGHT_SD, LEVEL_SD = 1.0, 2.0
"""Standard deviations of priors: of a feature's weight, in logits or log days, and of the two levels."""
COMING_AGAIN, UNTIL = "chance to come again after a visit", "median days until a shopper comes again"
_R = len(RETURN_FEATURES)


@dataclass(frozen=True, slots=True)
class ReturnFit:
    """Most likely parameters: R weights, R paces, and the log of the spread.

    Attributes:
        theta: (P,). errors: (P,) standard errors, shoppers resampled in thought (clustered); nan where not asked for.
        weibull: the kind of wait. ahead: log likelihood by which it is ahead of the other kind.
        chance, days: estimate and standard error of the mean chance, in logits, and of the log of the median wait.
    """

    theta: Doubles
    errors: Doubles
    weibull: bool
    ahead: float
    chance: tuple[float, float]
    days: tuple[float, float]


@dataclass(frozen=True, slots=True)
class LearnedReturning:
    """The return hazard, its fit (none where assumed), and what it rests on."""

    returning: Returning
    fit: ReturnFit | None
    evidence: list[Evidence]


def learn_returning(
    visits: Revisits,
    weight: Doubles,
    priors: Priors,
    least: int,
    why: str | None = None,
    start: LearnedReturning | None = None,
) -> LearnedReturning:
    """Fit who comes again and when, or assume it where the log tells too little.

    Args:
        visits: of the log.
        weight: (V,) how often each counts.
        priors: what is assumed, and where the fit begins.
        least: visits that were, and that were not, followed by another, below which the prior is taken.
        why: says why the log cannot tell, if so.
        start: a fit of other weights to begin from, whose kind of wait is kept; then without errors.
    """
    came = int(visits.came.sum())
    count = f"{came} returns after {len(visits)} visits"
    if why is None and (not visits.shopper.any() or min(came, len(visits) - came) < least):
        why = count if visits.shopper.any() else "1 shopper"
    if why is not None or not weight.any():
        rows = [
            Evidence.assumed(COMING_AGAIN, why or count, "come_back", priors),
            Evidence.assumed(UNTIL, why or count, "come_back_after", priors),
        ]
        return LearnedReturning(Returning.constant(priors.come_back, priors.come_back_after), None, rows)
    if start is not None and start.fit is not None:
        fit = _fitted(visits, weight, priors, start.fit.weibull, start.fit.theta, errors=False)[0]
    else:
        kinds = [_fitted(visits, weight, priors, weibull, None, errors=start is None) for weibull in (False, True)]
        (fit, best), (_, other) = sorted(kinds, key=lambda one: -one[1])
        fit = ReturnFit(fit.theta, fit.errors, fit.weibull, best - other, fit.chance, fit.days)
    return LearnedReturning(_returning(fit, visits), fit, _evidence(fit, count))


def row_log_chances(parts: tuple[Tensor, Tensor, Tensor], came: Tensor, days: Tensor, weibull: bool) -> Tensor:
    """(V,) log chance of what each visit was followed by.

    Args:
        parts: logits of coming again, location of log days, and log of their spread, (V,) each, see `_parts`.
        came: (V,) whether the shopper came again.
        days: (V,) days to the return, or to the log's end.
        weibull: the kind of wait.
    """
    logits, level, spread = parts[0], parts[1], parts[2].exp()

    def outlasting(until: Tensor) -> Tensor:
        z = (until.clamp(min=1e-6).log() - level) / spread
        return -z.clamp(max=50.0).exp() if weibull else torch.special.log_ndtr(-z)

    early, late = outlasting(days - HALF), outlasting(days + HALF)
    comes, stays_away = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    returned = comes + early + torch.log(-torch.expm1((late - early).clamp(max=-1e-12)))
    return torch.where(came, returned, torch.logaddexp(stays_away, comes + outlasting(days)))


def _parts(theta: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `row_log_chances` reads, (V,) each."""
    return features @ theta[:_R], features @ theta[_R : 2 * _R], theta[2 * _R].expand(len(features))


def _columns(visits: Revisits) -> tuple[Tensor, Tensor, Tensor]:
    days = torch.from_numpy(np.where(visits.came, visits.wait, visits.left))
    return visits.features.double(), torch.from_numpy(visits.came), days


def _prior(priors: Priors) -> tuple[Tensor, Tensor]:
    """(P,) centre and spread of the parameters' prior."""
    centre, spread = torch.zeros(2 * _R + 1, dtype=torch.float64), torch.full((2 * _R + 1,), WEIGHT_SD).double()
    centre[0], centre[_R], centre[2 * _R] = logit(priors.come_back), math.log(priors.come_back_after), math.log(SPREAD)
    spread[0] = spread[_R] = LEVEL_SD
    return centre, spread


def _fitted(
    visits: Revisits, weight: Doubles, priors: Priors, weibull: bool, begin: Doubles | None, *, errors: bool
) -> tuple[ReturnFit, float]:
    """The fit of one kind of wait, and its log posterior."""
    columns, often = _columns(visits), torch.from_numpy(weight)
    centre, spread = _prior(priors)

    features, came, days = columns

    def loss(theta: Tensor) -> Tensor:
        told = row_log_chances(_parts(theta, features), came, days, weibull)
        return 0.5 * (((theta - centre) / spread) ** 2).sum() - often @ told

    def with_gradient(theta: Doubles) -> tuple[float, Doubles]:
        at = torch.tensor(theta, requires_grad=True)
        value = loss(at)
        value.backward()
        assert at.grad is not None
        return value.item(), at.grad.numpy()

    found = minimize(with_gradient, centre.numpy() if begin is None else begin, jac=True, method="BFGS")
    theta = torch.from_numpy(found.x)
    covariance = np.full((len(theta), len(theta)), np.nan)
    if errors:
        bread = torch.linalg.inv(hessian(loss, theta))
        covariance = (bread @ _scatter(theta, visits, often, weibull) @ bread).numpy()
    chance, until = (
        (one(theta).item(), _error(jacobian(one, theta).numpy(), covariance))
        for one in (
            lambda at: _mean_logit(at, features, often),
            lambda at: _log_median(at, features, often, weibull),
        )
    )
    fit = ReturnFit(found.x, np.sqrt(np.diag(covariance)), weibull, 0.0, chance, until)
    return fit, -float(found.fun)


def _scatter(theta: Tensor, visits: Revisits, often: Tensor, weibull: bool) -> Tensor:
    """(P, P) sum over shoppers of the outer products of their slopes: the middle of the sandwich.

    Source: Liang and Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 1986.
    """
    features, came, days = _columns(visits)
    logits, level, spread = (part.detach().clone().requires_grad_() for part in _parts(theta, features))
    parts = (logits, level, spread)
    # A visit's chance depends on the parameters through these three alone, so one pass back tells every visit's slope.
    slopes = torch.autograd.grad((often * row_log_chances(parts, came, days, weibull)).sum(), parts)
    rows = torch.cat([slopes[0][:, None] * features, slopes[1][:, None] * features, slopes[2][:, None]], 1)
    summed = torch.zeros(int(visits.shopper.max()) + 1, rows.shape[1], dtype=torch.float64)
    summed.index_add_(0, torch.from_numpy(visits.shopper), rows)
    return summed.T @ summed


def _mean_logit(theta: Tensor, features: Tensor, often: Tensor) -> Tensor:
    """Logit of the mean chance to come again at all."""
    return torch.logit((often @ torch.sigmoid(features @ theta[:_R])) / often.sum())


def _log_median(theta: Tensor, features: Tensor, often: Tensor, weibull: bool) -> Tensor:
    """Log of the days in which half of those come again who do, after a visit of mean features."""
    level = (often @ (features @ theta[_R : 2 * _R])) / often.sum()
    return level + theta[2 * _R].exp() * math.log(math.log(2)) if weibull else level


def _error(slope: Doubles, covariance: Doubles) -> float:
    return float(np.sqrt(slope @ covariance @ slope))


def _returning(fit: ReturnFit, visits: Revisits) -> Returning:
    theta = torch.from_numpy(fit.theta).float()
    edges = visits.features.amin(0), visits.features.amax(0)
    return Returning(theta[:_R], theta[_R : 2 * _R], theta[2 * _R].exp(), torch.tensor(fit.weibull), *edges)


def _evidence(fit: ReturnFit, count: str) -> list[Evidence]:
    (chance, doubt), (days, slack) = fit.chance, fit.days
    low, middle, high = (1 / (1 + math.exp(-(chance + side * doubt))) for side in (-1.96, 0, 1.96))
    kind, other = ("Weibull", "log-normal") if fit.weibull else ("log-normal", "Weibull")
    told = f"{count}; {kind}, {fit.ahead:.1f} nats ahead of {other}"
    spans = (math.exp(days + side * slack) for side in (0, -1.96, 1.96))
    return [Evidence(COMING_AGAIN, LEARNED, count, middle, low, high), Evidence(UNTIL, LEARNED, told, *spans)]


def returns_untold(log: ShopLog) -> str | None:
    """Why a log cannot tell who comes again; none where it can."""
    return "sessions sampled by length" if log.facts.get("length_biased") else None


def return_calibration(returning: Returning, visits: Revisits) -> pd.DataFrame:
    """Foretold and observed shares of visits followed by another in time.

    Only visits that the log follows for so long are counted, a day more where the clock is by days.

    Args:
        returning: the hazard.
        visits: which it was not fitted on.

    Returns:
        One row a horizon that some visit can be judged by: `days`, `count`, `predicted`, `observed`, and `low` and
        `high`, its 95 % interval (Wilson 1927; visits of one shopper counted as if independent).
    """
    rows: list[tuple[Any, ...]] = []
    for horizon in HORIZONS:
        there = visits.left >= horizon + HALF
        if not there.any():
            continue
        chance = returning.within(visits.features[torch.from_numpy(there)], horizon + HALF)
        wait = visits.wait[there]
        back = int((wait <= horizon + HALF).sum())  # a nan is no return
        count = int(there.sum())
        rows.append((horizon, count, float(chance.mean()), back / count, *wilson(back, count)))
    return pd.DataFrame(rows, columns=["days", "count", "predicted", "observed", "low", "high"])
