from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from slatewise.datasets.cleaning import Cleaner, IngestConfig, pseudonymise, without_duplicates
from slatewise.datasets.sessions import session_actions, sessionise
from slatewise.datasets.times import parse_times

START = datetime(2024, 5, 1, tzinfo=UTC)


def times(*values: object, **settings: str) -> list[str | None]:
    read = parse_times(pl.Series("time", values, strict=False), **settings)["time"]
    return read.dt.strftime("%Y-%m-%d %H:%M:%S%.3f").to_list()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2019-10-01 00:00:00 UTC", "2019-10-01 00:00:00.000"),
        ("2019-10-01T02:00:00+02:00", "2019-10-01 00:00:00.000"),
        ("2019-10-01T02:00:00.25-0530", "2019-10-01 07:30:00.250"),
        ("2019-10-01 02:00+02", "2019-10-01 00:00:00.000"),
        ("2019-10-01", "2019-10-01 00:00:00.000"),
        ("1569888000", "2019-10-01 00:00:00.000"),
        ("1569888000123", "2019-10-01 00:00:00.123"),
        (" 2019-10-01 00:00:00 ", "2019-10-01 00:00:00.000"),
        ("2019-13-01", None),
        ("20191001", None),
        ("", None),
    ],
)
def test_times_are_read_as_meant(written: str, meant: str | None) -> None:
    # A second value keeps the column off the quick path for one uniform layout.
    assert times(written, "2000-01-01")[0] == meant


def test_epochs_have_the_unit_given_or_the_one_their_size_tells() -> None:
    assert (
        times(1_569_888_000)
        == times(1_569_888_000_000)
        == times(1_569_888_000_000_000_000)
        == ["2019-10-01 00:00:00.000"]
    )
    assert times(1_569_888_000, unit="ms") == ["1970-01-19 04:04:48.000"]
    assert times(1_569_888_000.5, float("nan")) == ["2019-10-01 00:00:00.500", None]


def test_a_layout_and_a_zone_are_used_where_given() -> None:
    assert times("01/10/2019 02:00", layout="%d/%m/%Y %H:%M", timezone="Europe/Warsaw") == ["2019-10-01 00:00:00.000"]
    assert times("01/10/2019 02:00 +0200", layout="%d/%m/%Y %H:%M %z") == ["2019-10-01 00:00:00.000"]
    # In spring an hour does not exist; in autumn one comes twice, and the first is meant.
    assert times("2019-03-31 02:30:00", timezone="Europe/Warsaw") == [None]
    assert times("2019-10-27 02:30:00", timezone="Europe/Warsaw") == ["2019-10-27 00:30:00.000"]


def test_only_times_without_a_zone_are_naive() -> None:
    read = parse_times(pl.Series(["2019-10-01", "2019-10-01 00:00:00Z", "1569888000", "junk"]))
    assert read["naive"].to_list() == [True, False, False, False]
    assert not parse_times(pl.Series(["2019-10-01"]), timezone="UTC")["naive"].any()


def test_ids_that_were_floats_lose_their_point() -> None:
    rows = pl.DataFrame(
        {"shopper_id": [17850.0, None], "item_id": [1, 2], "time": ["2024-05-01"] * 2, "_file": [0, 0], "_line": [1, 2]}
    )
    done = Cleaner(IngestConfig(default_event="purchase"), ["a"], {}, START)(rows)
    assert done.events["shopper_id"].to_list() == ["17850"]
    assert done.events["event"].to_list() == ["purchase"]
    assert done.rejected[0].row(0, named=True) | {"value": None} == {
        "file": "a",
        "line": 2,
        "column": "shopper_id",
        "value": None,
        "reason": "no shopper_id",
    }


def test_event_names_are_translated_and_passed_over_ones_are_counted() -> None:
    rows = pl.DataFrame(
        {
            "shopper_id": "a",
            "item_id": "x",
            "time": "2024-05-01",
            "event": ["AddToCart", "wish", "view"],
            "_file": 0,
            "_line": [1, 2, 3],
        }
    )
    done = Cleaner(IngestConfig(event_names={"addtocart": "cart", "Wish": ""}), ["a"], {}, START)(rows)
    assert done.events["event"].to_list() == ["cart", "view"]
    assert done.ignored == {"event wish": 1}
    assert not done.rejected


def events(*rows: tuple[str, str | None, float, str, str | None]) -> pl.DataFrame:
    """Events of (shopper, session, minute, event, slate)."""
    shopper, session, minute, event, slate = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "shopper_id": pl.Series(shopper, dtype=pl.String),
            "session_id": pl.Series(session, dtype=pl.String),
            "time": [START + timedelta(minutes=m) for m in minute],
            "item_id": [f"i{n}" for n in range(len(rows))],
            "event": event,
            "slate_id": pl.Series(slate, dtype=pl.String),
            "position": pl.Series([None] * len(rows), dtype=pl.Int32),
            "price": pl.Series([None] * len(rows), dtype=pl.Float64),
            "quantity": pl.Series([None] * len(rows), dtype=pl.Int32),
            "_file": 0,
            "_line": list(range(len(rows))),
        }
    )


def test_sessions_end_with_a_gap_per_shopper() -> None:
    rows = [("a", None, m, "view", None) for m in (0, 30, 61, 200)] + [("b", None, m, "view", None) for m in (0, 500)]
    assert sessionise(events(*rows), gap=1_800)["session_id"].to_list() == ["a:0", "a:0", "a:1", "a:2", "b:0", "b:1"]


def test_given_sessions_are_split_only_when_asked() -> None:
    rows = events(*[("a", "v", m, "view", None) for m in (0, 100, 101)])
    assert sessionise(rows, gap=1_800)["session_id"].to_list() == ["v", "v", "v"]
    assert sessionise(rows, gap=1_800, split_given=True)["session_id"].to_list() == ["v", "v:1", "v:1"]


def test_events_that_name_no_session_are_cut_by_themselves() -> None:
    rows = events(
        ("a", None, 0, "view", None),
        ("a", "v", 20, "view", None),
        ("a", None, 40, "view", None),
        ("b", None, 41, "view", None),
    )
    assert sessionise(rows, gap=1_800)["session_id"].to_list() == ["a:0", "v", "a:1", "b:0"]


def test_a_slate_and_an_order_are_one_action_each() -> None:
    shown = (
        [("a", "v", 0, "impression", "s1")] * 5
        + [("a", "v", 1, "impression", "s2")] * 5
        + [("a", "v", 2, "impression", None)] * 5
    )
    bought = [("a", "v", 3, "purchase", None)] * 5 + [("a", "v", 4, "view", None)] * 2
    found = session_actions(events(*shown, *bought)).row(0, named=True)
    assert found["actions"] == 2 + 1 + 1 + 2
    assert found["minutes"] == 4


def test_what_was_shown_comes_first_at_one_moment_and_the_order_of_the_file_holds_otherwise() -> None:
    rows = events(
        ("a", "v", 1, "view", None),
        ("a", "v", 0, "click", "s"),
        ("a", "v", 0, "impression", "s"),
        ("a", "v", 0, "view", None),
    )
    assert without_duplicates(rows)["_line"].to_list() == [2, 1, 3, 0]


def test_equal_ids_have_equal_pseudonyms_of_32_hex_digits_under_one_key() -> None:
    rows = events(("a", "a", 0, "view", None), ("b", None, 0, "view", None), ("a", "a", 1, "view", None))
    one, two = pseudonymise(rows, "key"), pseudonymise(rows, "other")
    assert one["shopper_id"][0] == one["shopper_id"][2] != one["shopper_id"][1]
    assert one["shopper_id"].str.contains("^[0-9a-f]{32}$").all()
    assert one["session_id"][1] is None
    # A shopper's id and an equal session's id do not give each other away.
    assert one["session_id"][0] != one["shopper_id"][0]
    assert not set(one["shopper_id"]) & set(two["shopper_id"])


def test_the_same_slate_has_the_same_pseudonym_and_no_slate_has_none() -> None:
    rows = events(("a", "v", 0, "impression", "a/1"), ("a", "v", 1, "click", "a/1"), ("a", "v", 2, "view", None))
    slates = pseudonymise(rows, "key")["slate_id"].to_list()
    assert slates[0] == slates[1] != "a/1"
    assert len(slates[0]) == 32
    assert slates[2] is None


def test_another_price_or_quantity_is_no_repeat_of_what_was_done_but_of_what_was_shown() -> None:
    rows = pl.concat([events(("a", "v", 0, "purchase", None))] * 4 + [events(("a", "v", 0, "impression", "s"))] * 2)
    rows = rows.with_columns(
        price=pl.Series([2.0, 2.0, 2.0, 3.0, 2.0, 3.0]),
        quantity=pl.Series([1, 2, 1, 1, None, None], dtype=pl.Int32),
        _line=pl.int_range(6),
    )
    assert without_duplicates(rows)["_line"].to_list() == [4, 0, 1, 3]
