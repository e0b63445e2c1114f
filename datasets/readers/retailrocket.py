"""The Retailrocket recommender system dataset."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from ..cleaning import IngestConfig, id_text
from ..quarantine import Quarantine
from .files import TableFile, open_table
from .reading import ColumnReading, Source, one_by_name

_COLUMNS = {"time": "timestamp", "shopper_id": "visitorid", "event": "event", "item_id": "itemid"}
_EVENTS = {"view": "view", "addtocart": "cart", "transaction": "purchase"}
_PROPERTIES = ("timestamp", "itemid", "property", "value")
_PIECE = 16 << 20
_ABOUT = """\
events.csv (timestamp in ms since 1970, visitorid, event, itemid, transactionid), and beside it, if there,
item_properties_part1.csv and item_properties_part2.csv (timestamp, itemid, property, value) and category_tree.csv
(categoryid, parentid). Give the folder, or the files.
Events: view, addtocart (read as cart), transaction (read as purchase). No sessions are logged: they are cut by
--session-gap. All words are hashed by the publisher, so items have their id as text; their category is the path of
category numbers from the root of the tree, "available" the latest value of that property. Prices are hashed too.
Every item of the properties is in the catalogue, with events or without.
Source: https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset"""


def open_retailrocket(paths: Sequence[Path], config: IngestConfig, mapping: Mapping[str, str]) -> ColumnReading:
    """Open Retailrocket files; `mapping` is not used."""
    del mapping

    def tables(stem: str, *columns: str, required: bool = False) -> list[TableFile]:
        found = one_by_name(paths, stem, required=required)
        return [open_table(path, delimiter=config.delimiter).require(*columns) for path in found]

    events = tables("events", *_COLUMNS.values(), required=True)
    properties, tree = tables("item_properties", *_PROPERTIES), tables("category_tree", "categoryid", "parentid")
    facts = {"slates": "not logged", "item_tables": [table.path.name for table in (*properties, *tree)]}
    return ColumnReading(
        events,
        _COLUMNS,
        event_names=_EVENTS,
        facts=facts,
        read_items=lambda quarantine: _items(properties, tree, quarantine),
        item_files=[table.path for table in (*properties, *tree)],
    )


def _items(properties: list[TableFile], tree: list[TableFile], quarantine: Quarantine) -> pl.DataFrame | None:
    """Items with their latest category and availability; rows of which no use can be made go to the quarantine."""
    if not properties:
        return None
    latest = pl.concat(list(_latest(properties, quarantine))).sort("time").unique(["item_id", "property"], keep="last")
    parents: dict[str, str] = {}
    for table in tree:
        for piece in table.pieces(["categoryid", "parentid"], _PIECE):
            quarantine.add(piece.rejected)
            rows = piece.rows.with_columns(id_text(piece.rows, name) for name in ("categoryid", "parentid"))
            nameless = pl.col("categoryid").is_null()
            rows = quarantine.sift(rows, nameless, "categoryid", "catalogue: no categoryid", file=table.path.name)
            parents.update(zip(rows["categoryid"], rows["parentid"].fill_null(""), strict=True))
    wide = latest.select("item_id").unique()
    for name in ("categoryid", "available"):
        wide = wide.join(
            latest.filter(pl.col("property") == name).select("item_id", pl.col("value").alias(name)),
            on="item_id",
            how="left",
        )
    paths = {one: _path(one, parents) for one in wide["categoryid"].drop_nulls().unique()}
    return wide.select(
        "item_id",
        pl.col("categoryid").replace_strict(paths, default="", return_dtype=pl.String).alias("category"),
        (pl.col("available").fill_null("1") != "0").alias("available"),
    )


def _latest(properties: list[TableFile], quarantine: Quarantine) -> Iterator[pl.DataFrame]:
    """The latest category and availability of each item in each piece of the property tables."""
    for table in properties:
        for piece in table.pieces(_PROPERTIES, _PIECE):
            quarantine.add(piece.rejected)
            rows, name = piece.rows.with_columns(id_text(piece.rows, "itemid")), table.path.name
            rows = quarantine.sift(rows, pl.col("itemid").is_null(), "itemid", "catalogue: no item_id", file=name)
            time = pl.col("timestamp").cast(pl.Int64, strict=False)
            timeless = time.is_null()
            rows = quarantine.sift(rows, timeless, "timestamp", "catalogue: time is not a number", file=name)
            rows = rows.select(
                pl.col("itemid").alias("item_id"),
                pl.col("property").cast(pl.String),
                pl.col("value").cast(pl.String),
                time.alias("time"),
            ).filter(pl.col("property").is_in(["categoryid", "available"]))
            yield rows.sort("time").unique(["item_id", "property"], keep="last")


def _path(category: str, parents: Mapping[str, str]) -> str:
    """Category numbers from the root to this one; a tree with a loop is cut where it closes."""
    path = [category]
    while (parent := parents.get(path[-1], "")) and parent not in path:
        path.append(parent)
    return " / ".join(reversed(path))


RETAILROCKET = Source(
    "retailrocket", "Retailrocket: views, carts, transactions, with hashed item properties", _ABOUT, open_retailrocket
)
