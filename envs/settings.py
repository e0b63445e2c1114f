"""What an environment is set to, checked before anybody arrives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .defaults import DEFAULT_K, DEFAULT_MAX_SLATES
from .rewards import REWARDS, Reward, RewardMix

ObservationKind = str | Sequence[str]
"""`"state"`, or the parts of a dict; see `observations.PARTS`."""
ActionKind = Literal["items", "places"]
Retrieve = Callable[[Tensor], Tensor]
"""States (B, d) -> how likely each item is wanted, (B, n_items + 1), as `StateEncoder.scores`."""


@dataclass(frozen=True, kw_only=True)
class ShopSettings:
    """Settings of `ShopEnv` and `ShopVectorEnv` beside the shopper and the encoder; their docstrings say what each is.

    Raises:
        ValueError: a setting is out of range, or one is given that needs another.
    """

    k: int = DEFAULT_K
    """Slots in a slate, in [1, n_items]."""
    reward: Reward = REWARDS["clicks_and_purchases"]
    """What a slate earns."""
    max_slates: int = DEFAULT_MAX_SLATES
    """Slates after which an episode is truncated, at least 1."""
    observation: ObservationKind = "state"
    """What the agent is told."""
    history_len: int = 20
    """Tokens kept in a history observation, at least 1."""
    available: ArrayLike | Literal["on_sale"] | None = None
    """(n_items + 1,) bool, whether an item may be shown; entry 0 is passed over. All by default. Or `"on_sale"`: what a
    known-truth shop has on sale on the day of the visit."""
    doubt: float | None = None
    """Price of the disagreement of the shopper's ensemble (see `doubt.Doubt`); 0 tells it only, None not even."""
    candidates: int | None = None
    """Items retrieved in front of each slate, at least k; None for no retrieval."""
    retrieve: Retrieve | None = None
    """What ranks the items to retrieve; by default the encoder's `scores`."""
    actions: ActionKind | None = None
    """Whether a slate names items or places in the list of candidates; by default places where there is a list."""
    visits: bool = False
    """Whether an episode goes on over a shopper's visits."""
    max_visits: int = 20
    """Visits after which an episode is truncated, at least 1."""
    max_days: float = 365.0
    """Days from the first visit to the beginning of the last one at most, > 0."""
    day_discount: float = 1.0
    """What a reward keeps of its worth for every day since the first visit began, in (0, 1]."""
    remembers: bool = False
    """Whether the encoder's history goes on from visit to visit."""
    search: bool = False
    """Whether a shopper's search is told."""
    query_vectors: ArrayLike | None = None
    """(Q + 1, E) vectors of the shopper's `queries`, row 0 zero; see `search.Search`."""

    def __post_init__(self) -> None:
        for name in ("k", "max_slates", "history_len", "max_visits", "candidates"):
            value = getattr(self, name)
            if not _is_whole(value) and not (name == "candidates" and value is None):
                raise ValueError(f"{name} must be an integer, got {value!r}")
        for name in ("max_slates", "history_len", "max_visits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.max_days > 0:
            raise ValueError(f"max_days must be above 0, got {self.max_days}")
        if not 0 < self.day_discount <= 1:
            raise ValueError(f"day_discount must be in (0, 1], got {self.day_discount}")
        if self.query_vectors is not None and not self.search:
            raise ValueError("query_vectors are read where searches are told; give search=True")
        if not self.visits and isinstance(self.reward, RewardMix) and self.reward.only_returns:
            raise ValueError("the reward pays for return visits alone, and there are none; give visits=True")
        if self.candidates is not None and self.candidates < self.k:
            raise ValueError(f"candidates must be at least k={self.k}, the slots they are for, got {self.candidates}")
        if self.actions not in (None, "items", "places"):
            raise ValueError(f"actions must be 'items' or 'places', got {self.actions!r}")
        for name in ("retrieve", "actions"):
            if self.candidates is None and getattr(self, name) not in (None, "items"):
                raise ValueError(f"{name}={getattr(self, name)!r} needs candidates=, how many items to retrieve")

    @property
    def by_place(self) -> bool:
        """Whether a slate names places in the list of candidates."""
        return self.candidates is not None and self.actions != "items"


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_on_sale(available: ArrayLike | Literal["on_sale"] | None) -> bool:
    """Whether the day decides what is available.

    Raises:
        ValueError: it is another word.
    """
    if isinstance(available, str) and available != "on_sale":
        raise ValueError(f"available must be 'on_sale' or a bool for every item, got {available!r}")
    return isinstance(available, str)


def as_mask(available: ArrayLike | Literal["on_sale"] | None, n_items: int) -> NDArray[np.bool_] | None:
    """(n_items + 1,) bool, False for index 0; None where all items are available, or it depends on the day.

    Raises:
        ValueError: it is of another length, or nothing is available.
    """
    if available is None or is_on_sale(available):
        return None
    mask = np.array(available, dtype=np.bool_)
    if mask.shape != (n_items + 1,):
        raise ValueError(
            f"available must have shape ({n_items + 1},), an entry an item and one for 0, got {mask.shape}"
        )
    mask[0] = False
    if not mask.any():
        raise ValueError("no item is available; there is nothing to show")
    return mask
