"""A shop's log: its catalogue and its sessions, as the rest of the package reads them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..errors import EvidenceError, LogFormatError
from .artefact import read_config
from .catalogue import Catalogue
from .schema import EVENT_CODES, EVENT_SCHEMA, Event
from .tokens import Floats, Ints, Tokens, tokenise


@dataclass(frozen=True, slots=True)
class Slates:
    """What shoppers were shown and what they did with it; a row a slate, in order of session and time.

    Attributes:
        session: (S,) number of the session.
        before: (S,) how many of the session's tokens came before the slate.
        items: (S, K) dense item indices, best place first, 0 where the slate is shorter, or shows an item again.
        clicked: (S,) place of the first click, or of what went into the cart or was bought without one, -1 for none.
        carted: (S,) whether the clicked item was put in the cart later in the session.
        purchased: (S,) whether the clicked item was bought later in the session.
        propensity: (S, K) chance of each item at its place given those above it; nan where not logged.
        last: (S,) whether no further slate came in the session.
        dwell: (S,) float32 seconds to the session's next slate or organic event; nan for its last.
    """

    session: Ints
    before: Ints
    items: Ints
    clicked: Ints
    carted: NDArray[np.bool_]
    purchased: NDArray[np.bool_]
    propensity: NDArray[np.float64]
    last: NDArray[np.bool_]
    dwell: Floats

    def __len__(self) -> int:
        return len(self.session)


@dataclass(frozen=True)
class ShopLog:
    """Sessions of a shop.

    Attributes:
        events: one row an event, columns of `EVENT_SCHEMA`, ordered by session (by its start), then time.
        catalogue: the shop's items.
        facts: what the reader knows of the source, for instance `source`, `currency`, `length_biased`.
    """

    events: pd.DataFrame
    catalogue: Catalogue
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "ShopLog":
        """Read a log artefact.

        Raises:
            ArtefactError: the folder is no finished log.
            LogFormatError: its files cannot be read.
        """
        config = read_config(Path(folder), "log")
        path = Path(folder) / "events.parquet"
        try:
            events = pq.read_table(path).to_pandas()
        except (pa.ArrowInvalid, OSError) as error:
            raise LogFormatError(f"{path} is not a readable event log: {error}") from error
        return cls(events, Catalogue.load(Path(folder) / "catalogue.parquet"), config["slatewise_artefact"]["facts"])

    def save(self, folder: Path) -> None:
        """Write `events.parquet` and `catalogue.parquet` into a folder."""
        table = pa.Table.from_pandas(self.events[EVENT_SCHEMA.names], schema=EVENT_SCHEMA, preserve_index=False)
        pq.write_table(table, Path(folder) / "events.parquet", compression="zstd")
        self.catalogue.save(Path(folder) / "catalogue.parquet")

    @cached_property
    def session_of_event(self) -> Ints:
        """(E,) session number of each event, 0..n_sessions-1 in order of appearance."""
        return pd.factorize(self.events["session_id"])[0].astype(np.int64)

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """One row a session, by number: `session_id`, `shopper_id`, `start`, `end`, `events`."""
        grouped = self.events.groupby(self.session_of_event, sort=False)
        return pd.DataFrame(
            {
                "session_id": grouped["session_id"].first(),
                "shopper_id": grouped["shopper_id"].first(),
                "start": grouped["time"].min(),
                "end": grouped["time"].max(),
                "events": grouped.size(),
            }
        )

    def __len__(self) -> int:
        return len(self.sessions)

    @cached_property
    def _columns(self) -> tuple[Ints, Ints, NDArray[np.float64], Ints, Ints]:
        """Item, event code, seconds, slate number and position of each event."""
        events = self.events
        # Each different id is looked up once: there are far fewer than events.
        place, ids = pd.factorize(events["item_id"])
        item = self.catalogue.index_of(ids)[place]
        place, names = pd.factorize(events["event"])
        strange = [name for name in names if name not in EVENT_CODES]
        if strange:
            raise LogFormatError(f"the log has events of kind {strange[0]!r}; known are {', '.join(EVENT_CODES)}")
        code = np.array([EVENT_CODES[name] for name in names], dtype=np.int64)[place]
        seconds = events["time"].to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6
        slate = pd.factorize(events["slate_id"])[0].astype(np.int64)
        # A slate belongs to its session, also where a source counts slates anew in each session.
        named = slate >= 0
        slate[named] = pd.factorize(self.session_of_event[named] * (slate.max(initial=0) + 1) + slate[named])[0]
        position = np.asarray(events["position"].astype("Float64").fillna(-1), dtype=np.int64)
        shown = np.flatnonzero((code == Event.IMPRESSION) & (slate >= 0))
        position[shown] = _placed(slate[shown], position[shown])
        return item, code, np.asarray(seconds, dtype=np.float64), slate, position

    @cached_property
    def _searches(self) -> tuple[tuple[str, ...], Ints | None]:
        if "query" not in self.events:
            return ("",), None
        asked = self.events["query"].astype(object).where(self.events["query"].notna(), "")
        place, texts = pd.factorize(asked.astype(str).str.strip())
        named = {text: number for number, text in enumerate((text for text in texts if text), start=1)}
        if not named:
            return ("",), None
        return ("", *named), np.array([named.get(text, 0) for text in texts], np.int64)[place]

    @property
    def queries(self) -> tuple[str, ...]:
        """Different texts that shoppers searched for, by the numbers of `tokens.queries`; entry 0 is empty."""
        return self._searches[0]

    @cached_property
    def _tokenised(self) -> tuple[Tokens, Ints]:
        item, code, seconds, slate, position = self._columns
        return tokenise(self.session_of_event, item, code, seconds, slate, position, self._searches[1])

    @property
    def tokens(self) -> Tokens:
        """The sessions as tokens, by session number."""
        return self._tokenised[0]

    @cached_property
    def slates(self) -> Slates:
        """The slates shown, with what became of them; empty where the log has no impressions.

        An item without a position stands below the one logged before it on its slate.
        """
        return _slates(self)

    @cached_property
    def clicks_elsewhere(self) -> int:
        """Clicks that name a slate which did not show their item; on `slates` they count as none."""
        item, code, _, slate, _ = self._columns
        pair, there = slate * (self.catalogue.n_items + 1) + item, (slate >= 0) & (item > 0)
        shown, clicked = (pair[there & (code == event)] for event in (Event.IMPRESSION, Event.CLICK))
        return int((~np.isin(clicked, shown)).sum())

    def part(self, sessions: NDArray[np.bool_] | Ints) -> "ShopLog":
        """The log of some of the sessions (a mask or numbers), catalogue kept whole."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[sessions] = True
        return ShopLog(self.events[chosen[self.session_of_event]].reset_index(drop=True), self.catalogue, self.facts)

    def split_at(self, *fractions: float) -> list["ShopLog"]:
        """Cut by time into consecutive parts that hold these fractions of the sessions, and the rest.

        A session belongs to the part in which it starts, whole.

        Raises:
            ValueError: the fractions are not positive or sum to 1 or more.
            EvidenceError: a part would hold no session.
        """
        if not all(part > 0 for part in fractions) or sum(fractions) >= 1:
            raise ValueError(f"fractions must be positive and sum to less than 1, got {fractions}")
        start = self.sessions["start"].to_numpy(dtype="datetime64[us]").astype(np.int64)
        edges = np.quantile(start, np.cumsum(fractions))
        part_of = np.searchsorted(edges, start, side="right")
        parts = [np.flatnonzero(part_of == part) for part in range(len(fractions) + 1)]
        if any(len(part) == 0 for part in parts):
            raise EvidenceError(f"cannot split {len(self)} sessions by time at {fractions}: a part would be empty")
        return [self.part(part) for part in parts]

    def shopper_half(self, half: int, of: int = 2) -> "ShopLog":
        """Sessions of the shoppers whose hashed id falls into share `half` of `of`; the same in every process."""
        ids = self.sessions["shopper_id"]
        share = {
            one: int.from_bytes(hashlib.sha256(str(one).encode()).digest()[:4], "big") % of for one in ids.unique()
        }
        return self.part((ids.map(share) == half).to_numpy())


def _placed(slate: Ints, position: Ints) -> Ints:
    """(E,) positions of impressions (-1 for none), where one that has none takes that of the one before on its slate.

    Items of equal position stand in the order in which they were logged.
    """
    order, row = np.argsort(slate, kind="stable"), np.arange(len(slate))
    slate, position = slate[order], position[order]
    begins, known = np.diff(slate, prepend=-1) != 0, position >= 0
    filled = np.empty_like(position)
    filled[order] = np.maximum(position[np.maximum.accumulate(np.where(begins | known, row, 0))], 0)
    return filled


def _slates(log: ShopLog) -> Slates:
    item, code, seconds, slate, position = log._columns
    shown = np.flatnonzero((code == Event.IMPRESSION) & (slate >= 0) & (item > 0))
    # Ordered by slate number, then place; slates are numbered in order of appearance, that is by session and time.
    order = shown[np.lexsort((shown, position[shown], slate[shown]))]
    first = np.flatnonzero(np.diff(slate[order], prepend=-2))
    best = order[first]  # the event of each slate's best place
    n = len(first)
    number = np.full(int(slate.max(initial=-1)) + 2, -1, np.int64)  # slate -> row; its last entry is for "no slate"
    number[slate[best]] = np.arange(n)
    row = number[slate[order]]
    place = np.arange(len(order)) - first[row] if n else np.zeros(0, np.int64)
    k = int(place.max(initial=-1)) + 1
    items, propensity = np.zeros((n, k), np.int64), np.full((n, k), np.nan)
    items[row, place] = item[order]
    _empty_repeats(items)
    propensity[row, place] = log.events["propensity"].to_numpy(dtype=np.float64)[order]

    slate_row = number[slate]
    session = log.session_of_event[best]
    clicked = _first_click(items, slate_row, item, code)
    chosen = (
        np.where(clicked >= 0, np.take_along_axis(items, np.maximum(clicked, 0)[:, None], 1)[:, 0], 0) if k else clicked
    )
    carted, purchased = (
        _followed(chosen, session, seconds[best], slate_row, log, event) for event in (Event.CART, Event.PURCHASE)
    )
    return Slates(
        session=session,
        before=_tokens_before(best, session, log),
        items=items,
        clicked=clicked,
        carted=carted,
        purchased=purchased,
        propensity=propensity,
        last=np.append(session[1:] != session[:-1], True)[:n],
        dwell=_dwell(best, session, log),
    )


def _empty_repeats(items: Ints) -> None:
    """Empty the later places of an item on its slate, in place: it cannot be chosen twice."""
    ascending = np.sort(items, axis=1)
    rows = np.flatnonzero(((np.diff(ascending, axis=1) == 0) & (ascending[:, 1:] > 0)).any(axis=1))
    order = np.argsort(items[rows], axis=1, kind="stable")
    again, there = np.zeros(order.shape, dtype=bool), ascending[rows]
    np.put_along_axis(again, order[:, 1:], np.diff(there, axis=1) == 0, axis=1)
    items[rows] = np.where(again, 0, items[rows])


def _first_click(items: Ints, slate_row: Ints, item: Ints, code: Ints) -> Ints:
    """(S,) place of the first item clicked on each slate, -1 for none; what the slate lacks does not count.

    What goes into the cart, or is bought, straight from the slate was chosen there as well.
    """
    clicked = np.full(len(items), -1, np.int64)
    acted = np.flatnonzero((code >= Event.CLICK) & (code <= Event.PURCHASE) & (slate_row >= 0) & (item > 0))
    hits = items[slate_row[acted]] == item[acted][:, None]
    acted, hits = acted[hits.any(axis=1)], hits[hits.any(axis=1)]
    rows, earliest = np.unique(slate_row[acted], return_index=True)
    clicked[rows] = hits[earliest].argmax(axis=1) if len(rows) else 0
    return clicked


def _followed(
    chosen: Ints, session: Ints, begun: NDArray[np.float64], slate_row: Ints, log: ShopLog, event: Event
) -> NDArray[np.bool_]:
    """(S,) whether an event came to the item chosen from each slate.

    An event that names a slate is that slate's alone; one that names none is any slate's of its session up to then.
    """
    item, code, seconds, _, _ = log._columns
    there = np.flatnonzero((code == event) & (item > 0))
    rows = slate_row[there]
    followed = np.zeros(len(chosen), dtype=bool)
    followed[rows[(rows >= 0) & (chosen[rows] == item[there])] if len(chosen) else []] = True
    there = there[rows < 0]
    key = log.session_of_event[there] * (log.catalogue.n_items + 1) + item[there]
    there, key = there[np.argsort(key, kind="stable")], np.sort(key)
    wanted = session * (log.catalogue.n_items + 1) + chosen
    # Within a key the events stay in order of time, so its last one tells whether any came at or after the slate.
    latest = np.searchsorted(key, wanted, side="right") - 1
    found = (chosen > 0) & (latest >= 0)
    found[found] = key[latest[found]] == wanted[found]
    found[found] = seconds[there[latest[found]]] >= begun[found]
    return followed | found


def _tokens_before(best: Ints, session: Ints, log: ShopLog) -> Ints:
    """(S,) tokens of the session whose first event came before the slate's."""
    tokens, token_of_event = log._tokenised
    held = np.flatnonzero(token_of_event >= 0)
    first_event = held[np.flatnonzero(np.diff(token_of_event[held], prepend=-1))]
    return (np.searchsorted(first_event, best, side="left") - tokens.offsets[session]).astype(np.int64)


def _dwell(best: Ints, session: Ints, log: ShopLog) -> Floats:
    """(S,) seconds to the next slate or organic event of the session, nan where none came."""
    _, code, seconds, slate, _ = log._columns
    dwell = np.full(len(best), np.nan, np.float32)
    marks = np.unique(np.concatenate([best, np.flatnonzero((code != Event.IMPRESSION) & (slate < 0))]))
    following = np.searchsorted(marks, best, side="right")
    has = np.flatnonzero(following < len(marks))
    has = has[log.session_of_event[marks[following[has]]] == session[has]]
    dwell[has] = np.maximum(seconds[marks[following[has]]] - seconds[best[has]], 0)
    return dwell
