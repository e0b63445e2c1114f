"""Rules of a shop as data: read by name, and refused where they cannot be meant."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.rules import SlateRules


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    columns: dict[str, Any] = {"item_id": list("abcd"), "text": "", "category": ["shoes", "hats", "shoes", ""]}
    return Catalogue(pd.DataFrame({**columns, "brand": "", "price": [1.0, 2.0, np.nan, 4.0], "available": True}))


def test_rules_come_back_as_they_were_written() -> None:
    given = {"most_of_brand": 2, "max_price": 9.5, "hide_categories": ["hats"]}
    rules = SlateRules.of(given)
    assert rules == SlateRules(most_of_brand=2, max_price=9.5, hide_categories=("hats",))
    assert rules.to_dict() == given
    assert SlateRules().to_dict() == {}


def test_what_is_hidden_or_too_dear_or_of_unknown_price_is_not_allowed(catalogue: Catalogue) -> None:
    assert SlateRules().allowed(catalogue).tolist() == [False, True, True, True, True]
    assert SlateRules(hide_categories=("shoes",)).allowed(catalogue).tolist() == [False, False, True, False, True]
    assert SlateRules(max_price=3).allowed(catalogue).tolist() == [False, True, True, False, False]


def test_groups_are_numbered_and_items_without_a_label_are_of_none(catalogue: Catalogue) -> None:
    ((group, most),) = SlateRules(most_of_category=1).groups(catalogue)
    assert (group.tolist(), most) == ([0, 1, 2, 1, 0], 1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"most_of_categry": 1}, "no rule 'most_of_categry'; rules are most_of_category, "),
        ({"most_of_brand": "two"}, "whole number, at least 1, got 'two'"),
        ({"most_of_brand": True}, "got True"),
        ({"max_price": "9"}, "max_price must be a number, got '9'"),
        ({"max_similarity": float("nan")}, "must be a number, got nan"),
        ({"min_price": 9.0, "max_price": 3.0}, "no price lies between min_price=9.0 and max_price=3.0"),
        ({"hide_brands": "acme"}, "hide_brands must be a list of names, got 'acme'"),
        ({"hide_brands": None}, "hide_brands must be a list of names, got None"),
        ({"max_price": True}, "max_price must be a number, got True"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SlateRules.of(given)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (SlateRules(hide_categories=("boots",)), "no item has the category 'boots'; the catalogue has 'shoes', 'hats'"),
        (SlateRules(hide_brands=("acme",)), "no item has the brand 'acme'; the catalogue has none"),
        (SlateRules(most_of_brand=1), "most_of_brand=1 counts by brand, and the catalogue tells none"),
        (SlateRules(hide_categories=("shoes",)), "the rules leave 2 items for slates of 4 slots"),
        (SlateRules(most_of_category=1), "with 1 of a group at most, 3 of 4 slots can be filled"),
    ],
)
def test_rules_that_a_catalogue_cannot_keep_are_refused(catalogue: Catalogue, rules: SlateRules, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rules.check(catalogue, 4, rules.allowed(catalogue))
