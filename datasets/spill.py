"""Rows that may exceed memory: split by shopper into Parquet files on disk, then read back one file at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

_HELD = 400_000  # rows held in memory before they are written


class Partitions:
    """Frames of equal columns, split by the hash of one column, so that its equal values end in one part."""

    def __init__(self, folder: Path, parts: int, by: str) -> None:
        self.folder, self.parts, self.by = Path(folder), parts, by
        self.folder.mkdir(parents=True)
        self._held: list[pl.DataFrame] = []
        self._rows = 0
        self._writers: dict[int, pq.ParquetWriter] = {}

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows."""
        if not len(rows):
            return
        self._held.append(rows)
        self._rows += len(rows)
        if self._rows >= _HELD:
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        rows = pl.concat(self._held)
        part = (pl.col(self.by).hash() % self.parts).alias("_part")
        for (number,), group in rows.with_columns(part).partition_by("_part", include_key=False, as_dict=True).items():
            table = arrow(group)
            if number not in self._writers:
                self._writers[number] = pq.ParquetWriter(
                    self.folder / f"{number:04d}.parquet", table.schema, compression="lz4"
                )
            self._writers[number].write_table(table)
        self._held, self._rows = [], 0

    def close(self) -> None:
        """Write what is still held; after this, `frames` may be read."""
        self._flush()
        for writer in self._writers.values():
            writer.close()

    def frames(self) -> Iterator[pl.DataFrame]:
        """The parts that hold rows, one at a time; each file is removed once its part was used."""
        for number in sorted(self._writers):
            path = self.folder / f"{number:04d}.parquet"
            yield pl.read_parquet(path)
            path.unlink()


class Clashes:
    """Finds names that more than one owner uses, keeping 8 bytes a name."""

    def __init__(self) -> None:
        self._hashes: list[NDArray[np.uint64]] = []

    def add(self, names: pl.Series) -> None:
        """Names used, one entry for each owner."""
        self._hashes.append(names.hash().to_numpy())

    def clashing(self) -> pl.Series:
        """Hashes of the names with several owners; compare with `pl.col(...).hash()`."""
        every = np.concatenate(self._hashes) if self._hashes else np.zeros(0, np.uint64)
        values, counts = np.unique(every, return_counts=True)
        return pl.Series(values[counts > 1], dtype=pl.UInt64)


def arrow(rows: pl.DataFrame) -> pa.Table:
    """A polars frame as Arrow with plain string columns, which every reader of Parquet knows."""
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())
