from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slatewise.datasets import ingest
from slatewise.errors import LogFormatError

START = pd.Timestamp("2017-03-01 12:00:00")


def product(session: str, ms: int, sku: str, **more: Any) -> dict[str, Any]:
    about = {"name": f"Name of {sku}", "category": "Home/Apparel/Men's/Men's-T-Shirts/", "price_usd": 5.0}
    return {"session": session, "hit": ms, "ms": ms, "sku": sku, **about, **more}


def listed(
    slate: str, ms: int, *skus: str, session: str = "s", name: str = "Category", **more: Any
) -> list[dict[str, Any]]:
    return [product(session, ms, sku, slate=slate, list=name, pos=pos, **more) for pos, sku in enumerate(skus, 1)]


def export(
    folder: Path, shown: list[dict[str, Any]], acted: list[dict[str, Any]], txn: dict[int, str] | None = None
) -> Path:
    """Write the four tables as BigQuery would export them."""
    folder.mkdir()
    sessions = sorted({one["session"] for one in [*shown, *acted]})
    pd.DataFrame({"session": sessions, "visitor": [f"v{one}" for one in sessions], "start_utc": START}).to_parquet(
        folder / "sessions.parquet"
    )
    orders = [{"session": "s", "hit": hit, "txn": name} for hit, name in (txn or {-1: "none"}).items()]
    pd.DataFrame(orders).to_parquet(folder / "hits.parquet")
    pd.DataFrame(shown).to_parquet(folder / "slate_items-000.parquet")
    columns = [*product("", 0, ""), "action", "qty"]
    pd.DataFrame(acted, columns=columns).astype({"qty": float, "hit": int, "ms": int}).to_parquet(
        folder / "product_actions-000.parquet"
    )
    return folder


def test_product_lists_become_slates_and_clicks_fall_on_the_latest_list_with_the_item(tmp_path: Path) -> None:
    shown = [
        *listed("one", 0, "a", "b", "c"),
        *listed("two", 5_000, "c", "b", search="mug"),
        *listed("three", 9_000, "b"),
    ]
    acted = [
        product("s", 6_000, "b", action="1"),
        product("s", 6_500, "b", action="1"),
        product("s", 6_001, "b", action="2"),
        product("s", 7_000, "b", action="3", qty=2.0),
        product("s", 8_000, "z", action="1"),
        product("s", 8_500, "b", action="5"),
        product("s", 9_500, "b", action="4", qty=1.0),
    ]
    log = ingest(export(tmp_path / "raw", shown, acted), tmp_path / "log", source="ga360")
    events = log.events
    assert events["event"].value_counts().to_dict() == {"impression": 6, "click": 3, "view": 1, "cart": 1, "uncart": 1}
    clicks = events[events["event"] == "click"]
    # The second click on the same place is no second choice; what no list showed has no slate.
    assert clicks["slate_id"].fillna("-").tolist() == ["two", "-", "-"]
    assert log.slates.clicked.tolist() == [-1, 1, -1]
    assert events[events["slate_id"] == "one"]["position"].tolist() == [0, 1, 2]
    assert events["query"].dropna().tolist() == ["mug", "mug"]
    assert events["time"].iloc[0] == START.tz_localize("UTC")
    assert events["shopper_id"].unique().tolist() == ["vs"]
    assert log.facts["ignored"] == {"event 5": 1}
    assert not log.facts["length_biased"]


def test_clicks_fall_on_the_slate_that_the_export_names(tmp_path: Path) -> None:
    shown = listed("one", 0, "a", "b", clicked=False, click_ms=float("nan")) + listed(
        "two", 10, "b", clicked=False, click_ms=float("nan")
    )
    shown[1] |= {"clicked": True, "click_ms": 900.0}
    log = ingest(
        export(tmp_path / "raw", shown, [product("s", 900, "b", action="click")]), tmp_path / "log", source="ga360"
    )
    assert log.slates.clicked.tolist() == [1, -1]


def test_positions_are_counted_from_zero_without_holes(tmp_path: Path) -> None:
    shown = listed("one", 0, "a", "b", "c")
    for one, pos in zip(shown, (7, 3, 12), strict=True):
        one["pos"] = pos
    log = ingest(export(tmp_path / "raw", shown, []), tmp_path / "log", source="ga360")
    assert dict(zip(log.events["item_id"], log.events["position"], strict=True)) == {"b": 0, "a": 1, "c": 2}


def test_lists_whose_clicks_were_never_logged_are_left_out_and_counted(tmp_path: Path) -> None:
    shown = [*listed("one", 0, "a"), *listed("two", 1, "a", "b", name="Related Products", session="only related")]
    log = ingest(export(tmp_path / "raw", shown, []), tmp_path / "log", source="ga360")
    assert log.facts["related_products"] == {"rows": 2, "slates": 1}
    assert log.facts["rows"] | {"ignored": 2} == log.facts["rows"]
    assert log.facts["source_sessions"] == 2
    assert log.facts["source_sessions_without_events"] == 1


def test_an_order_reported_twice_is_bought_once_and_sizes_are_one_product(tmp_path: Path) -> None:
    shown = [*listed("one", 0, "tee"), *listed("two", 1, "tee", "mug")]
    size = {"name": "Name of tee", "action": "purchase"}
    acted = [
        product("s", 10, "tee-M", **size),
        product("s", 9, "tee-M", qty=1.0, **size),
        product("s", 9, "tee-L", qty=3.0, **size),
        product("s", 9, "mug", qty=2.0, action="purchase"),
    ]
    log = ingest(export(tmp_path / "raw", shown, acted, txn={9: "A1", 10: "A1"}), tmp_path / "log", source="ga360")
    bought = log.events[log.events["event"] == "purchase"]
    assert dict(zip(bought["item_id"], bought["quantity"], strict=True)) == {"tee": 4, "mug": 2}
    assert log.catalogue.frame["item_id"].tolist() == ["mug", "tee"]
    assert log.facts["variants_folded"] == 2
    assert log.facts["ignored"] == {"order reported again": 1}
    assert log.facts["rows"]["duplicates"] == 1


def test_items_are_named_by_most_and_sorted_under_the_most_telling_category(tmp_path: Path) -> None:
    paths = (
        ["Home/Shop by Brand/YouTube/"] * 3
        + ["Home/Apparel/"] * 2
        + ["Home/Apparel/Men's/Men's-T-Shirts/", "${escCatTitle}", "(not set)"]
    )
    shown = [one for n, path in enumerate(paths) for one in listed(f"l{n}", n, "tee", category=path, price_usd=0.0)]
    shown[0]["name"] = "(not set)"
    shown[1]["name"] = "Old name"
    shown += listed("brand only", 50, "cap", category="Home/Shop by Brand/Google/")
    shown += listed("nowhere", 60, "pin", category="(not set)")
    log = ingest(export(tmp_path / "raw", shown, []), tmp_path / "log", source="ga360")
    frame = log.catalogue.frame.set_index("item_id")
    assert frame["category"].to_dict() == {"tee": "Men's T-Shirts", "cap": "Google", "pin": ""}
    assert frame["text"].to_dict()["tee"] == "Name of tee"
    # A list that was not told a price says 0, which is not a price.
    assert frame["price"].isna().to_dict() == {"tee": True, "cap": False, "pin": False}


def test_rows_of_sessions_that_are_not_there_are_set_aside(tmp_path: Path) -> None:
    folder = export(tmp_path / "raw", listed("one", 0, "a"), [product("lost", 5, "a", action="click")])
    pd.DataFrame({"session": ["s"], "visitor": ["v"], "start_utc": [START]}).to_parquet(folder / "sessions.parquet")
    log = ingest(folder, tmp_path / "log", source="ga360")
    assert log.facts["quarantined"] == {"no shopper_id": 1}


def test_a_missing_table_or_column_is_named(tmp_path: Path) -> None:
    folder = export(tmp_path / "raw", listed("one", 0, "a"), [])
    pd.DataFrame({"session": ["s"], "start_utc": [START]}).to_parquet(folder / "sessions.parquet")
    with pytest.raises(LogFormatError, match=r"sessions\.parquet lacks column 'visitor'"):
        ingest(folder, tmp_path / "log", source="ga360")
    (folder / "sessions.parquet").unlink()
    with pytest.raises(LogFormatError, match=r"no file sessions\.parquet"):
        ingest(folder, tmp_path / "log", source="ga360")


def test_the_merchandise_store_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    log = ingest(shared_data / "gmerch", tmp_path / "log", source="ga360")
    facts = log.facts
    assert facts["source_sessions"] == 2_040
    assert len(log) == facts["sessions"] == 2_040 - facts["source_sessions_without_events"]
    # 5,724 lists, of which 803 are "Related Products".
    assert facts["related_products"] == {"rows": 2_086, "slates": 803}
    assert len(log.slates) == 5_724 - 803
    assert facts["events"]["impression"] == 66_539 - 2_086
    assert facts["clicks_on_slates"] == 1_114
    # ShopLog knows one click a slate: 888 of the slates have one or more of the 1,114.
    assert int((log.slates.clicked >= 0).sum()) == 888
    on_slates = log.events[(log.events["event"] == "click") & log.events["slate_id"].notna()]
    assert len(on_slates) == 1_114
    assert facts["length_biased"]
    assert facts["rows"]["quarantined"] == 0
    assert facts["items_without_text"] == 0
    # Each of the 40 orders is reported by two hits.
    assert facts["ignored"]["order reported again"] == 59


def test_an_export_read_in_shares_of_its_sessions_gives_the_same_log(shared_data: Path, tmp_path: Path) -> None:
    whole = ingest(shared_data / "gmerch", tmp_path / "whole", source="ga360")
    split = ingest(shared_data / "gmerch", tmp_path / "split", source="ga360", piece_bytes=60_000, part_bytes=300_000)
    pd.testing.assert_frame_equal(whole.events, split.events)
    pd.testing.assert_frame_equal(whole.catalogue.frame, split.catalogue.frame)
    assert whole.facts == split.facts
