"""The tokens that a history observation shows.

Shapes: B rows (shoppers), H tokens kept, K slots.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(slots=True)
class Recent:
    """The last H tokens of each of B rows, left-aligned, oldest first, zeros after the end.

    Attributes:
        items: (B, H) int64. events: (B, H) int64. gaps: (B, H) float32 seconds. lengths: (B, 1) int64.
        slates: (B, H, K) int64 the slate that each token answers, zeros where the shopper brought the token along.
    """

    items: Ints
    events: Ints
    gaps: Floats
    lengths: Ints
    slates: Ints

    @classmethod
    def empty(cls, rows: int, width: int, k: int) -> "Recent":
        """No tokens yet."""
        items, slates = np.zeros((rows, width), np.int64), np.zeros((rows, width, k), np.int64)
        return cls(items, items.copy(), np.zeros((rows, width), np.float32), np.zeros((rows, 1), np.int64), slates)

    def add(self, items: Ints, events: Ints, gaps: Floats, slates: Ints | None = None) -> None:
        """Append one token; a row whose item is 0 stays as it was, a full one forgets its oldest.

        Args:
            items: (B,).
            events: (B,).
            gaps: (B,).
            slates: (B, K) what the tokens answer; None for tokens brought along.
        """
        width = self.items.shape[1]
        new = np.flatnonzero(items)
        full = new[self.lengths[new, 0] == width]
        for column in (self.items, self.events, self.gaps, self.slates):
            column[full, :-1] = column[full, 1:]
        place = np.minimum(self.lengths[new, 0], width - 1)
        self.items[new, place], self.events[new, place], self.gaps[new, place] = items[new], events[new], gaps[new]
        self.slates[new, place] = 0 if slates is None else slates[new]
        self.lengths[new, 0] = place + 1

    def put(self, rows: Ints, other: "Recent") -> None:
        """Overwrite some rows with all rows of `other`."""
        self.items[rows], self.events[rows] = other.items, other.events
        self.gaps[rows], self.lengths[rows] = other.gaps, other.lengths
        self.slates[rows] = other.slates
