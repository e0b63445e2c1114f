"""Drawing rows in proportion to how much they were misjudged, in logarithmic time.

Source: Schaul et al., "Prioritized experience replay", ICLR 2016 (arXiv 1511.05952): the proportional form, drawn
from a sum tree in equal strata.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
SMALL = 1e-3
"""Added to every error, so that no row is never drawn again; in the unit of errors."""


class Priorities:
    """Priorities of the rows of a replay; rows never added have none and are never drawn.

    Args:
        rows: how many there can be.
        power: to which errors are raised, above 0: at 1 in proportion to them.
    """

    def __init__(self, rows: int, power: float) -> None:
        self.power = power
        self._leaves = 1 << max(rows - 1, 1).bit_length()
        self._sums = np.zeros(2 * self._leaves)  # a binary tree; node n is the sum of nodes 2 n and 2 n + 1
        self._highest = 1.0

    def add(self, rows: Ints) -> None:
        """Give new rows the highest priority so far: each is likely drawn soon."""
        self._put(rows, np.full(len(rows), self._highest))

    def set(self, rows: Ints, errors: Doubles) -> None:
        """Set rows (B,) by their absolute errors (B,); of a row given twice, the last counts."""
        values = (errors.astype(np.float64) + SMALL) ** self.power
        self._highest = max(self._highest, float(values.max(initial=0.0)))
        self._put(rows, values)

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Ints, Doubles]:
        """Rows (B,) and the chance of each to be drawn, (B,); one row from each of B equal shares of the total."""
        total = self._sums[1]
        mass = (np.arange(size) + rng.random(size)) * (total / size)
        node = np.ones(size, np.int64)
        while node[0] < self._leaves:  # all nodes are on one level
            left = 2 * node
            # Rounding must not lead into an empty half.
            right = (mass >= self._sums[left]) & (self._sums[left + 1] > 0)
            mass = mass - np.where(right, self._sums[left], 0.0)
            node = left + right
        return node - self._leaves, self._sums[node] / total

    def _put(self, rows: Ints, values: Doubles) -> None:
        node = rows + self._leaves
        self._sums[node] = values
        while node[0] > 1:
            node = np.unique(node // 2)
            self._sums[node] = self._sums[2 * node] + self._sums[2 * node + 1]
