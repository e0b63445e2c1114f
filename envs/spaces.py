"""Spaces of slates: legal for every checker and learner that knows `MultiDiscrete`, but sampled without repeats.

Shapes: B rows, K slots, N items.
"""

from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def draw_slates(rng: np.random.Generator, items: Ints, k: int, rows: int) -> Ints:
    """Slates without repeats, every ordered choice equally likely.

    Args:
        rng: where the randomness comes from.
        items: (M,) dense indices to draw from.
        k: slots in a slate. Where there are fewer items than slots, the last slots stay empty.
        rows: slates to draw.

    Returns:
        (rows, k) int64, 0 in empty slots.
    """
    filled = min(k, len(items))
    drawn = np.zeros((rows, filled), np.int64)
    for slot in range(filled):
        pick = rng.integers(0, len(items) - slot, size=rows)
        for taken in np.sort(drawn[:, :slot], axis=1).T:  # step over what is taken: the pick is among the rest
            pick += pick >= taken
        drawn[:, slot] = pick
    slates = np.zeros((rows, k), np.int64)
    if filled:
        slates[:, :filled] = items[drawn]
    return slates


def _items_to_draw(n_items: int, available: NDArray[np.bool_] | None) -> Ints:
    return np.arange(1, n_items + 1) if available is None else np.flatnonzero(available).astype(np.int64)


class SlateSpace(MultiDiscrete):
    """One slate: `MultiDiscrete([n_items + 1] * k)` whose samples are items 1..n_items without repeats.

    It contains whatever that `MultiDiscrete` contains: 0 is an empty slot, and the envs empty the slots of repeats.

    Args:
        n_items: items in the catalogue, at least 1.
        k: slots in a slate, in [1, n_items].
        available: (n_items + 1,) bool, the items that samples are drawn from; all by default.
        seed: of the samples.
        places: whether the numbers name places in a list of candidates, instead of items; then `n_items` is its length.

    Raises:
        ValueError: `k` is out of range, or `available` is of another length.
    """

    def __init__(
        self,
        n_items: int,
        k: int,
        available: NDArray[np.bool_] | None = None,
        seed: int | np.random.Generator | None = None,
        *,
        places: bool = False,
    ) -> None:
        if not 1 <= k <= n_items:
            raise ValueError(f"k must be in [1, {n_items}], the number of items, got {k}")
        if available is not None and available.shape != (n_items + 1,):
            raise ValueError(
                f"available must have shape ({n_items + 1},), an entry an item and one for 0, got {available.shape}"
            )
        self.n_items, self.k, self.places = n_items, k, places
        self.items = _items_to_draw(n_items, available)
        super().__init__([n_items + 1] * k, dtype=np.int64, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> Ints:
        """A slate, (k,) int64; with `mask` or `probability` every slot is drawn on its own, as `MultiDiscrete` does."""
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        return draw_slates(self.np_random, self.items, self.k, 1)[0]

    def __repr__(self) -> str:
        return f"SlateSpace(n_items={self.n_items}, k={self.k}{', places=True' if self.places else ''})"


class SlateBatchSpace(Box):
    """B slates: `Box(0, n_items, (B, k), int64)`, as Gymnasium batches a `MultiDiscrete`, sampled without repeats."""

    def __init__(self, single: SlateSpace, rows: int) -> None:
        self.single, self.rows = single, rows
        shape = (rows, single.k)
        super().__init__(0, single.n_items, shape, np.int64, seed=deepcopy(single.np_random))  # pyright: ignore[reportArgumentType]

    def sample(self, mask: None = None, probability: None = None) -> NDArray[Any]:
        """Slates, (B, k) int64.

        Raises:
            ValueError: a mask or probabilities, which a `Box` does not know.
        """
        if mask is not None or probability is not None:
            raise ValueError(
                "a batch of slates is sampled without mask or probability; sample the single space instead"
            )
        return draw_slates(self.np_random, self.single.items, self.single.k, self.rows)


@batch_space.register(SlateSpace)
def _batch_slates(space: SlateSpace, n: int = 1) -> SlateBatchSpace:
    return SlateBatchSpace(space, n)
