"""A shop's product table, given beside its log: the catalogue with texts, prices and what may be shown."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from ..errors import LogFormatError
from .cleaning import BLANKS, id_text, number_of
from .quarantine import Quarantine
from .readers.files import TableFile, open_table
from .schema import CATALOGUE_SCHEMA

_YES = ("true", "t", "yes", "y", "1", "1.0")
_NO = ("false", "f", "no", "n", "0", "0.0")
_PIECE = 16 << 20


def open_products(path: Path, mapping: Mapping[str, str]) -> TableFile:
    """Open a product table: CSV, TSV (also .gz) or Parquet with `item_id` and any other column of a catalogue.

    Raises:
        LogFormatError: the file cannot be read, or has no column for `item_id`.
    """
    table = open_table(path)
    if mapping.get("item_id", "item_id") not in table.columns and "item_id" not in table.columns:
        raise LogFormatError(
            f"{path} lacks column 'item_id'; expected it and any of {', '.join(CATALOGUE_SCHEMA.names[1:])}; "
            f"found {', '.join(table.columns)}"
        )
    return table


def read_products(table: TableFile, mapping: Mapping[str, str], quarantine: Quarantine) -> pl.DataFrame:
    """Items of a product table; rows without an id, named twice, or with an impossible price go to the quarantine.

    Args:
        table: from `open_products`.
        mapping: our column -> theirs; a column that has our name needs no entry.
        quarantine: takes the unusable rows.

    Returns:
        `item_id` and those columns of a catalogue that the table has, in its order.
    """
    columns = {
        ours: theirs
        for ours in CATALOGUE_SCHEMA.names
        if (theirs := mapping.get(ours, ours) if mapping.get(ours, ours) in table.columns else ours) in table.columns
    }
    pieces = []
    for piece in table.pieces(list(columns.values()), _PIECE):
        quarantine.add(piece.rejected)
        pieces.append(piece.rows.select(*(pl.col(theirs).alias(ours) for ours, theirs in columns.items()), "_line"))
    rows = pl.concat(pieces, how="vertical_relaxed")
    rows = rows.with_columns(
        id_text(rows, name) for name in ("item_id", "text", "category", "brand") if name in columns
    )

    def reject(rows: pl.DataFrame, bad: pl.Expr, column: str, reason: str) -> pl.DataFrame:
        return quarantine.sift(rows, bad, column, reason, file=table.path.name)

    rows = reject(rows, pl.col("item_id").is_null(), "item_id", "catalogue: no item_id")
    rows = reject(rows, ~pl.col("item_id").is_first_distinct(), "item_id", "catalogue: item named more than once")
    if "price" in columns:
        rows = rows.with_columns(number_of(rows, "price").alias("price"))
        rows = reject(rows, pl.col("price").is_infinite(), "price", "catalogue: price is not a number")
        rows = reject(rows, pl.col("price") < 0, "price", "catalogue: price is negative")
    if "available" in columns:
        said = pl.col("available").cast(pl.String).str.strip_chars().str.to_lowercase()
        rows = reject(
            rows,
            ~said.is_in([*_YES, *_NO, *(b.lower() for b in BLANKS)]),
            "available",
            "catalogue: available is not yes or no",
        )
        rows = rows.with_columns((~said.is_in(_NO)).alias("available"))
    return rows.drop("_line")
