"""Retrieval in front of the slate: the few hundred items of a catalogue that are worth ranking for a shopper.

Shapes: B rows (shoppers), N items, M candidates, D state width, F features.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..encoders.state import StateEncoder
from .settings import Retrieve

FEATURES = ("nearness", "price")
"""Columns of `Retrieval.features` before the item's vector: the cosine of item and state, in [-1, 1], and the rank of
its price among the catalogue's, from 0 for the cheapest to 1."""
_CELLS = 4_000_000  # scores worked out at once
_GRID = 1e4  # the encoder's scores that differ by less than a ten-thousandth are equal; the lower index comes first
_DIGITS = 14  # bits of a score of the user's own that count behind its leading one; others may be of any size
_DROPPED = 23 - _DIGITS  # bits of a float32's mantissa that do not


class Retrieval:
    """The `size` items that score best for each shopper.

    The encoder's scores are compared on a grid, and those of `retrieve` by their leading 14 binary digits, so that what
    rounding leaves open does not decide the order: a shopper has the same candidates alone and in a batch. Of equal
    ones the lower index comes first.

    Args:
        size: candidates, M; where fewer items are available the last places stay empty.
        encoder: scores the items, unless `retrieve` does.
        prices: (N + 1,) price by dense index.
        available: (N + 1,) bool, items that may be shown; all by default.
        retrieve: states (B, D) -> scores (B, N + 1) of any size; an item that scores -inf is not retrieved.
    """

    def __init__(
        self,
        size: int,
        encoder: StateEncoder,
        prices: Tensor,
        available: NDArray[np.bool_] | None = None,
        retrieve: Retrieve | None = None,
    ) -> None:
        if size > encoder.n_items:
            raise ValueError(f"candidates must be at most {encoder.n_items}, the number of items, got {size}")
        self.size, self._encoder, self._retrieve = size, encoder, retrieve or encoder.scores
        self._own = retrieve is not None
        device = encoder.item_vectors.device
        hidden = np.zeros(encoder.n_items + 1, np.bool_) if available is None else ~available
        hidden[0] = True
        self._hidden = torch.from_numpy(hidden).to(device)
        self._order = torch.arange(encoder.n_items + 1, device=device, dtype=torch.float64) / (encoder.n_items + 2)
        self._price_rank = _ranks(prices).to(device)

    @property
    def width(self) -> int:
        """Features of a candidate, F."""
        return len(FEATURES) + self._encoder.dim

    @torch.no_grad()
    def find(self, states: Tensor, on_sale: Tensor | None = None) -> Tensor:
        """(B, M + 1) int64 items, best first; entry 0, and those left over at the end, are 0.

        Args:
            states: (B, D).
            on_sale: (B, N + 1) bool, items that may be shown to each shopper, where they differ.

        Raises:
            ValueError: the scores have another shape than (B, N + 1), or one is nan.
        """
        found = states.new_zeros((len(states), self.size + 1), dtype=torch.int64)
        for rows in torch.arange(len(states), device=states.device).split(max(1, _CELLS // len(self._hidden))):
            scores = self._retrieve(states[rows]).to(states.device)
            if scores.shape != (len(rows), len(self._hidden)):
                raise ValueError(
                    f"retrieve must give scores of shape ({len(rows)}, {len(self._hidden)}), got {tuple(scores.shape)}"
                )
            hidden = self._hidden if on_sale is None else self._hidden | ~on_sale[rows]
            if self._own:
                found[rows, 1:] = _best_of_own(scores, hidden, self.size)
            else:
                ranked = (scores.double() * _GRID).round() - self._order
                best = ranked.masked_fill(hidden, -torch.inf).topk(self.size, dim=1)
                found[rows, 1:] = best.indices * torch.isfinite(best.values)
        return found

    @torch.no_grad()
    def features(self, states: Tensor, found: Tensor) -> Tensor:
        """(B, M + 1, F) float32 in [-1, 1] of candidates (B, M + 1) for states (B, D): `FEATURES`, then the vector."""
        vectors = self._encoder.item_vectors[found]
        nearness = torch.einsum("bmd,bd->bm", vectors, states)
        columns = torch.stack([nearness, self._price_rank[found]], 2)
        return torch.cat([columns, vectors], 2).clamp(-1.0, 1.0)


def _best_of_own(scores: Tensor, hidden: Tensor, size: int) -> Tensor:
    """(B, size) int64 items of the highest scores (B, N + 1), best first; 0 where those not hidden run out.

    Raises:
        ValueError: a score is nan.
    """
    if scores.isnan().any():
        raise ValueError("retrieve gave nan for a score; give a number, or -inf for what is not to be retrieved")
    none = torch.iinfo(torch.int64).min
    best = _keys(scores).masked_fill(hidden | (scores == -torch.inf), none).topk(size, dim=1)
    return best.indices * (best.values > none)


def _keys(scores: Tensor) -> Tensor:
    """(B, N + 1) int64 in the order of the scores' leading digits; of equal ones the lower index is the greater."""
    bits = scores.float().contiguous().view(torch.int32).long()  # in the order of the sizes, but for the sign
    ordered = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    cells = (ordered + (1 << (_DROPPED - 1))) >> _DROPPED
    return cells * scores.shape[1] - torch.arange(scores.shape[1], device=scores.device)


def _ranks(prices: Tensor) -> Tensor:
    """(N + 1,) float32 share of the other items that are cheaper, equally dear ones alike; 0 for index 0."""
    own = prices[1:].contiguous()
    cheaper = torch.searchsorted(own.sort().values, own)
    return torch.nn.functional.pad(cheaper.float() / max(len(own) - 1, 1), (1, 0))
