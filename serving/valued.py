"""The best slate by values and the shopper's choice, under rules: Dinkelbach's iteration in NumPy, for one shopper.

Under rules the best slate is not the best of the unruled policy's scores, so a bundle with rules holds what a SlateQ
policy's scores are made from. The same arithmetic as `agents.slate_choice`, where it is explained; a test holds them
equal.

Shapes: N + 1 items by dense index, K places.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..datasets.tokens import Ints
from .sampling import Doubles

ITERATIONS = 12
_FLOOR = -30.0  # log of the smallest worth told apart from 0


def best_scores(
    utility: Doubles,
    gain: Doubles,
    outside: float,
    place: Doubles,
    allowed: NDArray[np.bool_],
    pick: Callable[[Doubles, int], Ints],
) -> Doubles:
    """Scores from which `pick` fills the best slate.

    Args:
        utility: (N + 1,) log attractiveness of each item.
        gain: (N + 1,) what a click on the item brings, over what no click brings.
        outside: utility of clicking nothing.
        place: (K,) log weight of each place.
        allowed: (N + 1,) items that may be shown.
        pick: scores, -inf for what may not be shown, and places -> (K',) the items whose scores add up to most.

    Returns:
        (N + 1,) logarithms of what items add to the slate's value, -inf where not allowed.
    """
    kept = np.where(allowed, utility, -np.inf)
    shift = max(float(kept.max()), outside)
    attraction, nothing, weight = np.exp(kept - shift), math.exp(outside - shift), np.exp(place)
    value, before = 0.0, None
    for _ in range(ITERATIONS):
        slate = pick(np.where(allowed, attraction * (gain - value), -np.inf), len(place))
        if before is not None and np.array_equal(slate, before):
            break
        pull, before = weight[: len(slate)] * attraction[slate], slate
        value = float((pull * gain[slate]).sum() / (nothing + pull.sum()))
    return np.where(allowed, _ranking(attraction * (gain - value)), -np.inf)


def _ranking(worth: Doubles) -> Doubles:
    """Scores in the order of `worth`: its logarithm where it is positive, and below that still in order."""
    logged = np.log(np.maximum(worth, np.finfo(np.float32).tiny)).clip(min=_FLOOR)
    return np.where(worth > 0, logged, _FLOOR - np.log1p(-np.minimum(worth, 0.0) / math.exp(_FLOOR)))
