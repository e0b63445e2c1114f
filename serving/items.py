"""The catalogue as a server reads it: one item at a time, by id, by words, by label. Plain lists, for speed.

Shapes: N items.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..datasets.catalogue import Catalogue
from ..datasets.tokens import Ints

_TITLE = 60  # characters of a title quoted in a reason


@dataclass(frozen=True, slots=True)
class Item:
    """What is shown of an item; `price` is None where the catalogue knows none."""

    item_id: str
    text: str
    category: str
    brand: str
    price: float | None
    available: bool

    @property
    def title(self) -> str:
        """The text, cut to what a line holds."""
        return self.text if len(self.text) <= _TITLE else self.text[: _TITLE - 1].rstrip() + "…"


class Items:
    """Items of a catalogue by dense index, 1..N."""

    def __init__(self, catalogue: Catalogue) -> None:
        frame = catalogue.frame
        names = ("item_id", "text", "category", "brand")
        ids, texts, categories, brands = (frame[name].fillna("").astype(str).tolist() for name in names)
        self.prices = np.append(np.nan, frame["price"].to_numpy(dtype=np.float64))
        """(N + 1,) price, nan where unknown."""
        prices = [price if np.isfinite(price) else None for price in self.prices[1:].tolist()]
        rows = zip(ids, texts, categories, brands, prices, catalogue.available[1:].tolist(), strict=True)
        self._items = [Item(item, text or item, *rest) for item, text, *rest in rows]
        self._index = {item.item_id: number for number, item in enumerate(self._items, 1)}
        self._words = [" ".join((one.text, one.category, one.brand, one.item_id)).lower() for one in self._items]
        self._labels = {name: _Labels(frame[name]) for name in ("category", "brand")}

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Item:
        """The item of a dense index, from 1."""
        return self._items[index - 1]

    def index_of(self, item_ids: Iterable[str]) -> Ints:
        """Dense indices of the shop's ids; 0 for ids that the catalogue lacks."""
        return np.array([self._index.get(item, 0) for item in item_ids], np.int64)

    def labelled(self, column: str, labels: Sequence[str]) -> NDArray[np.bool_]:
        """(N + 1,) items whose `"category"` or `"brand"` is one of the labels."""
        return self._labels[column].any_of(labels)

    def find(self, search: str, limit: int) -> list[Item]:
        """The first `limit` items, in the order of the catalogue, whose text, labels or id hold every word."""
        words = search.lower().split()
        hits = (
            item for item, text in zip(self._items, self._words, strict=True) if all(word in text for word in words)
        )
        return list(itertools.islice(hits, limit))


class _Labels:
    """A text column as numbers, so that filtering a large catalogue compares integers."""

    def __init__(self, column: pd.Series) -> None:
        codes, names = pd.factorize(column)
        self._codes = np.append(-1, codes)  # index 0 is no item
        self._number = {str(name): number for number, name in enumerate(names)}

    def any_of(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        return np.isin(self._codes, [self._number[label] for label in labels if label in self._number])
