"""Table files: CSV (plain or gzipped) and Parquet, checked before work starts and read in bounded pieces."""

import codecs
import csv
import gzip
import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from ...errors import LogFormatError
from ..quarantine import REJECTED_SCHEMA
from .quotes import STRAY, QuoteGuard

PARQUET_ENDINGS = (".parquet", ".pq")
TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
DELIMITERS = (",", ";", "\t", "|")
_MARKS = {"\ufffd": "not UTF-8", STRAY: "a quote is not closed"}
_ROW_BYTES = 64  # bytes of a Parquet row taken for granted when a piece of so many bytes is asked for


@dataclass(frozen=True)
class Piece:
    """Some rows of a file.

    Attributes:
        rows: the columns asked for, and `_line`, the row number (1-based; a CSV's header counts).
        rejected: rows that could not be split into columns or decoded, as for the quarantine; `value` is the raw text.
        done: share of the file read so far, in [0, 1].
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame
    done: float


@dataclass(frozen=True)
class TableFile:
    """A CSV or Parquet file whose header was read and found sound."""

    path: Path
    columns: tuple[str, ...]
    delimiter: str = ""
    types: dict[str, pa.DataType] = field(default_factory=dict)

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet rather than text."""
        return not self.delimiter

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.path.stat().st_size

    @property
    def spread(self) -> int:
        """Bytes the file is expected to hold once decompressed."""
        return self.bytes * (6 if self.path.name.endswith(".gz") else 4 if self.is_parquet else 1)

    def require(self, *columns: str) -> "TableFile":
        """The file itself, if it has these columns.

        Raises:
            LogFormatError: a column is missing; names it, what is expected and what was found.
        """
        for column in columns:
            if column not in self.columns:
                found = ", ".join(self.columns)
                raise LogFormatError(
                    f"{self.path} lacks column {column!r}; expected {', '.join(columns)}; found {found}"
                )
        return self

    def require_type(self, column: str, kinds: Sequence[str]) -> "TableFile":
        """The file itself, if a Parquet column is of one of the kinds `text`, `number`, `time`, `date`, `yes/no`.

        Raises:
            LogFormatError: it is of another type; names the column, what is expected and what was found.
        """
        kind = self.types.get(column)
        # A column without a single value has no type of its own, and is as good as any.
        if kind is not None and not pa.types.is_null(kind) and _kind(kind) not in kinds:
            raise LogFormatError(f"{self.path}: column {column!r} should hold {' or '.join(kinds)}, found {kind}")
        return self

    def pieces(self, columns: Sequence[str], piece_bytes: int) -> Iterator[Piece]:
        """Rows of some columns, about `piece_bytes` at a time; text columns of a CSV come as they are written.

        Raises:
            LogFormatError: the file breaks off or is damaged.
        """
        try:
            yield from self._parquet(columns, piece_bytes) if self.is_parquet else self._text(columns, piece_bytes)
        except (pa.ArrowInvalid, OSError, EOFError, gzip.BadGzipFile) as error:
            raise LogFormatError(f"{self.path} cannot be read to its end: {error}") from error

    def _parquet(self, columns: Sequence[str], piece_bytes: int) -> Iterator[Piece]:
        with pq.ParquetFile(self.path) as file:
            line, total = 1, max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(max(piece_bytes // _ROW_BYTES, 1), columns=list(dict.fromkeys(columns))):
                rows = _frame(pa.Table.from_batches([batch]))
                lines = pl.int_range(line, line + len(rows), dtype=pl.Int64, eager=True).alias("_line")
                line += len(rows)
                yield Piece(rows.with_columns(lines), pl.DataFrame(schema=REJECTED_SCHEMA), (line - 1) / total)

    def _text(self, columns: Sequence[str], piece_bytes: int) -> Iterator[Piece]:
        skipped: list[tuple[int, str]] = []  # rows of a wrong width, known at the latest when their batch comes

        def skip(row: Any) -> str:
            skipped.append((row.number, row.text))
            return "skip"

        wanted, line, name = list(dict.fromkeys(columns)), 2, self.path.name
        with pa.OSFile(str(self.path)) as raw:
            unzipped = pa.CompressedInputStream(raw, "gzip") if name.endswith(".gz") else raw
            reader = pacsv.open_csv(
                pa.TransformInputStream(unzipped, _Sound(self.delimiter)),
                # One thread, since only then are rows numbered.
                read_options=pacsv.ReadOptions(block_size=piece_bytes, use_threads=False),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=skip
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted
                ),
            )
            for batch in reader:
                lines, line = _numbered(line, batch.num_rows, [number for number, _ in skipped])
                passed = [row for row in skipped if row[0] < line]
                del skipped[: len(passed)]
                rows, undecoded = _decoded(_frame(pa.Table.from_batches([batch])).with_columns(lines), name)
                yield Piece(rows, pl.concat([_ragged(passed, name), undecoded]), min(raw.tell() / self.bytes, 1.0))
            if skipped:
                nothing = pl.DataFrame(schema={**dict.fromkeys(wanted, pl.String), "_line": pl.Int64})
                yield Piece(nothing, _ragged(skipped, name), 1.0)


class _Sound:
    """Passes bytes on as valid UTF-8 of closed quotes: U+FFFD and `STRAY` mark what is not, and tell its row later."""

    def __init__(self, delimiter: str) -> None:
        self._quotes = QuoteGuard(delimiter)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, data: Any) -> bytes:
        # An empty chunk is the end of the file, where half a character may be left.
        final = not len(data)
        return self._quotes(self._decoder.decode(bytes(data), final=final), final=final).encode()


def _numbered(line: int, count: int, skipped: list[int]) -> tuple[pl.Series, int]:
    """Row numbers of `count` rows from `line` on, passing over the numbers of skipped rows; and the next number."""
    gone = sorted(number for number in skipped if number >= line)
    lines = pl.int_range(line, line + count + len(gone), dtype=pl.Int64, eager=True)
    lines = lines.filter(~lines.is_in(gone)).head(count) if gone else lines
    return lines.alias("_line"), int(lines[-1]) + 1 if count else line


def _ragged(rows: list[tuple[int, str]], name: str) -> pl.DataFrame:
    return pl.DataFrame(
        [(name, number, "", text.replace(STRAY, '"'), "wrong number of columns") for number, text in rows],
        schema=REJECTED_SCHEMA,
        orient="row",
    )


def _decoded(rows: pl.DataFrame, name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of which every value was UTF-8 with its quotes closed, and the others for the quarantine."""
    rejected = [pl.DataFrame(schema=REJECTED_SCHEMA)]
    for (mark, reason), column in itertools.product(_MARKS.items(), rows.columns):
        if column == "_line" or not rows[column].str.contains(mark, literal=True).any():
            continue
        bad = pl.col(column).str.contains(mark, literal=True).fill_null(False)
        value = pl.col(column).str.replace_all(STRAY, '"', literal=True)
        facts = {"file": pl.lit(name), "line": "_line", "column": pl.lit(column), "value": value}
        rejected.append(rows.filter(bad).select(**facts, reason=pl.lit(reason)))
        rows = rows.filter(~bad)
    return rows, pl.concat(rejected)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_boolean(kind):
        return "yes/no"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return "text" if any(is_it(kind) for is_it in text) else str(kind)


def open_table(path: Path, *, delimiter: str = "") -> TableFile:
    """Open a table and read its header.

    Args:
        path: by its ending Parquet, or text of separated values, gzipped if it ends in `.gz`.
        delimiter: of text; told by the header if empty.

    Raises:
        LogFormatError: the file is missing, empty, truncated, or no such table.
    """
    path = Path(path)
    if not path.is_file():
        raise LogFormatError(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise LogFormatError(f"{path} is empty")
    if path.name.endswith(PARQUET_ENDINGS):
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise LogFormatError(f"{path} is not a readable Parquet file: {error}") from error
        return TableFile(path, tuple(schema.names), types={one.name: one.type for one in schema})
    line = _header(path)
    chosen = delimiter or ("\t" if ".tsv" in path.name else max(DELIMITERS, key=line.count))
    if line.count('"') % 2:
        raise LogFormatError(f"{path} has a header with a quote that is not closed: {line[:200]}")
    columns = tuple(next(csv.reader(io.StringIO(line), delimiter=chosen), []))
    twice = [name for name in columns if columns.count(name) > 1]
    if not columns or not any(columns):
        raise LogFormatError(f"{path} has an empty first line; expected a header that names its columns")
    if twice:
        raise LogFormatError(f"{path} names column {twice[0]!r} more than once; found {', '.join(columns)}")
    return TableFile(path, columns, chosen)


def _header(path: Path) -> str:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            return file.readline(1 << 20).decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise LogFormatError(f"{path} has a header that is not UTF-8: {error}; save the file as UTF-8 CSV") from error
    except (OSError, EOFError) as error:
        raise LogFormatError(f"{path} is not a readable gzip file: {error}") from error


def tables_in(paths: Sequence[Path]) -> list[Path]:
    """The table files named, and for a folder those directly in it, by name.

    Raises:
        LogFormatError: a path does not exist, or a folder holds no table.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            one for one in path.iterdir() if one.name.endswith((*PARQUET_ENDINGS, *TEXT_ENDINGS)) and one.is_file()
        )
        if not inside:
            raise LogFormatError(
                f"{path} holds no table; expected files ending in {', '.join((*PARQUET_ENDINGS, *TEXT_ENDINGS))}"
            )
        found += inside
    for path in found:
        if not path.is_file():
            raise LogFormatError(f"{path} does not exist")
    if not found:
        raise LogFormatError("no log files were given")
    return found


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
