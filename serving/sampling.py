"""Slates from scores: the best k, or k drawn by Plackett-Luce with the chance of every draw.

Shapes: N + 1 scores by dense index, K places. A score of -inf marks an item that may not be shown.
"""

import numpy as np
from numpy.typing import NDArray

from ..datasets.tokens import Ints

Doubles = NDArray[np.float64]
LEAST_TEMPERATURE = 1e-6
"""Least temperature of a draw: far below it, scores divided by it overflow, and nothing can be shown."""


def check_temperature(explore: float) -> float:
    """The temperature itself, if slates can be drawn with it or it is 0.

    Raises:
        ValueError: it is above 0 and below `LEAST_TEMPERATURE`, or no finite number from 0 on.
    """
    if not (explore == 0 or LEAST_TEMPERATURE <= explore < np.inf):
        raise ValueError(f"explore must be 0 (the best slate) or from {LEAST_TEMPERATURE:g} on, got {explore:g}")
    return explore


def top_k(scores: NDArray[np.floating], k: int) -> Ints:
    """(min(k, showable),) indices of the best scores, best first; equal scores in order of their index."""
    showable = int(np.isfinite(scores).sum())
    k = min(k, showable)
    if k == 0:
        return np.zeros(0, np.int64)
    bar = np.partition(scores, len(scores) - k)[len(scores) - k]
    near = np.flatnonzero(scores >= bar)  # more than k where scores are tied at the bar
    return near[np.argsort(-scores[near], kind="stable")[:k]].astype(np.int64)


def draw_slate(logits: Doubles, k: int, rng: np.random.Generator) -> tuple[Ints, Doubles]:
    """An ordered slate drawn without replacement, each place in proportion to exp(logit) among the items left.

    Args:
        logits: (N + 1,) scores divided by the temperature; -inf for items that may not be shown.
        k: places.
        rng: where luck comes from.

    Returns:
        (K',) indices and (K',) float64 chances in (0, 1] of each item at its place given those above it, with
        K' = min(k, showable items).

    Source: Gumbel-top-k, Kool, van Hoof and Welling, "Stochastic beams and where to find them", ICML 2019.
    """
    items = top_k(logits + rng.gumbel(size=logits.shape), k)
    return items, place_chances(logits, items)


def place_chances(logits: Doubles, items: Ints) -> Doubles:
    """(K,) chance of each item of a slate at its place, given the items above it, under Plackett-Luce.

    Worked out from the last place upwards by adding weights, never by taking them away, so that it stays exact where
    one item outweighs all others.
    """
    rest = logits.copy()
    rest[items] = -np.inf
    chosen = logits[items]
    with np.errstate(divide="ignore"):  # log of 0 where nothing is left over: -inf is right
        peak = rest.max()
        remaining = peak + np.log(np.exp(rest - peak).sum()) if np.isfinite(peak) else -np.inf
    left = np.logaddexp.accumulate(np.concatenate([[remaining], chosen[::-1]]))[1:][::-1]  # (K,) log weight still there
    return np.minimum(np.exp(chosen - left), 1.0)
