"""How fast interests and saturation fade within a session: half-lives by which what lies back counts less.

Each is found by profile likelihood: interests first, then, with these, saturation.

Shapes: S occasions, K slots, F item features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from .choice_fit import ChoiceFit, ChoicePrior, fit_choice, log_likelihood, settled
from .features import FADING, ITEM_FEATURES, HalfLives, ItemFacts, Scaling, fading_columns
from .occasions import Occasions
from .priors import LEARNED, Evidence, Priors
from .replay import Progress, Replay, follow

Fading = Literal["interests", "saturation"]
HALF_LIVES: dict[Fading, tuple[float, ...]] = {
    "interests": (1.0, 2.0, 4.0, 8.0, 16.0, math.inf),
    "saturation": (1.0, 2.0, 4.0, 8.0, math.inf),
}
"""Half-lives that are tried, in items taken and in slates shown; infinity is no fading."""
_WORDS: dict[Fading, tuple[str, str, str]] = {
    "interests": ("half-life of interests within a session, in items taken", "interest", "item taken"),
    "saturation": ("half-life of saturation within a session, in slates shown", "saturation", "slate shown"),
}
OCCASIONS = 60_000
"""Occasions that they are tried on at most, whole sessions."""
WITHIN = 1.92
"""Log likelihood by which the ends of a 95 % interval lie below the best, half the 95 % point of chi-square."""
LEAST_GAIN = 3.32
"""Log likelihood that the best must gain over no fading: half the 99 % point, for several others are tried.

Where all occasions are independent. Then the gain's variance is twice the gain; as many times as it is more, as often
the gain must be this (Rotnitzky and Jewell, Biometrika 1990, of likelihood ratios of clustered data)."""
_COLUMNS = [ITEM_FEATURES.index(name) for name in FADING]


@dataclass(frozen=True, slots=True)
class Drift:
    """What a log tells of how fast something fades.

    Attributes:
        kind: what.
        half_life: found, in the units of `HALF_LIVES`; infinity where none was; the prior's where the log cannot tell.
        low, high: ends of the profile likelihood's 95 % interval, out of those tried.
        gain: log likelihood of the best half-life tried over no fading. error: its standard error over shoppers.
        best: that half-life. occasions: that it was tried on.
    """

    kind: Fading
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
        return (self.low, self.high) != (HALF_LIVES[self.kind][0], HALF_LIVES[self.kind][-1])

    def evidence(self, priors: Priors) -> Evidence:
        """The row of the table of evidence."""
        words, lost, unit = _WORDS[self.kind]
        gains = f"{self.best:g} gains {self.gain:.1f} ± {1.96 * self.error:.1f} nats"
        count = f"{'none gains' if math.isinf(self.best) else gains} on {self.occasions} occasions"
        if not self.told:
            return Evidence.assumed(
                f"share of {lost} that is lost with each further {unit}", count, f"{lost}_fading", priors
            )
        if math.isinf(self.half_life):
            return Evidence(f"{words} (none found)", LEARNED, count, math.nan, self.low)
        high = math.nan if math.isinf(self.high) else self.high
        return Evidence(words, LEARNED, count, self.half_life, self.low, high)


def half_life_of(fading: float) -> float:
    """Steps after which half is left of what loses a share, in [0, 1), with each of them."""
    return math.inf if fading == 0 else -1 / math.log2(1 - fading)


def find_drift(
    kind: Fading,
    log: ShopLog,
    occasions: Occasions,
    facts: ItemFacts,
    seen: Replay,
    scaling: Scaling,
    shopper: Ints,
    prior: ChoicePrior,
    fit: ChoiceFit,
    priors: Priors,
    progress: Progress | None = None,
) -> Drift:
    """Fit choices anew for every half-life tried, and compare.

    One is found where the best gains more than `LEAST_GAIN`, for what one shopper does is not independent.

    Args:
        kind: what may fade; it lasts in `seen` and `fit`.
        log: the sessions.
        occasions: moments of choice of it.
        facts: of the items, on the CPU.
        seen: what the moments looked like.
        scaling: of that, with the half-lives found so far.
        shopper: (S,) whose it is.
        prior: of the choices.
        fit: of the choices.
        priors: what is taken where the log tells no half-life from another.
        progress: told of steps.
    """
    kept = _some(occasions.session, OCCASIONS)
    tried = [replace(scaling.half_lives, **{kind: half_life}) for half_life in HALF_LIVES[kind]]
    columns = fading(log, occasions, kept, facts, tried)
    assumed = half_life_of(priors.interest_fading if kind == "interests" else priors.saturation_fading)
    if not len(kept) or all(columns[0].equal(other) for other in columns[1:]):
        ends = HALF_LIVES[kind][0], HALF_LIVES[kind][-1]
        return Drift(kind, assumed, *ends, 0.0, 0.0, math.inf, len(kept))
    some, seen = _part(occasions, kept), _replayed(seen, kept)
    prior, told, before = settled(prior, fit), [], columns[-1]
    # From what lasts on, each begins where the one before it ended: neighbours are most alike.
    for number, (half_lives, fresh) in enumerate(reversed(list(zip(tried, columns, strict=True)))):
        if progress:
            progress(number, len(tried), f"trying how fast {kind} fade{'s' if kind == 'saturation' else ''}")
        raw = seen.raw.clone()
        raw[..., _COLUMNS] = fresh
        again = Scaling.of(raw, torch.from_numpy(some.items > 0), scaling.bend, half_lives)
        data = some.data(replace(seen, raw=raw), again)
        begin = _rescaled(fit, before, fresh)
        fit, before = fit_choice(data, prior, len(facts.price) - 1, errors=False, start=begin, rounds=1), fresh
        with torch.no_grad():
            told.append(log_likelihood(fit.weights, data).numpy())
    found = _compared(kind, np.stack(told[::-1]), shopper[kept])
    return found if found.told else replace(found, half_life=assumed)


def _rescaled(fit: ChoiceFit, before: Tensor, now: Tensor) -> ChoiceFit:
    """A fit on `FADING` features to begin from with others, both (S, K, 3): their effects are as large as before."""
    found, flat = fit.found.copy(), (0, 1)
    found[_COLUMNS] *= (before.double().std(flat) / now.double().std(flat).clamp(min=1e-6)).clamp(0.1, 10).numpy()
    return replace(fit, found=found)


def _compared(kind: Fading, told: NDArray[np.float64], shopper: Ints) -> Drift:
    """The best of half-lives, given what is told (H, S) of each occasion by each."""
    tried, total = HALF_LIVES[kind], told.sum(1)
    best = int(total.argmax())
    inside = [one for one, sum_ in zip(tried, total, strict=True) if sum_ > total[best] - WITHIN]
    more = told[best] - told[-1]
    gain, error = float(more.sum()), float(np.sqrt((np.bincount(shopper, more) ** 2).sum()))
    found = gain > LEAST_GAIN * max(1.0, error**2 / (2 * max(gain, 1e-9)))
    half_life = tried[best] if found else math.inf
    return Drift(kind, half_life, min(inside), max(inside), gain, error, tried[best], told.shape[1])


def fading(
    log: ShopLog, occasions: Occasions, rows: Ints, facts: ItemFacts, half_lives: Sequence[HalfLives]
) -> list[Tensor]:
    """Raw `FADING` features at some moments of a log, (R, K, 3) for each of several half-lives.

    Args:
        log: the sessions.
        occasions: moments of choice of it.
        rows: (R,) which, whole sessions.
        facts: of the items, on the CPU.
        half_lives: with which they are made.
    """
    some, price = _part(occasions, rows), facts.price_in_category
    found = [torch.zeros(*some.items.shape, len(FADING)) for _ in half_lives]
    shown = occasions.correction is None
    for moment in follow(log.tokens, some.session, some.before, some.items, price=price, draw=facts.draw, shown=shown):
        category = facts.category[moment.items]
        for one, columns in zip(half_lives, found, strict=True):
            columns[moment.rows] = torch.stack(fading_columns(moment.trail, category, facts, one), -1)
    return found


def faded(seen: Replay, log: ShopLog, occasions: Occasions, facts: ItemFacts, half_lives: HalfLives) -> None:
    """Let what a replay remembers fade, in place."""
    seen.raw[..., _COLUMNS] = fading(log, occasions, np.arange(len(occasions)), facts, [half_lives])[0]


def _some(session: Ints, most: int) -> Ints:
    """(R,) rows of every n-th session, about `most` at most."""
    number = np.unique(session, return_inverse=True)[1]
    return np.flatnonzero(number % max(1, math.ceil(len(session) / most)) == 0)


def _part(occasions: Occasions, rows: Ints) -> Occasions:
    correction = None if occasions.correction is None else occasions.correction[rows]
    at = occasions.session[rows], occasions.before[rows]
    return Occasions(*at, occasions.items[rows], occasions.clicked[rows], correction, occasions.given_click)


def _replayed(seen: Replay, rows: Ints) -> Replay:
    kept = torch.from_numpy(rows)
    return Replay(*(part[kept] for part in (seen.raw, seen.outside, seen.slates, seen.idle, seen.last_clicked)))
