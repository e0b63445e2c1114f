"""Quarantine: the rows a log could not use, each with where it stood and why, so that none is lost in silence."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pandas as pd
import polars as pl

QUARANTINE_FILE = "quarantine.jsonl"
VALUE_LENGTH = 200
"""Characters kept of an offending value."""

REJECTED_SCHEMA = {"file": pl.String, "line": pl.Int64, "column": pl.String, "value": pl.String, "reason": pl.String}
"""Columns of a frame of rejected rows. `line` is the row number from 1; a CSV's header counts, blank lines do not."""


class Quarantine:
    """Collects rejected rows in a file, one JSON object a line, and counts them by reason.

    Attributes:
        counts: reason -> rejected rows.
    """

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self.counts: Counter[str] = Counter()

    def add(self, rejected: pl.DataFrame) -> None:
        """Write rows with the columns of `REJECTED_SCHEMA`; long values are cut to `VALUE_LENGTH` characters."""
        if not len(rejected):
            return
        rows = rejected.select(
            pl.col(name).cast(kind).str.slice(0, VALUE_LENGTH) if name == "value" else pl.col(name).cast(kind)
            for name, kind in REJECTED_SCHEMA.items()
        )
        rows.write_ndjson(self._sink)
        counts = rows.group_by("reason").len()
        self.counts.update(dict(zip(counts["reason"], counts["len"], strict=True)))

    def sift(self, rows: pl.DataFrame, bad: pl.Expr, column: str, reason: str, *, file: str) -> pl.DataFrame:
        """Take the rows of a file for which `bad` holds, with what `column` says there; gives back the others.

        Args:
            rows: of one file, with `_line`.
            bad: a condition; unknown counts as no.
            column: the offending column.
            reason: why, without the value.
            file: the file's name.
        """
        chosen = bad.fill_null(False)
        wrong = rows.filter(chosen).with_columns(pl.lit(0, pl.Int32).alias("_file"))
        self.add(rejected_rows(wrong, [file], column, reason, pl.col(column)))
        return rows.filter(~chosen)

    @property
    def total(self) -> int:
        """Rows rejected so far."""
        return self.counts.total()


@contextmanager
def quarantining(folder: Path) -> Iterator[Quarantine]:
    """A new, empty quarantine in a folder; its file is closed at the end."""
    with (Path(folder) / QUARANTINE_FILE).open("wb") as sink:
        yield Quarantine(sink)


def read_quarantine(folder: Path) -> pd.DataFrame:
    """The rows a log artefact left out: `file`, `line`, `column`, `value`, `reason`; empty where none was."""
    path = Path(folder) / QUARANTINE_FILE
    if not path.stat().st_size:
        return pl.DataFrame(schema=REJECTED_SCHEMA).to_pandas()
    return pl.read_ndjson(path, schema=REJECTED_SCHEMA).to_pandas()


def rejected_rows(
    rows: pl.DataFrame, files: Sequence[str], column: str, reason: str, value: pl.Expr | None = None
) -> pl.DataFrame:
    """Describe rows (with `_file`, an index into `files`, and `_line`) that are rejected for one reason.

    Args:
        rows: the rejected rows.
        files: names of the source files.
        column: our name of the offending column, `""` for the row as a whole.
        reason: why, without the value.
        value: the offending value; nothing where the row must not be repeated.
    """
    shown = pl.lit(None, pl.String) if value is None else value.cast(pl.String, strict=False)
    return rows.select(
        pl.col("_file").replace_strict(dict(enumerate(files)), return_dtype=pl.String).alias("file"),
        pl.col("_line").cast(pl.Int64).alias("line"),
        pl.lit(column).alias("column"),
        shown.alias("value"),
        pl.lit(reason).alias("reason"),
    )
