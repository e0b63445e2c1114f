"""Which shopper a row meets in which episode: a function of (the row's seed, episode number) alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..simulators.randomness import mix

Ints = NDArray[np.int64]
_POSITIVE = np.int64(2**63 - 1)


def shopper_seeds(row_seeds: Ints, episodes: Ints) -> Ints:
    """(n,) int64 >= 0 seed of the shopper that a row seeded so meets in that episode, counted from 0.

    Two rounds of the SplitMix64 finaliser, so that rows seeded s, s + 1, ... share no shoppers in later episodes.
    """
    mixed = mix(mix(torch.from_numpy(row_seeds)) + torch.from_numpy(episodes) + 1)
    return mixed.numpy() & _POSITIVE


class SeedStreams:
    """The seed and the episode number of each of B rows."""

    def __init__(self, rows: int) -> None:
        self._row_seeds = np.zeros(rows, np.int64)
        self._episodes = np.zeros(rows, np.int64)
        self._seeded = np.zeros(rows, np.bool_)

    def seed(self, rows: Ints, seeds: int | Sequence[int | None] | None, rng: np.random.Generator) -> None:
        """Start streams anew, as Gymnasium's vector envs do.

        Args:
            rows: (n,) the rows that are reset; the others keep their streams.
            seeds: `s` gives row i the seed s + i; a sequence gives each of the B rows its own. None, whole or as an
                entry, lets a row go on with its stream, or draws a seed where it has none.
            rng: where such seeds are drawn.

        Raises:
            ValueError: there are more or fewer seeds than rows.
        """
        count = len(self._seeded)
        if seeds is None or isinstance(seeds, int | np.integer):
            wanted = [None if seeds is None else int(seeds) + row for row in range(count)]
        else:
            wanted = [None if one is None else int(one) for one in seeds]
        if len(wanted) != count:
            raise ValueError(f"a list of seeds must have one for each of the {count} rows, got {len(wanted)}")
        for row in rows.tolist():
            one = wanted[row]
            if one is None and self._seeded[row]:
                continue
            self._row_seeds[row] = int(rng.integers(2**63)) if one is None else one & int(_POSITIVE)
            self._episodes[row] = 0
            self._seeded[row] = True

    def peek(self, rows: Ints, later: Ints) -> Ints:
        """(n,) int64 seeds of the shoppers that these rows meet after `later` (n,) more episodes; 0 is the next."""
        return shopper_seeds(self._row_seeds[rows], self._episodes[rows] + later)

    def draw(self, rows: Ints) -> Ints:
        """(n,) int64 seeds of the shoppers that these rows meet next."""
        seeds = self.peek(rows, np.zeros_like(rows))
        self.skip(rows)
        return seeds

    def skip(self, rows: Ints) -> None:
        """Count an episode of these rows, whose shopper was made from a peek."""
        self._episodes[rows] += 1
