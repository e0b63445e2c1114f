"""Any table of one event a row, its columns named by a mapping."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import LogFormatError
from ..cleaning import TYPED, IngestConfig
from ..items import ITEM_TEXTS
from .files import TableFile, open_table, tables_in
from .reading import READABLE, ColumnReading, Source

_NEEDED = ("shopper_id", "time", "item_id")
_ABOUT = f"""\
CSV, TSV (also .gz) or Parquet, a file or a folder of files, one event a row. Say which of your columns is which with
--map OURS=THEIRS, for instance
  --map shopper_id=customer --map time=ts --map item_id=sku --map event=action
Needed: {", ".join(_NEEDED)}, and event unless --default-event says what every row is.
Ours: {", ".join(TYPED)};
and to describe items {", ".join(ITEM_TEXTS)}.
A column of yours that already has our name needs no --map.
--event THEIRS=OURS translates event names (`--event addtocart=cart`); an empty OURS passes such rows over.
Times: ISO 8601 with or without offset, or numbers since 1970 (--time-unit s, ms, us, ns; told by size if not given),
or any other form through --time-format (strptime). Times that carry no zone are read in --timezone, else as UTC;
where a file mixes both and no --timezone is given, those without are set aside.
A row with a negative price, a quantity that is not positive (a cancellation), an unknown event, no shopper, no item or
an impossible time is set aside with its reason."""


def open_any(paths: Sequence[Path], config: IngestConfig, mapping: Mapping[str, str]) -> ColumnReading:
    """Open tables whose columns the mapping (ours -> theirs) names.

    Raises:
        LogFormatError: a file lacks a column, or the mapping names a column that is none of ours.
    """
    strange = [ours for ours in mapping if ours not in READABLE]
    if strange:
        raise LogFormatError(f"mapping names {strange[0]!r}, which is none of our columns: {', '.join(READABLE)}")
    tables = [open_table(path, delimiter=config.delimiter) for path in tables_in(paths)]
    for table in tables:
        _require(table, mapping, config.default_event)
    there = {name for table in tables for name in table.columns}
    columns = {ours: mapping.get(ours, ours) for ours in READABLE if mapping.get(ours, ours) in there}
    facts = {"columns": columns, "columns_ignored": sorted(there - set(columns.values()))}
    return ColumnReading(tables, columns, facts=facts)


def _require(table: TableFile, mapping: Mapping[str, str], default_event: str) -> None:
    table.require(*(dict.fromkeys(mapping.values())))
    needed = _NEEDED if default_event else (*_NEEDED, "event")
    for ours in needed:
        if mapping.get(ours, ours) not in table.columns:
            hint = ", or say what every row is with --default-event" if ours == "event" else ""
            raise LogFormatError(
                f"{table.path} has no column for {ours!r}; expected one named so or a mapping {ours}=THEIRS{hint}; "
                f"found {', '.join(table.columns)}"
            )


TABLE = Source(
    "table",
    "any CSV, TSV or Parquet of one event a row, with a mapping of columns",
    _ABOUT,
    open_any,
    takes_mapping=True,
)
