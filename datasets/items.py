"""Items as a log tells of them: names, categories, brands and prices gathered while its rows pass by."""

import polars as pl

from .catalogue import Catalogue
from .schema import CATALOGUE_SCHEMA

ITEM_TEXTS = ("text", "category", "brand")
_COMPACT_AT = 500_000  # rows kept before counts are merged; bounds memory


class ItemTally:
    """Counts what rows say of items; memory grows with the catalogue, not with the log."""

    def __init__(self) -> None:
        self._named: list[pl.DataFrame] = []
        self._priced: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, events: pl.DataFrame) -> None:
        """Take note of cleaned events: `item_id`, `time`, `price`, and any of `text`, `category`, `brand`."""
        rows = events.select("item_id", "time", "price", *item_texts(events))
        named = rows.group_by("item_id", *ITEM_TEXTS).agg(pl.len().cast(pl.Int64).alias("n"), pl.col("time").max())
        priced = (
            rows.filter(pl.col("price") > 0)
            .group_by("item_id")
            .agg(pl.col("time", "price").sort_by("time", "price").last())
        )
        self._named.append(named)
        self._priced.append(priced)
        self._rows += len(named) + len(priced)
        if self._rows > _COMPACT_AT and len(self._named) > 1:
            self._compact()

    def _compact(self) -> None:
        named = pl.concat(self._named).group_by("item_id", *ITEM_TEXTS).agg(pl.col("n").sum(), pl.col("time").max())
        priced = (
            pl.concat(self._priced).group_by("item_id").agg(pl.col("time", "price").sort_by("time", "price").last())
        )
        self._named, self._priced, self._rows = [named], [priced], 0

    def items(self) -> pl.DataFrame:
        """One row an item, by id: its most frequent text, category, brand (the latest of equals), its latest price."""
        if not self._named:
            return pl.DataFrame(schema=dict.fromkeys(("item_id", *ITEM_TEXTS), pl.String) | {"price": pl.Float64})
        self._compact()
        items = self._named[0].select("item_id").unique()
        for name in ITEM_TEXTS:
            counts = (
                self._named[0]
                .filter(pl.col(name) != "")
                .group_by("item_id", name)
                .agg(pl.col("n").sum(), pl.col("time").max())
            )
            best = counts.sort("n", "time", name, descending=[True, True, False]).unique(
                "item_id", keep="first", maintain_order=True
            )
            items = items.join(best.select("item_id", name), on="item_id", how="left")
        return items.join(self._priced[0].select("item_id", "price"), on="item_id", how="left").sort("item_id")


def item_texts(rows: pl.DataFrame) -> list[pl.Expr]:
    """Text, category and brand of rows as stripped text, empty where there is none."""
    there = set(rows.columns)
    return [
        (pl.col(name).cast(pl.String).fill_null("").str.strip_chars() if name in there else pl.lit("")).alias(name)
        for name in ITEM_TEXTS
    ]


def complete(items: pl.DataFrame, over: pl.DataFrame | None) -> pl.DataFrame:
    """Items of both frames by id; what `over` says of an item (text, category, brand, price, available) stands."""
    if over is None:
        return items
    both = items.join(over, on="item_id", how="full", coalesce=True, suffix="_over")
    said = [name for name in (*ITEM_TEXTS, "price", "available") if name in over.columns]
    fixed = [
        pl.coalesce(f"{name}_over", name).alias(name) if f"{name}_over" in both.columns else pl.col(name)
        for name in said
    ]
    return both.with_columns(fixed).drop([name for name in both.columns if name.endswith("_over")]).sort("item_id")


def under_products(products: pl.DataFrame, said: pl.DataFrame, *, add: bool) -> pl.DataFrame:
    """A product table's items, what it leaves open filled from the log; and, if asked, the log's other items.

    Args:
        products: the product table, in its order.
        said: what the log says of items.
        add: append items that the table lacks, as unavailable.
    """
    names = [*ITEM_TEXTS, "price"]
    told = [name for name in names if name in said.columns]
    joined = products.join(
        said.select("item_id", *told), on="item_id", how="left", suffix="_log", maintain_order="left"
    )
    filled = joined.with_columns(
        pl.coalesce(name, f"{name}_log").alias(name) for name in told if name in products.columns
    )
    own = filled.drop([f"{name}_log" for name in told if name in products.columns])
    extra = said.filter(~pl.col("item_id").is_in(products["item_id"].implode())).select("item_id", *told)
    return (
        pl.concat([own, extra.with_columns(pl.lit(False).alias("available"))], how="diagonal_relaxed") if add else own
    )


def make_catalogue(items: pl.DataFrame) -> tuple[Catalogue, int]:
    """The catalogue of items (`item_id` and any other column of a catalogue), and how many have their id as text."""
    there = set(items.columns)
    price = pl.col("price").cast(pl.Float64) if "price" in there else pl.lit(None, pl.Float64).alias("price")
    available = pl.col("available").fill_null(True) if "available" in there else pl.lit(True).alias("available")
    frame = items.select("item_id", *item_texts(items), price, available)
    nameless = int((frame["text"] == "").sum())
    frame = frame.with_columns(pl.when(pl.col("text") == "").then("item_id").otherwise("text").alias("text"))
    return Catalogue(frame.select(CATALOGUE_SCHEMA.names).to_pandas()), nameless
