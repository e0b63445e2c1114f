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
        items: (S, K) dense item indices, best place first, 0 where the slate is shorter.
        clicked: (S,) place of the first click, -1 for none.
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
        item = self.catalogue.index_of(events["item_id"])
        code = events["event"].map(EVENT_CODES).to_numpy(dtype=np.int64)
        seconds = events["time"].to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6
        slate = pd.factorize(events["slate_id"])[0].astype(np.int64)
        position = events["position"].astype("Float64").fillna(-1).to_numpy(dtype=np.int64)
        return item, code, seconds, slate, position

    @cached_property
    def _tokenised(self) -> tuple[Tokens, Ints]:
        item, code, seconds, slate, position = self._columns
        return tokenise(self.session_of_event, item, code, seconds, slate, position)

    @property
    def tokens(self) -> Tokens:
        """The sessions as tokens, by session number."""
        return self._tokenised[0]

    @cached_property
    def slates(self) -> Slates:
        """The slates shown, with what became of them; empty where the log has no impressions."""
        return _slates(self)

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
        share = {one: int.from_bytes(hashlib.sha256(str(one).encode()).digest()[:4], "big") % of for one in ids.unique()}
        return self.part((ids.map(share) == half).to_numpy())


def _slates(log: ShopLog) -> Slates:
    item, code, seconds, slate, position = log._columns
    tokens, token_of_event = log._tokenised
    session = log.session_of_event
    shown = np.flatnonzero((code == Event.IMPRESSION) & (slate >= 0) & (item > 0))
    unplaced = position[shown] < 0
    # Ordered by slate number, then place; slates are numbered in order of appearance, that is by session and time.
    order = shown[np.lexsort((shown, np.where(unplaced, np.iinfo(np.int64).max, position[shown]), slate[shown]))]
    first = np.flatnonzero(np.diff(slate[order], prepend=-2))
    n = len(first)
    number = np.full(int(slate.max(initial=-1)) + 1, -1, np.int64)
    number[slate[order[first]]] = np.arange(n)
    row = number[slate[order]]
    place = np.arange(len(order)) - first[row] if n else np.zeros(0, np.int64)
    k = int(place.max(initial=-1)) + 1
    items, propensity = np.zeros((n, k), np.int64), np.full((n, k), np.nan)
    items[row, place] = item[order]
    propensity[row, place] = log.events["propensity"].to_numpy(dtype=np.float64)[order]
    at = session[order[first]]
    begun = seconds[order[first]]

    acted = np.flatnonzero((code == Event.CLICK) & (slate >= 0) & (item > 0))
    acted = acted[number[slate[acted]] >= 0]
    clicked = np.full(n, -1, np.int64)
    rows = number[slate[acted]]
    hits = items[rows] == item[acted][:, None]
    for source in np.flatnonzero(hits.any(axis=1))[::-1]:  # from the last to the first, so that the first click stays
        clicked[rows[source]] = int(hits[source].argmax())
    chosen = np.where(clicked >= 0, items[np.arange(n), np.maximum(clicked, 0)] if k else 0, 0)

    def later(event: Event) -> NDArray[np.bool_]:
        there = np.flatnonzero(code == event)
        latest: dict[tuple[int, int], float] = {}
        for s, i, t in zip(session[there].tolist(), item[there].tolist(), seconds[there].tolist(), strict=True):
            latest[s, i] = t
        pairs = zip(at.tolist(), chosen.tolist(), begun.tolist(), strict=True)
        return np.array([bool(i) and latest.get((s, i), -np.inf) >= t for s, i, t in pairs], dtype=bool)

    last = np.append(at[1:] != at[:-1], True)[:n]
    # Tokens before the slate: those whose first event came before the slate's first row in the log.
    first_event = np.full(len(tokens.items), len(code), np.int64)
    held = np.flatnonzero(token_of_event >= 0)
    np.minimum.at(first_event, token_of_event[held], held)
    before = np.searchsorted(first_event, order[first], side="left") - tokens.offsets[at] if n else np.zeros(0, np.int64)
    dwell = np.full(n, np.nan, np.float32)
    organic = np.flatnonzero((code != Event.IMPRESSION) & (slate < 0))
    marks = np.unique(np.concatenate([order[first], organic]))
    following = np.searchsorted(marks, order[first], side="right")
    has = following < len(marks)
    after = marks[np.minimum(following, max(len(marks) - 1, 0))] if len(marks) else following
    has &= session[after] == at if len(marks) else has
    dwell[has] = np.maximum(seconds[after[has]] - begun[has], 0)
    return Slates(at, before.astype(np.int64), items, clicked, later(Event.CART), later(Event.PURCHASE), propensity, last, dwell)
