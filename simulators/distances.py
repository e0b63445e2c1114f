"""How far what simulated shoppers do lies from what real ones do, beside how far real ones lie from each other.

Every distance is between half of the real shoppers and the simulated sessions of the other half; its floor is between
the same two halves, both real. So the two are of equally many shoppers and equally noisy: a perfect simulator is as far
from the shop as the shop is from itself, which is not 0. Both are taken over many ways of halving the shoppers: their
means are the figures, and their 2.5 % and 97.5 % quantiles the intervals, for halves drawn without replacement vary
about the whole as whole samples vary about the truth.

Sources: repeated half-samples, Saigo, Shao and Sitter, "A repeated half-sample bootstrap and balanced repeated
replications for randomly imputed data", Survey Methodology 2001; Shao and Tu, "The Jackknife and Bootstrap", 1995,
chapter 5.

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


@dataclass(frozen=True)
class Pair:
    """Two samples between which a distance is taken, of all shoppers or of some."""

    kind: Kind
    left: Sample
    right: Sample

    @cached_property
    def _sorted(self) -> tuple[Ints, Doubles]:
        """Order of all values, and the steps from each to the next."""
        values = np.concatenate([self.left.values, self.right.values])
        order = np.argsort(values, kind="stable")
        return order, np.diff(values[order])

    def distances(self, left: Doubles, right: Doubles) -> Doubles:
        """The statistics of the kind, in the order of `STATISTICS`; nan where a side has no value.

        Args:
            left: (P,) how often each shopper of the left sample counts.
            right: (P,) how often each one of the right sample does.
        """
        ours, theirs = left[self.left.owner], right[self.right.owner]
        if not (ours.sum() > 0 and theirs.sum() > 0):
            return np.full(len(STATISTICS[self.kind]), np.nan)
        ours, theirs = ours / ours.sum(), theirs / theirs.sum()
        if self.kind == "rate":
            return np.abs([ours @ self.left.values - theirs @ self.right.values])
        if self.kind == "kinds":
            kinds = 1 + int(max(self.left.values.max(), self.right.values.max()))
            p, q = (
                np.bincount(side.values.astype(np.int64), weight, kinds)
                for side, weight in ((self.left, ours), (self.right, theirs))
            )
            return np.array([0.5 * np.abs(p - q).sum(), jensenshannon(p, q, base=2)])
        order, steps = self._sorted
        apart = np.abs(np.cumsum(np.concatenate([ours, -theirs])[order])[:-1])
        return np.array([apart @ steps, apart[steps > 0].max(initial=0.0)])


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


def halvings(shoppers: int, count: int, seed: int) -> NDArray[np.bool_]:
    """(H, P) bool ways to halve the shoppers; of an odd number the true half is the smaller."""
    rng = np.random.default_rng(seed)
    half = np.arange(shoppers) < shoppers // 2
    return np.array([rng.permutation(half) for _ in range(count)])


def distance_table(measures: list[Measure], halves: NDArray[np.bool_]) -> pd.DataFrame:
    """Distances of all measures.

    Args:
        measures: of P shoppers each.
        halves: (H, P), see `halvings`.

    Returns:
        One row a measure and statistic: `measure`, `statistic`, `unit`; `real` and `simulated`, mean value (nan of
        kinds); `distance` of simulated from real, with `low` and `high`; `floor`, of real from real, with `floor_low`
        and `floor_high`; `beyond`, how much farther the simulated lie than the real, with `beyond_low` and
        `beyond_high`; `apart`, whether farther in 97.5 % of the halvings, which chance alone brings about less often
        than in 1 of 40 measures.
    """
    rows = []
    for one in measures:
        apart, floor = Pair(one.kind, one.real, one.simulated), Pair(one.kind, one.real, one.real)
        sides = [(half.astype(np.float64), (~half).astype(np.float64)) for half in halves]
        found = np.array([(apart.distances(*two), floor.distances(*two)) for two in sides])  # (H, 2, statistics)
        means = (np.nan, np.nan) if one.kind == "kinds" else (one.real.mean(), one.simulated.mean())
        for number, statistic in enumerate(STATISTICS[one.kind]):
            far, near = found[:, 0, number], found[:, 1, number]
            spans = [_spanned(part) for part in (far, near, far - near)]
            told = bool(spans[2][1] > 0)
            rows.append((one.name, statistic, one.unit, *means, *spans[0], *spans[1], *spans[2], told))
    spanned = [name + end for name in ("distance", "floor", "beyond") for end in ("", "_low", "_high")]
    spanned[1:3] = ["low", "high"]
    columns = ["measure", "statistic", "unit", "real", "simulated", *spanned, "apart"]
    return pd.DataFrame(rows, columns=columns)


def _spanned(values: Doubles) -> tuple[float, float, float]:
    """Mean, 2.5 % and 97.5 % quantile, passing over nan; nan where nothing else is there."""
    values = values[np.isfinite(values)]
    if not len(values):
        return (np.nan, np.nan, np.nan)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)
