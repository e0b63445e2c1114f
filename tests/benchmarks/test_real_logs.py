"""Readers of the studies' public logs: what becomes of slates with a click each, and of days without a clock."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from slatewise.datasets import Event


@pytest.fixture(scope="module")
def real_logs(benchmark_module: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_module("real_logs")


def write(folder: Path, name: str, rows: pl.DataFrame) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / name)
    return folder


def two_searches() -> pl.DataFrame:
    """Session a is shown three hotels and clicks the second, then two and clicks the first; b clicks its only one."""
    slates = [("a", 1, 100, (5, 6, 7), 6), ("a", 4, 160, (6, 9), 6), ("b", 1, 130, (5,), 5)]
    rows = [
        (session, step, 1_541_500_000 + at, place, item, 10 * item, int(item == clicked))
        for session, step, at, items, clicked in slates
        for place, item in enumerate(items, start=1)
    ]
    columns = ["session_id", "step", "timestamp", "position", "item_id", "price", "clicked"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_trivagos_lists_become_slates_with_their_click_after_them(real_logs: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "data", "trivago/slates.parquet", two_searches())
    log = real_logs.trivago(tmp_path / "data", tmp_path)
    slates = log.slates
    ids = np.append("", log.catalogue.frame["item_id"].to_numpy(dtype=object).astype(str))
    assert [[one for one in row if one] for row in ids[slates.items].tolist()] == [["5", "6", "7"], ["6", "9"], ["5"]]
    assert slates.clicked.tolist() == [1, 0, 0]
    assert slates.dwell[0] == 60
    assert log.sessions["shopper_id"].tolist() == ["a", "b"]
    assert log.clicks_elsewhere == 0
    assert log.catalogue.prices[log.catalogue.index_of(["9"])[0]] == 90


def test_a_day_of_a_tmall_shopper_is_a_session_in_the_order_of_the_file(real_logs: ModuleType, tmp_path: Path) -> None:
    days = [
        datetime(2013, 5, 2),
        datetime(2013, 5, 1),
        datetime(2013, 5, 1),
        datetime(2013, 5, 1),
        datetime(2013, 5, 1),
    ]
    rows = pl.DataFrame(
        {
            "user_id": [7, 7, 7, 7, 8],
            "brand_id": [1, 3, 2, 2, 3],
            "behaviour": ["fav", "click", "click", "buy", "cart"],
            "date": days,
            "file_row": [0, 1, 2, 3, 4],
        }
    )
    write(tmp_path / "data", "tmall2013/events.parquet", rows)
    log = real_logs.tmall2013(tmp_path / "data", tmp_path)
    assert log.sessions["session_id"].tolist() == ["7/2013-05-01", "8/2013-05-01", "7/2013-05-02"]
    tokens = log.tokens
    ids = np.append("", log.catalogue.frame["item_id"].to_numpy(dtype=object).astype(str))
    assert ids[tokens.items].tolist() == ["3", "2", "3", "1"]
    assert tokens.events.tolist() == [Event.VIEW, Event.PURCHASE, Event.CART, Event.VIEW]
    assert not tokens.gaps.any()  # there is no clock, and none is made up


def test_of_too_many_ids_the_same_are_kept_always(real_logs: ModuleType) -> None:
    rows = pl.DataFrame({"id": [f"s{number % 40}" for number in range(400)]})
    kept = [real_logs.kept_ids(part.lazy(), "id", 10).collect()["id"].to_list() for part in (rows, rows.reverse())]
    assert sorted(kept[0]) == sorted(kept[1])
    assert len(set(kept[0])) == 10
    assert real_logs.kept_ids(rows.lazy(), "id", 40).collect()["id"].n_unique() == 40


@pytest.mark.slow
def test_the_shared_logs_are_read_whole(real_logs: ModuleType, shared_data: Path, tmp_path: Path) -> None:
    trivago, tmall = (read(shared_data, tmp_path) for read in (real_logs.trivago, real_logs.tmall2013))
    assert (len(trivago), len(trivago.slates), int((trivago.slates.clicked >= 0).sum())) == (5_375, 10_195, 10_194)
    assert trivago.slates.items.shape[1] == 25
    assert tmall.sessions["shopper_id"].nunique() == 884
    assert tmall.facts["rows"]["quarantined"] == trivago.facts["rows"]["quarantined"] == 0
