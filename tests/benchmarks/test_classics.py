"""The kNNs that the session encoder is measured against."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def classics(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/rivals/classics.py`, which finds its neighbours as a script does."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return importlib.import_module("rivals.classics")


def test_sessions_vote_as_worked_out_by_hand(classics: ModuleType) -> None:
    # Training sessions 1 2 3 and 2 4, prefix 1 2, every distance of one costs a factor e, and age nothing.
    data = classics.PrefixData(
        train_items=np.array([1, 2, 3, 2, 4]),
        train_offsets=np.array([0, 3, 5]),
        test_items=np.array([1, 2]),
        test_offsets=np.array([0, 2]),
        test_target=np.array([3]),
        n_items=4,
    )
    settings = {"in_prefix": 1.0, "in_time": 1e12, "in_session": 1.0}
    prefix, length = np.array([[1, 2]]), np.array([2])
    votes = classics.session_knn(data, classics.SessionKNN(**settings))(prefix, length)[0]
    e = np.exp(-1)
    first, second = (1 + e) / np.sqrt(2 * 3), 1 / np.sqrt(2 * 2)  # likeness of the two sessions
    # The latest item shared is 2: items 1 and 3 are one away from it in the first session, 4 in the second.
    assert votes[1:] == pytest.approx([first * e, first + second, first * e, second * e], rel=1e-4)
    alone = classics.session_knn(data, classics.SessionKNN(**settings, neighbours=1))(prefix, length)[0]
    assert alone[1:] == pytest.approx([first * e, first, first * e, 0], abs=1e-4)


def test_tuned_classics_find_what_always_follows(classics: ModuleType) -> None:
    # Fifty pairs 1 2, 3 4, ...: what comes next is certain, and popularity cannot tell.
    pairs = np.tile(np.arange(1, 101).reshape(-1, 2), (20, 1))
    data = classics.PrefixData(
        train_items=pairs.ravel(),
        train_offsets=np.arange(0, pairs.size + 1, 2),
        test_items=pairs[:50, 0],
        test_offsets=np.arange(51),
        test_target=pairs[:50, 1],
        n_items=100,
    )
    asked = data.test_items, data.test_offsets, data.test_target
    for tuned in (classics.tuned_item_knn, classics.tuned_session_knn):
        scorer, _ = tuned(data, budget=1e9)
        assert classics.ranks(scorer, *asked).max() <= 2
    assert classics.ranks(classics.popularity(data), *asked).min() == 100
