"""REES46 Open CDP logs: "eCommerce behavior data from multi category store" and its sister sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ..cleaning import IngestConfig
from .files import open_table, tables_in
from .reading import ColumnReading, Source

_COLUMNS = {
    "time": "event_time",
    "event": "event_type",
    "item_id": "product_id",
    "brand": "brand",
    "price": "price",
    "shopper_id": "user_id",
    "session_id": "user_session",
}
_CATEGORY = ("category_id", "category_code")
_EVENTS = {"view": "view", "cart": "cart", "remove_from_cart": "uncart", "purchase": "purchase"}
_ABOUT = f"""\
The monthly CSV files of REES46 (2019-Oct.csv, 2019-Nov.csv.gz, ...; multi-category store, cosmetics, electronics), a
file or a folder of them.
Columns: {", ".join((*_COLUMNS.values(), *_CATEGORY))}.
Times are UTC. Events: view, cart, remove_from_cart (read as uncart), purchase. Sessions are user_session; the few rows
without one are cut by --session-gap.
Items have no title: text is the last part of category_code ("appliances.environment.water_heater" -> "water heater"),
category its whole path, or category_id where there is none; brand and the latest price are kept. No slates are logged.
Source: https://www.kaggle.com/datasets/mkechinov/ecommerce-behavior-data-from-multi-category-store"""


def open_rees46(paths: Sequence[Path], config: IngestConfig, mapping: Mapping[str, str]) -> ColumnReading:
    """Open REES46 files; `mapping` is not used."""
    del mapping
    needed = (*_COLUMNS.values(), *_CATEGORY)
    tables = [open_table(path, delimiter=config.delimiter).require(*needed) for path in tables_in(paths)]
    facts = {"slates": "not logged"}
    return ColumnReading(tables, _COLUMNS, event_names=_EVENTS, facts=facts, also=_CATEGORY, reshape=_describe)


def _describe(rows: pl.DataFrame) -> pl.DataFrame:
    """Text and category of items out of the category code."""
    code = pl.col("category_code").cast(pl.String).fill_null("")
    path = code.str.replace_all("_", " ").str.replace_all(".", " / ", literal=True)
    known = code != ""
    return rows.with_columns(
        code.str.split(".").list.last().str.replace_all("_", " ").alias("text"),
        pl.when(known).then(path).otherwise(pl.col("category_id").cast(pl.String)).alias("category"),
    )


REES46 = Source(
    "rees46", "REES46 Open CDP: views, carts, removals, purchases of a multi-category store", _ABOUT, open_rees46
)
