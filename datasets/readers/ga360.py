"""Google Analytics 360 (Universal Analytics) exports: every product list a page showed, and what shoppers did.

The tables are sharded by session, so that an export larger than memory is read in bounded pieces.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import polars as pl

from ...errors import LogFormatError
from ..cleaning import IngestConfig
from ..quarantine import Quarantine
from .files import TableFile, open_table
from .ga360_items import NOT_SET, item_categories, variant_parents
from .reading import Batch, Source, one_by_name

RELATED = "related products"
"""A list whose clicks were never logged: to read it would teach that nobody wants what it shows."""
_NEEDED = {
    "sessions": ("session", "visitor", "start_utc"),
    "hits": ("session", "hit", "txn"),
    "slate_items": ("slate", "session", "ms", "list", "pos", "sku", "name", "category", "price_usd"),
    "product_actions": ("session", "hit", "ms", "action", "sku", "name", "category", "price_usd", "qty"),
}
# Names of actions, and the codes of eCommerceAction.action_type that BigQuery has for them.
_OURS = {
    ("click", "1"): "click",
    ("detail_view", "2"): "view",
    ("add_to_cart", "3"): "cart",
    ("remove_from_cart", "4"): "uncart",
    ("purchase", "6"): "purchase",
    ("checkout", "5", "refund", "7", "checkout_option", "8"): "",
}
_ACTIONS = {theirs: ours for names, ours in _OURS.items() for theirs in names}
_TYPES = {
    **dict.fromkeys(("session", "visitor", "txn", "slate", "list", "action", "sku", "name", "category"), pl.String),
    **dict.fromkeys(("brand", "search"), pl.String),
    **dict.fromkeys(("hit", "ms"), pl.Int64),
    **dict.fromkeys(("pos", "price_usd", "qty", "click_ms"), pl.Float64),
}
_ABOUT = """\
A folder with four Parquet tables (each may come in numbered parts, as BigQuery exports them):
sessions, hits, slate_items, product_actions. From the public sample, or any Universal Analytics export:

  -- in each query
  WITH s AS (SELECT CONCAT(fullVisitorId, '.', CAST(visitId AS STRING)) AS session, *
             FROM `bigquery-public-data.google_analytics_sample.ga_sessions_*` WHERE totals.visits = 1)
  -- sessions
  SELECT session, ANY_VALUE(fullVisitorId) AS visitor, TIMESTAMP_SECONDS(MIN(visitStartTime)) AS start_utc
  FROM s GROUP BY session
  -- hits
  SELECT session, h.hitNumber AS hit, h.time AS ms, h.transaction.transactionId AS txn FROM s, UNNEST(hits) AS h
  -- slate_items
  SELECT CONCAT(session, '/', CAST(h.hitNumber AS STRING), '/', p.productListName) AS slate, session,
         h.hitNumber AS hit, h.time AS ms, p.productListName AS list, h.page.searchKeyword AS search,
         p.productListPosition AS pos, p.productSKU AS sku, p.v2ProductName AS name, p.v2ProductCategory AS category,
         p.productBrand AS brand, p.productPrice / 1e6 AS price_usd
  FROM s, UNNEST(hits) AS h, UNNEST(h.product) AS p WHERE p.isImpression
  -- product_actions
  SELECT session, h.hitNumber AS hit, h.time AS ms, h.eCommerceAction.action_type AS action, p.productSKU AS sku,
         p.v2ProductName AS name, p.v2ProductCategory AS category, p.productBrand AS brand,
         p.productPrice / 1e6 AS price_usd, p.productQuantity AS qty
  FROM s, UNNEST(hits) AS h, UNNEST(h.product) AS p
  WHERE h.eCommerceAction.action_type != '0' AND p.isImpression IS NOT TRUE

Each product list becomes a slate of impressions, placed from 0; the list "Related Products" is left out, since its
clicks were never logged (rows and slates left out are in the facts). Shown means rendered, not looked at.
Actions (by name or by code): click, detail view, add to cart, remove, purchase; checkouts are passed over, and so is
an order that a later hit reports again. A click belongs to the slate that slate_items names (columns clicked,
click_ms), or without these columns to the session's latest slate before it that held the item; other clicks have no
slate. A size or colour with a SKU of its own that no list ever showed counts as the shown product of the same name.
Sessions are as given. If sessions has a column `sample`, they were picked by their length: the facts then have
length_biased: true, and no length of session, bounce or conversion rate of this log means anything."""


def open_ga360(paths: Sequence[Path], config: IngestConfig, mapping: Mapping[str, str]) -> "GA360Reading":
    """Open the four tables; `config` and `mapping` are not used.

    Raises:
        LogFormatError: a table or a column is missing, or a table is not Parquet.
    """
    del config, mapping
    tables = {
        stem: [open_table(path).require(*needed) for path in one_by_name(paths, stem)]
        for stem, needed in _NEEDED.items()
    }
    for table in (table for found in tables.values() for table in found):
        if not table.is_parquet:
            raise LogFormatError(
                f"{table.path}: expected Parquet; found text; export the tables from BigQuery as Parquet"
            )
        for column, kind in (("start_utc", "time"), ("ms", "number"), ("pos", "number"), ("price_usd", "number")):
            table.require_type(column, (kind,))
    return GA360Reading(tables)


class GA360Reading:
    """The four tables of an export, found sound; see `Reading`."""

    default_event = ""

    def __init__(self, tables: Mapping[str, list[TableFile]]) -> None:
        self.files = [table.path for found in tables.values() for table in found]
        self.names = [path.name for path in self.files]
        self.event_names = _ACTIONS
        self.spread = sum(table.spread for found in tables.values() for table in found)
        self._bytes = sum(table.bytes for found in tables.values() for table in found)
        self._tables = {stem: self._scan(found) for stem, found in tables.items()}
        biased = any("sample" in table.columns for table in tables["sessions"])
        self._labelled = all({"clicked", "click_ms"} <= set(table.columns) for table in tables["slate_items"])
        self.facts: dict[str, Any] = {
            "currency": "USD",
            "length_biased": biased,
            "impressions": "rendered, not necessarily looked at",
            "source_sessions": 0,
            "source_sessions_without_events": 0,
            "clicks_on_slates": 0,
            "clicks_off_slates": 0,
            "related_products": {"rows": 0, "slates": 0},
        }

    def _scan(self, tables: list[TableFile]) -> pl.LazyFrame:
        """All parts of a table, columns of the types expected, and `_file` and `_line`."""
        parts = [
            pl.scan_parquet(table.path, row_index_name="_line").with_columns(
                *(pl.col(name).cast(kind) for name, kind in _TYPES.items() if name in table.columns),
                (pl.col("_line").cast(pl.Int64) + 1).alias("_line"),
                pl.lit(self.files.index(table.path), pl.Int32).alias("_file"),
            )
            for table in tables
        ]
        return pl.concat(parts, how="diagonal_relaxed")

    def batches(self, piece_bytes: int) -> Iterator[Batch]:
        """Events of the sessions, a share of the sessions at a time; each row of the tables makes at most one."""
        shards = max(1, ceil(self.spread / (4 * piece_bytes)))
        listed, actions = self._tables["slate_items"].filter(~_is_related()), self._tables["product_actions"]
        parents = variant_parents(listed.select("sku", "name"), actions.select("sku", "name"))
        about = item_categories(listed, actions).join(parents, on="sku", how="full", coalesce=True)
        self.facts["variants_folded"] = len(parents)
        for shard in range(shards):
            mine = pl.col("session").hash() % shards == shard if shards > 1 else pl.lit(True)
            tables = {stem: table.filter(mine).collect() for stem, table in self._tables.items()}
            yield self._batch(tables, about, self._bytes * (shard + 1) // shards)

    def _batch(self, tables: Mapping[str, pl.DataFrame], about: pl.DataFrame, done: int) -> Batch:
        sessions = tables["sessions"].unique("session", keep="first", maintain_order=True)
        related, shown = tables["slate_items"].filter(_is_related()), tables["slate_items"].filter(~_is_related())
        actions, repeated = _orders_once(tables["product_actions"], tables["hits"])
        done_things = _with_slates(actions, shown, self._labelled)
        rows = pl.concat([_impressions(shown), done_things], how="diagonal_relaxed")
        rows = rows.join(
            sessions.select("session", "visitor", "start_utc"), on="session", how="left", maintain_order="left"
        )
        rows = rows.join(about, on="sku", how="left", maintain_order="left")

        clicks = done_things.filter(pl.col("event").is_in(["click", "1"]))
        self.facts["clicks_on_slates"] += clicks["slate_id"].count()
        self.facts["clicks_off_slates"] += clicks["slate_id"].null_count()
        self.facts["related_products"]["rows"] += len(related)
        self.facts["related_products"]["slates"] += related["slate"].n_unique()
        self.facts["source_sessions"] += len(sessions)
        active = rows.filter(pl.col("event").replace_strict(_ACTIONS, default="?") != "")["session"].unique()
        self.facts["source_sessions_without_events"] += len(sessions.filter(~pl.col("session").is_in(active.implode())))
        ignored = {"related products list": len(related), "order reported again": repeated}
        return Batch(_events(rows), ignored={why: count for why, count in ignored.items() if count}, done=done)

    def items(self, quarantine: Quarantine) -> pl.DataFrame | None:
        """Nothing beyond what the rows tell."""
        del quarantine
        return None


def _is_related() -> pl.Expr:
    return (pl.col("list").str.to_lowercase() == RELATED).fill_null(False)


def _orders_once(actions: pl.DataFrame, hits: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Actions with each line of an order once, if possible with a quantity; and how many repeats that left out."""
    order = hits.select("session", "hit", pl.col("txn").alias("_order")).unique(["session", "hit"])
    joined = actions.join(order, on=["session", "hit"], how="left", maintain_order="left")
    bought = pl.col("action").is_in(["purchase", "6"])
    line = joined.filter(bought).sort(pl.col("qty").is_null(), "ms", "_line")
    once = line.unique(["session", "_order", "sku"], keep="first", maintain_order=True)
    return pl.concat([joined.filter(~bought), once]).drop("_order"), len(line) - len(once)


def _impressions(shown: pl.DataFrame) -> pl.DataFrame:
    return shown.select(
        *_described(shown),
        pl.col("slate").alias("slate_id"),
        (pl.struct("pos", "_line").rank("ordinal").over("slate") - 1).cast(pl.Int32).alias("position"),
        _set(shown, "search").alias("query"),
        pl.lit("impression").alias("event"),
    )


def _with_slates(actions: pl.DataFrame, shown: pl.DataFrame, labelled: bool) -> pl.DataFrame:
    """Actions, clicks among them with the slate they fell on."""
    rows = actions.select(*_described(actions), pl.col("action").alias("event"), pl.col("qty").alias("quantity"))
    click = pl.col("event").is_in(["click", "1"])
    clicks, rest = rows.filter(click), rows.filter(~click)
    slate = pl.col("slate").alias("slate_id")
    if labelled:
        targets = shown.filter("clicked").select("session", "sku", pl.col("click_ms").cast(pl.Int64).alias("ms"), slate)
        targets = targets.unique(["session", "sku", "ms"], keep="last", maintain_order=True)
        clicks = clicks.join(targets, on=["session", "sku", "ms"], how="left", maintain_order="left")
    else:
        held = shown.select("session", "sku", pl.col("ms"), slate).sort("ms")
        clicks = clicks.sort("ms").join_asof(held, on="ms", by=["session", "sku"], check_sortedness=False)
        # A second click on one place of a slate is the same choice over again (a quick view closed and reopened, say).
        again = pl.col("slate_id").is_not_null() & ~pl.struct("slate_id", "sku").is_first_distinct()
        clicks = clicks.with_columns(pl.when(again).then(None).otherwise("slate_id").alias("slate_id"))
    return pl.concat([clicks, rest], how="diagonal_relaxed")


def _described(rows: pl.DataFrame) -> list[pl.Expr]:
    price = pl.col("price_usd")
    columns = ("session", "sku", "_file", "_line")
    return [
        *(pl.col(name) for name in columns),
        pl.col("ms"),
        _set(rows, "name").alias("text"),
        _set(rows, "brand").alias("brand"),
        # A list that was not told the price reports 0.
        pl.when(price != 0).then(price).alias("price"),
    ]


def _set(rows: pl.DataFrame, name: str) -> pl.Expr:
    """A text column, null where Analytics says `(not set)` or the column is missing."""
    if name not in rows.columns:
        return pl.lit(None, pl.String)
    value = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(value.is_in(NOT_SET)).then(None).otherwise(value)


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    start = pl.col("start_utc")
    start = start if getattr(rows["start_utc"].dtype, "time_zone", None) else start.dt.replace_time_zone("UTC")
    # Two sizes of one product in an order are one line of it, of both quantities.
    line = ["session", "ms", "event", pl.coalesce("parent", "sku")]
    total = pl.when(pl.col("quantity").is_not_null()).then(pl.col("quantity").sum().over(line))
    return rows.select(
        pl.col("visitor").alias("shopper_id"),
        pl.col("session").alias("session_id"),
        (start.cast(pl.Datetime("us", "UTC")) + pl.duration(milliseconds=pl.col("ms"))).alias("time"),
        pl.coalesce("parent", "sku").alias("item_id"),
        total.alias("quantity"),
        *("event", "slate_id", "position", "price", "query", "text", "category", "brand", "_file", "_line"),
    )


GA360 = Source(
    "ga360", "Google Analytics 360 (BigQuery): product lists as slates, clicks, carts, orders", _ABOUT, open_ga360
)
