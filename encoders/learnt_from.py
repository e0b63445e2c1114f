"""Which sessions an encoder learnt from, in little room: enough to tell whether another log holds the same ones.

Each session has a hash of 64 bits, of its ids, its times and its length. Kept are the smallest 256 of those learnt
from: of another log's sessions, those whose hash lies below the largest of them were learnt from if and only if their
hash is among them, and which sessions lie there is chance. Nothing can be read from a hash by who does not hold the
session itself.

Source: Bar-Yossef et al., "Counting distinct elements in a data stream", RANDOM 2002 (k minimum values).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..datasets.log import ShopLog

SKETCH = 256
"""Hashes kept at most."""
_END = 2**64  # above every hash


@dataclass(frozen=True, slots=True)
class SessionSketch:
    """A sample of the sessions that were learnt from.

    Attributes:
        hashes: in rising order.
        below: every session learnt from whose hash is below this one is among them; in (0, 2^64].
    """

    hashes: tuple[int, ...]
    below: int

    @classmethod
    def of(cls, log: ShopLog) -> Self:
        """The sketch of all sessions of a log."""
        return cls._smallest({int(one) for one in session_hashes(log)}, _END)

    @classmethod
    def _smallest(cls, hashes: set[int], below: int) -> Self:
        kept = sorted(one for one in hashes if one < below)
        return cls(tuple(kept[:SKETCH]), below if len(kept) <= SKETCH else kept[SKETCH])

    def joined(self, other: "SessionSketch") -> "SessionSketch":
        """The sketch of what either learnt from."""
        return self._smallest({*self.hashes, *other.hashes}, min(self.below, other.below))

    def shared(self, log: ShopLog) -> tuple[int, int]:
        """How many sessions of a log, of those that can be looked up, were learnt from; and how many can be."""
        there = [int(one) for one in session_hashes(log) if int(one) < self.below]
        return len(set(self.hashes).intersection(there)), len(there)

    def to_list(self) -> list[str]:
        """For JSON: `below`, then the hashes, in hexadecimal."""
        return [f"{one:x}" for one in (self.below, *self.hashes)]

    @classmethod
    def from_list(cls, values: Sequence[str]) -> Self:
        """As written by `to_list`."""
        below, *hashes = (int(one, 16) for one in values)
        return cls(tuple(hashes), below)


def session_hashes(log: ShopLog) -> NDArray[np.uint64]:
    """(sessions,) hash of each session's ids, start, end and number of events; the same in every process."""
    frame = log.sessions
    times = (frame[name].to_numpy(dtype="datetime64[us]").astype(np.int64).tolist() for name in ("start", "end"))
    rows = zip(frame["shopper_id"], frame["session_id"], *times, frame["events"].tolist(), strict=True)
    words = ("\0".join(map(str, row)).encode() for row in rows)
    found = [int.from_bytes(hashlib.blake2b(one, digest_size=8).digest(), "big") for one in words]
    return np.array(found, dtype=np.uint64)


def sketch_of(encoder: object) -> SessionSketch | None:
    """What is known of the sessions an encoder learnt from; none of one that does not learn, or does not say."""
    values = getattr(getattr(encoder, "config", None), "learnt_from", None)
    return SessionSketch.from_list(values) if values else None
