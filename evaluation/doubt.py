"""What an ensemble of simulators adds to an interval: its members differ, and at most one of them is right.

Shoppers of an ensemble are each of one member, drawn by their seeds, and every policy meets them alike. The figures of
a member's shoppers vary between members because members differ, and because each has only some of the shoppers. What
is beyond the latter is doubt: unlike the noise of shoppers, no number of them makes it less, so it is not divided by
the number of members.

Sources: random effects by the analysis of variance, Searle, Casella and McCulloch, "Variance Components", 1992, chapter
4; predicting a further member of a normal sample, Hahn and Meeker, "Statistical Intervals", 1991, section 4.7.

Shapes: N shoppers, C cells (policy, training seed), K metrics, M members, R resamples.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def doubt(
    sums: Array,
    member: NDArray[np.int64],
    ratios: Callable[[Array], Array],
    replicates: Array,
    rng: np.random.Generator,
) -> Array:
    """(R, C, K) what another member might add to each replicate; shared by all cells, so that differences are paired.

    Draws are normal, of the members' covariance beyond their shoppers' noise, widened as Student's t for few members.

    Args:
        sums: (N, C, columns) summands of the metrics.
        member: (N,) each shopper's.
        ratios: (., C, columns) sums -> (., C, K) metrics.
        replicates: (R, C, K) metrics of resampled shoppers, which tell how noisy figures of so many shoppers are.
        rng: draws.
    """
    numbers, of_member = np.unique(member, return_inverse=True)
    members = len(numbers)
    if members < 2:
        return np.zeros_like(replicates)
    by_member = np.zeros((members, *sums.shape[1:]))
    np.add.at(by_member, of_member, sums)
    apart = ratios(by_member)
    apart = np.nan_to_num(apart - np.nanmean(apart, 0))
    total = (apart**2).sum(0) / (members - 1)
    noise = replicates.var(0) * members  # of a member, which has one in so many of the shoppers
    beyond = np.sqrt(np.clip(1 - noise / np.maximum(total, 1e-300), 0, 1))
    mixed = rng.standard_normal((len(replicates), members)) / np.sqrt(members - 1)
    few = np.sqrt((members - 1) / rng.chisquare(members - 1, len(replicates)))
    return np.einsum("rm,mck->rck", mixed * few[:, None], apart * beyond)
