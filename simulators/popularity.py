"""How often a log shows or views an item, on the log scale: what shops show more, they know to sell.

How much an item is clicked beyond that is its effect in the choice model, which a prior draws to 0 (`choice_fit`).
Shapes: S occasions, K slots, E views, N items.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.tokens import Ints

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
SMOOTHING = 5.0
"""Clicks, or views, that every item is given on top where what it got is counted: 5 in a thousand shows are no news."""
SHOWN_SMOOTHING = 0.1
"""Clicks that every item is given on top where its places are counted. How often a shop shows an item is no matter of
luck; with more, all that it hardly ever shows would seem alike, from the middling to the worst."""


def shown_popularity(items: Ints, clicked: Ints, n_items: int, weight: Doubles | None = None) -> Floats:
    """(N + 1,) log of the clicks that an item's places would have brought any item, over the mean of all items.

    Args:
        items: (S, K) slates, 0 in empty slots.
        clicked: (S,) slot, -1 for none; only each place's click rate is read, not what was clicked.
        n_items: N.
        weight: (S,) how often a slate counts, by default once.
    """
    return _over_mean(expected_clicks(items, clicked, n_items, weight), SHOWN_SMOOTHING)


def expected_clicks(items: Ints, clicked: Ints, n_items: int, weight: Doubles | None = None) -> Doubles:
    """(N + 1,) clicks that an item's places would have brought any item; arguments as of `shown_popularity`."""
    often = 1.0 if weight is None else weight[:, None]
    hits, shown = (clicked[:, None] == np.arange(items.shape[1])) * often, (items > 0) * often
    rate = hits.sum(0) / np.maximum(shown.sum(0), 1e-9)
    counts = np.bincount(items.ravel(), (shown * rate).ravel(), minlength=n_items + 1)
    return counts.astype(np.float64)


def _over_mean(numbers: NDArray[Any], smoothing: float) -> Floats:
    counts = numbers.astype(np.float64)
    counts[0] = 0
    table = np.log((counts + smoothing) / (counts[1:].mean() + smoothing))
    table[0] = 0
    return table.astype(np.float32)


def viewed_popularity(item: Ints, n_items: int, weight: Doubles | None = None) -> Floats:
    """(N + 1,) log of an item's views over the mean of all items; `item` and `weight` are (E,), one a view."""
    return _over_mean(np.bincount(item, weight, minlength=n_items + 1), SMOOTHING)


def without_own_views(session: Ints, items: Ints, viewer: Ints, viewed: Ints, n_items: int) -> Floats:
    """(S, K) log popularity of alternatives by the views of all other sessions, so that no view foretells itself.

    Args:
        session: (S,) whose alternatives these are.
        items: (S, K) the alternatives.
        viewer: (E,) session of each view.
        viewed: (E,) its item.
        n_items: N.
    """
    keys, pair = np.unique(viewer * (n_items + 1) + viewed, return_inverse=True)
    wanted = session[:, None] * (n_items + 1) + items
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    own = (keys[place] == wanted) * np.bincount(pair)[place]
    counts = np.bincount(viewed, minlength=n_items + 1)
    rest = np.maximum(counts[items] - own, 0)
    return np.log((rest + SMOOTHING) / (counts[1:].mean() + SMOOTHING)).astype(np.float32)
