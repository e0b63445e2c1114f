"""Items of a Google Analytics export: which SKUs are one product, and what kind of thing each is."""

import polars as pl

NOT_SET = ("", "(not set)", "(none)")
_NOT_A_KIND = (
    *("home", "shop by brand", "brands", "limited supply", "other", "shop", "sale", "new"),
    *NOT_SET,
)
_BRANCHES_OF_BRANDS = ("shop by brand", "brands")


def variant_parents(shown: pl.LazyFrame, actions: pl.LazyFrame) -> pl.DataFrame:
    """SKUs that no list ever showed (a size, a colour) and the shown SKU of the same name.

    Args:
        shown: `sku`, `name` of products in lists.
        actions: `sku`, `name` of products acted on.

    Returns:
        `sku`, `parent`; where several shown SKUs have the name, the one shown most often.
    """
    name = pl.col("name").str.strip_chars().str.to_lowercase().alias("name")
    listed = shown.select("sku", name).group_by("sku", "name").len().collect()
    best = listed.filter(~pl.col("name").is_in(NOT_SET)).sort("len", "sku", descending=[True, False])
    best = best.unique("name", keep="first", maintain_order=True).select("name", pl.col("sku").alias("parent"))
    acted = actions.select("sku", name).group_by("sku", "name").len().collect()
    lone = acted.filter(~pl.col("sku").is_in(listed["sku"].unique().implode())).sort(
        "len", "name", descending=[True, False]
    )
    return lone.unique("sku", keep="first", maintain_order=True).join(best, on="name").select("sku", "parent")


def item_categories(*tables: pl.LazyFrame) -> pl.DataFrame:
    """`sku` and `category`: the last part of the path, of paths that name a kind of thing the most specific.

    An item is reported under the page it was shown on, a brand's page included; paths that go through a brand, and
    templates left unfilled (`${...}`), count only where there is nothing else.
    """
    counted = pl.concat([table.select("sku", "category") for table in tables])
    paths = counted.group_by("sku", "category").len().collect()
    parts = pl.col("category").str.split("/").list.eval(pl.element().str.strip_chars().filter(pl.element() != ""))
    lower = pl.col("parts").list.eval(pl.element().str.to_lowercase())
    useful = pl.col("parts").list.eval(
        pl.element().filter(~pl.element().str.to_lowercase().is_in(_NOT_A_KIND) & ~pl.element().str.contains(r"[$!]"))
    )
    paths = paths.with_columns(parts.alias("parts")).with_columns(
        useful.alias("useful"),
        pl.any_horizontal(lower.list.contains(one) for one in _BRANCHES_OF_BRANDS).alias("by_brand"),
    )
    depth = pl.col("useful").list.len()
    best = paths.filter(depth > 0).sort("by_brand", depth, "len", "category", descending=[False, True, True, False])
    best = best.unique("sku", keep="first", maintain_order=True)
    # "Men's-T-Shirts" -> "Men's T-Shirts"; the dash within a word stays.
    kind = pl.col("useful").list.last().str.replace(r"^(Men's|Women's|Kid's|Kids)-", "$1 ")
    return best.select("sku", kind.alias("category"))
