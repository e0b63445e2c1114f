"""From an event store to an event log: the file that `ingest` reads back with nothing lost."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..datasets.schema import EVENT_SCHEMA, Event
from ..errors import EvidenceError, LogFormatError
from .history import SESSION_GAP

STORE_SCHEMA = 1
"""Number of the store's tables, kept in the file as `user_version`."""
_CHUNK = 50_000  # rows in memory at once
# A session is what a shopper did and was shown without a longer pause; its id is the shopper and when it began. What
# came of a slate belongs to the slate's session, however late it came: a log credits a slate by its session alone.
_LOG = """
WITH happened AS (
    SELECT s.shopper_id, s.time, 0 AS kind, s.seq, i.position, i.item_id, 1 AS event, s.slate_id, i.propensity, i.price,
           NULL AS quantity, s.query
    FROM slates s JOIN slate_items i ON i.slate = s.seq
    UNION ALL
    SELECT shopper_id, time, 1, seq, NULL, item_id, event, slate_id, NULL, price, quantity, query FROM events
), paused AS (
    SELECT *, coalesce(time - lag(time) OVER (PARTITION BY shopper_id ORDER BY time) > :gap, 1) AS fresh FROM happened
), numbered AS (
    SELECT *, sum(fresh) OVER (PARTITION BY shopper_id ORDER BY time) AS visit FROM paused
), owned AS (
    SELECT *, coalesce(max(iif(kind = 0, visit, NULL)) OVER (PARTITION BY shopper_id, slate_id), visit) AS session
    FROM numbered
), begun AS (
    SELECT *, min(time) OVER (PARTITION BY shopper_id, session) AS start FROM owned
)
SELECT shopper_id, start, time, item_id, event, slate_id, position, propensity, price, quantity, query
FROM begun ORDER BY start, shopper_id, session, time, kind, seq, position
"""


def write_log(connection: sqlite3.Connection, path: Path, session_gap: float) -> int:
    """Write what a store holds as Parquet in `EVENT_SCHEMA`, ordered by start of session and time.

    Args:
        connection: to the store; it reads one moment of it, whatever is written meanwhile.
        path: the file; it appears whole, or not at all.
        session_gap: seconds without an event that end a session.

    Returns:
        Rows written.

    Raises:
        EvidenceError: the store holds no events and no slates.
    """
    rows = connection.execute(_LOG, {"gap": round(session_gap * 1e6)})
    fresh = path.with_name(path.name + ".new")
    written = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(fresh, EVENT_SCHEMA, compression="zstd") as writer:
        while chunk := rows.fetchmany(_CHUNK):
            writer.write_table(_table(chunk))
            written += len(chunk)
    if not written:
        fresh.unlink()
        raise EvidenceError("the event store is empty; serve some slates or send some events first")
    os.replace(fresh, path)
    return written


def export_file(store: Path, path: Path, session_gap: float = SESSION_GAP) -> int:
    """Write the log of a store's file, which is only read: a server may be writing it, or it may be a read-only copy.

    Args:
        store: the SQLite file.
        path: as for `write_log`, and so are `session_gap` and what is returned.
        session_gap: seconds without an event that end a session.

    Raises:
        LogFormatError: the file is no event store, or of another schema.
        EvidenceError: the store holds no events and no slates.
    """
    # While a store is in use, or after a crash, its log lies beside it. A file without one is whole, and is read as
    # unchanging: SQLite would otherwise have to make files beside it, which it may not in a read-only folder.
    mode = "mode=ro" if store.with_name(store.name + "-wal").exists() else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"{store.absolute().as_uri()}?{mode}", uri=True, timeout=10)) as connection:
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if schema != STORE_SCHEMA or not {"slates", "slate_items", "events"} <= tables:
                raise LogFormatError(
                    f"{store} is no event store of schema {STORE_SCHEMA} (schema {schema}, tables: "
                    f"{', '.join(sorted(tables)) or 'none'}); give the file that `slatewise serve` wrote"
                )
            return write_log(connection, path, session_gap)
    except sqlite3.Error as error:
        raise LogFormatError(
            f"{store} cannot be read as an event store: {error}; give the file that `slatewise serve` wrote"
        ) from error


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    shopper, start, time, item, event, slate, position, propensity, price, quantity, query = zip(*rows, strict=True)
    session = [f"{who}@{when}" for who, when in zip(shopper, start, strict=True)]
    names = [Event(code).label for code in event]
    columns = (shopper, session, time, item, names, slate, position, propensity, price, quantity, query)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, EVENT_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=EVENT_SCHEMA)
