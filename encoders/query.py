"""What a search adds: to the token that it led to, and to a state whose next items it asks for.

Shapes: E width of text vectors, D width of the state.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .settings import ShopSessionConfig
from .tower import ItemTower


class QueryReader(nn.Module):
    """Text vector of a search -> vector in the space of items; nothing at all until it is trained.

    A search is read as the items' texts are, by a share that is learned, and by a projection of its own: words of a
    search that items have too then mean something although no shopper has used them yet.
    """

    def __init__(self, config: ShopSessionConfig) -> None:
        """Read vectors of `config.query_dim`."""
        super().__init__()
        # Parameters of its own, for transformers asks no module to begin at zero that has only modules.
        self.own = nn.Parameter(torch.zeros(config.width, config.query_dim))
        self.as_text = nn.Parameter(torch.zeros(()))
        self.shares_text = config.query_dim == config.text_dim

    def forward(self, queries: Tensor, tower: ItemTower) -> Tensor:
        """(..., D) for (..., E) vectors; a vector of zeros stands for no search and gives zeros.

        Args:
            queries: text vectors.
            tower: of the items, which reads texts.
        """
        read = F.linear(queries, self.own)
        if self.shares_text and tower.text is not None:
            read = read + self.as_text * tower.text(queries - tower.text_mean)
        return read * queries.any(-1, keepdim=True)
