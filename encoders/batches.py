"""Sessions packed whole into rows of tokens, so that little of a training batch is padding.

A row holds one session after the other, each with the token that begins every history; a token sees its own session
alone. Sessions are chosen for a row by first fit, longest first.

Shapes: S sessions, R rows, L places of a row.

Source: packing of sequences with a block-diagonal mask, Krell et al., "Efficient sequence packing without
cross-contamination", 2021.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.schema import Event
from ..datasets.tokens import Ints, Tokens

_POOL = 32  # batches whose sessions are packed together; more would leave no fewer places empty


@dataclass(frozen=True, slots=True)
class Layout:
    """Which sessions a batch holds, and where.

    Attributes:
        sessions: (S,) session numbers. row, begin: (S,) row of each, and the place of the token that begins it.
        shape: (R, L).
    """

    sessions: Ints
    row: Ints
    begin: Ints
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Tokens in rows, and what is asked after each: what comes next in its session. All (R, L).

    Attributes:
        items, events: int64, 0 at padding and where a session begins. gaps: float32.
        queries: int64 number of the search that led to the token, 0 for none.
        session: int64 number of the session within its row, from 1; 0 at padding.
        place: int64 place within the session, 0 for the token that begins it. length: int64 tokens of its session.
        next_items, next_events, next_queries: int64 of the next token, 0 where there is none. next_gaps: float32.
        follows: bool, there is a next token. chosen: bool, and it is the shopper's own choice (no ignored slate).
        ends: bool, the session ends here. knows_end: bool, whether it does is known: not where a session was cut.
        buys: bool, a purchase is still to come.
    """

    items: Tensor
    events: Tensor
    gaps: Tensor
    queries: Tensor
    session: Tensor
    place: Tensor
    length: Tensor
    next_items: Tensor
    next_events: Tensor
    next_gaps: Tensor
    next_queries: Tensor
    follows: Tensor
    chosen: Tensor
    ends: Tensor
    knows_end: Tensor
    buys: Tensor

    def in_sight(self, window: int) -> Tensor:
        """(R, 1, L, L) bool, whether a token may attend to another: of its own session, no later, within the window."""
        places = torch.arange(self.items.shape[1], device=self.items.device)
        back = places[:, None] - places
        own = self.session[:, :, None] == self.session[:, None, :]
        return (own & (back >= 0) & (back < window))[:, None]

    @property
    def choice(self) -> Tensor:
        """(R, L) bool, tokens of items that shoppers chose."""
        return (self.place > 0) & (self.events != Event.IMPRESSION)

    def choices(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What shoppers chose in the sessions of some places.

        Args:
            places: (M,) counted over all rows.

        Returns:
            (M, T) int64 places of the sessions' tokens, and two (M, T) bool masks: chosen by then, and chosen later.
        """
        place, length = self.place.flatten()[places, None], self.length.flatten()[places, None]
        token = torch.arange(int(length.max()) if len(places) else 0, device=places.device)
        source = torch.where(token < length, places[:, None] - place + 1 + token, 0)
        chosen = (token < length) & self.choice.flatten()[source]
        return source, chosen & (token < place), chosen & (token >= place)

    def often(self) -> Tensor:
        """(R, L) int64, how often the item of a place was chosen in its session; 0 where it was not."""
        rows = torch.arange(len(self.items), device=self.items.device)[:, None]
        session = rows * (self.items.shape[1] + 1) + self.session
        key = session * (self.items.max() + 1) + self.items
        _, group, count = key[self.choice].unique(return_inverse=True, return_counts=True)
        return torch.zeros_like(self.items).masked_scatter(self.choice, count[group])


def layouts(
    lengths: Ints, *, pack: int, size: int, rng: np.random.Generator | None, sessions: Ints | None = None
) -> list[Layout]:
    """The batches of one pass.

    Args:
        lengths: (S,) tokens of each session; empty sessions are left out.
        sessions: those of the pass, some perhaps several times; every one once when None.
        pack: places of a row, at least 2; a session that needs more gets a row of the next multiple of that.
        size: places of a batch, at most, unless one row has more.
        rng: shuffles sessions, rows and batches; without one the order is that of the sessions, pool by pool.
    """
    order = np.arange(len(lengths)) if sessions is None else sessions
    order = order[lengths[order] > 0]
    if rng is not None:
        rng.shuffle(order)
    pool = np.cumsum(lengths[order] + 1) // max(size * _POOL, 1)
    batches: list[Layout] = []
    for sessions in np.split(order, np.flatnonzero(np.diff(pool)) + 1):
        rows = list(_rows(sessions, lengths[sessions] + 1, pack))
        if rng is not None:
            rows = [rows[place] for place in rng.permutation(len(rows))]
        rows.sort(key=lambda row: row[0])  # rows of one width share a batch
        batches += [_layout(part, lengths) for part in _cut(rows, size)]
    return batches if rng is None else [batches[place] for place in rng.permutation(len(batches))]


_Row = tuple[int, list[int]]  # places, sessions


def _rows(sessions: Ints, sizes: Ints, pack: int) -> Iterator[_Row]:
    """Rows filled by first fit, longest session first: each takes the longest that is left and still fits."""
    waiting: dict[int, list[int]] = {}
    for session, size in zip(sessions.tolist(), sizes.tolist(), strict=True):
        waiting.setdefault(size, []).append(session)
    left = sorted(waiting)
    while left:
        width = room = -(-left[-1] // pack) * pack
        held: list[int] = []
        while (fitting := bisect_right(left, room) - 1) >= 0:
            size = left[fitting]
            held.append(waiting[size].pop())
            room -= size
            if not waiting[size]:
                del left[fitting]
        yield width, held


def _cut(rows: list[_Row], size: int) -> Iterator[list[_Row]]:
    """Rows, narrowest first, in batches of `size` places at most."""
    begin = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end - begin + 1) * rows[end][0] > size:
            yield rows[begin:end]
            begin = end


def _layout(rows: list[_Row], lengths: Ints) -> Layout:
    sessions = np.array([session for _, held in rows for session in held], np.int64)
    row = np.repeat(np.arange(len(rows)), [len(held) for _, held in rows])
    sizes = lengths[sessions] + 1
    stop = np.cumsum(sizes)
    first = np.flatnonzero(np.diff(row, prepend=-1))  # of each row
    begin = stop - sizes - (stop - sizes)[first][row]
    return Layout(sessions, row, begin, (len(rows), rows[-1][0]))


def drawn_by_age(n: int, half_life: float | None, rng: np.random.Generator) -> Ints:
    """As many sessions as there are, in order, recent ones drawn more often.

    Args:
        n: sessions, in order of time.
        half_life: share of them after which an older one is drawn half as often; every one once when None.
        rng: where the draw begins; each session is drawn as often as expected, but for less than one time.

    Source: systematic resampling, Kitagawa 1996.
    """
    if half_life is None:
        return np.arange(n)
    weight = 0.5 ** (np.arange(n, 0, -1) / (n * half_life))
    bounds = np.cumsum(weight) * (n / weight.sum())
    return np.searchsorted(bounds, np.arange(n) + rng.random(), side="right").clip(max=n - 1).astype(np.int64)


def packed_batch(tokens: Tokens, layout: Layout, max_tokens: int, device: torch.device | str = "cpu") -> PackedBatch:
    """The batch of a layout; sessions longer than `max_tokens` are cut there."""
    lengths = np.minimum(tokens.lengths[layout.sessions], max_tokens)
    sizes = lengths + 1
    stop = np.cumsum(sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(stop[-1]) - (stop - sizes)[owner]
    token = np.maximum(tokens.offsets[layout.sessions][owner] + place - 1, 0)
    is_token = place > 0
    items, events = np.where(is_token, tokens.items[token], 0), np.where(is_token, tokens.events[token], 0)
    gaps = np.where(is_token, tokens.gaps[token], 0)
    queries = np.zeros_like(items) if tokens.queries is None else np.where(is_token, tokens.queries[token], 0)
    follows = place < lengths[owner]
    bought = np.cumsum(events == Event.PURCHASE)
    next_items, next_events, next_gaps, next_queries = (
        np.where(follows, np.roll(column, -1), 0) for column in (items, events, gaps, queries)
    )
    whole = (tokens.lengths[layout.sessions] == lengths)[owner]
    # A session has a token at least, so nothing is learnt from it not ending before its first.
    knows_end = (follows | whole) & is_token
    target = (layout.row * layout.shape[1] + layout.begin)[owner] + place
    columns = (
        items,
        events,
        gaps.astype(np.float32),
        queries,
        owner - np.searchsorted(layout.row, layout.row[owner]) + 1,
        place,
        lengths[owner],
        next_items,
        next_events,
        next_gaps.astype(np.float32),
        next_queries,
        follows,
        follows & (next_items > 0) & (next_events != Event.IMPRESSION),
        ~follows,
        knows_end,
        bought < bought[stop - 1][owner],
    )
    return PackedBatch(*(_scattered(column, target, layout.shape).to(device) for column in columns))


def _scattered(values: np.ndarray, target: Ints, shape: tuple[int, int]) -> Tensor:
    """(R, L) with the values at their places and zeros elsewhere."""
    held = np.zeros(shape, values.dtype)
    held.reshape(-1)[target] = values
    return torch.from_numpy(held)
