"""The catalogue: the shop's items, their text, and their dense index."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import LogFormatError, UnknownItemError
from .schema import CATALOGUE_SCHEMA


@dataclass(frozen=True)
class Catalogue:
    """Items of a shop.

    Attributes:
        frame: one row an item, columns of `CATALOGUE_SCHEMA`; row i has dense index i + 1. Index 0 is padding.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [name for name in CATALOGUE_SCHEMA.names if name not in self.frame]
        if missing:
            raise LogFormatError(f"catalogue lacks column {missing[0]!r}; it has {list(self.frame.columns)}")
        ids = self.frame["item_id"]
        if ids.duplicated().any():
            raise LogFormatError(f"catalogue names item {ids[ids.duplicated()].iloc[0]!r} more than once")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def n_items(self) -> int:
        """Number of items; dense indices run from 1 to this."""
        return len(self.frame)

    @cached_property
    def item_ids(self) -> NDArray[np.object_]:
        """(n_items + 1,) the shop's own ids by dense index; entry 0 is the empty string."""
        return np.concatenate([[""], self.frame["item_id"].to_numpy(dtype=object)])

    @cached_property
    def prices(self) -> NDArray[np.float32]:
        """(n_items + 1,) price by dense index, in the shop's currency; entry 0 is 0, an unknown price the median."""
        price = self.known_prices
        known = price[1:][np.isfinite(price[1:])]
        middle = np.median(known) if len(known) else 0.0
        return np.where(np.isfinite(price), price, middle).astype(np.float32)

    @cached_property
    def known_prices(self) -> NDArray[np.float32]:
        """(n_items + 1,) price by dense index, in the shop's currency; entry 0 is 0, an unknown price nan."""
        price = self.frame["price"].to_numpy(dtype=np.float64)
        return np.concatenate([[0.0], np.where(np.isfinite(price), price, np.nan)]).astype(np.float32)

    @cached_property
    def available(self) -> NDArray[np.bool_]:
        """(n_items + 1,) whether an item may be shown, by dense index; entry 0 is False."""
        return np.concatenate([[False], self.frame["available"].to_numpy(dtype=bool)])

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.item_ids)

    def index_of(self, item_ids: Iterable[str], *, unknown: str = "raise") -> NDArray[np.int64]:
        """Dense indices of the shop's ids.

        Args:
            item_ids: ids to look up.
            unknown: `"raise"`, or `"zero"` to give the padding index for an id the catalogue lacks.

        Raises:
            UnknownItemError: an id is not in the catalogue and `unknown` is `"raise"`.
        """
        asked = list(item_ids)
        found = self._index.get_indexer(pd.Index(asked, dtype=object))
        if unknown == "raise" and (found <= 0).any():
            lost = [item for item, place in zip(asked, found, strict=True) if place <= 0]
            raise UnknownItemError(
                f"{len(lost)} of {len(asked)} item ids are not in the catalogue, first {lost[0]!r}; "
                "ingest a newer catalogue"
            )
        return np.maximum(found, 0).astype(np.int64)

    def texts(self) -> list[str]:
        """What the text encoder reads, by row: title, category and brand; an item without text has its id."""
        columns = self.frame[["text", "category", "brand", "item_id"]].astype(object).fillna("").to_numpy()
        return [". ".join(part for part in (text or item, *labels) if part) for text, *labels, item in columns]

    def save(self, path: Path) -> None:
        """Write the catalogue as Parquet."""
        table = pa.Table.from_pandas(self.frame[CATALOGUE_SCHEMA.names], schema=CATALOGUE_SCHEMA, preserve_index=False)
        pq.write_table(table, path)

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        """Read a catalogue written by `save`.

        Raises:
            LogFormatError: the file is not a readable catalogue.
        """
        try:
            return cls(pq.read_table(path).to_pandas())
        except (pa.ArrowInvalid, OSError) as error:
            raise LogFormatError(f"{path} is not a readable catalogue: {error}") from error
