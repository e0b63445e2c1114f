"""From events to tokens: what a session looks like to a model.

One token is one thing a shopper did: an item, how far it went with it, and the time since the token before.

- Events that follow each other on one item (view, click, cart, purchase) fold into one token whose event is the
  deepest reached, unless a new slate starts in between.
- A slate that got no click is one token: its best-placed item, with event `IMPRESSION`.
- `UNCART` is a token of its own.

So a simulated shopper adds exactly one token a slate, and a log, a simulator and a server say the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schema import Event

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class History:
    """A batch of token histories, oldest first, padded with zeros at the end.

    Attributes:
        items: (B, T) int64 dense item indices, 0 where padded.
        events: (B, T) int64 codes of `Event`, 0 where padded.
        gaps: (B, T) float32 seconds since the token before; 0 for a session's first.
        lengths: (B,) int64 number of tokens of each row, in [0, T].
        queries: (B, T) int64 number of the search that led to each token, 0 where none did; None if none is known.
    """

    items: Ints
    events: Ints
    gaps: Floats
    lengths: Ints
    queries: Ints | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def empty(cls, rows: int, width: int = 1) -> "History":
        """`rows` shoppers who have done nothing yet."""
        shape = (rows, width)
        gaps, lengths = np.zeros(shape, np.float32), np.zeros(rows, np.int64)
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64), gaps, lengths)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of many sessions, end to end; session s owns entries `offsets[s]:offsets[s + 1]`.

    Attributes:
        items: (T,) int64 dense item indices.
        events: (T,) int64 codes of `Event`.
        gaps: (T,) float32 seconds since the session's token before; 0 for its first.
        offsets: (S + 1,) int64.
        queries: (T,) int64 number of the search that led to the token, 0 where none did; None if none is known. Whoever
            made the tokens keeps the texts, for instance `ShopLog.queries`.
    """

    items: Ints
    events: Ints
    gaps: Floats
    offsets: Ints
    queries: Ints | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """(S,) tokens of each session."""
        return np.diff(self.offsets)

    def part(self, sessions: Ints) -> "Tokens":
        """The tokens of some sessions, whole and in the order given."""
        lengths = self.lengths[sessions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.repeat(self.offsets[sessions] - offsets[:-1], lengths) + np.arange(offsets[-1])
        queries = None if self.queries is None else self.queries[source]
        return Tokens(self.items[source], self.events[source], self.gaps[source], offsets, queries)

    def choices(self) -> tuple[Ints, Ints]:
        """What can be foretold: every choice after its session's first token; what a shop shows is no choice.

        Returns:
            (M,) session numbers, and (M,) places in the session, from 1.
        """
        session = np.repeat(np.arange(len(self)), self.lengths)
        place = np.arange(len(session)) - self.offsets[session]
        asked = np.flatnonzero((place > 0) & (self.events != Event.IMPRESSION))
        return session[asked], place[asked]

    def histories(self, sessions: Ints, upto: Ints | None = None, last: int | None = None) -> History:
        """Padded histories of some sessions.

        Args:
            sessions: (B,) session numbers.
            upto: (B,) how many of the session's first tokens to take; all by default.
            last: keep only this many of the latest tokens of each row.
        """
        start, stop = self.offsets[sessions], self.offsets[sessions + 1]
        if upto is not None:
            stop = np.minimum(start + upto, stop)
        if last is not None:
            start = np.maximum(start, stop - last)
        lengths = stop - start
        place = np.arange(max(int(lengths.max(initial=0)), 1))
        held = place < lengths[:, None]
        source = np.where(held, start[:, None] + place, 0)
        if not len(self.items):
            return History.empty(len(sessions))
        return History(
            np.where(held, self.items[source], 0),
            np.where(held, self.events[source], 0),
            np.where(held, self.gaps[source], 0).astype(np.float32),
            lengths.astype(np.int64),
            None if self.queries is None else np.where(held, self.queries[source], 0),
        )


def tokenise(
    session: Ints,
    item: Ints,
    event: Ints,
    seconds: NDArray[np.float64],
    slate: Ints,
    position: Ints,
    query: Ints | None = None,
) -> tuple[Tokens, Ints]:
    """Tokens of sessions given their events.

    Args:
        session: (E,) session numbers 0..S-1, non-decreasing; within a session events are in order of time.
        item: (E,) dense item indices; events on index 0 (unknown items) are passed over.
        event: (E,) codes of `Event`.
        seconds: (E,) time of the event in seconds.
        slate: (E,) a number naming the slate the event belongs to, -1 for none.
        position: (E,) place of an impression in its slate, 0-based; -1 where unknown.
        query: (E,) number of the search that the event answers, 0 for none; None where no event has one. A slate's
            events share its search, and a token has the first of its events'.

    Returns:
        The tokens, and (E,) the number of the token each event went into, counted over all sessions, -1 for none
        (impressions of a slate that was clicked, or below the slate's best place).
    """
    n_sessions = int(session[-1]) + 1 if len(session) else 0
    kept = np.flatnonzero(_kept(item, event, slate, position))
    s, i, e, sl = (column[kept] for column in (session, item, event, slate))
    t = seconds[kept]
    starts = np.ones(len(kept), dtype=bool)
    if len(kept) > 1:
        same = (s[1:] == s[:-1]) & (i[1:] == i[:-1]) & _foldable(e[1:]) & _foldable(e[:-1])
        # An event continues the token when it names no slate, or the slate that the token's last named slate is.
        named = np.where(sl >= 0, np.arange(len(kept)), 0)
        last_named = sl[np.maximum.accumulate(named)]
        starts[1:] = ~(same & ((sl[1:] < 0) | (sl[1:] == last_named[:-1])))
    token = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    deepest = np.maximum.reduceat(e, first) if len(first) else e
    begun, owner = t[first], s[first]
    gaps = np.zeros(len(first), np.float32)
    if len(first) > 1:
        gaps[1:] = np.where(owner[1:] == owner[:-1], np.maximum(begun[1:] - begun[:-1], 0), 0)
    offsets = np.searchsorted(owner, np.arange(n_sessions + 1)).astype(np.int64)
    of_event = np.full(len(session), -1, np.int64)
    of_event[kept] = token
    asked = None if query is None else _queries(query, slate, of_event, len(first))
    return Tokens(i[first].astype(np.int64), deepest.astype(np.int64), gaps, offsets, asked), of_event


def _queries(query: Ints, slate: Ints, token: Ints, n_tokens: int) -> Ints:
    """(T,) search of each token."""
    answers = np.flatnonzero((query > 0) & (slate >= 0))
    of_slate = np.zeros(int(slate.max(initial=-1)) + 2, np.int64)  # its last entry is for "no slate"
    of_slate[slate[answers][::-1]] = query[answers][::-1]  # of several the first stays
    full = np.where(query > 0, query, of_slate[slate])
    asked = np.flatnonzero((full > 0) & (token >= 0))
    found = np.zeros(n_tokens, np.int64)
    found[token[asked][::-1]] = full[asked][::-1]
    return found


def _foldable(event: Ints) -> NDArray[np.bool_]:
    return (event >= Event.VIEW) & (event <= Event.PURCHASE)


def _kept(item: Ints, event: Ints, slate: Ints, position: Ints) -> NDArray[np.bool_]:
    """Events that make tokens: all but impressions, and of a slate without a click its best-placed impression."""
    shown = event == Event.IMPRESSION
    kept = (item > 0) & ~shown
    if not shown.any():
        return kept
    clicked = np.unique(slate[kept & (slate >= 0)])
    candidates = np.flatnonzero(shown & (item > 0) & (slate >= 0) & ~np.isin(slate, clicked))
    place = np.where(position[candidates] >= 0, position[candidates], np.iinfo(np.int64).max)
    order = candidates[np.lexsort((candidates, place, slate[candidates]))]
    best = order[np.flatnonzero(np.diff(slate[order], prepend=-2))] if len(order) else order
    kept[best] = True
    return kept
