"""The work of an ingest, in bounded memory, with every row accounted for.

Rows are read in pieces, cleaned, and split by shopper into files on disk; each such part is freed of repeats, cut into
sessions and freed of bots; the parts are then written in order of the sessions' starts. Memory grows with the largest
part, with the catalogue, and by 24 bytes a session; not with the number of events.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import LogFormatError
from .catalogue import Catalogue
from .cleaning import TYPED, Cleaner, IngestConfig, without_duplicates
from .items import ITEM_TEXTS, ItemTally, complete, item_texts, make_catalogue, under_products
from .quarantine import Quarantine, rejected_rows
from .readers import Reading
from .schema import EVENT_SCHEMA, Event
from .sessions import session_actions, sessionise, split_off
from .spill import Clashes, Partitions, arrow

Progress = Callable[[int, int, str], None]
"""Called with (done, total, words)."""

_MOST_PARTS = 256  # files open at a time


@dataclass
class _Counts:
    """Where the rows went."""

    read: int = 0
    kept: int = 0
    duplicates: int = 0
    bots: int = 0
    single_item: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    sessions: Counter[str] = field(default_factory=Counter)
    shoppers: int = 0
    events: Counter[str] = field(default_factory=Counter)
    first: datetime | None = None
    last: datetime | None = None


class Pipeline:
    """One ingest in progress: `read`, `sort`, `write`, in this order, then `facts`."""

    def __init__(
        self,
        folder: Path,
        config: IngestConfig,
        reading: Reading,
        known: pl.DataFrame | None,
        quarantine: Quarantine,
        progress: Progress,
    ) -> None:
        self.folder, self.config, self.reading, self.known = folder, config, reading, known
        self.quarantine, self.progress = quarantine, progress
        self.from_items = quarantine.total  # rows of item tables, which are no rows of the log
        self.counts = _Counts()
        self.cleaner = Cleaner(config, reading.names, reading.event_names, datetime.now(UTC), reading.default_event)
        self.tally = ItemTally()
        self.mixed: list[int] = []
        self.session_names, self.slate_names = Clashes(), Clashes()
        self.starts: list[NDArray[np.int64]] = []

    def read(self, piece_bytes: int, part_bytes: int) -> None:
        """Clean all rows and split them by shopper."""
        parts = min(max(ceil(self.reading.spread / part_bytes), 1), _MOST_PARTS)
        self.raw = Partitions(_fresh(self.folder / "rows"), parts, "shopper_id")
        total = max(sum(path.stat().st_size for path in self.reading.files), 1)
        zoned: dict[int, set[bool]] = {}
        for batch in self.reading.batches(piece_bytes):
            self._take(batch.rows, batch.rejected, batch.ignored, zoned)
            self.progress(min(batch.done, total), total, "reading")
        self.raw.close()
        self.mixed = [] if self.config.timezone else [file for file, kinds in zoned.items() if len(kinds) > 1]

    def _take(
        self, rows: pl.DataFrame, rejected: pl.DataFrame | None, ignored: Mapping[str, int], zoned: dict[int, set[bool]]
    ) -> None:
        cleaned = self.cleaner(rows)
        unread = [] if rejected is None else [rejected]
        if self.config.pseudonym_key:  # the raw text of a row may name the shopper
            unread = [one.with_columns(pl.lit(None, pl.String).alias("value")) for one in unread]
        for one in (*unread, *cleaned.rejected):
            self.quarantine.add(one)
        self.counts.read += len(rows) + sum(map(len, unread)) + sum(ignored.values())
        self.counts.ignored.update(ignored)
        self.counts.ignored.update(cleaned.ignored)
        for file, naive in cleaned.events.select("_file", "_naive").unique().iter_rows():
            zoned.setdefault(file, set()).add(naive)
        self.raw.add(cleaned.events.select(*TYPED, *item_texts(cleaned.events), "_file", "_line", "_naive"))

    def _settle_catalogue(self) -> None:
        """The product table's items if there is one (and, if asked, those it lacks); else those of the log."""
        before = self.quarantine.total
        said = complete(self.tally.items(), self.reading.items(self.quarantine))
        self.from_items += self.quarantine.total - before
        if self.known is not None:
            said = under_products(self.known, said, add=self.config.unknown_items == "add")
        self.catalogue: Catalogue
        self.catalogue, self.nameless = make_catalogue(said)
        self.catalogue.save(self.folder / "catalogue.parquet")

    def sort(self) -> None:
        """Clean each shopper's events of repeats, cut them into sessions, drop those of bots; settle the catalogue."""
        self.sorted = _fresh(self.folder / "sessions")
        self.sorted.mkdir()
        for number, rows in enumerate(self.raw.frames()):
            events = self._sessions(rows)
            if len(events):
                table = arrow(events.sort("_start", "session_id"))
                pq.write_table(table, self.sorted / f"{number:04d}.parquet", compression="lz4", row_group_size=65_536)
            self.progress(number + 1, self.raw.parts, "finding sessions")
        self.progress(self.raw.parts, self.raw.parts, "finding sessions")
        if not self.counts.kept:
            raise LogFormatError(self._why_nothing())
        self._settle_catalogue()

    def _why_nothing(self) -> str:
        names, counts = self.reading.names, self.counts
        where = ", ".join(names[:3]) + (f" and {len(names) - 3} more files" if len(names) > 3 else "")
        if not counts.read:
            return f"{where} holds a header and no rows"
        worst = ", ".join(f"{reason} ({count})" for reason, count in self.quarantine.counts.most_common(3))
        return (
            f"none of {counts.read} rows in {where} is usable; set aside: {worst or 'none'}; "
            f"duplicates: {counts.duplicates}, bots: {counts.bots}, passed over: {counts.ignored.total()}"
        )

    def _sessions(self, rows: pl.DataFrame) -> pl.DataFrame:
        counts, config = self.counts, self.config
        if self.mixed:
            loose = pl.col("_naive") & pl.col("_file").is_in(self.mixed)
            as_written = pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S%.f")
            why = "time without a zone in a file whose other times have one"
            self.quarantine.add(rejected_rows(rows.filter(loose), self.reading.names, "time", why, as_written))
            rows = rows.filter(~loose)
        single = without_duplicates(rows)
        counts.duplicates += len(rows) - len(single)
        events = sessionise(single, gap=config.session_gap, split_given=config.split_given_sessions)

        actions = session_actions(events)
        per_minute = pl.col("actions") / pl.col("minutes")
        bots = actions.filter((pl.col("actions") > config.bot_actions) | (per_minute > config.bot_rate))
        events, dropped = split_off(events, bots.select("shopper_id", "session_id"))
        counts.bots += dropped
        counts.sessions["bots"] += len(bots)
        if config.drop_single_item_sessions:
            lone = actions.filter(pl.col("items") == 1).join(bots, on=["shopper_id", "session_id"], how="anti")
            events, dropped = split_off(events, lone.select("shopper_id", "session_id"))
            counts.single_item += dropped
            counts.sessions["single_item"] += len(lone)
        events = self._known_items(events)
        self.tally.add(events)
        return self._counted(events.drop(ITEM_TEXTS))

    def _known_items(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events on items of the catalogue; sessions that are left with none are counted as dropped."""
        if self.known is None or self.config.unknown_items == "add":
            return events
        known = pl.DataFrame({"item_id": self.known["item_id"]})
        strange = events.join(known, on="item_id", how="anti")
        self.quarantine.add(
            rejected_rows(strange, self.reading.names, "item_id", "item is not in the catalogue", pl.col("item_id"))
        )
        kept = events.join(known, on="item_id", how="semi", maintain_order="left")
        pair = ["shopper_id", "session_id"]
        self.counts.sessions["unknown_items"] += len(events.unique(pair)) - len(kept.unique(pair))
        return kept

    def _counted(self, events: pl.DataFrame) -> pl.DataFrame:
        pair = ["shopper_id", "session_id"]
        events = events.with_columns(pl.col("time").min().over(pair).alias("_start"))
        sessions = events.unique(pair)
        self.session_names.add(sessions["session_id"])
        slates = events.filter((pl.col("event") == Event.IMPRESSION.label) & pl.col("slate_id").is_not_null())
        self.slate_names.add(slates.unique([*pair, "slate_id"])["slate_id"])
        self.starts.append(sessions["_start"].dt.timestamp("us").to_numpy())
        counts = self.counts
        counts.kept += len(events)
        counts.sessions["kept"] += len(sessions)
        counts.shoppers += events["shopper_id"].n_unique()
        counts.events.update(dict(events.group_by("event").len().iter_rows()))
        if len(events):
            first, last = events.select(first=pl.col("time").min(), last=pl.col("time").max()).row(0)
            counts.first = min(counts.first or first, first)
            counts.last = max(counts.last or last, last)
        return events

    def write(self) -> None:
        """Write the events in order of their sessions' starts, in as many rounds as there are parts."""
        starts = np.concatenate(self.starts)
        files = sorted(self.sorted.iterdir())
        edges = np.unique(np.quantile(starts, np.linspace(0, 1, len(files) + 1)).astype(np.int64))
        edges[-1] += 1
        sessions, slates = self.session_names.clashing(), self.slate_names.clashing()
        self.renamed = {"sessions": len(sessions), "slates": len(slates)}
        bounds = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)) or [(int(edges[0]) - 1, int(edges[0]))]
        with pq.ParquetWriter(self.folder / "events.parquet", EVENT_SCHEMA, compression="zstd") as writer:
            for number, (low, high) in enumerate(bounds):
                for events in _between(files, low, high):
                    named = _own_names(events, sessions, slates)
                    shown = pl.col("event") != Event.IMPRESSION.label
                    ordered = named.sort("_start", "session_id", "time", shown, "_file", "_line")
                    writer.write_table(arrow(ordered.select(EVENT_SCHEMA.names)).cast(EVENT_SCHEMA))
                self.progress(number + 1, len(bounds), "writing")
        shutil.rmtree(self.sorted)
        shutil.rmtree(self.raw.folder)

    def facts(self, source: str) -> dict[str, Any]:
        """What is recorded of the log; the source's own facts come last."""
        counts, reading = self.counts, self.reading.facts
        rows = {"read": counts.read, "kept": counts.kept, "quarantined": self.quarantine.total - self.from_items}
        rows |= {"duplicates": counts.duplicates, "bots": counts.bots, "single_item": counts.single_item}
        facts: dict[str, Any] = {
            "source": source,
            "rows": {**rows, "ignored": counts.ignored.total()},
            "quarantined": dict(self.quarantine.counts.most_common()),
            "ignored": dict(counts.ignored.most_common()),
            "sessions": counts.sessions.pop("kept", 0),
            "sessions_dropped": dict(counts.sessions),
            "shoppers": counts.shoppers,
            "items": len(self.catalogue),
            "items_without_text": self.nameless,
            "events": {event.label: counts.events[event.label] for event in Event if event},
            "time": [moment.isoformat() if moment else None for moment in (counts.first, counts.last)],
            "renamed_for_uniqueness": self.renamed,
            "pseudonymous": bool(self.config.pseudonym_key),
            "length_biased": False,
            "clock": "time",
        }
        currency = self.config.currency or reading.get("currency", "")
        return {**facts, **reading, "currency": currency}


def _fresh(folder: Path) -> Path:
    """A path with nothing at it; a killed run may have left something."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _between(files: Sequence[Path], low: int, high: int) -> Iterator[pl.DataFrame]:
    """Events whose session starts in [low, high) microseconds, all parts together; nothing where there are none."""
    events = pl.concat([pl.scan_parquet(path) for path in files]).filter(_starts_in(low, high)).collect()
    if len(events):
        yield events


def _starts_in(low: int, high: int) -> pl.Expr:
    # Moments are compared as moments: what is computed from a column leaves its row groups' statistics unused.
    first, end = (pl.lit(edge).cast(TYPED["time"]) for edge in (low, high))
    return (pl.col("_start") >= first) & (pl.col("_start") < end)


def _own_names(events: pl.DataFrame, sessions: pl.Series, slates: pl.Series) -> pl.DataFrame:
    """Names made unique: where several use one, a session's with its shopper's, a slate's with its session's."""
    session, slate = pl.col("session_id"), pl.col("slate_id")
    if len(sessions):
        shared = session.hash().is_in(sessions.implode())
        events = events.with_columns(
            pl.when(shared)
            .then(pl.concat_str("shopper_id", pl.lit(":"), session))
            .otherwise(session)
            .alias("session_id")
        )
    if len(slates):
        shared = slate.is_not_null() & slate.hash().is_in(slates.implode())
        events = events.with_columns(
            pl.when(shared).then(pl.concat_str(session, pl.lit("/"), slate)).otherwise(slate).alias("slate_id")
        )
    return events
