"""A log as sessions, tokens and slates; splits by time and by shopper; saving and loading."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slatewise.datasets.artefact import building
from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import EVENT_SCHEMA
from slatewise.errors import ArtefactError, EvidenceError, LogFormatError, UnknownItemError

START = pd.Timestamp("2026-03-01T10:00:00", tz="UTC")


def catalogue(items: int = 9) -> Catalogue:
    """Items named a, b, c, ... so that a is index 1."""
    ids = [chr(ord("a") + number) for number in range(items)]
    rows = {"item_id": ids, "text": [f"item {one}" for one in ids], "category": "things", "brand": "", "price": 2.0}
    return Catalogue(pd.DataFrame({**rows, "available": True}))


def log_of(table: str, shoppers: dict[str, str] | None = None) -> ShopLog:
    """A log of lines `session seconds event item [slate [position [propensity]]]`; `-` for none."""
    rows = []
    for line in table.strip().splitlines():
        session, seconds, event, item, *rest = line.split()
        slate, position, propensity = (*rest, *["-"] * (3 - len(rest)))
        rows.append(
            {
                "shopper_id": (shoppers or {}).get(session, f"shopper of {session}"),
                "session_id": session,
                "time": START + pd.Timedelta(seconds=float(seconds)),
                "item_id": item,
                "event": event,
                "slate_id": None if slate == "-" else slate,
                "position": None if position == "-" else int(position),
                "propensity": np.nan if propensity == "-" else float(propensity),
            }
        )
    frame = pd.DataFrame(rows).reindex(columns=EVENT_SCHEMA.names)
    return ShopLog(frame.astype({"time": "datetime64[us, UTC]", "position": "Int32", "propensity": float}), catalogue())


SHOWN = """
    s 0 view a
    s 10 impression c x 1 0.25
    s 10 impression b x 0 0.5
    s 10 impression d x 2 -
    s 14 click d x
    s 20 cart d
    s 40 impression e y 0 0.125
    s 40 impression f y 1 0.25
    s 70 impression a z 0 1
    s 71 click a z
    s 99 purchase d
    t 5 impression b w 0 -
    u 8 view a
    u 9 cart a
"""


def test_slates_hold_what_was_shown_and_what_became_of_it() -> None:
    slates = log_of(SHOWN).slates
    assert slates.session.tolist() == [0, 0, 0, 1]
    assert slates.before.tolist() == [1, 2, 3, 0]
    assert slates.items.tolist() == [[2, 3, 4], [5, 6, 0], [1, 0, 0], [2, 0, 0]]
    assert slates.clicked.tolist() == [2, -1, 0, -1]
    assert slates.carted.tolist() == [True, False, False, False]
    assert slates.purchased.tolist() == [True, False, False, False]
    assert slates.last.tolist() == [False, False, True, True]
    np.testing.assert_array_equal(slates.dwell, np.array([10, 30, 29, np.nan], np.float32))
    nan = np.nan
    expected = [[0.5, 0.25, nan], [0.125, 0.25, nan], [1, nan, nan], [nan, nan, nan]]
    np.testing.assert_array_equal(slates.propensity, expected)


def test_tokens_of_a_log() -> None:
    tokens = log_of(SHOWN).tokens
    assert tokens.offsets.tolist() == [0, 5, 6, 7]
    assert tokens.items.tolist() == [1, 4, 5, 1, 4, 2, 1]
    assert tokens.events.tolist() == [2, 4, 1, 3, 5, 1, 4]
    assert tokens.gaps.tolist() == [0, 14, 26, 31, 28, 0, 0]


def test_searches_are_numbered_in_the_order_in_which_they_come() -> None:
    log = log_of(SHOWN)
    assert log.queries == ("",)
    assert log.tokens.queries is None
    events = log.events.assign(query=None)
    events.loc[[0, 3, 10], "query"] = ["red lamp", " oak desk ", "red lamp"]
    events.loc[[4], "query"] = ""
    searched = ShopLog(events, log.catalogue)
    assert searched.queries == ("", "red lamp", "oak desk")
    assert searched.tokens.queries is not None
    assert searched.tokens.queries.tolist() == [1, 2, 0, 0, 1, 0, 0]  # the slate of d answers its impression's search
    without = ShopLog(log.events.drop(columns="query"), log.catalogue)
    assert without.queries == ("",)


def test_sessions_are_listed_in_order() -> None:
    sessions = log_of(SHOWN, {"u": "shopper of s"}).sessions
    assert sessions["session_id"].tolist() == ["s", "t", "u"]
    assert sessions["shopper_id"].tolist() == ["shopper of s", "shopper of t", "shopper of s"]
    assert (sessions["end"] - sessions["start"]).dt.total_seconds().tolist() == [99, 0, 1]
    assert sessions["events"].tolist() == [11, 1, 2]


FUNNEL = {
    "a cart that names no slate counts for the slate before": ("s 5 cart b", [True]),
    "a cart before the slate does not count": ("s -5 cart b", [False]),
    "a cart of another item does not count": ("s 5 cart c x", [False]),
    "a cart that names the slate counts": ("s 5 cart b x", [True]),
    "a cart that names another slate does not count": ("s 5 cart b other", [False]),
    "a cart in another session does not count": ("t 5 cart b", [False]),
}


@pytest.mark.parametrize("case", FUNNEL)
def test_carts_are_credited_to_slates(case: str) -> None:
    line, expected = FUNNEL[case]
    rows = ["s 0 impression b x 0", "s 0 impression c x 1", "s 1 click b x"]
    if "other" in line:
        rows += ["s 3 impression b other 0"]
        expected = [*expected, True]  # put into the cart straight from that one
    rows = [line, *rows] if "-5" in line else [*rows, line]
    assert log_of("\n".join(rows)).slates.carted.tolist() == expected


def test_each_slate_has_its_own_cart_where_carts_name_slates() -> None:
    slates = log_of(
        """s 0 impression b x 0
           s 1 click b x
           s 9 impression b y 0
           s 9 click b y
           s 12 cart b y
           s 15 purchase b y"""
    ).slates
    assert slates.carted.tolist() == [False, True]
    assert slates.purchased.tolist() == [False, True]


def test_the_first_click_counts_and_clicks_on_what_was_not_shown_do_not() -> None:
    slates = log_of(
        """s 0 impression b x 0
           s 0 impression c x 1
           s 1 click e x
           s 2 click c x
           s 3 click b x"""
    ).slates
    assert slates.clicked.tolist() == [1]


def test_clicks_on_what_their_slate_does_not_show_are_counted() -> None:
    log = log_of(
        """s 0 impression b x 0
           s 1 click e x
           s 2 click b x
           s 3 click b nowhere
           s 4 click c"""
    )
    assert log.clicks_elsewhere == 2


def test_what_is_bought_or_put_into_the_cart_straight_from_a_slate_was_chosen_there() -> None:
    slates = log_of(
        """s 0 impression b x 0
           s 0 impression c x 1
           s 1 cart c x
           t 0 impression b y 0
           t 0 impression c y 1
           t 5 purchase c y
           u 0 impression b z 0
           u 5 purchase b"""
    ).slates
    assert slates.clicked.tolist() == [1, 1, -1]
    assert slates.carted.tolist() == [True, False, False]
    assert slates.purchased.tolist() == [False, True, False]


def test_slates_may_be_numbered_anew_in_each_session() -> None:
    slates = log_of(
        """s 0 impression b 1 0
           s 1 click b 1
           t 5 impression c 1 0
           t 5 impression d 1 1"""
    ).slates
    assert slates.session.tolist() == [0, 1]
    assert slates.items.tolist() == [[2, 0], [3, 4]]
    assert slates.clicked.tolist() == [0, -1]


def test_positions_may_be_missing_or_start_later() -> None:
    slates = log_of(
        """s 0 impression d x
           s 0 impression b x
           s 9 impression e y 7
           s 9 impression f y 3"""
    ).slates
    assert slates.items.tolist() == [[4, 2], [6, 5]]


def test_an_item_without_a_position_stands_below_the_one_logged_before_it() -> None:
    log = log_of(
        """s 0 impression d x
           s 0 impression b x 1
           s 0 impression e x
           s 0 impression f x 3
           s 9 impression c y 7
           s 9 impression a y
           s 9 impression g y 4"""
    )
    assert log.slates.items.tolist() == [[4, 2, 5, 6], [7, 3, 1, 0]]
    assert log.tokens.items.tolist() == [4, 7]  # of slates without a click the best place


def test_an_item_shown_twice_on_a_slate_is_chosen_where_it_stood_first() -> None:
    slates = log_of(
        """s 0 impression b x 0
           s 0 impression c x 1
           s 0 impression b x 2
           s 0 impression d x 3
           s 0 impression c x 4
           s 5 click c x"""
    ).slates
    assert slates.items.tolist() == [[2, 3, 0, 4, 0]]
    assert slates.clicked.tolist() == [1]


def test_a_log_without_impressions_has_no_slates() -> None:
    log = log_of("s 0 view a\ns 1 click b x\ns 2 cart b")
    assert len(log.slates) == 0
    assert log.slates.items.shape == (0, 0)
    assert log.tokens.items.tolist() == [1, 2]


def test_the_tokens_before_a_slate_are_its_history() -> None:
    log = log_of(SHOWN)
    history = log.tokens.histories(log.slates.session, log.slates.before)
    assert history.items.tolist() == [[1, 0, 0], [1, 4, 0], [1, 4, 5], [0, 0, 0]]


def many(sessions: int) -> ShopLog:
    lines = [f"s{number:03d} {60 * number + second} view a" for number in range(sessions) for second in (0, 5)]
    return log_of("\n".join(lines), {f"s{number:03d}": f"shopper {number % 25}" for number in range(sessions)})


def test_a_split_by_time_keeps_sessions_whole_and_in_order() -> None:
    log = many(100)
    parts = log.split_at(0.8, 0.1)
    assert [len(part) for part in parts] == [80, 10, 10]
    assert sum(len(part.events) for part in parts) == len(log.events)
    assert parts[0].sessions["start"].max() < parts[1].sessions["start"].min()
    assert parts[1].sessions["start"].max() < parts[2].sessions["start"].min()
    assert all((part.sessions["events"] == 2).all() for part in parts)
    assert parts[2].tokens.lengths.tolist() == [1] * 10


@pytest.mark.parametrize("fractions", [(0.0,), (1.0,), (0.8, 0.2), (-0.1, 0.5), (0.9, 0.3)])
def test_impossible_fractions_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must be positive and sum to less than 1"):
        many(10).split_at(*fractions)


def test_a_split_that_would_leave_a_part_empty_is_refused() -> None:
    with pytest.raises(EvidenceError, match="cannot split 1 sessions"):
        many(1).split_at(0.5)
    same_moment = log_of("\n".join(f"s{number} 0 view a" for number in range(10)))
    with pytest.raises(EvidenceError):
        same_moment.split_at(0.5)


def test_halves_of_the_shoppers_share_none_and_miss_none() -> None:
    log = many(100)
    halves = [log.shopper_half(half) for half in (0, 1)]
    shoppers = [set(half.sessions["shopper_id"]) for half in halves]
    assert not shoppers[0] & shoppers[1]
    assert len(shoppers[0] | shoppers[1]) == 25
    assert min(len(one) for one in shoppers) >= 5
    assert sum(map(len, halves)) == 100
    thirds = [log.shopper_half(third, of=3) for third in range(3)]
    assert sum(map(len, thirds)) == 100


def test_halves_are_the_same_in_every_process() -> None:
    # `hash` of a string differs between processes; the split must not.
    code = (
        "import hashlib; print([int.from_bytes(hashlib.sha256(f'shopper {n}'.encode()).digest()[:4], 'big') % 2"
        " for n in range(25)])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    kept = set(many(25).shopper_half(0).sessions["shopper_id"])
    assert told.strip() == str([0 if f"shopper {number}" in kept else 1 for number in range(25)])


def test_a_part_may_be_named_by_a_mask_or_by_numbers() -> None:
    log = log_of(SHOWN)
    assert log.part(np.array([False, True, True])).sessions["session_id"].tolist() == ["t", "u"]
    assert log.part(np.array([2, 0])).sessions["session_id"].tolist() == ["s", "u"]
    assert log.part(np.array([0])).catalogue is log.catalogue


def save(log: ShopLog, folder: Path) -> None:
    with building(folder, "log", {"source": "hand"}) as draft:
        log.save(draft.folder)
        draft.facts["currency"] = "EUR"


def test_a_log_survives_saving_and_loading(tmp_path: Path) -> None:
    log = log_of(SHOWN)
    save(log, tmp_path / "log")
    back = ShopLog.load(tmp_path / "log")
    assert back.facts["currency"] == "EUR"
    for name in ("items", "events", "gaps", "offsets"):
        np.testing.assert_array_equal(getattr(back.tokens, name), getattr(log.tokens, name))
    for name in ("session", "before", "items", "clicked", "carted", "purchased", "propensity", "last", "dwell"):
        np.testing.assert_array_equal(getattr(back.slates, name), getattr(log.slates, name))


def test_a_damaged_log_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no finished log"):
        ShopLog.load(tmp_path / "log")
    save(log_of(SHOWN), tmp_path / "log")
    path = tmp_path / "log" / "events.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LogFormatError, match=r"events\.parquet"):
        ShopLog.load(tmp_path / "log")
    path.unlink()
    with pytest.raises(LogFormatError, match=r"events\.parquet"):
        ShopLog.load(tmp_path / "log")


def test_events_on_items_that_the_catalogue_lacks_are_refused() -> None:
    with pytest.raises(UnknownItemError, match="'nosuch'"):
        _ = log_of("s 0 view a\ns 1 view nosuch").tokens


def test_events_of_no_known_kind_are_refused() -> None:
    with pytest.raises(LogFormatError, match="'hover'"):
        _ = log_of("s 0 view a\ns 1 hover b").tokens


@pytest.mark.parametrize(
    ("change", "named"),
    [({"brand": None}, "'brand'"), ({"item_id": ["a", "a"]}, "'a' more than once")],
)
def test_a_catalogue_without_a_column_or_with_an_item_twice_is_refused(change: dict[str, Any], named: str) -> None:
    frame = catalogue(2).frame
    for name, values in change.items():
        frame = frame.drop(columns=name) if values is None else frame.assign(**{name: values})
    with pytest.raises(LogFormatError, match=named):
        Catalogue(frame)


def test_prices_that_are_unknown_are_the_median() -> None:
    shop = Catalogue(catalogue(4).frame.assign(price=[1.0, np.nan, 5.0, 3.0]))
    assert shop.prices.tolist() == [0, 1, 3, 5, 3]
    np.testing.assert_array_equal(shop.known_prices, [0, 1, np.nan, 5, 3])
    assert Catalogue(catalogue(2).frame.assign(price=np.nan)).prices.tolist() == [0, 0, 0]


def test_ids_are_looked_up_both_ways() -> None:
    shop = catalogue(3)
    assert shop.index_of(["c", "a"]).tolist() == [3, 1]
    assert shop.item_ids[[0, 3]].tolist() == ["", "c"]
    assert shop.index_of(["a", "q", ""], unknown="zero").tolist() == [1, 0, 0]
    with pytest.raises(UnknownItemError, match=r"1 of 2 item ids .* 'q'"):
        shop.index_of(["a", "q"])
    assert Catalogue(catalogue(2).frame.assign(available=[True, False])).available.tolist() == [False, True, False]
