"""Cleaning: from rows as a shop wrote them to typed events, every row that is unusable named with its reason."""

import hashlib
import hmac
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import polars as pl

from .quarantine import rejected_rows
from .schema import EVENT_CODES, Event
from .times import TIME_UNITS, parse_times

BLANKS = ("", "nan", "NaN", "null", "NULL", "None", "\\N")
"""What tables write for a value that is not there."""

TYPED = {
    "shopper_id": pl.String,
    "session_id": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "item_id": pl.String,
    "event": pl.String,
    "slate_id": pl.String,
    "position": pl.Int32,
    "propensity": pl.Float64,
    "price": pl.Float64,
    "quantity": pl.Int32,
    "query": pl.String,
}
"""Types of cleaned events: `EVENT_SCHEMA`, save that `session_id` may still be null."""


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """Settings of an ingest: how rows are read, which are unusable, where sessions end."""

    session_gap: float = 1_800.0
    """Seconds without an event that end a session, where the source names none."""
    split_given_sessions: bool = False
    """Whether a gap also splits a session that the source names, into `session`, `session:1`, `session:2`."""
    bot_rate: float = 60.0
    """Most actions a minute, over a session of a minute at least; a slate shown is one action, so is an order."""
    bot_actions: int = 1_000
    """Most actions of a session; a session beyond is taken for a bot's and dropped, and counted."""
    min_time: str = "1995-01-01"
    """First plausible time (UTC, ISO 8601)."""
    max_time: str = ""
    """Last plausible time (UTC, ISO 8601); empty for one day after the ingest starts."""
    drop_single_item_sessions: bool = False
    """Whether sessions that touch one item only are dropped, and counted."""
    unknown_items: Literal["quarantine", "add"] = "quarantine"
    """Events on items that a given catalogue lacks: set them aside, or add the item, as unavailable."""
    pseudonym_key: str = field(default="", repr=False)
    """Replace ids of shoppers, sessions and slates by a keyed hash. A pseudonym, not anonymity: whoever holds the key
    can tell whether a known id is in the log, and what a shopper did may still give them away. The key is not
    stored."""
    currency: str = ""
    """ISO 4217 code of prices; empty for what the source is known to use."""
    timezone: str = ""
    """IANA name of the zone of times that carry none; empty for UTC."""
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """Unit of times written as numbers."""
    time_format: str = ""
    """strptime pattern of times written as text; empty for ISO 8601 and the like."""
    event_names: Mapping[str, str] = field(default_factory=dict)
    """The shop's event name -> ours (impression, view, click, cart, purchase, uncart), or `""` to pass over."""
    default_event: str = ""
    """Event of rows that name none, for a table of nothing but purchases say; empty sets such rows aside."""
    delimiter: str = ""
    """Separator of a text table; empty to tell by its header."""

    def __post_init__(self) -> None:
        for name in ("session_gap", "bot_rate", "bot_actions"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.unknown_items not in ("quarantine", "add"):
            raise ValueError(f"unknown_items must be 'quarantine' or 'add', got {self.unknown_items!r}")
        if self.time_unit != "auto" and self.time_unit not in TIME_UNITS:
            raise ValueError(f"time_unit must be 'auto' or one of {list(TIME_UNITS)}, got {self.time_unit!r}")
        if self.timezone and self.timezone not in available_timezones():
            raise ValueError(f"timezone {self.timezone!r} is unknown; give an IANA name such as 'Europe/Warsaw'")
        for ours in (*self.event_names.values(), self.default_event):
            if ours and ours not in EVENT_CODES:
                raise ValueError(f"event {ours!r} is none of {list(EVENT_CODES)}")
        self.time_bounds(datetime.now(UTC))

    def time_bounds(self, now: datetime) -> tuple[datetime, datetime]:
        """First and last plausible time, given the time of the ingest.

        Raises:
            ValueError: the settings are no dates, or in the wrong order.
        """
        first = _instant(self.min_time)
        last = _instant(self.max_time) if self.max_time else now + timedelta(days=1)
        if first >= last:
            raise ValueError(f"min_time {self.min_time!r} must come before max_time {last.isoformat()!r}")
        return first, last

    def settings(self) -> dict[str, Any]:
        """What is recorded of the settings: all of them, and of the key only a short fingerprint."""
        key = self.pseudonym_key
        return {
            **asdict(self),
            "pseudonym_key": hmac.digest(key.encode(), b"slatewise", "sha256").hex()[:8] if key else "",
        }


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(ZoneInfo("UTC")) if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass
class Cleaned:
    """What cleaning made of some rows; `events`, `rejected` and `ignored` together are all of them.

    Attributes:
        events: typed events, columns of `TYPED`, then `_file`, `_line`, `_naive`, then any item columns.
        rejected: rows for the quarantine.
        ignored: reason -> rows passed over on purpose.
    """

    events: pl.DataFrame
    rejected: list[pl.DataFrame]
    ignored: Counter[str]


class Cleaner:
    """Turns rows into typed events."""

    def __init__(
        self,
        config: IngestConfig,
        files: Sequence[str],
        event_names: Mapping[str, str],
        now: datetime,
        default_event: str = "",
    ) -> None:
        self.config = config
        self.files = files
        self.first, self.last = config.time_bounds(now)
        names = {**{name: name for name in EVENT_CODES}, **event_names, **config.event_names}
        self.event_names = {theirs.strip().lower(): ours for theirs, ours in names.items()}
        self.default_event = config.default_event or default_event

    def __call__(self, rows: pl.DataFrame) -> Cleaned:
        """Clean rows: any of the columns of `TYPED` and of a catalogue's, and `_file`, `_line`.

        A row is rejected for the first thing wrong with it, in the order: missing ids, event, time, numbers.
        """
        done = Cleaned(_with_all_columns(rows), [], Counter())
        self._ids(done)
        self._event(done)
        self._time(done)
        self._numbers(done)
        done.events = done.events.with_columns(pl.col(name).cast(kind) for name, kind in TYPED.items())
        if self.config.pseudonym_key:
            done.events = pseudonymise(done.events, self.config.pseudonym_key)
        return done

    def _reject(self, done: Cleaned, bad: pl.Series, column: str, reason: str, value: pl.Expr | None = None) -> None:
        if bad.any():
            done.rejected.append(rejected_rows(done.events.filter(bad), self.files, column, reason, value))
            done.events = done.events.filter(~bad)

    def _ids(self, done: Cleaned) -> None:
        ids = ("shopper_id", "item_id", "session_id", "slate_id", "query", "event")
        done.events = done.events.with_columns(id_text(done.events, name) for name in ids)
        for name in ("shopper_id", "item_id"):
            self._reject(done, done.events[name].is_null(), name, f"no {name}")

    def _event(self, done: Cleaned) -> None:
        known = pl.col("_event").str.to_lowercase()
        events = done.events.rename({"event": "_event"})
        named = known.replace_strict(self.event_names, default=None, return_dtype=pl.String)
        if self.default_event:
            named = pl.when(known.is_null()).then(pl.lit(self.default_event)).otherwise(named)
        done.events = events.with_columns(named.alias("event"))
        self._reject(done, done.events["_event"].is_null() & done.events["event"].is_null(), "event", "no event")
        self._reject(done, done.events["event"].is_null(), "event", "unknown event type", pl.col("_event"))
        passed = done.events.filter(pl.col("event") == "")
        for name, count in passed.group_by(pl.col("_event").str.to_lowercase()).len().iter_rows():
            done.ignored[f"event {name}"] += count
        done.events = done.events.filter(pl.col("event") != "").drop("_event")

    def _time(self, done: Cleaned) -> None:
        events = done.events.rename({"time": "_raw"})
        config = self.config
        times = parse_times(events["_raw"], unit=config.time_unit, layout=config.time_format, timezone=config.timezone)
        done.events = events.with_columns(times["time"], times["naive"].alias("_naive"))
        raw = pl.col("_raw")
        missing = done.events.select(raw.is_null() | raw.cast(pl.String, strict=False).str.strip_chars().is_in(BLANKS))
        self._reject(done, missing.to_series(), "time", "no time")
        self._reject(done, done.events["time"].is_null(), "time", "time is not readable", raw)
        self._reject(done, done.events["time"] < self.first, "time", f"time is before {config.min_time}", raw)
        late = f"time is after {config.max_time}" if config.max_time else "time is in the future"
        self._reject(done, done.events["time"] > self.last, "time", late, raw)
        done.events = done.events.drop("_raw")

    def _numbers(self, done: Cleaned) -> None:
        for name in ("price", "quantity", "position", "propensity"):
            if done.events[name].dtype == pl.Null:
                continue
            done.events = done.events.with_columns(pl.col(name).alias("_raw"), number_of(done.events, name).alias(name))
            column, raw = done.events[name], pl.col("_raw")
            self._reject(done, column.is_infinite().fill_null(False), name, f"{name} is not a number", raw)
            for reason, bad in _IMPOSSIBLE[name].items():
                self._reject(done, done.events.select(bad.fill_null(False)).to_series(), name, f"{name} {reason}", raw)
            done.events = done.events.drop("_raw")


_WHOLE = 2**31 - 1
_IMPOSSIBLE = {
    "price": {"is negative": pl.col("price") < 0},
    "quantity": {
        "is not positive": pl.col("quantity") <= 0,
        "is not a whole number": (pl.col("quantity") != pl.col("quantity").floor()) | (pl.col("quantity") > _WHOLE),
    },
    "position": {
        "is negative": pl.col("position") < 0,
        "is not a whole number": (pl.col("position") != pl.col("position").floor()) | (pl.col("position") > _WHOLE),
    },
    "propensity": {"is not in (0, 1]": (pl.col("propensity") <= 0) | (pl.col("propensity") > 1)},
}


def _with_all_columns(rows: pl.DataFrame) -> pl.DataFrame:
    lost = [pl.lit(None).alias(name) for name in TYPED if name not in rows.columns]
    rows = rows.with_columns(lost)
    return rows.select(*TYPED, *(name for name in rows.columns if name not in TYPED))


def id_text(rows: pl.DataFrame, name: str) -> pl.Expr:
    """An id column as stripped text, null where blank; whole floats (ids beside missing ones) lose their `.0`."""
    column = pl.col(name)
    if rows[name].dtype.is_float():
        whole = column.is_finite() & (column == column.round())
        column = (
            pl.when(whole).then(column.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(column.cast(pl.String))
        )
    text = column.cast(pl.String, strict=False).str.strip_chars()
    return pl.when(text.is_in(BLANKS)).then(None).otherwise(text).alias(name)


def number_of(rows: pl.DataFrame, name: str) -> pl.Expr:
    """A column as Float64: null where blank or not a number; text that is no number gives infinity, to be rejected."""
    column = pl.col(name)
    if rows[name].dtype != pl.String:
        return column.cast(pl.Float64, strict=False).fill_nan(None)
    text = column.str.strip_chars()
    number = text.cast(pl.Float64, strict=False).fill_nan(None)
    unreadable = number.is_null() & text.is_not_null() & ~text.str.to_lowercase().is_in([b.lower() for b in BLANKS])
    return pl.when(unreadable).then(math.inf).otherwise(number)


def pseudonymise(events: pl.DataFrame, key: str) -> pl.DataFrame:
    """Replace ids of shoppers, sessions and slates by 32 hex digits of keyed BLAKE2b; equal ids stay equal.

    Slates too, since shops make their ids of those of shoppers and sessions. Another key gives other digits.
    """
    secret = hashlib.sha256(key.encode()).digest()
    for name, salt in (("shopper_id", b"shopper"), ("session_id", b"session"), ("slate_id", b"slate")):
        ids = events[name].drop_nulls().unique()
        fresh = [hashlib.blake2b(one.encode(), digest_size=16, key=secret, person=salt).hexdigest() for one in ids]
        events = events.with_columns(pl.col(name).replace_strict(ids, pl.Series(fresh, dtype=pl.String), default=None))
    return events


_DONE_WITH = ("price", "quantity")


def without_duplicates(events: pl.DataFrame) -> pl.DataFrame:
    """Events without repeats of one shopper, time, item, event and slate; the best placed, then first read, is kept.

    What was done at another price or in another quantity is no repeat: two lines of an order may share all the rest.
    Returns them ordered by shopper and time; at one moment what was shown comes before what was done, in file order.
    """
    acted = pl.col("event") != Event.IMPRESSION.label
    ordered = events.sort("shopper_id", "time", acted, "_file", "_line", nulls_last=True).with_row_index("_row")
    done = ordered.with_columns(pl.when(acted).then(name).alias(f"_{name}") for name in _DONE_WITH)
    key = ["shopper_id", "time", "item_id", "event", "slate_id", *(f"_{name}" for name in _DONE_WITH)]
    best = done.sort("position", "_row", nulls_last=True).unique(key, keep="first", maintain_order=True)
    return best.sort("_row").drop("_row", *(f"_{name}" for name in _DONE_WITH))
