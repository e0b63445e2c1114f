import csv
import gzip
import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slatewise.datasets import EVENT_SCHEMA, IngestConfig, ShopLog, ingest, read_quarantine, write_log
from slatewise.datasets.pipeline import _between, _starts_in
from slatewise.datasets.readers.quotes import MOST_LINES
from slatewise.errors import ArtefactError, LogFormatError

HEADER = [
    "shopper_id",
    "time",
    "item_id",
    "event",
    "price",
    "quantity",
    "session_id",
    "slate_id",
    "position",
    "propensity",
]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], header: Sequence[str] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(minute: float = 0.0, **values: Any) -> dict[str, Any]:
    time = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(minutes=minute)
    return {"shopper_id": "ann", "time": time.isoformat(), "item_id": "mug", "event": "view", **values}


def accounted(facts: Mapping[str, Any]) -> bool:
    rows = dict(facts["rows"])
    return rows.pop("read") == sum(rows.values())


@pytest.mark.parametrize(
    ("bad", "column", "reason"),
    [
        ({"shopper_id": ""}, "shopper_id", "no shopper_id"),
        ({"shopper_id": "NaN"}, "shopper_id", "no shopper_id"),
        ({"item_id": "  "}, "item_id", "no item_id"),
        ({"event": ""}, "event", "no event"),
        ({"event": "teleport"}, "event", "unknown event type"),
        ({"time": ""}, "time", "no time"),
        ({"time": "yesterday"}, "time", "time is not readable"),
        ({"time": "2024-02-30 10:00:00Z"}, "time", "time is not readable"),
        ({"time": "1970-01-01 00:00:00Z"}, "time", "time is before 1995-01-01"),
        ({"time": "2199-01-01 00:00:00Z"}, "time", "time is in the future"),
        ({"time": "2024-05-01 00:00:00"}, "time", "time without a zone in a file whose other times have one"),
        ({"price": "-3.5"}, "price", "price is negative"),
        ({"price": "cheap"}, "price", "price is not a number"),
        ({"price": "inf"}, "price", "price is not a number"),
        ({"quantity": "-6"}, "quantity", "quantity is not positive"),
        ({"quantity": "1.5"}, "quantity", "quantity is not a whole number"),
        ({"position": "-1"}, "position", "position is negative"),
        ({"propensity": "0"}, "propensity", "propensity is not in (0, 1]"),
        ({"propensity": "1.01"}, "propensity", "propensity is not in (0, 1]"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_place_and_reason(
    tmp_path: Path, bad: dict[str, str], column: str, reason: str
) -> None:
    path = write_csv(tmp_path / "log.csv", [row(0), row(1, **bad), row(2)])
    log = ingest(path, tmp_path / "log", source="events")
    aside = read_quarantine(tmp_path / "log")
    assert aside[["file", "line", "column", "reason"]].to_numpy().tolist() == [["log.csv", 3, column, reason]]
    assert log.facts["quarantined"] == {reason: 1}
    assert log.facts["rows"]["kept"] == 2
    assert accounted(log.facts)
    if reason in ("unknown event type", "price is negative"):
        assert aside["value"].item() == bad[column]


def test_rows_of_a_wrong_width_or_encoding_are_set_aside_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    lines = [
        b"shopper_id,time,item_id,event",
        b"ann,2024-05-01,mug,view",
        b"",
        b"ann,2024-05-01",
        b"bo\xffb,2024-05-01,mug,view",
    ]
    lines += [b'cid,2024-05-01,"a mug\nof two lines",view', b"dan\xff,too,few", b"eve,2024-05-01,mug,view"]
    path.write_bytes(b"\n".join(lines))
    log = ingest(path, tmp_path / "log", source="events")
    aside = read_quarantine(tmp_path / "log").sort_values("line")
    # The header is row 1; the blank line is no row; a line break within quotes does not start one.
    assert aside["line"].tolist() == [3, 4, 6]
    assert aside["reason"].tolist() == ["wrong number of columns", "not UTF-8", "wrong number of columns"]
    assert log.events["shopper_id"].tolist() == ["ann", "cid", "eve"]
    assert accounted(log.facts)


def test_lines_are_right_when_a_file_is_read_in_small_pieces(tmp_path: Path) -> None:
    lines = ["shopper_id,time,item_id,event"]
    lines += [
        "broken" if n % 7 == 0 else f"s{n},2024-05-01,mug,{'odd' if n % 5 == 0 else 'view'}" for n in range(2, 400)
    ]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    ingest(path, tmp_path / "log", source="events", piece_bytes=200)
    aside = read_quarantine(tmp_path / "log")
    assert sorted(aside["line"]) == [n for n in range(2, 400) if n % 7 == 0 or n % 5 == 0]


@pytest.mark.parametrize("piece", [40, 1 << 20])
@pytest.mark.parametrize("late", ["", 'gus,2024-05-01,"a ""plain"" cup",view\n'])
def test_a_stray_quote_costs_its_own_row_alone(tmp_path: Path, piece: int, late: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "shopper_id,time,item_id,event\n"
        "ann,2024-05-01,mug,view\n"
        'bob,2024-05-01,"mug,view\n'
        'cid,2024-05-01,"mug\n'
        'dan,2024-05-01,5" plate,view\n'
        'eve,2024-05-01,"a mug\nof ""two"" lines",view\n'
        '"fay,2024-05-01,mug,view\n' + late
    )
    log = ingest(path, tmp_path / "log", source="events", piece_bytes=piece)
    aside = read_quarantine(tmp_path / "log").sort_values("line")
    assert aside["line"].tolist() == [3, 4, 7]
    assert aside["reason"].tolist() == ["a quote is not closed", "wrong number of columns", "a quote is not closed"]
    assert aside["value"].tolist() == ['"mug', 'cid,2024-05-01,"mug', '"fay']
    assert log.events["shopper_id"].tolist() == ["ann", "dan", "eve", *(["gus"] if late else [])]
    assert log.facts["rows"]["read"] == 6 + bool(late)
    assert accounted(log.facts)


def test_a_quoted_value_may_have_a_hundred_line_breaks_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    text = "shopper_id,time,item_id,event\r\n"
    for name, lines in (("ann", MOST_LINES), ("bob", MOST_LINES + 1)):
        text += f'{name},2024-05-01,"' + "a\r\n" * lines + '",view\r\n'
    path.write_bytes(text.encode())
    log = ingest(path, tmp_path / "log", source="events", piece_bytes=1_000)
    assert log.events["shopper_id"].tolist() == ["ann"]
    assert log.facts["quarantined"] == {"wrong number of columns": MOST_LINES + 2}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "is empty"),
        ("log.csv", b'shopper_id,time,item_id,event,"note\n', "a header with a quote that is not closed"),
        ("log.csv", b"\n\n", "empty first line"),
        (
            "log.csv",
            b"shopper_id,time,item_id\nann,2024,mug\n",
            "lacks column 'event'; expected .*; found shopper_id, time, item_id",
        ),
        ("log.csv", b"a,b,a\n", "names column 'a' more than once"),
        ("log.csv", "événement,b\n".encode("latin1"), "not UTF-8"),
        ("log.csv.gz", b"no gzip", "not a readable gzip file"),
        ("log.parquet", b"PAR1 cut off", "not a readable Parquet file"),
    ],
)
def test_a_bad_file_fails_before_anything_is_written(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    good = write_csv(tmp_path / "a.csv", [row()])
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LogFormatError, match=message) as caught:
        ingest([good, path], tmp_path / "out" / "log", source="events")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_truncated_parquet_file_fails_before_anything_is_written(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pd.DataFrame([row()]).to_parquet(whole)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(LogFormatError, match=r"cut\.parquet is not a readable Parquet"):
        ingest(cut, tmp_path / "out" / "log", source="events")
    assert not (tmp_path / "out").exists()


def test_a_parquet_column_of_a_wrong_type_is_named_with_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pd.DataFrame([row()]).assign(time=True).to_parquet(path)
    with pytest.raises(LogFormatError, match="column 'time' should hold time or date or text or number, found bool"):
        ingest(path, tmp_path / "log", source="events")


def test_a_file_that_breaks_off_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    rows = "".join(f"s{n},2024-05-01,i{n * n},view\n" for n in range(20_000))
    path.write_bytes(gzip.compress(("shopper_id,time,item_id,event\n" + rows).encode())[:-5_000])
    with pytest.raises(LogFormatError, match="cannot be read to its end"):
        ingest(path, tmp_path / "out" / "log", source="events")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shopper_id,time,item_id,event\n", "holds a header and no rows"),
        (
            "shopper_id,time,item_id,event\nann,never,mug,view\n",
            r"none of 1 rows in log.csv is usable; set aside: time is not readable \(1\)",
        ),
    ],
)
def test_a_log_without_a_usable_row_is_an_error_that_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(LogFormatError, match=message):
        ingest(path, tmp_path / "log", source="events")
    assert not (tmp_path / "log").exists()


def test_missing_paths_empty_folders_and_unknown_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match=r"nowhere\.csv does not exist"):
        ingest(tmp_path / "nowhere.csv", tmp_path / "log", source="events")
    with pytest.raises(LogFormatError, match="holds no table"):
        ingest(tmp_path, tmp_path / "log", source="events")
    with pytest.raises(ValueError, match=r"source must be one of events, table, .*; got 'shopify'"):
        ingest(tmp_path, tmp_path / "log", source="shopify")
    with pytest.raises(ValueError, match="takes no mapping"):
        ingest(write_csv(tmp_path / "a.csv", [row()]), tmp_path / "log", source="events", mapping={"item_id": "sku"})


def test_a_folder_of_plain_and_gzipped_files_is_one_log(tmp_path: Path) -> None:
    folder = tmp_path / "days"
    folder.mkdir()
    write_csv(folder / "1.csv", [row(0), row(1, event="cart")])
    plain = write_csv(tmp_path / "2.csv", [row(2, event="purchase", quantity=2)])
    (folder / "2.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    pd.DataFrame([row(3, shopper_id="bob")]).to_parquet(folder / "3.parquet")
    (folder / "notes.md").write_text("not a table")
    log = ingest(folder, tmp_path / "log", source="events")
    assert log.events["event"].tolist() == ["view", "cart", "purchase", "view"]
    assert log.facts["shoppers"] == 2
    assert log.facts["time"] == ["2024-05-01T00:00:00+00:00", "2024-05-01T00:03:00+00:00"]


def test_every_column_of_the_schema_survives(tmp_path: Path) -> None:
    shown = [
        row(0, event="impression", slate_id="x1", position=p, propensity=0.5, item_id=i, session_id="v7", price=2)
        for p, i in enumerate("ab")
    ]
    path = write_csv(tmp_path / "log.csv", [row(0, event="click", slate_id="x1", item_id="b", session_id="v7"), *shown])
    log = ingest(path, tmp_path / "log", source="events")
    assert list(log.events.columns) == EVENT_SCHEMA.names
    # What was shown comes before the click on it at the same moment.
    assert log.events["event"].tolist() == ["impression", "impression", "click"]
    assert log.events["propensity"].tolist()[:2] == [0.5, 0.5]
    assert log.events["position"].tolist()[:2] == [0, 1]
    assert set(log.events["session_id"]) == {"v7"}
    assert log.slates.items.tolist() == [[1, 2]]
    assert log.slates.clicked.tolist() == [1]


def test_an_exported_log_can_be_ingested_again_unchanged(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "log.csv",
        [row(m, shopper_id=s, item_id=i) for m, s, i in [(0, "a", "x"), (99, "a", "y"), (5, "b", "x")]],
    )
    once = ingest(path, tmp_path / "once", source="events")
    again = ingest(
        tmp_path / "once" / "events.parquet",
        tmp_path / "again",
        source="events",
        catalogue=tmp_path / "once" / "catalogue.parquet",
    )
    pd.testing.assert_frame_equal(once.events, again.events)
    pd.testing.assert_frame_equal(once.catalogue.frame, again.catalogue.frame)


def test_repeats_are_dropped_and_counted_and_the_best_place_is_kept(tmp_path: Path) -> None:
    shown = [row(0, event="impression", slate_id="x", position=p) for p in (4, 2, 9)]
    other = [
        row(0, event="impression", slate_id="y", position=0),
        row(1),
        row(1),
        row(1, event="cart"),
        row(1, shopper_id="bob"),
    ]
    log = ingest(write_csv(tmp_path / "log.csv", [*shown, *other]), tmp_path / "log", source="events")
    assert log.facts["rows"]["duplicates"] == 3
    assert log.events.query("slate_id == 'x'")["position"].tolist() == [2]
    assert accounted(log.facts)


def test_sessions_of_bots_are_dropped_and_counted(tmp_path: Path) -> None:
    fast = [row(n / 200, shopper_id="crawler", item_id=f"i{n}") for n in range(150)]
    many = [row(n / 20, shopper_id="scraper", item_id=f"i{n}") for n in range(1_200)]
    page = [row(0, event="impression", slate_id="s", position=n, item_id=f"i{n}") for n in range(100)]
    order = [row(1, event="purchase", item_id=f"i{n}") for n in range(100)]
    log = ingest(write_csv(tmp_path / "log.csv", [*fast, *many, *page, *order]), tmp_path / "log", source="events")
    # A page of a hundred items is one action, and so is an order of a hundred lines.
    assert set(log.events["shopper_id"]) == {"ann"}
    assert len(log.events) == 200
    assert log.facts["rows"]["bots"] == 1_350
    assert log.facts["sessions_dropped"]["bots"] == 2
    assert accounted(log.facts)


def test_sessions_of_one_item_can_be_dropped(tmp_path: Path) -> None:
    rows = [row(0), row(1, event="cart"), row(0, shopper_id="bob"), row(1, shopper_id="bob", item_id="cup")]
    config = IngestConfig(drop_single_item_sessions=True)
    log = ingest(write_csv(tmp_path / "log.csv", rows), tmp_path / "log", source="events", config=config)
    assert set(log.events["shopper_id"]) == {"bob"}
    assert log.facts["rows"]["single_item"] == 2
    assert log.facts["sessions_dropped"]["single_item"] == 1


def test_a_catalogue_decides_which_items_there_are(tmp_path: Path) -> None:
    products = tmp_path / "products.csv"
    lines = ["item_id,text,price,available", "mug,Blue mug,4.5,yes", "cup,,,no", "mug,Again,1,yes", ",No id,1,yes"]
    products.write_text("\n".join([*lines, "pan,Pan,-1,yes", "pot,Pot,1,maybe"]))
    rows = [
        row(0),
        row(1, item_id="ghost"),
        row(0, shopper_id="bob", item_id="ghost", event="impression", slate_id="s"),
    ]
    path = write_csv(tmp_path / "log.csv", rows)
    log = ingest(path, tmp_path / "log", source="events", catalogue=products)
    frame = log.catalogue.frame
    assert frame["item_id"].tolist() == ["mug", "cup"]
    assert frame["text"].tolist() == ["Blue mug", "cup"]
    assert frame["available"].tolist() == [True, False]
    assert log.facts["items_without_text"] == 1
    assert log.facts["rows"] == {
        **dict.fromkeys(["duplicates", "bots", "single_item", "ignored"], 0),
        "read": 3,
        "kept": 1,
        "quarantined": 2,
    }
    # Bob saw nothing but an item nobody knows: his session is gone, and counted.
    assert log.facts["sessions_dropped"]["unknown_items"] == 1
    aside = read_quarantine(tmp_path / "log")
    assert aside.loc[aside["file"] == "products.csv", "line"].tolist() == [5, 4, 6, 7]
    assert aside.loc[aside["file"] == "log.csv", "reason"].unique().tolist() == ["item is not in the catalogue"]

    added = ingest(
        path, tmp_path / "more", source="events", catalogue=products, config=IngestConfig(unknown_items="add")
    )
    assert added.catalogue.frame["item_id"].tolist() == ["mug", "cup", "ghost"]
    assert not added.catalogue.frame["available"].tolist()[2]
    assert len(added.events) == 3


def test_times_of_many_zones_become_utc(tmp_path: Path) -> None:
    times = [
        "2024-05-01T02:00:00+02:00",
        "2024-05-01 00:00:01 UTC",
        "2024-05-01T00:00:02Z",
        "2024-04-30 19:00:03-05:00",
        "1714521604",
    ]
    log = ingest(write_csv(tmp_path / "log.csv", [row(time=time) for time in times]), tmp_path / "log", source="events")
    assert log.events["time"].dt.strftime("%F %T").tolist() == [f"2024-05-01 00:00:0{n}" for n in range(5)]


def test_times_without_a_zone_are_read_in_the_given_one_even_among_others(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", [row(time="2024-05-01 02:00:00"), row(time="2024-05-01T00:00:01Z")])
    log = ingest(path, tmp_path / "log", source="events", config=IngestConfig(timezone="Europe/Warsaw"))
    assert log.events["time"].dt.strftime("%F %T").tolist() == ["2024-05-01 00:00:00", "2024-05-01 00:00:01"]


def test_small_pieces_and_many_parts_give_the_same_log(tmp_path: Path) -> None:
    rows = [
        row(
            n * 7 % 500,
            shopper_id=f"s{n % 37}",
            item_id=f"i{n % 11}",
            session_id=f"v{n % 5}" if n % 3 else "",
            price=n % 9 - 1,
        )
        for n in range(900)
    ]
    path = write_csv(tmp_path / "log.csv", rows)
    whole = ingest(path, tmp_path / "whole", source="events")
    steps: list[tuple[int, int, str]] = []
    split = ingest(
        path,
        tmp_path / "split",
        source="events",
        piece_bytes=500,
        part_bytes=2_000,
        progress=lambda *step: steps.append(step),
    )
    pd.testing.assert_frame_equal(whole.events, split.events)
    pd.testing.assert_frame_equal(whole.catalogue.frame, split.catalogue.frame)
    assert whole.facts == split.facts
    order = ["file", "line"]
    one, two = (read_quarantine(tmp_path / name).sort_values(order, ignore_index=True) for name in ("whole", "split"))
    pd.testing.assert_frame_equal(one, two)
    # The file was read in many pieces, sorted in many parts, and written in several rounds.
    assert {
        words: sum(step[2] == words for step in steps) > 5 for words in ("reading", "finding sessions", "writing")
    } == dict.fromkeys(("reading", "finding sessions", "writing"), True)
    assert all(0 <= done <= total for done, total, _ in steps)


def test_names_used_by_several_shoppers_or_sessions_are_told_apart(tmp_path: Path) -> None:
    rows = [
        row(n, shopper_id=who, session_id="1", event="impression", slate_id="top", position=0)
        for n, who in enumerate("abc")
    ]
    log = ingest(write_csv(tmp_path / "log.csv", rows), tmp_path / "log", source="events", part_bytes=100)
    assert len(log) == 3
    assert log.events["session_id"].tolist() == ["a:1", "b:1", "c:1"]
    assert len(log.slates) == 3
    assert log.facts["renamed_for_uniqueness"] == {"sessions": 1, "slates": 1}


def test_sessions_come_in_order_of_their_start(tmp_path: Path) -> None:
    rows = [row(600 - 100 * n + m, shopper_id=f"s{n}") for n in range(6) for m in (20, 0, 10)]
    log = ingest(write_csv(tmp_path / "log.csv", rows), tmp_path / "log", source="events", part_bytes=200)
    assert log.sessions["start"].is_monotonic_increasing
    assert log.events.groupby("session_id")["time"].apply(lambda time: time.is_monotonic_increasing).all()
    assert len(log) == 6


def test_a_finished_log_is_left_alone_and_other_settings_or_contents_are_refused(tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "log.csv", [row()]), tmp_path / "log"
    first = write_log(path, out, source="events")
    made = (out / "events.parquet").stat().st_mtime_ns
    assert write_log(path, out, source="events") == json.loads(json.dumps(first))
    assert (out / "events.parquet").stat().st_mtime_ns == made
    with pytest.raises(ArtefactError, match=r"session_gap=1800\.0, now 60"):
        write_log(path, out, source="events", config=IngestConfig(session_gap=60))
    write_csv(path, [row(), row(1)])
    with pytest.raises(ArtefactError, match=r"log\.csv"):
        write_log(path, out, source="events")
    assert write_log(path, out, source="events", force=True)["rows"]["kept"] == 2
    assert {one.name for one in out.iterdir()} == {
        "events.parquet",
        "catalogue.parquet",
        "quarantine.jsonl",
        "config.json",
    }


def test_what_a_killed_ingest_left_is_built_over(tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "log.csv", [row(n) for n in range(50)]), tmp_path / "log"

    def stop(done: int, total: int, words: str) -> None:
        if words == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_log(path, out, source="events", progress=stop)
    assert not out.exists()
    assert write_log(path, out, source="events")["rows"]["kept"] == 50
    assert not (tmp_path / "log.partial").exists()


def test_pseudonyms_hide_ids_but_keep_shoppers_apart(tmp_path: Path) -> None:
    shown = row(0, session_id="ann-1", slate_id="ann-1/7", event="impression", position=0)
    rows = [shown, row(9, session_id="ann-1", slate_id="ann-1/7", event="click"), row(1, shopper_id="bob")]
    path = tmp_path / "log.csv"
    write_csv(path, rows)
    path.write_text(path.read_text() + "ann,broken\n")

    def made(name: str, key: str) -> ShopLog:
        return ingest(path, tmp_path / name, source="events", config=IngestConfig(pseudonym_key=key))

    log, same, other = made("log", "k1"), made("same", "k1"), made("other", "k2")
    assert log.facts["shoppers"] == 2
    assert log.facts["pseudonymous"]
    assert log.slates.clicked.tolist() == [0]
    assert log.events["shopper_id"].tolist() == same.events["shopper_id"].tolist()
    assert not set(log.events["shopper_id"]) & set(other.events["shopper_id"])
    written = b"".join(one.read_bytes() for one in (tmp_path / "log").iterdir())
    assert b"ann" not in written
    assert b"bob" not in written
    assert b"k1" not in (tmp_path / "log" / "config.json").read_bytes()
    with pytest.raises(ArtefactError, match="pseudonym_key"):
        made("log", "k2")


def test_settings_out_of_range_are_refused() -> None:
    for bad in (
        {"session_gap": 0.0},
        {"bot_rate": -1.0},
        {"timezone": "Mars/Olympus"},
        {"event_names": {"buy": "purchased"}},
        {"min_time": "2024-01-01", "max_time": "2023-01-01"},
        {"min_time": "soon"},
    ):
        with pytest.raises(ValueError):
            IngestConfig(**bad)  # type: ignore[arg-type]


MAYBE = {
    "shopper_id": ["ann", "bob", "", "nan", "17.0"],
    "time": [
        "2024-05-01 10:00:00Z",
        "2024-05-01 10:00:30Z",
        "2024-05-02T10:00:00+02:00",
        "1714521604",
        "",
        "x",
        "1900-01-01",
        "2024-05-01",
    ],
    "item_id": ["mug", "cup", "", " "],
    "event": ["view", "click", "VIEW", "impression", "buy", "", "purchase", "wish"],
    "price": ["1", "", "-1", "1e3", "€5"],
    "quantity": ["1", "", "0", "2.5", "99999999999"],
    "session_id": ["", "v1", "v2"],
    "slate_id": ["", "s1"],
    "position": ["", "0", "1", "-2"],
    "propensity": ["", "0.5", "7"],
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.fixed_dictionaries({name: st.sampled_from(values) for name, values in MAYBE.items()}),
        min_size=1,
        max_size=40,
    ),
    ragged=st.lists(st.sampled_from(["just,three,values", "one", ",".join("x" * 30), '"a,b",c']), max_size=4),
    piece=st.sampled_from([400, 1 << 20]),
    rate=st.sampled_from([2.0, 60.0]),
    lone=st.booleans(),
    catalogue=st.booleans(),
)
def test_no_row_is_ever_lost_in_silence(
    rows: list[dict[str, str]], ragged: list[str], piece: int, rate: float, lone: bool, catalogue: bool
) -> None:
    config = IngestConfig(bot_rate=rate, drop_single_item_sessions=lone, event_names={"wish": ""})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_csv(folder / "log.csv", rows)
        path.write_text(path.read_text(encoding="utf-8") + "".join(line + "\n" for line in ragged), encoding="utf-8")
        products = folder / "products.csv"
        products.write_text("item_id\nmug\n")
        try:
            facts = write_log(
                path,
                folder / "log",
                source="events",
                config=config,
                catalogue=products if catalogue else None,
                piece_bytes=piece,
                part_bytes=piece,
            )
        except LogFormatError as error:
            nothing_usable = f"none of {len(rows) + len(ragged)} rows" in str(error)
            assert nothing_usable
            assert not (folder / "log").exists()
            return
        log = ShopLog.load(folder / "log")
        assert facts["rows"]["read"] == len(rows) + len(ragged)
        assert accounted(facts)
        assert len(log.events) == facts["rows"]["kept"]
        assert len(read_quarantine(folder / "log")) == facts["rows"]["quarantined"]
        assert len(log) == facts["sessions"]
        assert facts["events"] == {event: int((log.events["event"] == event).sum()) for event in facts["events"]}


def test_a_round_of_writing_reads_only_the_row_groups_of_its_sessions(tmp_path: Path) -> None:
    starts = [datetime(2024, 5, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(4)]
    frame = pl.DataFrame({"_start": pl.Series(starts, dtype=pl.Datetime("us", "UTC"))})
    frame.write_parquet(tmp_path / "part.parquet")
    low, high = (round(starts[n].timestamp() * 1e6) for n in (1, 3))
    (events,) = _between([tmp_path / "part.parquet"], low, high)
    assert events["_start"].to_list() == starts[1:3]
    assert list(_between([tmp_path / "part.parquet"], high * 2, high * 3)) == []
    plan = pl.scan_parquet(tmp_path / "part.parquet").filter(_starts_in(low, high)).explain()
    assert ".timestamp()" not in plan
