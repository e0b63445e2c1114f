"""What resembles the item touched last: the simplest recommender that reads vectors.

Shapes: B shoppers, N items, D width.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..datasets.tokens import Floats
from .baselines import VectorRanking
from .histories import last_touched


class LastItemPolicy(VectorRanking):
    """The items whose vectors are nearest to that of the item touched last, which itself is left out.

    Reads the "history" observation. A shopper without a history gets what is popular. Arguments as of `VectorRanking`.
    """

    def __init__(
        self,
        item_vectors: ArrayLike | torch.Tensor,
        k: int,
        available: ArrayLike | None = None,
        counts: ArrayLike | None = None,
    ) -> None:
        super().__init__(item_vectors, k, available, counts)
        norms = np.linalg.norm(self.item_vectors, axis=1, keepdims=True)
        self.item_vectors = self.item_vectors / np.maximum(norms, 1e-12)

    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) cosines, -1 and less for the item itself, and a trace of popularity."""
        last = last_touched(observation)
        near = self.item_vectors[last] @ self.item_vectors.T  # row 0 is zero: no history
        near[np.arange(len(last)), last] = -2.0
        return near + self.popularity
