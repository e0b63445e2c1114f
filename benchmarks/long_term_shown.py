"""What a shop has shown lately, beside the state of the study's agents: how many places and clicks each category had.

The token of a slate without a click names its best-placed item alone, so no encoder of tokens tells what else was
passed over, and a mean of the items clicked does not tell how many they were. A server knows both; here they are read
from the history observation.

Shapes: B shoppers, H tokens kept, K slots, D width of the encoder's state, C categories.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper

from slatewise.datasets import Event
from slatewise.datasets.catalogue import Catalogue
from slatewise.envs.sb3 import SB3Bridge

HISTORY = 12
"""Tokens back to which slates are counted."""
KEPT = 0.8
"""What a place or a click counts for when the next slate has been shown."""


class Shown:
    """(B, D) states and what they follow -> (B, D + 2 C) states."""

    def __init__(self, catalogue: Catalogue) -> None:
        labels, number = np.unique(catalogue.frame["category"].astype(str), return_inverse=True)
        self.width = 2 * len(labels)
        self._one_hot = np.zeros((catalogue.n_items + 1, len(labels)), np.float32)  # nothing at the padding
        self._one_hot[np.arange(1, catalogue.n_items + 1), number] = 1.0

    def __call__(self, observation: Any) -> NDArray[np.float32]:
        """(B, D + 2 C): behind the state the share of places each category has had lately, and of clicks."""
        state, length = observation["state"], observation["lengths"]
        slates = observation["slates"].reshape(len(state), HISTORY, -1)
        clicked = np.where(observation["events"] >= Event.CLICK, observation["items"], 0)
        back = length - 1 - np.arange(HISTORY)  # (B, H) tokens since
        weight = np.where(back >= 0, (1 - KEPT) * KEPT ** np.maximum(back, 0), 0.0).astype(np.float32)
        places = np.einsum("bh,bhc->bc", weight, self._one_hot[slates].mean(2))
        clicks = np.einsum("bh,bhc->bc", weight, self._one_hot[clicked])
        return np.concatenate([state, places, clicks], 1, dtype=np.float32)

    def vectors(self, item_vectors: Any) -> NDArray[np.float32]:
        """(N + 1, D + 2 C) item vectors as wide as the states, zeros behind."""
        table = np.asarray(item_vectors, np.float32)
        return np.pad(table, ((0, 0), (0, self.width)))


class ShownEnv(VecEnvWrapper):
    """A bridge over history observations whose states tell what was shown."""

    venv: SB3Bridge

    def __init__(self, bridge: SB3Bridge, shown: Shown) -> None:
        width = bridge.observation_space["state"].shape[0] + shown.width  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
        super().__init__(bridge, spaces.Box(-1.0, 1.0, (width,), np.float32))
        self._shown = shown

    def reset(self) -> NDArray[np.float32]:
        """(B, D + 2 C) states of shoppers who have just come."""
        return self._shown(self.venv.reset())

    def step_wait(self) -> Any:
        """As the bridge's, with these states."""
        observation, rewards, done, infos = self.venv.step_wait()
        for row in np.flatnonzero(done):
            last = infos[row]["terminal_observation"]
            infos[row]["terminal_observation"] = self._shown({name: one[None] for name, one in last.items()})[0]
        return self._shown(observation), rewards, done, infos


class Told:
    """A policy of such states, for whoever lets it serve from history observations."""

    def __init__(self, policy: Any, shown: Shown) -> None:
        self.policy, self.k, self._shown = policy, policy.k, shown

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.int64], None]:
        """(B, K) slates, and None."""
        return self.policy.predict(self._shown(observation), state, episode_start, deterministic)
