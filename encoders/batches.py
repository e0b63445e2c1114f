"""Sessions as padded batches for training: lengths alike within a batch, so that little of it is padding.

Shapes: B sessions, T tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.schema import Event
from ..datasets.tokens import Ints, Tokens

_TOKENS_A_SESSION = 16  # a batch of `size` sessions holds at most `16 * size` tokens, so that long ones fit in memory
_POOL = 32  # batches among which lengths are sorted; more would make batches too alike


@dataclass(frozen=True, slots=True)
class SessionBatch:
    """Sessions and what is asked after each token; position t is before token t, so there are T + 1.

    Attributes:
        items, events: (B, T) int64. gaps: (B, T) float32. lengths: (B,) int64.
        chosen: (B, T) bool, the next token is the shopper's own choice (not an ignored slate).
        held: (B, T + 1) bool, positions of the session, its end included.
        ends: (B, T + 1) bool, the session ends here. knows_end: (B,) bool, the session was not cut.
        buys: (B, T + 1) bool, a purchase is still to come.
    """

    items: Tensor
    events: Tensor
    gaps: Tensor
    lengths: Tensor
    chosen: Tensor
    held: Tensor
    ends: Tensor
    knows_end: Tensor
    buys: Tensor


def epoch_order(lengths: Ints, size: int, rng: np.random.Generator | None) -> Iterator[Ints]:
    """Numbers of the sessions of each batch, every session once.

    Args:
        lengths: (S,) tokens of each session; empty sessions are left out.
        size: sessions a batch, at most; fewer where sessions are long.
        rng: shuffles sessions and batches; without one the order is that of length.
    """
    order = np.flatnonzero(lengths > 0)
    if rng is not None:
        rng.shuffle(order)
        pool = np.arange(len(order)) // (size * _POOL)
        order = order[np.lexsort((lengths[order], pool))]
    else:
        order = order[np.argsort(lengths[order], kind="stable")]
    batches = np.split(order, _cuts(lengths[order], size))
    places = np.arange(len(batches)) if rng is None else rng.permutation(len(batches))
    return (batches[place] for place in places)


def _cuts(lengths: Ints, size: int) -> list[int]:
    """Where a new batch begins, given the lengths in order."""
    cuts, begin, longest = [], 0, 0
    for place, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if place > begin and (place - begin >= size or (place - begin + 1) * longest > _TOKENS_A_SESSION * size):
            cuts.append(place)
            begin, longest = place, length
    return cuts


def session_batch(tokens: Tokens, sessions: Ints, max_tokens: int, device: torch.device | str = "cpu") -> SessionBatch:
    """One batch of whole sessions; those longer than `max_tokens` are cut there."""
    upto = np.minimum(tokens.lengths[sessions], max_tokens)
    history = tokens.histories(sessions, upto=upto)
    place = np.arange(history.items.shape[1] + 1)
    held = place <= history.lengths[:, None]
    bought = np.pad(history.events == Event.PURCHASE, ((0, 0), (0, 1)))
    arrays = (
        history.items,
        history.events,
        history.gaps,
        history.lengths,
        (history.items > 0) & (history.events != Event.IMPRESSION),
        held,
        place == history.lengths[:, None],
        tokens.lengths[sessions] == history.lengths,
        np.flip(np.logical_or.accumulate(np.flip(bought, 1), axis=1), 1).copy(),
    )
    return SessionBatch(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))
