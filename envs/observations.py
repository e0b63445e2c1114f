"""What an agent is told: the parts of an observation, and their spaces.

Every box is bounded, and flat: stable-baselines3 warns of any that is neither a vector nor an image.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from ..datasets.schema import N_EVENTS
from .context import CONTEXT
from .search import Search
from .settings import ShopSettings
from .shelf import Shelf

PARTS = ("state", "history", "candidates", "candidate_features", "context", "query", "action_mask")
"""What can be told; see `ShopEnv`, "Observation Space"."""
_LARGEST = float(np.finfo(np.float32).max)


def parts_of(settings: ShopSettings) -> frozenset[str]:
    """The parts that an observation has; the state always, and the candidates where there are any.

    Raises:
        ValueError: no part of that name, candidates where nothing is retrieved, or a query where nobody searches.
    """
    observation, retrieves = settings.observation, settings.candidates is not None
    asked = {observation} if isinstance(observation, str) else set(observation)
    for name in sorted(asked):
        if name not in PARTS:
            raise ValueError(f"observation must be made of {', '.join(PARTS)}, got {name!r}")
        if name.startswith("candidate") and not retrieves:
            raise ValueError(f"observation {name!r} needs candidates=, how many items to retrieve")
        if name == "query" and not settings.search:
            raise ValueError("observation 'query' needs search=True")
    return frozenset(asked | {"state"} | ({"candidates"} if retrieves else set()))


def space_of(
    parts: frozenset[str], settings: ShopSettings, shelf: Shelf, search: Search | None, dim: int
) -> gym.Space[Any]:
    """The space of observations with these parts; of states (dim,) alone where nothing but the state is asked for."""
    if settings.observation == "state" and parts == {"state"}:
        return state_space(dim)
    spaces: dict[str, gym.Space[Any]] = {"state": state_space(dim)}
    if "history" in parts:
        spaces |= history_spaces(shelf.n_items, settings.history_len, settings.k)
    if shelf.retrieval is not None:
        places = shelf.retrieval.size + 1
        spaces["candidates"] = _whole(shelf.n_items, places)
        if "candidate_features" in parts:
            spaces["candidate_features"] = _real(places * shelf.retrieval.width)
    if "context" in parts:
        spaces["context"] = _real(len(CONTEXT))
    if "query" in parts and search is not None:
        spaces["query"] = _real(search.vectors.shape[1])
    if "action_mask" in parts:
        choices = settings.k * (shelf.action_space.n_items + 1)
        spaces["action_mask"] = Box(0, 1, (choices,), np.int8)  # pyright: ignore[reportArgumentType]
    return gym.spaces.Dict(spaces)


def history_spaces(n_items: int, history_len: int, k: int) -> dict[str, gym.Space[Any]]:
    """The spaces of the part "history" by key."""
    return {
        "events": _whole(N_EVENTS - 1, history_len),
        "gaps": Box(0.0, _LARGEST, (history_len,), np.float32),
        "items": _whole(n_items, history_len),
        "lengths": _whole(history_len, 1),
        "slates": _whole(n_items, history_len * k),
    }


def state_space(dim: int) -> Box:
    """The space of encoder states, (dim,)."""
    return _real(dim)


def _real(width: int) -> Box:
    return Box(-1.0, 1.0, (width,), np.float32)


def _whole(most: int, width: int) -> Box:
    return Box(0, most, (width,), np.int64)  # pyright: ignore[reportArgumentType]
