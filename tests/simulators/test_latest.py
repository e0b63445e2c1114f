"""The latest share of a log's sessions, on sessions counted by hand."""

import numpy as np
import pytest

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.simulators import KnownTruthShopper, collect_log
from slatewise.simulators.latest import latest


@pytest.fixture(scope="module")
def log() -> ShopLog:
    shop = KnownShop.make(KnownShopConfig(n_items=20, seed=2))
    made = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=20, k=4, seed=1)
    events = made.events.copy()
    named = np.random.default_rng(0).permutation(20)[np.unique(events["session_id"], return_inverse=True)[1]]
    events["session_id"] = [f"s{number:02}" for number in named]  # sessions are ordered by their names
    return ShopLog(events.sort_values(["session_id", "time"], kind="stable", ignore_index=True), made.catalogue)


def by_start(log: ShopLog) -> np.ndarray:
    return np.argsort(log.sessions["start"].to_numpy(), kind="stable")


def test_a_share_of_the_sessions_is_the_latest_by_their_start(log: ShopLog) -> None:
    order = by_start(log)
    assert not np.array_equal(order, np.arange(20))  # else the order of the file would do
    for share, many in ((0.0, 0), (0.1, 2), (0.24, 5), (0.26, 5), (0.9, 18), (1.0, 20)):
        assert set(np.flatnonzero(latest(log, share))) == set(order[20 - many :]), share


def test_a_share_of_what_sessions_hold_is_cut_where_a_session_has_its_middle(log: ShopLog) -> None:
    order = by_start(log)
    held = np.zeros(20, np.int64)
    held[order[[0, 7, 12, 19]]] = 10, 30, 40, 20
    assert set(np.flatnonzero(latest(log, 0.3, held))) == set(order[13:])  # the 40 end at 80, their middle is at 60
    assert set(np.flatnonzero(latest(log, 0.5, held))) == set(order[12:])
    assert latest(log, 0.3, held)[order[13:19]].all()  # what holds nothing lies where it is


def test_a_log_of_one_session_has_a_latest_one_or_none(log: ShopLog) -> None:
    one = log.part(np.array([3]))
    assert latest(one, 0.6).tolist() == [True]
    assert latest(one, 0.4).tolist() == [False]
