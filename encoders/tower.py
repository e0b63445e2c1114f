"""What the session encoder makes of an item.

Shapes: N items, E width of text vectors, D width of item vectors.
"""

import torch
from torch import Tensor, nn

from .settings import ShopSessionConfig


class ItemTower(nn.Module):
    """Item -> vector: its text and price, and an embedding of its own where the item has been trained on.

    An item the log never showed has text and price alone, so it stands near items that read alike.
    """

    item_text: Tensor
    item_price: Tensor
    item_seen: Tensor
    text_mean: Tensor

    def __init__(self, config: ShopSessionConfig) -> None:
        super().__init__()
        rows = config.n_items + 1
        self.id_dropout = config.id_dropout
        self.register_buffer("item_text", torch.zeros(rows, config.text_dim))
        self.register_buffer("item_price", torch.zeros(rows))
        self.register_buffer("item_seen", torch.zeros(rows))
        self.register_buffer("text_mean", torch.zeros(config.text_dim))
        self.text = nn.Linear(config.text_dim, config.width, bias=False) if config.text_dim else None
        self.price = nn.Linear(1, config.width)
        self.ids = nn.Embedding(rows, config.width, padding_idx=0)

    def forward(self, items: Tensor) -> Tensor:
        """(n, D) vectors of (n,) item indices, not normalised; 0 is not an item."""
        own = self.ids(items) * self.item_seen[items, None]
        if self.training and self.id_dropout:
            own = own * (torch.rand(len(items), 1, device=items.device) >= self.id_dropout)
        vectors = own + self.price(self.item_price[items, None])
        return vectors if self.text is None else vectors + self.text(self.item_text[items] - self.text_mean)
