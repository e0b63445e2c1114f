"""Shoppers who are ready before a place falls free: making many at once costs little more than making one.

Shapes: B rows, A shoppers ready for each row, n some of the rows.
"""

import numpy as np

from .batch import Arrivals, ShopBatch
from .figures import Ints
from .rows import each_row, rows_of
from .seeds import SeedStreams

_AHEAD = 4  # shoppers ready for each row at least; more saves little and keeps that many encoder memories
_TOGETHER = 64  # shoppers made at once at least, however few the rows: making them takes half as long again as one


class WaitingRoom:
    """The next shoppers of each row of a batch, in the order in which its seed stream draws them.

    Args:
        batch: the shop they wait for.
        streams: whose next draws they are.
    """

    def __init__(self, batch: ShopBatch, streams: SeedStreams) -> None:
        self._batch, self._streams = batch, streams
        self._ahead = max(_AHEAD, _TOGETHER // batch.rows)  # A
        self._ready = np.zeros(batch.rows, np.int64)  # shoppers ready for each row
        self._first = np.zeros(batch.rows, np.int64)  # place of the next of them, in a ring of A places
        self._held: Arrivals | None = None  # (B * A,) row r's ring begins at r * A
        self._queue: list[Arrivals] = []  # those of a single row instead, the next one last

    def forget(self, rows: Ints) -> None:
        """Send away who waits for these rows: their seeds have changed, or a draw was taken elsewhere."""
        self._ready[rows] = 0
        self._queue.clear()

    def next(self, rows: Ints) -> tuple[Ints, Arrivals]:
        """Seeds (n,) of the next shoppers of these rows, drawn, and the shoppers."""
        if self._batch.rows == 1:
            return self._next_alone(rows)
        if not self._ready[rows].all():
            self._fill()
        places = rows * self._ahead + self._first[rows]
        self._first[rows] = (self._first[rows] + 1) % self._ahead
        self._ready[rows] -= 1
        self._streams.skip(rows)
        assert self._held is not None
        chosen = rows_of(self._held, places)
        return chosen.state.seed.cpu().numpy(), chosen

    def _next_alone(self, rows: Ints) -> tuple[Ints, Arrivals]:
        """As `next`, of a batch of one row: a queue is quicker than a ring."""
        if not self._queue:
            fresh = self._batch.prepare(self._streams.peek(np.repeat(rows, self._ahead), np.arange(self._ahead)))
            self._queue = each_row(fresh, self._ahead)[::-1]
        self._streams.skip(rows)
        chosen = self._queue.pop()
        return chosen.state.seed.cpu().numpy(), chosen

    def _fill(self) -> None:
        """Make shoppers until every row has all it can hold."""
        ahead = np.arange(self._ahead)
        rows, later = np.nonzero(ahead >= self._ready[:, None])
        places = rows * self._ahead + (self._first[rows] + later) % self._ahead
        fresh = self._batch.prepare(self._streams.peek(rows, later))
        if self._held is None:
            order = np.argsort(places)
            self._held = rows_of(fresh, order)
        else:
            self._held.put(places, fresh)
        self._ready[:] = self._ahead
