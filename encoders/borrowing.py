"""Items that borrow from the items they go with, while the session encoder learns.

An item's own embedding is learned from the few sessions that hold it. With what its neighbours in the sessions have
learned added to it, a rare item begins where its company is; on short sessions over many items this is worth more than
any change of the blocks. When training is over the sum is written into the item's embedding, so the finished model is
none the larger or slower for it.

Source: the global graph of GCE-GNN (Wang et al., SIGIR 2020, section 4.1), with the fixed weights of item-kNN in place
of attention, as LightGCN does (He et al., SIGIR 2020).

Shapes: N items, K neighbours of each, D width.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.tokens import Tokens
from .neighbours import item_similarities


class Borrowing(nn.Module):
    """Item's own embedding -> its own and a learned share of its neighbours'."""

    neighbours: Tensor
    weights: Tensor

    def __init__(self, neighbours: Tensor, weights: Tensor, share: float) -> None:
        """Take the graph.

        Args:
            neighbours: (N + 1, K) int64 dense item indices, 0 for none.
            weights: (N + 1, K) of each neighbour, 0 where there is none.
            share: how much of the neighbours' mean an item begins with; learned from there.
        """
        super().__init__()
        self.register_buffer("neighbours", neighbours)
        self.register_buffer("weights", weights)
        self.share = nn.Parameter(torch.tensor(share))

    @classmethod
    def among(cls, tokens: Tokens, n_items: int, k: int, share: float) -> "Borrowing":
        """Neighbours by how often two items share a session; the K likest, weights that sum to 1 or are all 0."""
        similar = item_similarities(tokens, n_items, neighbours=k)
        row = np.repeat(np.arange(n_items + 1), np.diff(similar.indptr))
        place = np.arange(len(row)) - similar.indptr[row]
        neighbours, weights = np.zeros((n_items + 1, k), np.int64), np.zeros((n_items + 1, k), np.float32)
        neighbours[row, place], weights[row, place] = similar.indices, similar.data
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        return cls(torch.from_numpy(neighbours), torch.from_numpy(weights), share)

    def forward(self, items: Tensor, table: Tensor) -> Tensor:
        """(n, D) embeddings of (n,) items out of the (N + 1, D) table of own ones."""
        borrowed = F.embedding_bag(
            self.neighbours[items], table, per_sample_weights=self.weights[items].to(table.dtype), mode="sum"
        )
        return F.embedding(items, table, padding_idx=0) + self.share * borrowed
