"""The plain state encoder: a recency-weighted mean of the vectors of the items a shopper touched. Nothing is trained.

Shapes: B shoppers, T tokens, N items, D width of the state.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.catalogue import Catalogue
from ..datasets.schema import N_EVENTS, Event

IGNORED_WEIGHT = 0.1  # of an item that was shown and left, beside one that was clicked


@dataclass(slots=True)
class MeanMemory:
    """Memory of `MeanEncoder`.

    Attributes:
        state: (B, D) float32 unit length, or zero with no history.
        total: (B, D) float32 the weighted sum of item vectors.
    """

    state: Tensor
    total: Tensor

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows, in place, with all rows of `other`."""
        self.state[rows] = other.state
        self.total[rows] = other.total


class MeanEncoder:
    """`StateEncoder` that weighs the token j places back by `decay ** j`, and ignored slates by a tenth of that."""

    def __init__(self, item_vectors: Tensor, decay: float = 0.8) -> None:
        """Keep the vectors.

        Args:
            item_vectors: (N + 1, D) by dense index; rows are scaled to unit length, row 0 is taken as zero.
            decay: what a token keeps of its weight when the next one comes, in (0, 1].

        Raises:
            ValueError: the vectors are no table, or `decay` is out of range.
        """
        if item_vectors.ndim != 2 or len(item_vectors) < 2:
            raise ValueError(f"item_vectors must be (n_items + 1, dim), got {tuple(item_vectors.shape)}")
        if not 0 < decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {decay}")
        unit = F.normalize(item_vectors.to(torch.float32), dim=1)
        unit[0] = 0
        self.item_vectors = unit
        self.decay = decay
        self.n_items, self.dim = len(unit) - 1, unit.shape[1]
        weights = torch.ones(N_EVENTS, device=unit.device)
        weights[[Event.IMPRESSION, Event.UNCART]] = IGNORED_WEIGHT
        self._weights = weights
        # For `step`, which on a few rows takes the longer the more calls it makes: what is kept when an item comes.
        self._kept = torch.full((len(unit), 1), decay, device=unit.device)
        self._kept[0] = 1.0
        self._by_event, self._least = weights.unsqueeze(1), torch.tensor(1e-12, device=unit.device)

    @classmethod
    def from_catalogue(
        cls, catalogue: Catalogue, dim: int = 32, *, seed: int = 0, decay: float = 0.8, words: float = 0.0
    ) -> "MeanEncoder":
        """An encoder whose item vectors tell category, brand and price apart, with no pretrained model.

        Each category, brand and tenth of the price range gets a random direction of signs; an item is the sum of its
        three, plus a little of its own, so that no two items are the same. With `words` above 0, every word of the
        titles gets one too, and an item gains `words` times the sum of its own: vectors then tell what titles say.

        Source: random projection with signs, Achlioptas, "Database-friendly random projections", JCSS 2003.
        """
        rng = np.random.default_rng(seed)
        frame, n = catalogue.frame, catalogue.n_items
        rank = np.argsort(np.argsort(catalogue.prices[1:], kind="stable"), kind="stable")
        vectors = np.zeros((n, dim))
        for labels, weight in ((frame["category"], 1.0), (frame["brand"], 0.7), (rank * 10 // max(n, 1), 0.5)):
            _, code = np.unique(np.asarray(labels).astype(str), return_inverse=True)
            vectors += weight * rng.choice([-1.0, 1.0], size=(code.max(initial=0) + 1, dim))[code]
        vectors += 0.3 * rng.choice([-1.0, 1.0], size=(n, dim))
        if words:
            texts = [str(text).lower().replace(",", " ").split() for text in frame["text"]]
            known = {word: number for number, word in enumerate(sorted({word for text in texts for word in text}))}
            direction = rng.choice([-1.0, 1.0], size=(len(known), dim))
            vectors += words * np.stack([direction[[known[word] for word in text]].sum(0) for text in texts])
        return cls(torch.from_numpy(np.vstack([np.zeros((1, dim)), vectors]).astype(np.float32)), decay)

    def start(self, rows: int) -> MeanMemory:
        """Memory of `rows` shoppers who have done nothing; their state is zero."""
        shape, device = (rows, self.dim), self.item_vectors.device
        return MeanMemory(torch.zeros(shape, device=device), torch.zeros(shape, device=device))

    def step(self, memory: MeanMemory, items: Tensor, events: Tensor, gaps: Tensor) -> MeanMemory:
        """Append one token to each row; a row whose item is 0 is left exactly as it was. Gaps are not read."""
        del gaps
        new = self._by_event.index_select(0, events) * self.item_vectors.index_select(0, items)
        memory.total = new.add_(self._kept.index_select(0, items).mul(memory.total))  # item 0 adds nothing
        length = torch.linalg.vector_norm(memory.total, dim=1, keepdim=True)
        memory.state = memory.total / torch.maximum(length, self._least)  # as `F.normalize`
        return memory

    def encode(self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        """(B, D) states of whole histories, (B, T) each, zeros after `lengths`."""
        del gaps
        back = lengths[:, None] - 1 - torch.arange(items.shape[1], device=items.device)  # tokens since
        weights = torch.where(back >= 0, self.decay ** back.clamp(min=0), 0.0) * self._weights[events] * (items > 0)
        return F.normalize(torch.einsum("bt,btd->bd", weights, self.item_vectors[items]), dim=1)

    def scores(self, states: Tensor, *, items: Tensor | None = None, events: Tensor | None = None) -> Tensor:
        """(B, N + 1) how near each item lies to (B, D) states, -inf for index 0; histories are not read."""
        del items, events
        scores = states @ self.item_vectors.T
        scores[:, 0] = -torch.inf
        return scores
