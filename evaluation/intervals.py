"""Intervals over shoppers and over training seeds, and paired comparisons.

Shoppers and training seeds are crossed: every trained policy meets the same shoppers. A figure varies with who came
and with how the training went, and an interval over shoppers alone would pass off one lucky training as the learner's
worth. The scheme, for replicate r of a policy with S training seeds judged on N shoppers:

1. Shoppers are drawn with replacement, N of N, the same draw for all seeds and all policies. Each seed's metric is
   the ratio of its resampled sums, m[r, s]; their mean over s varies as it should with the shoppers, and with the
   noise that a shopper and a trained policy make together.
2. The spread of the seeds beyond that noise is added as a draw from Student's t with S - 1 degrees of freedom, scaled
   by sqrt(v / S). Here v is the variance of m[s] over seeds, less the part that the resampling of shoppers explains
   (the mean over r of the variance over s of m[r, s] - m[s]), at least 0: the ANOVA estimate of a random effect.

The interval is the percentile interval of the sum. Seeds are not resampled like shoppers: with three, a resample has
ten outcomes and a variance a third too small, and drawing both sides of the table counts the noise up to three times
(Owen 2007). Differences take each replicate's difference, so that shoppers in common cancel.

3. Where the simulator is an ensemble, what its members differ by is added too, the same for all policies (see `doubt`).

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval); Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007 (crossed factors); Searle, Casella and McCulloch,
"Variance Components", 1992, chapter 4 (crossed random effects); Agarwal et al., "Deep Reinforcement Learning at the
Edge of the Statistical Precipice", NeurIPS 2021 (why seeds belong in the interval).

Shapes: R resamples, N shoppers, C cells (policy, training seed), S seeds of one policy, M metrics, P policies.
"""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from ..errors import EvidenceError
from .doubt import doubt
from .metrics import METRICS, column, coverage, metric_named
from .outcomes import FIXED, Outcomes

Array = NDArray[np.float64]
_RANGE = {
    "share": (0.0, 1.0),
    "count": (0.0, np.inf),
    "money": (0.0, np.inf),
    "reward": (-np.inf, np.inf),
    "index": (-np.inf, np.inf),
}  # what a figure of each unit can be; a wide interval is cut there
_BLOCK = 256  # replicates at a time, so that their draws of many shoppers fit in memory


@dataclass(frozen=True, slots=True)
class Resampled:
    """A policy's metrics and their replicates.

    Attributes:
        seeds: training seeds judged; 0 for a fixed policy.
        value: (M,) the metrics, mean over training seeds of each one's ratio of sums.
        draws: (R, M) their replicates; draws of two policies are paired by row.
    """

    seeds: int
    value: Array
    draws: Array


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of one policy against a reference's, on the same shoppers.

    Attributes:
        difference: policy less reference, with its interval `low`, `high`.
        share: difference over the reference's value, with its interval; nan where that value is not positive.
        p: two-sided bootstrap p-value of no difference.
        p_adjusted: `p` adjusted by Holm over the family compared; equal to `p` for a lone comparison.
        seeds: training seeds of the policy, 0 for a fixed one. One seed means that the variation between trainings is
            not in the interval.
        reference_seeds: the same of the reference.
        shoppers: shoppers judged.
    """

    simulator: str
    policy: str
    reference: str
    metric: str
    difference: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float
    p: float
    p_adjusted: float
    seeds: int
    reference_seeds: int
    shoppers: int

    @property
    def includes_training(self) -> bool:
        """Whether the interval holds the variation between trainings of both sides."""
        return self.seeds != 1 and self.reference_seeds != 1


def resample(
    frame: pd.DataFrame, metrics: Sequence[str], *, resamples: int = 2_000, seed: int = 0
) -> tuple[dict[str, Resampled], int]:
    """Metrics of every policy of one simulator, with paired replicates.

    Args:
        frame: outcomes in one simulator; every (policy, training seed) must have met the same shoppers.
        metrics: names out of `METRICS`.
        resamples: replicates, at least 100.
        seed: of the draws; the same seed draws the same shoppers, whatever policies are in the frame.

    Returns:
        Policy -> `Resampled`, and the number of shoppers.

    Raises:
        EvidenceError: policies met different shoppers, or fewer than two, or a metric or column is unknown.
        ValueError: `resamples` is below 100.
    """
    if resamples < 100:
        raise ValueError(f"an interval needs at least 100 resamples, got {resamples}")
    cells, sums_of, columns, member = _cells(frame, metrics)
    shoppers = sums_of.shape[0]
    rng = np.random.default_rng(seed)
    over = [columns.index(metric_named(name).over) for name in metrics]
    under = [columns.index(metric_named(name).under) for name in metrics]

    def ratios(sums: Array) -> Array:  # (R, C, columns) -> (R, C, M)
        below = sums[:, :, under]
        return np.divide(sums[:, :, over], below, out=np.full(below.shape, np.nan), where=below != 0)

    flat = sums_of.reshape(shoppers, -1)
    blocks = []
    for begin in range(0, resamples, _BLOCK):
        rows = min(_BLOCK, resamples - begin)
        drawn = rng.integers(shoppers, size=(rows, shoppers)) + shoppers * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * shoppers).reshape(rows, shoppers)
        blocks.append(ratios((times.astype(np.float64) @ flat).reshape(rows, len(cells), len(columns))))
    replicates, point = np.concatenate(blocks), ratios(sums_of.sum(0)[None])[0]
    open_ = doubt(sums_of, member, ratios, replicates, np.random.default_rng([seed, 1]))
    found = {}
    for policy in dict.fromkeys(name for name, _ in cells):
        own = [place for place, (name, _) in enumerate(cells) if name == policy]
        fixed = cells[own[0]][1] == FIXED
        draws = _with_training(
            point[own], replicates[:, own], np.random.default_rng([seed, zlib.crc32(policy.encode())])
        )
        found[policy] = Resampled(0 if fixed else len(own), point[own].mean(0), draws + open_[:, own].mean(1))
    return found, shoppers


def _cells(
    frame: pd.DataFrame, metrics: Sequence[str]
) -> tuple[list[tuple[str, int]], Array, list[str], NDArray[np.int64]]:
    """The (policy, seed) cells, (N, C, columns) summands on the common shoppers, the columns' names, (N,) members."""
    columns = list(dict.fromkeys(name for one in metrics for name in (metric_named(one).over, metric_named(one).under)))
    cells: list[tuple[str, int]] = []
    tables: list[Array] = []
    known: NDArray[np.int64] | None = None
    member = np.zeros(0, np.int64)
    for _, part in frame.groupby(["policy", "training_seed"], sort=False):
        policy, training_seed = str(part["policy"].iloc[0]), int(part["training_seed"].iloc[0])
        ordered = part.sort_values("shopper", kind="stable")
        who = ordered["shopper"].to_numpy(dtype=np.int64)
        if known is not None and not np.array_equal(who, known):
            raise EvidenceError(
                f"{policy!r} (training seed {training_seed}) met other shoppers than {cells[0][0]!r}: {len(who)} "
                f"against {len(known)}; judge all policies with the same seed and number of shoppers"
            )
        known, member = who, ordered["member"].to_numpy(np.int64) if "member" in ordered else np.zeros_like(who)
        cells.append((policy, training_seed))
        tables.append(np.stack([column(ordered, name) for name in columns], 1))
    if known is None or len(known) < 2:
        raise EvidenceError(f"an interval needs at least 2 shoppers, got {0 if known is None else len(known)}")
    return cells, np.stack(tables, 1), columns, member


def _with_training(point: Array, replicates: Array, rng: np.random.Generator) -> Array:
    """(R, M) replicates of the mean over seeds: the resampled shoppers' plus a draw for the seeds beyond their noise.

    The draws of Student's t are its quantiles in random order, which keeps the tails steady at a few thousand draws.
    """
    seeds, resamples = len(point), len(replicates)
    centre = replicates.mean(1)
    if seeds < 2:
        return centre
    noise = (replicates - point).var(1, ddof=1).mean(0)
    between = np.maximum(point.var(0, ddof=1) - noise, 0)
    draws = student.ppf((rng.permutation(resamples) + 0.5) / resamples, seeds - 1)
    return centre + draws[:, None] * np.sqrt(between / seeds)


def _edges(draws: Array, level: float) -> tuple[Array, Array]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def summarise(
    outcomes: Outcomes,
    metrics: Sequence[str] = tuple(METRICS),
    *,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every policy's metrics with intervals, by simulator.

    Args:
        outcomes: as judged.
        metrics: names out of `METRICS`; coverage is added where the outcomes know the catalogue's size.
        level: of the intervals, in (0, 1).
        resamples: replicates, at least 100.
        seed: of the draws.

    Returns:
        Columns `simulator`, `policy`, `metric`, `mean`, `low`, `high`, `seeds` (training seeds judged; 0 for a fixed
        policy; 1 means that the variation between trainings is not in the interval), `shoppers`. Intervals are cut at
        what a figure can be: a share lies in [0, 1], a count is not negative.

    Raises:
        EvidenceError: policies met different shoppers, or fewer than two.
    """
    rows = []
    for simulator in outcomes.simulators:
        found, shoppers = resample(outcomes.within(simulator), metrics, resamples=resamples, seed=seed)
        for policy, one in found.items():
            low, high = _edges(one.draws, level)
            for place, metric in enumerate(metrics):
                least, most = _RANGE[metric_named(metric).unit]
                ends = {"low": max(low[place], least), "high": min(high[place], most)}
                figures = {"mean": one.value[place], **ends}
                key = {"simulator": simulator, "policy": policy, "metric": metric}
                rows.append({**key, **figures, "seeds": one.seeds, "shoppers": shoppers})
    table = pd.DataFrame(rows)
    counts = table.drop_duplicates(["simulator", "policy"])[["simulator", "policy", "seeds", "shoppers"]]
    extra = coverage(outcomes).merge(counts, on=["simulator", "policy"])
    if not len(extra):
        return table
    extra = extra.astype({"mean": float, "low": float, "high": float})
    return pd.concat([table, extra], ignore_index=True)


def compare(
    outcomes: Outcomes,
    a: str,
    b: str,
    metric: str = "reward",
    *,
    simulator: str | None = None,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Comparison:
    """How much more of a metric policy `a` gets than policy `b`, on the same shoppers.

    Args:
        outcomes: as judged.
        a: the policy in question.
        b: the reference it is held against.
        metric: a name out of `METRICS`.
        simulator: may be left out where there is only one.
        level: of the interval, in (0, 1).
        resamples: replicates, at least 100.
        seed: of the draws.

    Raises:
        EvidenceError: a policy, simulator or metric is unknown, or they met different shoppers.
    """
    frame = outcomes.within(simulator)
    for name in (a, b):
        if name not in set(frame["policy"]):
            raise EvidenceError(f"policy {name!r} was not judged; there are {list(dict.fromkeys(frame['policy']))}")
    chosen = frame[frame["policy"].isin([a, b])]
    found, shoppers = resample(chosen, [metric], resamples=resamples, seed=seed)
    return _comparison(str(frame["simulator"].iloc[0]), (a, found[a]), (b, found[b]), metric, 0, shoppers, level)


def _comparison(
    simulator: str,
    ours: tuple[str, Resampled],
    theirs: tuple[str, Resampled],
    metric: str,
    place: int,
    shoppers: int,
    level: float,
) -> Comparison:
    (policy, a), (reference, b) = ours, theirs
    draws, base = a.draws[:, place] - b.draws[:, place], b.draws[:, place]
    low, high = _edges(draws, level)
    difference, value = a.value[place] - b.value[place], b.value[place]
    share, share_low, share_high = np.nan, np.array(np.nan), np.array(np.nan)
    if value > 0 and np.quantile(base, (1 - level) / 2) > 0:
        share = difference / value
        worth = base > 0  # a handful of replicates may hold no reward at all
        share_low, share_high = _edges(draws[worth] / base[worth], level)
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (len(draws) + 1))
    return Comparison(
        simulator=simulator,
        policy=policy,
        reference=reference,
        metric=metric,
        difference=float(difference),
        low=float(low),
        high=float(high),
        share=float(share),
        share_low=float(share_low),
        share_high=float(share_high),
        p=float(p),
        p_adjusted=float(p),
        seeds=a.seeds,
        reference_seeds=b.seeds,
        shoppers=shoppers,
    )


def compare_all(
    outcomes: Outcomes,
    references: Sequence[str],
    metric: str = "reward",
    *,
    policies: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every policy against every reference, by simulator; p-values adjusted by Holm over a simulator's comparisons.

    Args:
        outcomes: as judged.
        references: policies to hold the others against.
        metric: a name out of `METRICS`.
        policies: those compared; all but the reference itself by default.
        level: of the intervals, in (0, 1); each holds at this level on its own.
        resamples: replicates, at least 100.
        seed: of the draws.

    Returns:
        One row a comparison, columns the fields of `Comparison`.

    Raises:
        EvidenceError: a policy or metric is unknown, or policies met different shoppers.
    """
    rows: list[Comparison] = []
    for simulator in outcomes.simulators:
        found, shoppers = resample(outcomes.within(simulator), [metric], resamples=resamples, seed=seed)
        unknown = [name for name in [*references, *(policies or [])] if name not in found]
        if unknown:
            raise EvidenceError(f"policy {unknown[0]!r} was not judged in {simulator!r}; there are {list(found)}")
        pairs = [(a, b) for b in references for a in policies or found if a != b]
        # Two references are compared once: a pair and its mirror are one question, and Holm must not count it twice.
        pairs = [(a, b) for place, (a, b) in enumerate(pairs) if (b, a) not in pairs[:place]]
        family = [_comparison(simulator, (a, found[a]), (b, found[b]), metric, 0, shoppers, level) for a, b in pairs]
        adjusted = holm(np.array([one.p for one in family]))
        rows += [replace(one, p_adjusted=float(p)) for one, p in zip(family, adjusted, strict=True)]
    return pd.DataFrame([asdict(one) for one in rows], columns=[*Comparison.__dataclass_fields__])


def holm(p: Array) -> Array:
    """P-values adjusted so that the chance of any false claim in the family stays at the level.

    Args:
        p: (F,) p-values.

    Returns:
        (F,) adjusted p-values, in the order given, at most 1.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics, 1979.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
