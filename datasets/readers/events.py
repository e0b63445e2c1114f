"""The package's own event tables, which the server exports."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..cleaning import TYPED, IngestConfig
from .files import open_table, tables_in
from .reading import READABLE, ColumnReading, Source

REQUIRED = ("shopper_id", "time", "item_id", "event")
_ABOUT = f"""\
Tables whose columns are named as in the event schema: CSV, TSV (also .gz) or Parquet, a file or a folder of files.
Needed: {", ".join(REQUIRED)}.
Kept where present: {", ".join(name for name in TYPED if name not in REQUIRED)}.
Also read where present, to describe items: text, category, brand. Other columns are passed over and named in the facts.
`event` is one of impression, view, click, cart, purchase, uncart. `position` counts from 0, the best place.
`propensity` is the chance in (0, 1] that the item was put at its place given those above it.
Sessions and slates keep the ids given; rows without a session are cut into sessions by --session-gap.
This is what `slatewise serve` stores and exports, so a server's log can be ingested as it is.
A product table may be given with --catalogue: item_id, and any of text, category, brand, price, available."""


def open_events(paths: Sequence[Path], config: IngestConfig, mapping: Mapping[str, str]) -> ColumnReading:
    """Open event tables; `mapping` is not used."""
    del mapping
    tables = [open_table(path, delimiter=config.delimiter).require(*REQUIRED) for path in tables_in(paths)]
    there = {name for table in tables for name in table.columns}
    facts = {"columns_ignored": sorted(there - {*READABLE})}
    return ColumnReading(tables, {name: name for name in READABLE if name in there}, facts=facts)


EVENTS = Source("events", "the package's own event schema, as the server exports it", _ABOUT, open_events)
