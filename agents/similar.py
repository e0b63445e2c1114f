"""What resembles the item touched last: the simplest recommender that reads vectors.

Shapes: B shoppers, N items, D width.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..datasets.tokens import Floats
from .baselines import Ranking
from .histories import last_touched


class LastItemPolicy(Ranking):
    """The items whose vectors are nearest to that of the item touched last, which itself is left out.

    Reads the "history" observation. A shopper without a history gets what is popular.

    Args:
        item_vectors: (N + 1, D) by dense index.
        k: slots.
        available: (N + 1,) bool; all by default.
        counts: (N + 1,) popularity, which ranks items for a shopper without history; by item number without it.
    """

    def __init__(
        self,
        item_vectors: ArrayLike | torch.Tensor,
        k: int,
        available: ArrayLike | None = None,
        counts: ArrayLike | None = None,
    ) -> None:
        vectors = torch.as_tensor(item_vectors, dtype=torch.float32).detach().cpu().numpy()
        super().__init__(k, np.ones(len(vectors)) if available is None else available)
        self.vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        counts = np.zeros(len(vectors)) if counts is None else np.asarray(counts, dtype=np.float64)
        self.popularity = (1e-6 * counts / max(counts.max(), 1.0)).astype(np.float32)

    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) cosines, -1 and less for the item itself, and a trace of popularity."""
        last = last_touched(observation)
        near = self.vectors[last] @ self.vectors.T  # row 0 is zero: no history
        near[np.arange(len(last)), last] = -2.0
        return near + self.popularity
