"""What every source gives to an ingest: files found sound, rows in bounded pieces, items, and facts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from ...errors import LogFormatError
from ..cleaning import TYPED, IngestConfig
from ..items import ITEM_TEXTS
from ..quarantine import Quarantine
from .files import TableFile

READABLE = (*TYPED, *ITEM_TEXTS)
"""Our names of the columns a row may have."""
_KINDS = {
    "time": ("time", "date", "text", "number"),
    **dict.fromkeys(("position", "propensity", "price", "quantity"), ("number", "text")),
}


@dataclass(frozen=True)
class Batch:
    """Some rows of a source.

    Attributes:
        rows: columns out of `READABLE`, and `_file` (index into the reading's `files`) and `_line`.
        rejected: rows for the quarantine.
        ignored: reason -> rows passed over on purpose.
        done: bytes of the source read so far.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame | None = None
    ignored: Mapping[str, int] = field(default_factory=dict)
    done: int = 0


class Reading(Protocol):
    """A source whose files were found sound, ready to be read once.

    Attributes:
        files: every file read, item tables included; their contents are what a log is made of.
        names: names of `files` as the quarantine gives them.
        event_names: the source's event name, lower case -> ours, `""` to pass over.
        default_event: event of rows that name none, or `""`.
        facts: what is known of the source; complete once `batches` is exhausted.
        spread: bytes expected once decompressed.
    """

    @property
    def files(self) -> Sequence[Path]: ...  # noqa: D102
    @property
    def names(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def event_names(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def default_event(self) -> str: ...  # noqa: D102
    @property
    def facts(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def spread(self) -> int: ...  # noqa: D102

    def batches(self, piece_bytes: int) -> Iterator[Batch]:
        """The rows, in bounded pieces.

        Raises:
            LogFormatError: a file is damaged beyond its header.
        """
        ...

    def items(self, quarantine: Quarantine) -> pl.DataFrame | None:
        """What the source says of items apart from its events: `item_id` and columns of a catalogue; read last.

        Rows of item tables that are unusable go to the quarantine.
        """
        ...


@dataclass
class ColumnReading:
    """A source of one event a row: our columns under their names, in one or more tables.

    Attributes:
        tables: the files.
        columns: our name -> theirs, those of `READABLE` that are there.
        also: further columns of theirs that `reshape` needs.
        reshape: makes of a piece (our names, and `also`) the rows to clean; must keep `_line`.
        read_items: gives `items()`; nothing by default.
    """

    tables: list[TableFile]
    columns: Mapping[str, str]
    event_names: Mapping[str, str] = field(default_factory=dict)
    default_event: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    also: Sequence[str] = ()
    reshape: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows
    read_items: Callable[[Quarantine], pl.DataFrame | None] = lambda _: None
    item_files: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        for table in self.tables:
            for ours, theirs in self.columns.items():
                table.require_type(theirs, _KINDS.get(ours, ("text", "number")))

    @property
    def files(self) -> list[Path]:
        """Event tables, then item tables."""
        return [*(table.path for table in self.tables), *self.item_files]

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return [path.name for path in self.files]

    @property
    def spread(self) -> int:
        """Bytes of the event tables once decompressed."""
        return sum(table.spread for table in self.tables)

    def batches(self, piece_bytes: int) -> Iterator[Batch]:
        """The rows, in bounded pieces; what a table lacks of the columns is left out of its rows."""
        done = 0
        for number, table in enumerate(self.tables):
            theirs = [name for name in (*self.columns.values(), *self.also) if name in table.columns]
            for piece in table.pieces(theirs, piece_bytes):
                rows = self.reshape(self._renamed(piece.rows)).with_columns(pl.lit(number, pl.Int32).alias("_file"))
                kept = rows.select(name for name in rows.columns if name in (*READABLE, "_file", "_line"))
                yield Batch(kept, piece.rejected, done=done + int(piece.done * table.bytes))
            done += table.bytes

    def _renamed(self, rows: pl.DataFrame) -> pl.DataFrame:
        ours = [pl.col(theirs).alias(name) for name, theirs in self.columns.items() if theirs in rows.columns]
        return rows.select(*ours, *(name for name in self.also if name in rows.columns), "_line")

    def items(self, quarantine: Quarantine) -> pl.DataFrame | None:
        """What the item tables say."""
        return self.read_items(quarantine)


Opener = Callable[[Sequence[Path], IngestConfig, Mapping[str, str]], Reading]


@dataclass(frozen=True)
class Source:
    """A kind of log that can be ingested.

    Attributes:
        name: what `--source` takes.
        summary: one line.
        about: the files it expects, how they are read, and how to get them.
        open: checks the files and gives a `Reading`; raises LogFormatError before any work where they do not fit.
        takes_mapping: whether a mapping of column names means something to it.
    """

    name: str
    summary: str
    about: str
    open: Opener
    takes_mapping: bool = False


def one_by_name(paths: Sequence[Path], stem: str, *, required: bool = True) -> list[Path]:
    """Files called `stem` or `stem-...`, `stem_...` among the paths and in the folders among them, by name.

    Raises:
        LogFormatError: a path does not exist, or none is there and one is required.
    """
    for path in map(Path, paths):
        if not path.exists():
            raise LogFormatError(f"{path} does not exist")
    inside = [one for path in map(Path, paths) for one in (sorted(path.iterdir()) if path.is_dir() else [path])]
    endings = (".parquet", ".pq", ".csv", ".csv.gz")
    found = [
        one
        for one in inside
        if one.name.endswith(endings)
        and (rest := one.name.split(".")[0]).startswith(stem)
        and rest[len(stem) :][:1] in ("", "-", "_")
    ]
    if not found and required:
        names = ", ".join(one.name for one in inside) or "nothing"
        raise LogFormatError(f"no file {stem}.parquet or {stem}.csv in {', '.join(map(str, paths))}; found {names}")
    return found
