"""What the session encoder makes of an item.

Shapes: N items, E width of text vectors, D width of item vectors.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .borrowing import Borrowing
from .settings import ShopSessionConfig

_FAINTEST = 0.05  # spread of texts along a direction, beside the strongest, from which it is no more raised


class ItemTower(nn.Module):
    """Item -> vector: the sum of its text, its price, its category, its brand, and an embedding of its own.

    What is not known of an item adds nothing. An item that the training never showed has no embedding of its own, so
    it stands near items that read alike, are of its kind, and cost as much.

    All that belongs to single items lies in rows by dense index, row 0 for padding: the buffers and tables named in
    `PER_ITEM`. Nothing else depends on how many items there are.
    """

    PER_ITEM: ClassVar[tuple[str, ...]] = (
        "item_text",
        "item_price",
        "item_seen",
        "item_category",
        "item_brand",
        "ids.weight",
    )

    item_text: Tensor
    item_price: Tensor
    item_seen: Tensor
    item_category: Tensor
    item_brand: Tensor
    text_mean: Tensor

    def __init__(self, config: ShopSessionConfig) -> None:
        super().__init__()
        rows, width = config.n_items + 1, config.width
        self.id_dropout = config.id_dropout
        self.register_buffer("item_text", torch.zeros(rows, config.text_dim))
        self.register_buffer("item_price", torch.zeros(rows, 2))
        self.register_buffer("item_seen", torch.zeros(rows))
        self.register_buffer("item_category", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("item_brand", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("text_mean", torch.zeros(config.text_dim))
        parts = set(config.parts)
        self.text = nn.Linear(config.text_dim, width, bias=False) if config.text_dim and "text" in parts else None
        self.price = nn.Linear(2, width, bias=False) if "price" in parts else None
        self.categories = _labels(config.categories, width) if "category" in parts else None
        self.brands = _labels(config.brands, width) if "brand" in parts else None
        self.ids = nn.Embedding(rows, width, padding_idx=0) if "id" in parts else None
        self.borrowing: Borrowing | None = None  # while training
        if all(part is None for part in (self.text, self.price, self.categories, self.brands, self.ids)):
            raise ValueError(f"nothing is left of an item: parts are {config.parts}, and texts {config.text_dim} wide")

    @torch.no_grad()
    def describe(self, rows: dict[str, Tensor]) -> None:
        """Take in what is known of all items, from `item_rows`; labels that no item of the training has add nothing."""
        for name, values in rows.items():
            self.get_buffer(name)[1:] = values
        self.text_mean.copy_(self.item_text[1:].mean(0))
        if self.text is not None:
            texts = self.item_text[1:] - self.text_mean
            self.text.weight.copy_(principal_directions(texts, self.text.weight.shape[0]))
        for table, codes in ((self.categories, self.item_category), (self.brands, self.item_brand)):
            if table is not None:
                trained = torch.zeros(len(table.weight), 1).index_fill_(0, codes[self.item_seen > 0], 1.0)
                trained[0] = 0
                table.weight *= trained

    def forward(self, items: Tensor, *, own: bool = True) -> Tensor:
        """(n, D) vectors of (n,) item indices, not normalised; 0 is not an item.

        Without their `own` embeddings they stand where they would, had they never been learnt from.
        """
        known = []
        if self.text is not None:
            known.append(self.text(self.item_text[items] - self.text_mean))
        if self.price is not None:
            known.append(self.price(self.item_price[items]))
        if self.categories is not None:
            known.append(self.categories(self.item_category[items]))
        if self.brands is not None:
            known.append(self.brands(self.item_brand[items]))
        if self.ids is not None and own:
            known.append(self._own(self.ids, items))
        return torch.stack(known).sum(0) if len(known) > 1 else known[0]

    @torch.no_grad()
    def settle(self) -> None:
        """Make what items borrow while training a part of their own embeddings, for good."""
        if self.ids is not None and self.borrowing is not None:
            items = torch.arange(len(self.ids.weight), device=self.ids.weight.device)
            self.ids.weight.copy_(self.borrowing(items, self.ids.weight))
        self.borrowing = None

    def _own(self, ids: nn.Embedding, items: Tensor) -> Tensor:
        kept = self.item_seen[items]
        if self.training and self.id_dropout:
            kept = kept * (torch.rand(len(items), device=items.device) >= self.id_dropout)
        own = ids(items) if self.borrowing is None else self.borrowing(items, ids.weight)
        return own * kept[:, None]


def principal_directions(texts: Tensor, width: int) -> Tensor:
    """(D, E) projection of texts by which items that read alike are near before anything is learnt.

    The directions in which the texts differ most, evened out by half: a shop's texts differ most in what its items are,
    and shoppers choose by finer things. Projected texts have unit length in the mean.

    Args:
        texts: (N, E) less their mean.
        width: D; rows beyond E are zero.
    """
    strength, directions = torch.linalg.eigh(texts.T.double() @ texts.double())
    order = strength.argsort(descending=True)[:width]
    spread = strength[order].clamp(min=0).sqrt()
    found = directions.T[order] / (spread / spread[0].clamp(min=1e-12)).clamp(min=_FAINTEST).sqrt()[:, None]
    found = found / (texts.double() @ found.T).norm(dim=1).mean().clamp(min=1e-12) if spread[0] > 0 else found
    return F.pad(found, (0, 0, 0, width - len(found))).to(texts.dtype)


def _labels(vocabulary: Sequence[str], width: int) -> nn.Embedding | None:
    return nn.Embedding(len(vocabulary) + 1, width, padding_idx=0) if vocabulary else None


def item_rows(
    config: ShopSessionConfig,
    text: NDArray[np.float32],
    prices: NDArray[np.float32],
    seen: NDArray[np.bool_],
    categories: Sequence[str] = (),
    brands: Sequence[str] = (),
) -> dict[str, Tensor]:
    """The tower's buffers for some items, as a model of these settings reads them.

    Args:
        config: its vocabularies and price scale are used; a label that they lack counts as unknown.
        text: (n, E) vectors.
        prices: (n,) in the shop's currency, nan where unknown.
        seen: (n,) whether the item occurs in the training sessions.
        categories: (n,) labels, empty where unknown; none known by default.
        brands: (n,) labels.

    Returns:
        Name of the buffer -> its n rows.
    """
    known = np.isfinite(prices)
    scaled = (_log_prices(prices) - config.price_mean) / config.price_std
    price = np.stack([np.where(known, scaled, 0), known], axis=1)
    return {
        "item_text": torch.from_numpy(np.ascontiguousarray(text, dtype=np.float32)),
        "item_price": torch.from_numpy(price.astype(np.float32)),
        "item_seen": torch.from_numpy(np.asarray(seen, dtype=np.float32)),
        "item_category": _codes(categories, config.categories, len(text)),
        "item_brand": _codes(brands, config.brands, len(text)),
    }


def fit_to_items(
    config: ShopSessionConfig,
    text: NDArray[np.float32],
    prices: NDArray[np.float32],
    categories: Sequence[str],
    brands: Sequence[str],
) -> None:
    """Set what settings hold of a catalogue: its size, its vocabularies, its price scale; arguments of `item_rows`."""
    config.n_items, config.text_dim = len(text), text.shape[1]
    if not config.text_dim:
        config.id_dropout = 0.0  # too little would be left of an item
    config.categories = sorted({label for label in categories if label})
    config.brands = sorted({label for label in brands if label})
    scaled = _log_prices(prices)
    known = scaled[np.isfinite(scaled)]
    if len(known):
        config.price_mean, config.price_std = float(known.mean()), float(max(known.std(), 1e-6))


def _log_prices(prices: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.log1p(np.maximum(np.asarray(prices, np.float64), 0))  # nan stays nan


def _codes(labels: Sequence[str], vocabulary: Sequence[str], n: int) -> Tensor:
    row = {label: place for place, label in enumerate(vocabulary, start=1)}
    codes = [row.get(label, 0) for label in labels] if len(labels) else [0] * n
    return torch.tensor(codes, dtype=torch.int64)
