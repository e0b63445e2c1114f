"""How fast interests fade within a session: the half-life by which earlier items count less, by profile likelihood.

Shapes: S occasions, K slots, F item features.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from .choice_fit import ChoiceFit, ChoicePrior, fit_choice, log_likelihood
from .features import FADING, ITEM_FEATURES, ItemFacts, Scaling, fading_columns
from .occasions import Occasions
from .priors import LEARNED, Evidence, Priors
from .replay import Progress, Replay, follow

HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, math.inf)
"""Half-lives that are tried, in items taken; infinity is no drift."""
OCCASIONS = 20_000
"""Occasions that they are tried on at most, whole sessions."""
WITHIN = 1.92
"""Log likelihood by which the ends of a 95 % interval lie below the best, half the 95 % point of chi-square."""
LEAST_GAIN = 3.32
"""Log likelihood that the best must gain over no drift: half the 99 % point, for five others are tried."""
_COLUMNS = [ITEM_FEATURES.index(name) for name in FADING]


@dataclass(frozen=True, slots=True)
class Drift:
    """What a log tells of how fast interests fade.

    Attributes:
        half_life: found, in items taken; infinity where none was; the prior's where the log cannot tell.
        low, high: ends of the profile likelihood's 95 % interval, out of those tried.
        gain: log likelihood of the best half-life tried over no drift. error: its standard error over shoppers.
        best: that half-life. occasions: that it was tried on.
    """

    half_life: float
    low: float
    high: float
    gain: float
    error: float
    best: float
    occasions: int

    @property
    def told(self) -> bool:
        """Whether the log tells any half-life from another."""
        return (self.low, self.high) != (HALF_LIVES[0], HALF_LIVES[-1])

    def evidence(self, priors: Priors) -> Evidence:
        """The row of the table of evidence."""
        gains = f"{self.best:g} gains {self.gain:.1f} ± {1.96 * self.error:.1f} nats"
        count = f"{'none gains' if math.isinf(self.best) else gains} on {self.occasions} occasions"
        if not self.told:
            words = "share of an interest that is lost with each further item taken"
            return Evidence.assumed(words, count, "interest_fading", priors)
        words = "half-life of interests within a session, in items taken"
        if math.isinf(self.half_life):
            return Evidence(f"{words} (no drift found)", LEARNED, count, math.nan, self.low)
        return Evidence(
            words, LEARNED, count, self.half_life, self.low, math.nan if math.isinf(self.high) else self.high
        )


def half_life_of(fading: float) -> float:
    """Items taken after which half is left of what loses a share, in [0, 1), with each of them."""
    return math.inf if fading == 0 else -1 / math.log2(1 - fading)


def find_drift(
    log: ShopLog,
    occasions: Occasions,
    facts: ItemFacts,
    seen: Replay,
    scaling: Scaling,
    weight: NDArray[np.float64],
    shopper: Ints,
    prior: ChoicePrior,
    fit: ChoiceFit,
    priors: Priors,
    progress: Progress | None = None,
) -> Drift:
    """Fit choices anew for every half-life tried, and compare.

    A drift is found where the best gains more than `LEAST_GAIN`, and its gain is above 0 by its 95 % interval over
    shoppers too, for what one shopper does is not independent.

    Args:
        log: the sessions.
        occasions: moments of choice of it.
        facts: of the items, on the CPU.
        seen: what the moments looked like, interests lasting.
        scaling: of that.
        weight: (S,) how often each occasion counts.
        shopper: (S,) whose it is.
        prior: of the choices.
        fit: of the choices, interests lasting.
        priors: what is taken where the log tells no half-life from another.
        progress: told of steps.
    """
    kept = _some(occasions.session, OCCASIONS)
    some, seen = _part(occasions, kept), _replayed(seen, kept)
    columns = fading(log, some, facts, HALF_LIVES)
    if not len(kept) or all(columns[0].equal(other) for other in columns[1:]):
        half_life = half_life_of(priors.interest_fading)
        return Drift(half_life, HALF_LIVES[0], HALF_LIVES[-1], 0.0, 0.0, math.inf, len(kept))
    prior = _settled(prior, fit)
    told = []
    for number, (half_life, fresh) in enumerate(zip(HALF_LIVES, columns, strict=True)):
        if progress:
            progress(number, len(HALF_LIVES), "trying how fast interests fade")
        raw = seen.raw.clone()
        raw[..., _COLUMNS] = fresh
        again = Scaling.of(raw, torch.from_numpy(some.items > 0), scaling.bend, half_life)
        data = some.data(replace(seen, raw=raw), again, weight[kept])
        found = fit_choice(data, prior, len(facts.price) - 1, errors=False, start=fit, rounds=1)
        with torch.no_grad():
            told.append((log_likelihood(found.weights, data) * data.weight).numpy())
    found = _compared(np.stack(told), shopper[kept])
    return found if found.told else replace(found, half_life=half_life_of(priors.interest_fading))


def _compared(told: NDArray[np.float64], shopper: Ints) -> Drift:
    """The best of half-lives, given what is told (H, S) of each occasion by each."""
    total = told.sum(1)
    best = int(total.argmax())
    inside = [one for one, sum_ in zip(HALF_LIVES, total, strict=True) if sum_ > total[best] - WITHIN]
    more = told[best] - told[-1]
    gain, error = float(more.sum()), float(np.sqrt((np.bincount(shopper, more) ** 2).sum()))
    found = gain > LEAST_GAIN and gain > 1.96 * error
    half_life = HALF_LIVES[best] if found else math.inf
    return Drift(half_life, min(inside), max(inside), gain, error, HALF_LIVES[best], told.shape[1])


def fading(log: ShopLog, occasions: Occasions, facts: ItemFacts, half_lives: tuple[float, ...]) -> list[Tensor]:
    """Raw `FADING` features (S, K, 2) at the moments of a log, for each half-life."""
    size, price = occasions.items.shape, facts.price_in_category
    found = [torch.zeros(*size, len(FADING)) for _ in half_lives]
    for moment in follow(log.tokens, occasions.session, occasions.before, occasions.items, price=price, shown=False):
        category = facts.category[moment.items]
        for half_life, columns in zip(half_lives, found, strict=True):
            columns[moment.rows] = torch.stack(fading_columns(moment.trail, category, facts, half_life), -1)
    return found


def faded(seen: Replay, log: ShopLog, occasions: Occasions, facts: ItemFacts, half_life: float) -> None:
    """Let the interests of a replay fade, in place."""
    seen.raw[..., _COLUMNS] = fading(log, occasions, facts, (half_life,))[0]


def _some(session: Ints, most: int) -> Ints:
    """(R,) rows of every n-th session, about `most` at most."""
    number = np.unique(session, return_inverse=True)[1]
    return np.flatnonzero(number % max(1, math.ceil(len(session) / most)) == 0)


def _part(occasions: Occasions, rows: Ints) -> Occasions:
    correction = None if occasions.correction is None else occasions.correction[rows]
    at = occasions.session[rows], occasions.before[rows]
    return Occasions(*at, occasions.items[rows], occasions.clicked[rows], correction)


def _replayed(seen: Replay, rows: Ints) -> Replay:
    kept = torch.from_numpy(rows)
    return Replay(*(part[kept] for part in (seen.raw, seen.outside, seen.slates, seen.idle, seen.last_clicked)))


def _settled(prior: ChoicePrior, fit: ChoiceFit) -> ChoicePrior:
    """The prior with what a fit found of how far items differ and at how many places shoppers stop."""
    assert prior.effects is not None
    alike, own = fit.effects_sd
    effects = replace(prior.effects, alike=alike, own=own)
    return replace(prior, effects=effects, places=len(fit.weights.proceed) - 1)
