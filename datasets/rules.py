"""Rules of a shop on what one slate may hold, as plain data over its catalogue.

Shapes: K slots, N items.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .catalogue import Catalogue

ROUNDING = 1e-6
"""How far above the largest similarity rounding may put one that equals it."""
_LISTED = 5  # names that an error lists


@dataclass(frozen=True, kw_only=True)
class SlateRules:
    """What every slate must keep; None, or no name, asks nothing."""

    most_of_category: int | None = None
    """Items of one category at most; items without a category are of none."""
    most_of_brand: int | None = None
    """Items of one brand at most; items without a brand are of none."""
    min_price: float | None = None
    """Lowest price shown, in the shop's currency; items of unknown price are then not shown."""
    max_price: float | None = None
    """Highest price shown; items of unknown price are then not shown."""
    max_similarity: float | None = None
    """Largest cosine between the vectors of two items of a slate, in [-1, 1]."""
    hide_categories: tuple[str, ...] = ()
    """Categories of which nothing is shown."""
    hide_brands: tuple[str, ...] = ()
    """Brands of which nothing is shown."""

    def __post_init__(self) -> None:
        for name in ("most_of_category", "most_of_brand"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        for name in ("min_price", "max_price", "max_similarity"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and np.isfinite(value)):
                raise ValueError(f"{name} must be a number, got {value!r}")
        low, high = self.min_price, self.max_price
        if low is not None and high is not None and low > high:
            raise ValueError(f"no price lies between min_price={low} and max_price={high}")
        if self.max_similarity is not None and not -1 <= self.max_similarity <= 1:
            raise ValueError(f"max_similarity must be in [-1, 1], got {self.max_similarity}")
        for name in ("hide_categories", "hide_brands"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
                raise ValueError(f"{name} must be a list of names, got {value!r}")
            object.__setattr__(self, name, tuple(value))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "SlateRules":
        """Rules from names and values, as a file holds them.

        Raises:
            ValueError: a rule is unknown, or a value is none of its kind or out of range.
        """
        known = [one.name for one in fields(cls)]
        for name in given:
            if name not in known:
                raise ValueError(f"there is no rule {name!r}; rules are {', '.join(known)}")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """The rules that ask for something, as plain values."""
        found = {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(self).items()}
        return {name: one for name, one in found.items() if one is not None and one != []}

    def allowed(self, catalogue: Catalogue) -> NDArray[np.bool_]:
        """(N + 1,) items that may be on a slate at all.

        Raises:
            ValueError: a category or brand that is to be hidden is none of the catalogue's.
        """
        price = catalogue.known_prices
        kept = np.arange(len(price)) > 0
        with np.errstate(invalid="ignore"):
            if self.min_price is not None:
                kept &= price >= self.min_price
            if self.max_price is not None:
                kept &= price <= self.max_price
        for column, hidden in (("category", self.hide_categories), ("brand", self.hide_brands)):
            names = _names(catalogue, column)
            for name in hidden:
                if not (names == name).any():
                    raise ValueError(f"no item has the {column} {name!r}; the catalogue has {_some(names)}")
            kept[1:] &= ~names.isin(hidden).to_numpy()
        return kept

    def groups(self, catalogue: Catalogue) -> list[tuple[NDArray[np.int64], int]]:
        """Of each rule on groups, (N + 1,) group numbers, 0 for none, and how many of a group a slate may hold.

        Raises:
            ValueError: the catalogue tells no item's category, or brand, of which there are to be few.
        """
        found = []
        for column, most in (("category", self.most_of_category), ("brand", self.most_of_brand)):
            if most is None:
                continue
            names = _names(catalogue, column)
            if (names == "").all():
                raise ValueError(f"most_of_{column}={most} counts by {column}, and the catalogue tells none")
            number = pd.factorize(names.where(names != "", None))[0] + 1  # missing ones are -1
            found.append((np.append(0, number).astype(np.int64), most))
        return found

    def check(self, catalogue: Catalogue, k: int, allowed: NDArray[np.bool_]) -> None:
        """See that slates of `k` slots can be filled with the items that are `allowed`, (N + 1,) bool.

        Raises:
            ValueError: the rules leave too few items, or too few of each group.
        """
        if int(allowed.sum()) < k:
            raise ValueError(f"the rules leave {int(allowed.sum())} items for slates of {k} slots")
        for group, most in self.groups(catalogue):
            counts = np.bincount(group[allowed])
            places = int(counts[:1].sum() + np.minimum(counts[1:], most).sum())
            if places < k:
                raise ValueError(
                    f"with {most} of a group at most, {places} of {k} slots can be filled; allow more of each"
                )


def _names(catalogue: Catalogue, column: str) -> pd.Series:
    """(N,) labels of the items, empty for none."""
    return catalogue.frame[column].fillna("").astype(str)


def _some(names: pd.Series) -> str:
    """The commonest labels, and how many more there are."""
    found = names[names != ""].value_counts().index.tolist()
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return f"{', '.join(map(repr, found[:_LISTED]))}{more}" if found else "none"
