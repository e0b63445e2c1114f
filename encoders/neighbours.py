"""Which items go together: co-occurrence in sessions, the classic of session-based recommendation.

Shapes: S sessions, N items.
"""

import numpy as np
from scipy import sparse

from ..datasets.schema import Event
from ..datasets.tokens import Floats, History, Ints, Tokens


def item_similarities(
    tokens: Tokens, n_items: int, *, neighbours: int = 100, damping: float = 20.0
) -> sparse.csr_array:
    """How often two items share a session, against how often each occurs.

    similarity(i, j) = sessions with both / (sqrt(sessions with i * sessions with j) + damping). Slates that were
    ignored do not count: what the shop showed is no choice of the shopper's.

    Args:
        tokens: the sessions.
        n_items: items of the catalogue.
        neighbours: the most similar items kept for each item, at least 1.
        damping: sessions that chance alone could explain; pulls rare items towards 0, at least 0.

    Returns:
        (n_items + 1, n_items + 1) sparse float32, zero diagonal, row and column 0 empty.

    Source: item-kNN as in Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR 2016.
    """
    if neighbours < 1 or damping < 0:
        raise ValueError(f"need neighbours >= 1 and damping >= 0, got {neighbours} and {damping}")
    chosen = tokens.events != Event.IMPRESSION
    session = np.repeat(np.arange(len(tokens)), tokens.lengths)[chosen]
    shape = (len(tokens), n_items + 1)
    held = sparse.csr_array((np.ones(len(session), np.float32), (session, tokens.items[chosen])), shape=shape)
    held.data[:] = 1  # an item visited twice in a session counts once
    count = np.asarray(held.sum(axis=0), dtype=np.float64)
    together = sparse.coo_array(held.T @ held)
    row, column = together.coords
    alike = (together.data / (np.sqrt(count[row] * count[column]) + damping)).astype(np.float32)
    apart = row != column
    row, column, alike = row[apart], column[apart], alike[apart]
    # The strongest of each row; of equal ones those with the lower column.
    order = np.lexsort((column, -alike, row))
    begin = np.searchsorted(row[order], np.arange(n_items + 1))
    kept = order[np.arange(len(order)) - begin[row[order]] < neighbours]
    return sparse.csr_array((alike[kept], (row[kept], column[kept])), shape=(n_items + 1, n_items + 1))


def neighbour_scores(similar: sparse.csr_array, history: History, *, decay: float = 0.5) -> Floats:
    """Scores of all items by likeness to the items of each history, recent ones first.

    Args:
        similar: from `item_similarities`.
        history: B histories; tokens of ignored slates are not read.
        decay: what a token's weight keeps when the next one comes, in (0, 1]; near 0 only the last one counts.

    Returns:
        (B, N + 1) float32; a history without choices has zeros.
    """
    back = history.lengths[:, None] - 1 - np.arange(history.items.shape[1])
    counts = (back >= 0) & (history.events != Event.IMPRESSION)
    row, place = np.nonzero(counts)
    weight = (decay ** back[row, place]).astype(np.float32)
    profile = sparse.csr_array(
        (weight, (row, history.items[row, place])), shape=(len(history), len(similar.indptr) - 1)
    )
    return sparse.csr_array(profile @ similar).toarray().astype(np.float32)


def item_counts(tokens: Tokens, n_items: int) -> Ints:
    """(N + 1,) tokens of each item that were the shopper's own choice; entry 0 is 0."""
    return np.bincount(tokens.items[tokens.events != Event.IMPRESSION], minlength=n_items + 1).astype(np.int64)
