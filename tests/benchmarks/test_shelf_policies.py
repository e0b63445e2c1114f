"""The policies of the known-truth benchmark do what their names say."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slatewise.datasets.schema import Event

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
POPULARITY = np.array([0.0, 5, 9, 7, 1, 3, 8])
CATEGORY = np.array([0, 1, 1, 2, 2, 3, 1])


@pytest.fixture(scope="module")
def shelves() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield import_module("shelf_policies")
    sys.path.remove(str(BENCHMARKS))


def seen(*slates: list[int], items: list[int] | None = None, event: Event = Event.VIEW) -> dict[str, np.ndarray]:
    """One shopper, who brought items along, then saw slates and clicked nothing."""
    items = items or []
    width, k = 6, 2
    history = {
        "items": np.zeros((1, width), np.int64),
        "events": np.zeros((1, width), np.int64),
        "lengths": np.array([[len(items) + len(slates)]]),
        "slates": np.zeros((1, width * k), np.int64),
    }
    history["items"][0, : len(items)], history["events"][0, : len(items)] = items, event
    for place, slate in enumerate(slates, start=len(items)):
        history["items"][0, place], history["events"][0, place] = slate[0], Event.IMPRESSION
        history["slates"][0, place * k : place * k + k] = slate
    return history


def test_pages_follow_one_another_and_begin_again(shelves: ModuleType) -> None:
    shelf = shelves.Shelf(shelves.pages(np.array([2, 6, 3, 1, 5, 4]), 2), 2)
    assert shelf.predict(seen(items=[4]))[0].tolist() == [[2, 6]]
    assert shelf.predict(seen([2, 6]))[0].tolist() == [[3, 1]]
    assert shelf.predict(seen([2, 6], [3, 1]))[0].tolist() == [[5, 4]]
    assert shelf.predict(seen([2, 6], [3, 1], [5, 4]))[0].tolist() == [[2, 6]]


def test_a_diverse_slate_has_each_categorys_best(shelves: ModuleType) -> None:
    shelf = shelves.Shelf(shelves.spread_out(POPULARITY, CATEGORY), 3)
    history = seen()
    history["slates"] = np.zeros((1, 18), np.int64)
    assert shelf.predict(history)[0].tolist() == [[2, 3, 5]]


def test_the_last_category_comes_first_and_nothing_is_shown_twice(shelves: ModuleType) -> None:
    shelf = shelves.Shelf(shelves.of_the_last_category(POPULARITY, CATEGORY), 2)
    assert shelf.predict(seen(items=[4]))[0].tolist() == [[3, 4]]
    assert shelf.predict(seen([3, 4], items=[4]))[0].tolist() == [[2, 6]]
    assert shelf.predict(seen())[0].tolist() == [[2, 6]]


def test_what_was_touched_last_comes_again_first(shelves: ModuleType) -> None:
    shelf = shelves.Shelf(shelves.touched_again(POPULARITY), 2)
    assert shelf.predict(seen(items=[4, 5]))[0].tolist() == [[5, 4]]
    assert shelf.predict(seen([5, 4], items=[4]))[0].tolist() == [[4, 2]]  # what was only shown was not touched
