"""Public logs that the studies read, each from the folder where its files lie, as ordinary log artefacts."""

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
_HOUR = 3_600


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


LOGS: dict[str, Callable[[Path, Path], ShopLog]] = {
    "gmerch": gmerch,
    "online_retail": online_retail,
    "eshop2008": eshop2008,
    "jd_micro": jd_micro,
}
"""Name of a log -> its reader, given the folder of all logs and one for the artefact."""
