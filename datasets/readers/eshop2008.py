"""Clickstream of an e-shop for maternity wear, 2008 (UCI "clickstream data for online shopping")."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ...errors import LogFormatError
from ..cleaning import IngestConfig, id_text, number_of
from ..quarantine import Quarantine
from .files import TableFile, open_table, tables_in
from .reading import ColumnReading, Source

SECONDS_PER_CLICK = 30
"""The log has days and the order of clicks; a click is given this much time, so that order becomes a clock."""
_CATEGORIES = ("trousers", "skirts", "blouses", "sale")
_COLOURS = (
    *("beige", "black", "blue", "brown", "burgundy", "gray", "green", "navy blue"),
    *("of many colors", "olive", "pink", "red", "violet", "white"),
)
_PHOTOS = ("en face", "profile")
_PLACES = 6  # places on a page, in two rows of three
# The published names of the columns, and those of a copy with spaces taken out.
_PUBLISHED = {
    "session": "session ID",
    "category": "page 1 (main category)",
    "item": "page 2 (clothing model)",
    "photo": "model photography",
}
_PLAIN = {
    "session": "session_id",
    "category": "page1_category",
    "item": "page2_product_code",
    "photo": "model_photography",
}
_SHARED = ("month", "day", "order", "colour", "location", "price", "page")
_ABOUT = f"""\
The published "e-shop clothing 2008.csv" (separated by semicolons: year;month;day;order;country;session ID;
page 1 (main category);page 2 (clothing model);colour;location;model photography;price;price 2;page), or a Parquet with
the columns session_id, page1_category, page2_product_code, model_photography for those with spaces. In a folder, a
table of items with columns page2_product_code, cat, price, colour, photo adds items that were never clicked.
Every row is a view; a shopper is known for one session only. There are neither carts nor purchases.
Only the day is logged: the time is midnight UTC and {SECONDS_PER_CLICK} seconds for each click before, so gaps within
a session say nothing (the facts have clock: "order"). `position` is the place in the shop's fixed layout, page by
page; an item always had the same place, so effects of place and item cannot be told apart (the facts have positions:
"layout-confounded").
Source: Lapczynski and Bialowas 2013; https://archive.ics.uci.edu/dataset/553/clickstream+data+for+online+shopping"""


def open_eshop2008(paths: Sequence[Path], config: IngestConfig, mapping: Mapping[str, str]) -> ColumnReading:
    """Open the shop's clicks; `mapping` is not used.

    Raises:
        LogFormatError: no file holds clicks, or a file holds neither clicks nor items.
    """
    del mapping
    clicks: list[TableFile] = []
    layouts: list[TableFile] = []
    for path in tables_in(paths):
        table = open_table(path, delimiter=config.delimiter)
        if {"page2_product_code", "cat", "colour", "photo"} <= set(table.columns):
            layouts.append(table.require("page2_product_code", "cat", "price", "colour", "photo"))
        else:
            plain = _PLAIN["session"] in table.columns
            clicks.append(table.require(*(_PLAIN if plain else _PUBLISHED).values(), *_SHARED))
    if not clicks:
        raise LogFormatError(
            f"no table of clicks in {', '.join(map(str, paths))}; expected columns {', '.join(_SHARED)}"
        )
    facts = {
        "clock": "order",
        "seconds_per_click": SECONDS_PER_CLICK,
        "positions": "layout-confounded",
        "slates": "not logged",
        "currency": "USD",
    }
    names = sorted({name for table in clicks for name in table.columns})
    return ColumnReading(
        clicks,
        {},
        default_event="view",
        facts=facts,
        also=names,
        reshape=_reshape,
        read_items=lambda quarantine: _items(layouts, quarantine),
        item_files=[table.path for table in layouts],
    )


def _reshape(rows: pl.DataFrame) -> pl.DataFrame:
    theirs = _PLAIN if _PLAIN["session"] in rows.columns else _PUBLISHED
    year = pl.col("year").cast(pl.Int32, strict=False) if "year" in rows.columns else pl.lit(2008, pl.Int32)
    number = {name: pl.col(name).cast(pl.Int32, strict=False) for name in _SHARED if name != "price"}
    valid = number["month"].is_between(1, 12) & number["day"].is_between(1, 31)
    stamp = pl.format("{}-{}-{}", year, number["month"], number["day"])
    midnight = pl.when(valid).then(stamp).str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
    elapsed = pl.duration(seconds=SECONDS_PER_CLICK * (number["order"] - 1))
    session = pl.col(theirs["session"]).cast(pl.String)
    category, photo = _word(theirs["category"], _CATEGORIES), _word(theirs["photo"], _PHOTOS)
    return rows.select(
        session.alias("shopper_id"),
        session.alias("session_id"),
        (midnight + elapsed).dt.replace_time_zone("UTC").alias("time"),
        pl.col(theirs["item"]).cast(pl.String).alias("item_id"),
        ((number["page"] - 1) * _PLACES + number["location"] - 1).alias("position"),
        pl.col("price"),
        pl.format("{} {}, {}", category, _word("colour", _COLOURS), photo).fill_null("").alias("text"),
        category.fill_null("").alias("category"),
        "_line",
    )


def _word(column: str, words: Sequence[str]) -> pl.Expr:
    """The word for a code that counts from 1; null for a code there is no word for."""
    codes = dict(enumerate(words, 1))
    return pl.col(column).cast(pl.Int32, strict=False).replace_strict(codes, default=None, return_dtype=pl.String)


def _items(layouts: list[TableFile], quarantine: Quarantine) -> pl.DataFrame | None:
    """Items of the layout tables, colour and photo in words there; rows without item or price go to the quarantine."""
    frames = []
    for table in layouts:
        for piece in table.pieces(["page2_product_code", "cat", "price", "colour", "photo"], 1 << 20):
            quarantine.add(piece.rejected)
            rows, name = piece.rows.with_columns(id_text(piece.rows, "page2_product_code")), table.path.name
            nameless = pl.col("page2_product_code").is_null()
            rows = quarantine.sift(rows, nameless, "page2_product_code", "catalogue: no item_id", file=name)
            price = number_of(rows, "price")
            rows = quarantine.sift(rows, price.is_infinite(), "price", "catalogue: price is not a number", file=name)
            rows = quarantine.sift(rows, price < 0, "price", "catalogue: price is negative", file=name)
            category = _word("cat", _CATEGORIES)
            frames.append(
                rows.select(
                    pl.col("page2_product_code").alias("item_id"),
                    pl.format("{} {}, {}", category, pl.col("colour"), pl.col("photo")).alias("text"),
                    category.alias("category"),
                    number_of(rows, "price").alias("price"),
                )
            )
    return pl.concat(frames).unique("item_id", keep="first", maintain_order=True) if frames else None


ESHOP2008 = Source(
    "eshop2008",
    "UCI e-shop clothing 2008: every click of a maternity-wear shop, in order, by day",
    _ABOUT,
    open_eshop2008,
)
