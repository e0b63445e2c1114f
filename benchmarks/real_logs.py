"""Public logs that the studies read, each from the folder where its files lie, as ordinary log artefacts."""

import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from slatewise.datasets import IngestConfig, ShopLog, ingest

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
"""Where the logs lie unless said otherwise: beside the checkout."""

_RETAIL = {
    "shopper_id": "CustomerID",
    "session_id": "InvoiceNo",
    "time": "InvoiceDate",
    "item_id": "StockCode",
    "text": "Description",
    "price": "UnitPrice",
    "quantity": "Quantity",
}
_JD_EVENTS = {
    **dict.fromkeys(("home2product", "shoplist2product", "sale2product", "searchlist2product"), "click"),
    **dict.fromkeys(("cart2product", "detail_comments", "detail_specification", "detail_bottom"), "view"),
    "cart": "cart",
    "order": "purchase",
}
_TMALL_EVENTS = {"click": "view", "fav": "view", "cart": "cart", "buy": "purchase"}
_HOUR = 3_600
_NO_BOTS = 1e6  # actions a minute: a log by the day has them all in one moment
TRIVAGO_SESSIONS, TMALL_SHOPPERS = 20_000, 5_000
"""Sessions and shoppers that are read at most; of more, those whose ids have the lowest checksums."""


def gmerch(data: Path, scratch: Path) -> ShopLog:
    """Google Merchandise Store: slates, views, carts, purchases; texts, categories and prices."""
    return ingest(data / "gmerch", scratch / "gmerch", source="ga360")


def online_retail(data: Path, scratch: Path) -> ShopLog:
    """A gift wholesaler's invoices (UCI Online Retail): each one a session of purchases; texts and prices."""
    config = IngestConfig(default_event="purchase")
    paths = data / "online_retail" / "lines.parquet"
    return ingest(paths, scratch / "online_retail", source="table", mapping=_RETAIL, config=config)


def eshop2008(data: Path, scratch: Path) -> ShopLog:
    """A maternity-wear shop's clicks by day: all views; texts made of category, colour and photo, and prices."""
    return ingest(data / "eshop2008", scratch / "eshop2008", source="eshop2008")


def jd_micro(data: Path, scratch: Path) -> ShopLog:
    """Micro-behaviour in one of JD's categories, computers: clicks, views, carts, purchases with gaps in seconds.

    Items are ids with a category. The log has no clock: a session is put in the hour of its number, so "later" means a
    higher number, and its events follow each other by the seconds logged.
    """
    lane = pl.col("sequence_id")
    rows = pl.read_parquet(data / "jd_micro" / "events.parquet").filter(pl.col("set") == "computers")
    after = pl.col("gap_to_next_s").cum_sum().shift(1).over(lane, order_by="step").fill_null(0)
    start = int(datetime(2018, 1, 1, tzinfo=UTC).timestamp())
    table = rows.select(
        lane.cast(pl.String).alias("shopper_id"),
        lane.cast(pl.String).alias("session_id"),
        (start + _HOUR * lane + after).alias("time"),
        pl.col("sku").cast(pl.String).alias("item_id"),
        pl.col("behaviour").cast(pl.String).alias("event"),
        pl.col("leaf_category").cast(pl.String).alias("category"),
    )
    path = scratch / "jd_micro.parquet"
    table.write_parquet(path)
    config = IngestConfig(event_names=_JD_EVENTS, time_unit="s")
    return ingest(path, scratch / "jd_micro", source="table", config=config)


def trivago(data: Path, scratch: Path) -> ShopLog:
    """Click-outs of trivago (RecSys Challenge 2019): slates of up to 25 hotels, prices, one click on each.

    A slate that was not clicked was not kept, so the log cannot tell how often slates are clicked. Hotels are ids, and
    shoppers are known for one session only. A slate without a click (the sample has one, cut off) is read as it is.
    """
    lists = pl.scan_parquet(data / "trivago" / "slates.parquet")
    lists = lists.join(kept_ids(lists, "session_id", TRIVAGO_SESSIONS), on="session_id", how="semi")
    shown = lists.select(
        pl.col("session_id").alias("shopper_id"),
        pl.col("session_id"),
        pl.col("timestamp").alias("time"),
        pl.col("item_id").cast(pl.String),
        pl.format("{}/{}", "session_id", "step").alias("slate_id"),
        (pl.col("position").cast(pl.Int32) - 1).alias("position"),
        pl.col("price").cast(pl.Float64),
        pl.col("clicked"),
    )
    # A click comes after the whole slate that it fell on, whose moment it shares.
    clicks = shown.filter(pl.col("clicked") == 1).with_columns(pl.lit("click").alias("event"))
    table = pl.concat([shown.with_columns(pl.lit("impression").alias("event")), clicks]).drop("clicked")
    path = scratch / "trivago.parquet"
    table.sink_parquet(path)
    return ingest(path, scratch / "trivago", source="table", config=IngestConfig(time_unit="s", bot_rate=_NO_BOTS))


def tmall2013(data: Path, scratch: Path) -> ShopLog:
    """Tmall, four months of 2013 by the day, items are brands: views (clicks, favourites), carts, purchases.

    A session is what a shopper did on one day, in the order of the file; all at one moment, for there is no clock.
    Carts are few and most purchases name none before them, so a purchase counts as a cart as everywhere.
    """
    rows = pl.scan_parquet(data / "tmall2013" / "events.parquet")
    rows = rows.join(kept_ids(rows, "user_id", TMALL_SHOPPERS), on="user_id", how="semi")
    shopper, day = pl.col("user_id").cast(pl.String), pl.col("date").dt.date()
    table = rows.sort("file_row").select(
        shopper.alias("shopper_id"),
        pl.format("{}/{}", shopper, day).alias("session_id"),
        pl.col("date").dt.replace_time_zone("UTC").alias("time"),
        pl.col("brand_id").cast(pl.String).alias("item_id"),
        pl.col("behaviour").cast(pl.String).alias("event"),
    )
    path = scratch / "tmall2013.parquet"
    table.sink_parquet(path)
    config = IngestConfig(event_names=_TMALL_EVENTS, bot_rate=_NO_BOTS)
    return ingest(path, scratch / "tmall2013", source="table", config=config)


def kept_ids(rows: pl.LazyFrame, column: str, most: int) -> pl.LazyFrame:
    """The different ids of a column, or of more than `most` of them those with the lowest checksums: the same always.

    Holds the ids in memory, and nothing else of the rows.
    """
    ids = rows.select(column).unique().collect(engine="streaming")
    if len(ids) > most:
        checksum = [zlib.crc32(str(one).encode()) for one in ids[column]]
        ids = ids.with_columns(pl.Series("checksum", checksum)).sort("checksum", column).head(most).select(column)
    return ids.lazy()


LOGS: dict[str, Callable[[Path, Path], ShopLog]] = {
    "gmerch": gmerch,
    "online_retail": online_retail,
    "eshop2008": eshop2008,
    "jd_micro": jd_micro,
    "trivago": trivago,
    "tmall2013": tmall2013,
}
"""Name of a log -> its reader, given the folder of all logs and one for the artefact."""
