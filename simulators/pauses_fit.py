"""Fit the time spent on slates by the likelihood of whole sessions, whose pace is unknown, under weak priors.

Shapes: P pauses, S sessions, T parameters.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from .funnel import OUTCOMES
from .pauses import LOG_SHARES, PACES, SHORTEST, Pauses, log_density_of
from .priors import ASSUMED, LEARNED, Evidence, Priors

MOST_PAUSES = 20_000
"""Pauses learnt from, roughly, at most; of more, whole sessions drawn at random."""
SILENT_SPREAD = 1.0
"""Standard deviation of log seconds where the log has no clock."""
_N = len(OUTCOMES)
_PACE = 2 + 2 * _N
_FIRST = _PACE + 4
# Parameters: mean and log spread of all; what each outcome adds to the one and to the other; then these five.
_LAST = np.array([np.log(0.5), -1.5, 1.0, 0.7, 0.0])
"""Prior means of the log pace, of the log odds of turning aside, of the shift and log width of that, and of what a
first slate adds."""
_LAST_SD = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5], dtype=torch.float64)
_BOUNDS = [(None, None)] * _PACE + [(np.log(0.02), np.log(3.0)), (-6.0, 0.0), (-1.0, 6.0), (0.0, 2.0), (None, None)]
_ALIKE = np.log(1e-6)


@dataclass(frozen=True, slots=True)
class LearnedPauses:
    """The law, its parameters (T,) to begin another fit from (none where it was assumed), and what it rests on."""

    pauses: Pauses
    parameters: NDArray[np.float64] | None
    evidence: list[Evidence]


def learn_pauses(
    seconds: NDArray[np.float64],
    outcome: NDArray[np.int64],
    session: NDArray[np.int64],
    weight: NDArray[np.float64],
    priors: Priors,
    least: int,
    start: LearnedPauses | None = None,
    first: NDArray[np.bool_] | None = None,
) -> LearnedPauses:
    """The law of the time on a slate.

    An outcome with few pauses is drawn to what all have, as if it had been seen `least` times more. With fewer than
    `least` sessions of two pauses or more shoppers are taken to be alike in pace. Where all pauses are of first slates,
    or none is, first slates are taken to be as others are.

    Args:
        seconds: (P,) seconds to what came next; nan where nothing did.
        outcome: (P,) codes of `OUTCOMES`.
        session: (P,) number of each pause's session.
        weight: (P,) how often each counts, alike within a session; all alike where none of those with a pause does.
        priors: for a log without a clock.
        least: pauses that let it be learnt.
        start: a fit of the same pauses, weighted otherwise, to begin from; then no intervals are sought.
        first: (P,) whether each is that of a visit's first slate; none by default.
    """
    known = np.isfinite(seconds) & (seconds > 0)
    if known.sum() < least:
        assumed = Evidence.assumed("median seconds on a slate", f"{known.sum()} gaps", "seconds_per_slate", priors)
        return LearnedPauses(Pauses.constant(priors.seconds_per_slate, SILENT_SPREAD), None, [assumed])
    first = np.zeros(len(known), np.bool_) if first is None else first
    data = _Data.of(seconds[known], outcome[known], session[known], weight[known], least, first[known])
    begin = data.begin if start is None or start.parameters is None else start.parameters
    paced = data.sessions >= least
    bounds = list(_BOUNDS)
    if not paced:
        bounds[_PACE] = (_ALIKE, _ALIKE)
        begin = np.where(np.arange(len(begin)) == _PACE, _ALIKE, begin)
    told = bool(data.first.any()) and not bool(data.first.all())
    if not told:
        bounds[_FIRST] = (0.0, 0.0)
        begin = np.where(np.arange(len(begin)) == _FIRST, 0.0, begin)
    found = minimize(data.loss, begin, jac=True, method="L-BFGS-B", bounds=bounds).x
    evidence = [] if start else [data.median(), *data.further(found, paced, told)]
    return LearnedPauses(_law(found), found, evidence)


@dataclass(frozen=True, slots=True)
class _Data:
    """Pauses as the likelihood reads them.

    Attributes:
        log: (P,) log seconds. outcome: (P,). session: (P,) from 0. weight: (S,) of sessions. least: see `learn_pauses`.
        first: (P,) bool. sessions: how many of two pauses or more count.
    """

    log: Tensor
    outcome: Tensor
    session: Tensor
    weight: Tensor
    least: int
    first: Tensor
    sessions: int

    @classmethod
    def of(
        cls,
        seconds: NDArray[np.float64],
        outcome: NDArray[np.int64],
        session: NDArray[np.int64],
        weight: NDArray[np.float64],
        least: int,
        first: NDArray[np.bool_],
    ) -> Self:
        """Those of the sessions that count, or of some of them where they have too many pauses."""
        there = np.flatnonzero(weight > 0) if weight.any() else np.arange(len(weight))
        often = weight[there] if weight.any() else np.ones(len(there))
        _, number = np.unique(session[there], return_inverse=True)
        if len(there) > MOST_PAUSES:
            drawn = np.random.default_rng(0).random(number.max() + 1) < MOST_PAUSES / len(there)
            kept = drawn[number]
            there, often = there[kept], often[kept]
            number = np.unique(number[kept], return_inverse=True)[1]
        by_session = np.zeros(number.max() + 1)
        by_session[number] = often
        log = np.log(np.maximum(seconds[there], SHORTEST))
        seen, what, whose, counts = (torch.from_numpy(part) for part in (log, outcome[there], number, by_session))
        several = int((np.bincount(number) > 1).sum())
        return cls(seen, what, whose, counts, least, torch.from_numpy(first[there]), several)

    @property
    def begin(self) -> NDArray[np.float64]:
        """(T,) parameters to begin from."""
        found = np.zeros(_PACE + len(_LAST))
        found[0], found[1], found[_PACE:] = float(self.log.mean()), np.log(max(float(self.log.std()), 0.1)), _LAST
        return found

    def loss(self, parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Minus the log posterior, and its slopes (T,)."""
        theta = torch.from_numpy(parameters).requires_grad_()
        mean, spread, pace, aside, first = _unpacked(theta)
        shift = (mean[self.outcome] + first * self.first)[:, None] + pace * PACES
        told = log_density_of((self.log[:, None] - shift) / spread[self.outcome, None], aside)
        told = told - spread[self.outcome, None].log()
        each = torch.zeros(len(self.weight), len(PACES), dtype=torch.float64).index_add(0, self.session, told)
        likelihood = self.weight @ (LOG_SHARES + each).logsumexp(1)
        adds = theta[2 : 2 + _N] / theta[1].exp(), theta[2 + _N : _PACE] * 2**0.5
        prior = self.least * sum((one**2).sum() for one in adds)
        prior = prior + (((theta[_PACE:] - torch.from_numpy(_LAST)) / _LAST_SD) ** 2).sum()
        loss = 0.5 * prior - likelihood
        loss.backward()
        assert theta.grad is not None
        return float(loss.detach()), theta.grad.numpy()

    def median(self) -> Evidence:
        """Of all pauses."""
        middle, margin = float(self.log.mean()), 1.96 * float(self.log.std()) / len(self.log) ** 0.5
        low, value, high = (float(np.exp(middle + side * margin)) for side in (-1, 0, 1))
        return Evidence("median seconds on a slate", LEARNED, f"{len(self.log)} gaps", value, low, high)

    def further(self, found: NDArray[np.float64], paced: bool, told: bool) -> list[Evidence]:
        """How far shoppers differ and how long first slates take, with intervals by the curvature at the best (T,)."""
        errors = self.errors(found)

        def learned(words: str, count: str, at: int) -> Evidence:
            low, value, high = (float(np.exp(found[at] + side * 1.96 * errors[at])) for side in (-1, 0, 1))
            return Evidence(words, LEARNED, count, value, low, high)

        words, count = "how far shoppers differ in pace (sd of log seconds)", f"{self.sessions} sessions of pauses"
        rows = [learned(words, count, _PACE) if paced else Evidence(words, ASSUMED, count, 0.0)]
        if told:
            count = f"{int(self.first.sum())} of {len(self.first)} gaps"
            rows.append(learned("time on a visit's first slate, over that on others", count, _FIRST))
        return rows

    def errors(self, found: NDArray[np.float64], step: float = 1e-4) -> NDArray[np.float64]:
        """(T,) standard errors of the parameters, by differences of slopes."""
        steps = step * np.eye(len(found))
        rows = [(self.loss(found + one)[1] - self.loss(found - one)[1]) / (2 * step) for one in steps]
        curvature = np.array(rows)
        return np.sqrt(np.maximum(np.diag(np.linalg.pinv((curvature + curvature.T) / 2, hermitian=True)), 0.0))


def _unpacked(theta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Mean and spread (4,), pace (), turning aside (3,), and the first slate's (), as of `Pauses`."""
    share, shift, width, first = theta[_PACE + 1 :].unbind()
    mean, spread = theta[0] + theta[2 : 2 + _N], (theta[1] + theta[2 + _N : _PACE]).exp()
    return mean, spread, theta[_PACE].exp(), torch.stack([share.sigmoid(), shift, width.exp()]), first


def _law(found: NDArray[np.float64]) -> Pauses:
    mean, spread, pace, aside, first = (part.float() for part in _unpacked(torch.from_numpy(found)))
    return Pauses(mean, spread, pace if found[_PACE] > _ALIKE else torch.zeros(()), aside, first)
