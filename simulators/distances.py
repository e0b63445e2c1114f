"""How far what simulated shoppers do lies from what real ones do, beside how far real ones lie from each other.

Every distance is between half of the real shoppers and the simulated sessions of the other half; its floor is between
the same two halves, both real. So the two are of equally many shoppers and equally noisy: a perfect simulator is as far
from the shop as the shop is from itself, which is not 0. Both are taken over many ways of halving the shoppers: their
means are the figures, and their 2.5 % and 97.5 % quantiles the intervals, for halves drawn without replacement vary
about the whole as whole samples vary about the truth.

Whether a distance is more than chance is asked of all sessions at once, by a permutation test: if the simulator were
perfect, each shopper's real and simulated sessions could as well change places.

Sources: repeated half-samples, Saigo, Shao and Sitter, "A repeated half-sample bootstrap and balanced repeated
replications for randomly imputed data", Survey Methodology 2001; Shao and Tu, "The Jackknife and Bootstrap", 1995,
chapter 5; permutation tests, Phipson and Smyth, "Permutation p-values should never be zero", Statistical Applications
in Genetics and Molecular Biology 2010.

Shapes: V values, P shoppers, H halvings.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from ..datasets.tokens import Ints

Doubles = NDArray[np.float64]
Kind = Literal["numbers", "kinds", "rate"]
STATISTICS: dict[Kind, tuple[str, ...]] = {
    "numbers": ("Wasserstein-1", "Kolmogorov-Smirnov"),
    "kinds": ("total variation", "Jensen-Shannon"),
    "rate": ("difference",),
}
"""What is measured between samples. Wasserstein-1: how far values must be moved on average, in their own unit.
Kolmogorov-Smirnov: the largest difference of the distribution functions, in [0, 1]. Total variation: the share that
would have to be of another kind, in [0, 1]. Jensen-Shannon: the square root of the divergence in bits, in [0, 1].
Difference: of two rates, without its sign."""
APART = 0.01
"""Chance up to which a distance counts as more than chance; a page holds some twenty of them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Values and whose they are.

    Attributes:
        values: (V,) float64; of kinds, whole numbers from 0; of a rate, 0 or 1. owner: (V,) shopper, from 0.
    """

    values: Doubles
    owner: Ints

    def mean(self) -> float:
        """Mean of the values; nan without any."""
        return float(self.values.mean()) if len(self.values) else float("nan")


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that both real and simulated shoppers have.

    Attributes:
        name: for people. kind: of its values. unit: of the values, "" for shares.
        real, simulated: the samples; shoppers have the same numbers in both.
    """

    name: str
    kind: Kind
    unit: str
    real: Sample
    simulated: Sample


@dataclass(frozen=True)
class Pooled:
    """A measure's values, real and simulated together, between parts of which distances are taken.

    Attributes:
        kind: of the values. values: (V,).
        owner: (V,) in [0, 2 P): of real values their shopper, of simulated ones P more.
    """

    kind: Kind
    values: Doubles
    owner: Ints

    @classmethod
    def of(cls, measure: Measure, shoppers: int) -> "Pooled":
        """The values of a measure of so many shoppers."""
        sides = (measure.real, measure.simulated)
        values = np.concatenate([side.values for side in sides])
        return cls(measure.kind, values, np.concatenate([sides[0].owner, sides[1].owner + shoppers]))

    @cached_property
    def _sorted(self) -> tuple[Ints, Doubles]:
        """Order of the values, and the steps from each to the next."""
        order = np.argsort(self.values, kind="stable")
        return order, np.diff(self.values[order])

    def distances(self, first: Doubles, second: Doubles) -> Doubles:
        """The statistics of the kind between two parts, in the order of `STATISTICS`; nan where one has no value.

        Args:
            first: (2 P,) how often each owner counts in one part.
            second: (2 P,) and in the other.
        """
        ours, theirs = first[self.owner], second[self.owner]
        if not (ours.sum() > 0 and theirs.sum() > 0):
            return np.full(len(STATISTICS[self.kind]), np.nan)
        ours, theirs = ours / ours.sum(), theirs / theirs.sum()
        if self.kind == "rate":
            return np.abs([(ours - theirs) @ self.values])
        if self.kind == "kinds":
            kinds = self.values.astype(np.int64)
            p, q = np.bincount(kinds, ours), np.bincount(kinds, theirs)
            return np.array([0.5 * np.abs(p - q).sum(), jensenshannon(p, q, base=2)])
        order, steps = self._sorted
        apart = np.abs(np.cumsum((ours - theirs)[order])[:-1])
        return np.array([apart @ steps, apart[steps > 0].max(initial=0.0)])


def halvings(shoppers: int, count: int, seed: int) -> NDArray[np.bool_]:
    """(H, P) bool ways to halve the shoppers; of an odd number the true half is the smaller."""
    rng = np.random.default_rng(seed)
    half = np.arange(shoppers) < shoppers // 2
    return np.array([rng.permutation(half) for _ in range(count)])


def distance_table(measures: list[Measure], halves: NDArray[np.bool_], seed: int = 0) -> pd.DataFrame:
    """Distances of all measures.

    Args:
        measures: of P shoppers each.
        halves: (H, P), see `halvings`.
        seed: of as many permutations.

    Returns:
        One row a measure and statistic: `measure`, `statistic`, `unit`; `real` and `simulated`, mean value (nan of
        kinds); `distance` of simulated from real, with `low` and `high`; `floor`, of real from real, with `floor_low`
        and `floor_high`; `beyond`, how much farther the simulated lie than the real, with `beyond_low` and
        `beyond_high`; `p`, the chance that a perfect simulator would lie as far, and `apart`, whether it is at most
        `APART`.
    """
    rows = []
    count = halves.shape[1]
    swapped = np.random.default_rng(seed).random(halves.shape) < 0.5
    nobody = np.zeros(count)
    for one in measures:
        pooled, found, permuted = Pooled.of(one, count), [], []
        for half, swap in zip(halves.astype(np.float64), swapped.astype(np.float64), strict=True):
            ours = np.concatenate([half, nobody])
            far = pooled.distances(ours, np.concatenate([nobody, 1 - half]))
            found.append((far, pooled.distances(ours, np.concatenate([1 - half, nobody]))))
            permuted.append(pooled.distances(np.concatenate([1 - swap, swap]), np.concatenate([swap, 1 - swap])))
        whole = pooled.distances(*(np.repeat([side, 1 - side], count) for side in (1.0, 0.0)))
        p = (1 + (np.array(permuted) >= whole * (1 - 1e-9)).sum(0)) / (1 + len(halves))
        means = (np.nan, np.nan) if one.kind == "kinds" else (one.real.mean(), one.simulated.mean())
        for number, statistic in enumerate(STATISTICS[one.kind]):
            far, near = np.array(found)[:, 0, number], np.array(found)[:, 1, number]
            spans = (*_spanned(far), *_spanned(near), *_spanned(far - near))
            told = (float(p[number]), bool(p[number] <= APART))
            rows.append((one.name, statistic, one.unit, *means, *spans, *told))
    spanned = [name + end for name in ("distance", "floor", "beyond") for end in ("", "_low", "_high")]
    spanned[1:3] = ["low", "high"]
    columns = ["measure", "statistic", "unit", "real", "simulated", *spanned, "p", "apart"]
    return pd.DataFrame(rows, columns=columns)


def _spanned(values: Doubles) -> tuple[float, float, float]:
    """Mean, 2.5 % and 97.5 % quantile, passing over nan; nan where nothing else is there."""
    values = values[np.isfinite(values)]
    if not len(values):
        return (np.nan, np.nan, np.nan)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)
