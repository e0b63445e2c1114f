"""What RecSim's interest evolution tells of a shopper, as an observation for our agents: interests, and candidates.

Shapes: B rows, K slots, C candidates, T topics.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from slatewise.envs.spaces import SlateSpace

from .world_process import Arrays

C, K = 10, 3


class RecSimReader:
    """Observations of what RecSim tells its own agents: a shopper's interests, and candidates by their topics.

    A document is its topic, so that "items" are the T topics, and slates name places among the candidates: places of
    the same topic are different documents, which nobody can tell apart before they are watched.

    Args:
        rows: B.
        vectors: (T, T) of topics, one-hot.

    Attributes:
        item_vectors: (T + 1, T) for our agents.
    """

    def __init__(self, rows: int, vectors: NDArray[np.float32]) -> None:
        topics = len(vectors)
        self.item_vectors = np.concatenate([np.zeros((1, topics), np.float32), vectors])
        self._state = np.zeros((rows, topics), np.float32)
        self._candidates = np.zeros((rows, C + 1), np.int64)
        state = spaces.Box(-1.0, 1.0, (topics,), np.float32)
        whole = spaces.Box(0, topics, (C + 1,), np.int64)  # pyright: ignore[reportArgumentType]
        self.observation_space = spaces.Dict({"state": state, "candidates": whole})
        self.action_space = SlateSpace(C, K, places=True)

    def begin(self, told: Arrays, rows: NDArray[np.bool_]) -> None:
        """Read what is told of the new shoppers in these rows."""
        self._state[rows] = told["interests"][rows]
        self._candidates[rows, 1:] = told["topics"][rows] + 1

    def read(self, told: Arrays) -> None:
        """Read what is told after a slate, in all rows."""
        self.begin(told, np.ones(len(self._state), bool))

    def observe(self) -> dict[str, NDArray[Any]]:
        """State (B, T), candidates (B, C + 1) with an empty place first."""
        return {"state": self._state.copy(), "candidates": self._candidates.copy()}

    def infos(self, told: Arrays) -> list[dict[str, Any]]:
        """The slot watched, or -1."""
        return [{"clicked": slot} for slot in told["clicked"].tolist()]

    def to_world(self, slates: NDArray[np.int64]) -> NDArray[np.int64]:
        """RecSim counts places from 0."""
        return slates - 1
