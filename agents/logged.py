"""What the shop itself showed: the policy that wrote the log, as a recommender to stand beside.

Shapes: S logged slates, B shoppers, K slots, N items.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.log import Slates
from ..datasets.tokens import Ints
from ..errors import EvidenceError
from .replay import state_of


class LoggedPolicy:
    """Shows slates of the log, each drawn at random: the logging policy but for what it knew of the shopper.

    Nothing is modelled: slates come as often as they were shown. For what the shop showed to whom, see behaviour
    cloning. Slates with an item that may no longer be shown are left out, and so are those with fewer than k items.

    Args:
        items: (S, K) logged slates, best place first, 0 in empty slots.
        k: slots, at most K; of longer slates the first k are shown.
        available: (N + 1,) bool; all by default.
        seed: of the draws.

    Raises:
        EvidenceError: no logged slate can be shown.
    """

    def __init__(self, items: ArrayLike, k: int, available: ArrayLike | None = None, seed: int = 0) -> None:
        shown = np.asarray(items, dtype=np.int64)
        if shown.ndim != 2 or shown.shape[1] < k or not len(shown):
            raise EvidenceError(f"the log holds slates of shape {shown.shape}, none with {k} slots; nothing to show")
        shown = shown[:, :k]
        may: NDArray[np.bool_] = shown > 0
        if available is not None:
            may &= np.asarray(available, dtype=bool)[shown]
        self._slates = shown[may.all(1)]
        if not len(self._slates):
            raise EvidenceError(f"none of {len(shown)} logged slates has {k} items that may still be shown")
        self.k, self.rng = k, np.random.default_rng(seed)

    @classmethod
    def from_slates(cls, slates: Slates, k: int, available: ArrayLike | None = None, seed: int = 0) -> "LoggedPolicy":
        """Of the slates of a log (`ShopLog.slates`)."""
        return cls(slates.items, k, available, seed)

    def reseed(self, seed: int) -> None:
        """Draw from here on as a new policy of this seed would."""
        self.rng = np.random.default_rng(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Ints, None]:
        """(B, k) int64 slates, drawn anew at each call, and None."""
        del state, episode_start, deterministic
        return self._slates[self.rng.integers(0, len(self._slates), len(state_of(observation)))], None
