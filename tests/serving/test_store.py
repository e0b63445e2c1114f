import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.ingest import ingest
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import EVENT_SCHEMA
from slatewise.errors import ArtefactError, EvidenceError, LogFormatError
from slatewise.serving.feedback_log import export_file
from slatewise.serving.history import build_history
from slatewise.serving.items import Items
from slatewise.serving.records import EventConflictError, EventRejectedError, FeedbackEvent, SlateRecord
from slatewise.serving.store import EventStore

T = 1_700_000_000_000_000  # microseconds
SECOND = 1_000_000


def slate(slate_id: str, shopper: str = "ann", time: int = T, items: tuple[int, ...] = (1, 2, 4)) -> SlateRecord:
    chances = (0.5, 0.25, 1.0)
    rows = tuple((f"item-{item}", 2.0 - item, chance, item * 2.0) for item, chance in zip(items, chances, strict=True))
    return SlateRecord(slate_id, shopper, time, rows, "bundle-1", 0.5, "mugs")


def test_an_event_sent_again_is_known(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store:
        event = FeedbackEvent("e1", "item-1", "view", "ann", time=T)
        assert len(store.add_events([event], received=T).stored) == 1
        again = store.add_events([event, event], received=T + SECOND)
        assert (len(again.stored), again.duplicates) == (0, 2)
        assert store.counts() == {"slates": 0, "events": 1}


def test_an_event_id_with_other_content_is_refused_with_its_whole_batch(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store:
        event = FeedbackEvent("e1", "item-1", "view", "ann")
        store.add_events([event], received=T)
        with pytest.raises(EventConflictError, match="'e1' is known with other content"):
            store.add_events(
                [FeedbackEvent("e2", "item-1", "view", "ann"), replace(event, item_id="item-2")], received=T
            )
        assert store.counts()["events"] == 1


def test_events_take_the_shopper_of_their_slate_and_contradictions_are_refused(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store:
        store.add_slate(slate("s1"))
        accepted = store.add_events([FeedbackEvent("e1", "item-2", "click", slate_id="s1")], received=T + SECOND)
        assert (accepted.foreign, accepted.slates_clicked) == (0, 1)
        assert store.session_of("ann", T + SECOND)[-1].item_id == "item-2"
        second = store.add_events([FeedbackEvent("e2", "item-1", "click", slate_id="s1")], received=T + 2 * SECOND)
        assert second.slates_clicked == 0
        for wrong, words in (
            (FeedbackEvent("e3", "item-9", "click", slate_id="s1"), "'item-9' was not on slate 's1'"),
            (FeedbackEvent("e3", "item-1", "click", "bob", slate_id="s1"), "another shopper"),
            (FeedbackEvent("e3", "item-1", "click"), "add its shopper_id"),
            (FeedbackEvent("e3", "item-1", "click", slate_id="foreign"), "add its shopper_id"),
            (FeedbackEvent("e3", "item-1", "impression", "ann"), "send one of view"),
        ):
            with pytest.raises(EventRejectedError, match=words):
                store.add_events([wrong], received=T)
        with pytest.raises(EventConflictError, match="'s1' is known"):
            store.add_slate(slate("s1"))


def test_slates_of_other_servers_are_kept_and_counted(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store:
        accepted = store.add_events([FeedbackEvent("e1", "item-9", "click", "ann", "theirs")], received=T)
        assert (accepted.foreign, accepted.slates_clicked) == (1, 0)
        store.export(tmp_path / "log.parquet")
    assert pq.read_table(tmp_path / "log.parquet")["slate_id"].to_pylist() == ["theirs"]


def test_nothing_happens_before_it_is_shown_or_after_now(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store:
        store.add_slate(slate("s1"))
        early = FeedbackEvent("e1", "item-1", "click", slate_id="s1", time=T - 90 * SECOND)
        ahead = FeedbackEvent("e2", "item-5", "view", "ann", time=T + 9_000 * SECOND)
        store.add_events([early, ahead], received=T + SECOND)
        times = [event.time for event in store.session_of("ann", T + SECOND)]
    assert times == [T / 1e6] * 4 + [T / 1e6 + 1]


def test_the_session_going_on_ends_with_a_long_pause(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store:
        for number, second in enumerate((0, 1_800, 3_601, 5_401)):  # pauses of 1800, 1801 and 1800 seconds
            event = FeedbackEvent(f"e{number}", f"item-{number + 1}", "view", "ann", time=T + second * SECOND)
            store.add_events([event], received=T + second * SECOND)
        assert [event.item_id for event in store.session_of("ann", T + 7_201 * SECOND)] == ["item-3", "item-4"]
        assert store.session_of("ann", T + 7_202 * SECOND) == []
        assert store.session_of("bob", T) == []


def test_many_threads_keep_one_event_once(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store, ThreadPoolExecutor(16) as threads:
        events = [
            FeedbackEvent(f"e{number % 50}", "item-1", "view", "ann", time=T + number % 50) for number in range(800)
        ]
        results = list(threads.map(lambda event: store.add_events([event], received=T), events))
        assert sum(len(result.stored) for result in results) == 50
        assert sum(result.duplicates for result in results) == 750
        assert store.counts()["events"] == 50
        lengths = set(threads.map(lambda _: len(store.session_of("ann", T + SECOND)), range(32)))
        assert lengths == {50}


def test_what_was_kept_is_there_after_closing_and_a_closed_store_refuses(tmp_path: Path) -> None:
    store = EventStore(tmp_path / "deep" / "s.db")
    store.add_slate(slate("s1"))
    store.close()
    store.close()
    with pytest.raises(ArtefactError, match="is closed"):
        store.add_slate(slate("s2"))
    with EventStore(tmp_path / "deep" / "s.db") as again:
        assert again.counts() == {"slates": 1, "events": 0}


def test_acknowledged_events_are_fsynced(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store:
        store.add_slate(slate("s1"))
        assert store._writer.execute("PRAGMA synchronous").fetchone() == (1,)
        store.add_events([FeedbackEvent("e1", "item-1", "click", slate_id="s1")], received=T)
        assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_files_that_are_no_store_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, and long enough to be taken for one" * 50)
    with pytest.raises(ArtefactError, match="cannot be opened as an event store"):
        EventStore(tmp_path / "text.db")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE things (a)")
    other.close()
    with pytest.raises(ArtefactError, match="not an event store"):
        EventStore(tmp_path / "other.db")


def test_an_empty_store_has_no_log(tmp_path: Path) -> None:
    with EventStore(tmp_path / "s.db") as store, pytest.raises(EvidenceError, match="empty"):
        store.export(tmp_path / "log.parquet")
    assert not list(tmp_path.glob("log.parquet*"))


@pytest.fixture
def filled(tmp_path: Path) -> EventStore:
    """Two shoppers at once: ann comes back after an hour, bob buys what he clicked."""
    store = EventStore(tmp_path / "s.db")
    store.add_events([FeedbackEvent("v1", "item-5", "view", "ann", time=T - 10 * SECOND, query="cup")], received=T)
    store.add_slate(slate("s1"))
    store.add_slate(slate("s2", "bob", T + 1 * SECOND, (5, 1, 2)))
    store.add_events(
        [
            FeedbackEvent("c1", "item-1", "click", "bob", "s2", T + 5 * SECOND),
            FeedbackEvent("k1", "item-1", "cart", "bob", "s2", T + 9 * SECOND, 2.0, 3),
            FeedbackEvent("p1", "item-1", "purchase", "bob", None, T + 20 * SECOND, 2.0, 3),
            FeedbackEvent("c2", "item-4", "click", None, "s1", T + 30 * SECOND),
        ],
        received=T + 40 * SECOND,
    )
    store.add_slate(slate("s3", "ann", T + 3_700 * SECOND, (2, 4, 1)))
    store.add_slate(slate("s4", "ann", T + 3_760 * SECOND, (4, 2, 9)))
    store.add_events(
        [FeedbackEvent("v2", "item-9", "view", "ann", None, T + 3_790 * SECOND)], received=T + 3_800 * SECOND
    )
    return store


def test_the_log_of_a_store_holds_its_slates_as_they_were_served(
    filled: EventStore, tmp_path: Path, catalogue: Catalogue
) -> None:
    with filled:
        assert filled.export(tmp_path / "log.parquet") == 4 * 3 + 6
    table = pq.read_table(tmp_path / "log.parquet")
    assert table.schema.equals(EVENT_SCHEMA)
    check_served(ShopLog(table.to_pandas(), catalogue))


def test_a_late_click_stays_with_its_slate(tmp_path: Path, catalogue: Catalogue) -> None:
    with EventStore(tmp_path / "s.db") as store:
        store.add_slate(slate("s1"))
        late = T + 7_200 * SECOND
        clicked = FeedbackEvent("c1", "item-2", "click", slate_id="s1", time=late)
        store.add_events([clicked, FeedbackEvent("v1", "item-9", "view", "ann", time=late + SECOND)], received=2 * T)
        store.export(tmp_path / "log.parquet")
    log = ShopLog(pq.read_table(tmp_path / "log.parquet").to_pandas(), catalogue)
    assert log.slates.clicked.tolist() == [1]
    assert log.sessions["events"].tolist() == [4, 1]
    assert log.sessions["session_id"].tolist() == [f"ann@{T}", f"ann@{late + SECOND}"]


def test_ingest_reads_the_log_of_a_store_with_nothing_lost(
    filled: EventStore, tmp_path: Path, catalogue: Catalogue
) -> None:
    with filled:
        filled.export(tmp_path / "served.parquet")
    catalogue.save(tmp_path / "catalogue.parquet")
    log = ingest(
        tmp_path / "served.parquet", tmp_path / "log", source="events", catalogue=tmp_path / "catalogue.parquet"
    )
    check_served(log)
    before, after = pq.read_table(tmp_path / "served.parquet"), pq.read_table(tmp_path / "log" / "events.parquet")
    assert after.select(before.schema.names).to_pylist() == before.to_pylist()


def test_events_told_without_a_time_keep_their_order_and_none_is_lost(tmp_path: Path, catalogue: Catalogue) -> None:
    with EventStore(tmp_path / "s.db") as store:
        store.add_slate(slate("s1"))
        plain = [FeedbackEvent(f"e{n}", "item-5", event, "ann") for n, event in enumerate(("cart", "uncart", "cart"))]
        bought = [
            FeedbackEvent(f"p{many}", "item-1", "purchase", None, "s1", T - SECOND, 2.0, many) for many in (1, 2, 3)
        ]
        store.add_events([*plain, *bought], received=T + SECOND)
        store.export(tmp_path / "served.parquet")
    catalogue.save(tmp_path / "catalogue.parquet")
    log = ingest(
        tmp_path / "served.parquet", tmp_path / "log", source="events", catalogue=tmp_path / "catalogue.parquet"
    )
    assert log.facts["rows"]["duplicates"] == 0
    done = log.events[log.events["event"] != "impression"]
    assert done["event"].tolist() == ["purchase"] * 3 + ["cart", "uncart", "cart"]
    assert done["quantity"].tolist()[:3] == [1, 2, 3]
    after = (done["time"] - pd.Timestamp(T, unit="us", tz="UTC")) // pd.Timedelta(1, "us")
    assert after.tolist() == [0, 1, 2, SECOND, SECOND + 1, SECOND + 2]


def test_a_copy_of_a_store_is_exported_without_being_written(filled: EventStore, tmp_path: Path) -> None:
    filled.close()
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / "s.db").write_bytes((tmp_path / "s.db").read_bytes())
    (folder / "s.db").chmod(0o444)
    folder.chmod(0o555)
    try:
        assert export_file(folder / "s.db", tmp_path / "log.parquet") == 4 * 3 + 6
        assert [path.name for path in folder.iterdir()] == ["s.db"]
    finally:
        folder.chmod(0o755)


def test_a_store_in_use_is_exported_with_what_was_just_sent(filled: EventStore, tmp_path: Path) -> None:
    with filled:
        assert export_file(filled.path, tmp_path / "log.parquet") == 4 * 3 + 6


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is no event store of schema 1"), (b"no database " * 99, "cannot be read as an event")]
)
def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "not a store?.db"
    path.write_bytes(content)
    with pytest.raises(LogFormatError, match=words):
        export_file(path, tmp_path / "log.parquet")
    assert path.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def check_served(log: ShopLog) -> None:
    """The log is what `filled` served."""
    assert log.sessions["shopper_id"].tolist() == ["ann", "bob", "ann"]
    slates = log.slates
    assert slates.items.tolist() == [[1, 2, 4], [5, 1, 2], [2, 4, 1], [4, 2, 9]]
    assert slates.session.tolist() == [0, 1, 2, 2]
    assert slates.before.tolist() == [1, 0, 0, 1]
    assert slates.clicked.tolist() == [2, 1, -1, -1]
    assert slates.carted.tolist() == [False, True, False, False]
    assert slates.purchased.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(slates.propensity, [[0.5, 0.25, 1.0]] * 4)
    assert slates.dwell[[2, 3]].tolist() == [60.0, 30.0]
    events = log.events
    bought = events[events["event"] == "purchase"].iloc[0]
    assert (bought["price"], bought["quantity"], bought["time"]) == (
        2.0,
        3,
        pd.Timestamp(T + 20 * SECOND, unit="us", tz="UTC"),
    )
    assert events.loc[events["event"] == "view", "query"].iloc[0] == "cup"
    shown = events[events["event"] == "impression"]
    assert set(shown["query"]) == {"mugs"}
    assert shown["price"].tolist() == (shown["item_id"].str.removeprefix("item-").astype(int) * 2.0).tolist()


def test_the_history_served_from_is_the_session_in_the_log(
    filled: EventStore, tmp_path: Path, catalogue: Catalogue
) -> None:
    with filled:
        filled.export(tmp_path / "log.parquet")
        now = filled.session_of("ann", T + 3_800 * SECOND)
    log = ShopLog(pq.read_table(tmp_path / "log.parquet").to_pandas(), catalogue)
    served, logged = build_history(now, Items(catalogue)).history, log.tokens.histories(np.array([2]))
    for name in ("items", "events", "gaps", "lengths"):
        np.testing.assert_array_equal(getattr(served, name), getattr(logged, name))
