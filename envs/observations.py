"""What an agent is told: the parts of an observation, and their spaces.

Every box is bounded, and flat: stable-baselines3 warns of any that is neither a vector nor an image.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from ..datasets.schema import N_EVENTS
from .settings import ObservationKind

PARTS = ("state", "history", "candidates", "candidate_features", "action_mask")
"""What can be told; see `ShopEnv`, "Observation Space"."""
_LARGEST = float(np.finfo(np.float32).max)


def parts_of(observation: ObservationKind, *, candidates: bool) -> frozenset[str]:
    """The parts that an observation has; the state always, and the candidates where there are any.

    Raises:
        ValueError: no part of that name, or candidates where nothing is retrieved.
    """
    asked = {observation} if isinstance(observation, str) else set(observation)
    for name in sorted(asked):
        if name not in PARTS:
            raise ValueError(f"observation must be made of {', '.join(PARTS)}, got {name!r}")
        if name.startswith("candidate") and not candidates:
            raise ValueError(f"observation {name!r} needs candidates=, how many items to retrieve")
    return frozenset(asked | {"state"} | ({"candidates"} if candidates else set()))


def is_plain(observation: ObservationKind, parts: frozenset[str]) -> bool:
    """Whether an observation is the state itself, no dict with a state in it."""
    return observation == "state" and parts == {"state"}


def history_spaces(n_items: int, history_len: int, k: int) -> dict[str, gym.Space[Any]]:
    """Spaces of the last tokens, and of the slates that they answer."""
    return {
        "events": _whole(N_EVENTS - 1, history_len),
        "gaps": Box(0.0, _LARGEST, (history_len,), np.float32),
        "items": _whole(n_items, history_len),
        "lengths": _whole(history_len, 1),
        "slates": _whole(n_items, history_len * k),
    }


def real(width: int) -> Box:
    """(width,) float32 in [-1, 1]."""
    return Box(-1.0, 1.0, (width,), np.float32)


def candidate_space(n_items: int, size: int) -> Box:
    """(size + 1,) int64 items, 0 for none."""
    return _whole(n_items, size + 1)


def mask_space(width: int) -> Box:
    """(width,) int8, 1 where an action does what it says."""
    return Box(0, 1, (width,), np.int8)  # pyright: ignore[reportArgumentType]


def _whole(most: int, width: int) -> Box:
    return Box(0, most, (width,), np.int64)  # pyright: ignore[reportArgumentType]
