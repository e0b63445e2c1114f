"""The event store: what was served and what shoppers did with it, in one SQLite file.

- **Durable.** An event is on disk (`synchronous=FULL`: the write-ahead log is fsynced at commit) before it is
  acknowledged; `NORMAL` would survive a killed process but could lose acknowledged events with the power. A slate is
  committed before it is answered, without an fsync of its own: the log is one file, so the fsync of any event carries
  every slate before it, and no acknowledged event can lose the slate it names.
- **Idempotent.** An event id that comes again with the same content changes nothing; with other content it is refused.
- **Safe from many threads.** One thread writes, and takes all that waits into one transaction; readers have
  connections of their own and never wait for it.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ..datasets.schema import EVENT_CODES, Event
from ..errors import ArtefactError, SlatewiseError
from .feedback_log import STORE_SCHEMA, write_log
from .history import SESSION_GAP, ShopperEvent
from .records import FEEDBACK, Accepted, EventConflictError, EventRejectedError, FeedbackEvent, SlateRecord

T = TypeVar("T")
_MOST_AT_ONCE = 256  # pieces of work in one transaction
_MOST_ROWS = 5_000  # rows read of one session; only a robot's is longer
_TABLES = """
CREATE TABLE IF NOT EXISTS slates (
    seq INTEGER PRIMARY KEY, slate_id TEXT NOT NULL UNIQUE, shopper_id TEXT NOT NULL, time INTEGER NOT NULL,
    bundle TEXT NOT NULL, explore REAL NOT NULL, query TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS slates_of_shopper ON slates (shopper_id, time);
CREATE TABLE IF NOT EXISTS slate_items (
    slate INTEGER NOT NULL REFERENCES slates (seq), position INTEGER NOT NULL, item_id TEXT NOT NULL,
    score REAL NOT NULL, propensity REAL NOT NULL, price REAL, PRIMARY KEY (slate, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, content BLOB NOT NULL, shopper_id TEXT NOT NULL,
    time INTEGER NOT NULL, told INTEGER, received INTEGER NOT NULL, item_id TEXT NOT NULL, event INTEGER NOT NULL,
    slate_id TEXT, price REAL, quantity INTEGER, query TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS events_of_shopper ON events (shopper_id, time);
CREATE INDEX IF NOT EXISTS events_of_slate ON events (slate_id) WHERE slate_id IS NOT NULL;
"""
_ADD_EVENT = """
INSERT INTO events (event_id, content, shopper_id, time, told, received, item_id, event, slate_id, price, quantity,
    query) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_TAKEN = "SELECT time FROM events WHERE shopper_id = ? AND time >= ? ORDER BY time"
# Newest first; both halves walk an index, so reading stops where the session began.
_RECENT = """
SELECT time, 1 AS kind, seq, 0 AS position, item_id, event, slate_id FROM events
WHERE shopper_id = :shopper AND time <= :now
UNION ALL
SELECT s.time, 0, s.seq, i.position, i.item_id, 1, s.slate_id FROM slates s JOIN slate_items i ON i.slate = s.seq
WHERE s.shopper_id = :shopper AND s.time <= :now
ORDER BY time DESC, kind DESC, seq DESC, position DESC LIMIT :most
"""


@dataclass(slots=True)
class _Work:
    """A piece of writing that waits for its turn."""

    run: Callable[[sqlite3.Connection], Any]
    durable: bool
    done: Future[Any]


class EventStore:
    """The store. Close it, or use it as a context manager."""

    def __init__(self, path: str | Path, *, session_gap: float = SESSION_GAP) -> None:
        """Open the store, made if the file does not exist.

        Args:
            path: of the SQLite file; `-wal` and `-shm` files lie beside it while it is open.
            session_gap: seconds without an event that end a shopper's session.

        Raises:
            ArtefactError: the file is no event store, of another schema, or cannot be opened.
        """
        self.path = Path(path)
        self.session_gap = session_gap
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _opened(self.path)
        except (sqlite3.Error, OSError) as error:
            raise ArtefactError(
                f"{self.path} cannot be opened as an event store: {error}; choose another --store"
            ) from error
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="slatewise-store", daemon=True)
        self._thread.start()

    def __enter__(self) -> "EventStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits, then close; further writes are refused. Closing again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        for connection in (*self._readers, self._writer):
            connection.close()

    def add_slate(self, slate: SlateRecord) -> None:
        """Keep a slate; returns once it is committed, so call before the slate is shown.

        Raises:
            EventConflictError: the slate id is taken.
        """
        self.submit_slate(slate).result()

    def add_events(self, events: Sequence[FeedbackEvent], *, received: int) -> Accepted:
        """Keep a batch of events, all or none; returns once they are on disk.

        A time that lies ahead of `received` is taken as `received`, and one before the slate that the event names as
        the slate's own: clocks of senders differ, and nothing is clicked before it is shown. What was told is kept too.
        Where the shopper has an event at that very moment, the new one comes a microsecond later, so that events told
        without a time keep their order and none is taken for another.

        Args:
            events: in the order in which they happened.
            received: microseconds since 1970, UTC.

        Raises:
            EventConflictError: an event id is known with other content.
            EventRejectedError: an event names a slate that did not hold the item, or was another shopper's, or there
                is no telling whose it was.
        """
        return self.submit_events(events, received=received).result()

    def submit_slate(self, slate: SlateRecord) -> "Future[None]":
        """`add_slate` for those who must not block: what is returned is done, or has failed, when that would return."""
        return self._submit(lambda connection: _insert_slate(connection, slate), durable=False)

    def submit_events(self, events: Sequence[FeedbackEvent], *, received: int) -> "Future[Accepted]":
        """`add_events` for those who must not block, as `submit_slate`."""
        return self._submit(lambda connection: _insert_events(connection, events, received), durable=True)

    def session_of(self, shopper_id: str, now: int) -> list[ShopperEvent]:
        """What a shopper did and was shown in the session that is going on at `now` (microseconds), oldest first."""
        gap = round(self.session_gap * 1e6)
        found: list[ShopperEvent] = []
        after = now
        query = {"shopper": shopper_id, "now": now, "most": _MOST_ROWS}
        with closing(self._reader().execute(_RECENT, query)) as rows:
            for time, _, _, position, item, code, slate in rows:
                if after - time > gap:
                    break
                place = position if code == Event.IMPRESSION else None
                found.append(ShopperEvent(item, Event(code).label, time / 1e6, slate, place))
                after = time
        return found[::-1]

    def counts(self) -> dict[str, int]:
        """Slates and events held; also shows that the store can be read."""
        row = self._reader().execute("SELECT (SELECT count(*) FROM slates), (SELECT count(*) FROM events)").fetchone()
        return {"slates": row[0], "events": row[1]}

    def export(self, path: str | Path) -> int:
        """Write slates and events as a Parquet log that `ingest(..., source="events")` reads; returns its rows.

        Raises:
            EvidenceError: the store is empty.
        """
        with closing(_connect(self.path)) as connection:
            return write_log(connection, Path(path), self.session_gap)

    @property
    def writable(self) -> bool:
        """Whether writes are taken."""
        return not self._closed and self._thread.is_alive()

    def _submit(self, run: Callable[[sqlite3.Connection], T], *, durable: bool) -> "Future[T]":
        work = _Work(run, durable, Future())
        with self._lock:
            if self._closed:
                raise ArtefactError(f"{self.path} is closed; nothing was written")
            self._waiting.put(work)
        return work.done

    def _reader(self) -> sqlite3.Connection:
        """This thread's own connection."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self.path)
            connection.execute("PRAGMA query_only = ON")
            with self._lock:
                self._readers.append(connection)
        return connection

    def _write(self) -> None:
        """The writing thread: take what waits, commit it together, tell those who wait."""
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < _MOST_AT_ONCE and not last:
                try:
                    work = self._waiting.get_nowait()
                except Empty:
                    break
                if work is None:
                    last = True
                else:
                    batch.append(work)
            _commit(self._writer, batch)
            if last:
                return


def _commit(connection: sqlite3.Connection, batch: Sequence[_Work]) -> None:
    """Run pieces of work in one transaction; one that fails takes back its own changes alone."""
    outcomes: list[tuple[_Work, Any, BaseException | None]] = []
    try:
        connection.execute(f"PRAGMA synchronous = {'FULL' if any(work.durable for work in batch) else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        for work in batch:
            connection.execute("SAVEPOINT work")
            try:
                outcomes.append((work, work.run(connection), None))
            except (SlatewiseError, sqlite3.IntegrityError, ValueError) as error:
                connection.execute("ROLLBACK TO work")
                outcomes.append((work, None, error))
            connection.execute("RELEASE work")
        connection.execute("COMMIT")
    except BaseException as error:  # a full disk, say: nothing of this transaction was kept
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        outcomes = [(work, None, error) for work in batch]
    for work, result, error in outcomes:
        if error is None:
            work.done.set_result(result)
        else:
            work.done.set_exception(error)


def _connect(path: Path) -> sqlite3.Connection:
    # Used by one thread at a time; closed by whichever closes the store.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)


def _opened(path: Path) -> sqlite3.Connection:
    """A connection to a store, its tables made where the file is new."""
    connection = _connect(path)
    try:
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        if schema != STORE_SCHEMA and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise ArtefactError(f"{path} is a database of schema {schema}, not an event store of schema {STORE_SCHEMA}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {STORE_SCHEMA}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _insert_slate(connection: sqlite3.Connection, slate: SlateRecord) -> None:
    try:
        row = connection.execute(
            "INSERT INTO slates (slate_id, shopper_id, time, bundle, explore, query) VALUES (?, ?, ?, ?, ?, ?)",
            (slate.slate_id, slate.shopper_id, slate.time, slate.bundle, slate.explore, slate.query),
        ).lastrowid
    except sqlite3.IntegrityError as error:
        raise EventConflictError(
            f"slate {slate.slate_id!r} is known already; give every slate an id of its own"
        ) from error
    connection.executemany(
        "INSERT INTO slate_items (slate, position, item_id, score, propensity, price) VALUES (?, ?, ?, ?, ?, ?)",
        [(row, position, *item) for position, item in enumerate(slate.items)],
    )


def _insert_events(connection: sqlite3.Connection, events: Sequence[FeedbackEvent], received: int) -> Accepted:
    stored: list[FeedbackEvent] = []
    foreign = clicked = 0
    given: dict[tuple[str, int], int] = {}
    for event in events:
        content = event.content()
        known = connection.execute("SELECT content FROM events WHERE event_id = ?", (event.event_id,)).fetchone()
        if known is not None:
            if known[0] != content:
                raise EventConflictError(
                    f"event {event.event_id!r} is known with other content; give every event an id of its own"
                )
            continue
        shopper, shown = _shopper_and_time(connection, event)
        if event.slate_id is not None:
            foreign += shown is None
            clicked += shown is not None and event.event == "click" and not _is_clicked(connection, event.slate_id)
        time = max(min(received if event.time is None else event.time, received), shown or 0)
        wanted = shopper, time
        time = given[wanted] = _free_moment(connection, shopper, given.get(wanted, time - 1) + 1)
        row = (event.event_id, content, shopper, time, event.time, received, event.item_id, EVENT_CODES[event.event])
        connection.execute(_ADD_EVENT, (*row, event.slate_id, event.price, event.quantity, event.query))
        stored.append(event)
    return Accepted(tuple(stored), len(events) - len(stored), foreign, clicked)


def _free_moment(connection: sqlite3.Connection, shopper: str, time: int) -> int:
    """The first microsecond from `time` on at which the shopper has no event."""
    taken = connection.execute(_TAKEN, (shopper, time))
    with closing(taken):
        for (other,) in taken:
            if other != time:
                break
            time += 1
    return time


def _is_clicked(connection: sqlite3.Connection, slate_id: str) -> bool:
    query = "SELECT 1 FROM events WHERE slate_id = ? AND event = ? LIMIT 1"
    return connection.execute(query, (slate_id, int(Event.CLICK))).fetchone() is not None


def _shopper_and_time(connection: sqlite3.Connection, event: FeedbackEvent) -> tuple[str, int | None]:
    """Whose event it is, and when the slate it names was shown; None where it names none of this store's."""
    if event.event not in FEEDBACK:
        raise EventRejectedError(f"event {event.event_id!r} is a {event.event!r}; send one of {', '.join(FEEDBACK)}")
    slate = None
    if event.slate_id is not None:
        query = "SELECT seq, shopper_id, time FROM slates WHERE slate_id = ?"
        slate = connection.execute(query, (event.slate_id,)).fetchone()
    if slate is None:
        if event.shopper_id is None:
            raise EventRejectedError(
                f"event {event.event_id!r} names neither a shopper nor a slate served here; add its shopper_id"
            )
        return event.shopper_id, None
    row, shopper, time = slate
    if event.shopper_id not in (None, shopper):
        raise EventRejectedError(
            f"event {event.event_id!r} names slate {event.slate_id!r}, which another shopper was shown"
        )
    held = connection.execute(
        "SELECT 1 FROM slate_items WHERE slate = ? AND item_id = ?", (row, event.item_id)
    ).fetchone()
    if held is None:
        raise EventRejectedError(
            f"event {event.event_id!r}: item {event.item_id!r} was not on slate {event.slate_id!r}; "
            "leave slate_id out for what did not come from the slate"
        )
    return shopper, time
