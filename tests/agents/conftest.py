"""A toy shop whose best slate is known: shoppers click what lies close to their taste, and say what that is."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv


class TasteShop(VecEnv):
    """Shoppers show a taste (their state) and click `favourites[taste]` half of the time it is shown, others never.

    Favourites lie far from the state on purpose: an untrained scorer ranks them low. A time limit cuts after 4 slates.
    """

    def __init__(
        self, num_envs: int = 16, n_items: int = 30, k: int = 3, tastes: int = 2, dim: int = 8, as_dict: bool = False
    ):
        rng = np.random.default_rng(5)
        vectors = rng.normal(size=(n_items + 1 + tastes, dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.states = vectors[:tastes].astype(np.float32)
        self.item_vectors = np.concatenate([np.zeros((1, dim)), vectors[tastes : tastes + n_items]]).astype(np.float32)
        near = np.argsort(self.states @ self.item_vectors[1:].T, axis=1)
        self.favourites = near[:, 3] + 1  # among the farthest from the state
        state = spaces.Box(-1, 1, (dim,), np.float32)
        self.as_dict = as_dict
        seen = {"state": state, "items": spaces.Box(0, n_items, (2,), np.int64)}
        self.render_mode = None
        super().__init__(num_envs, spaces.Dict(seen) if as_dict else state, spaces.MultiDiscrete([n_items + 1] * k))  # type: ignore[arg-type]
        self.rng = np.random.default_rng(0)

    def _observe(self) -> Any:
        states = self.states[self.taste]
        return {"state": states, "items": np.ones((self.num_envs, 2), np.int64)} if self.as_dict else states

    def _arrive(self, rows: Any) -> None:
        self.taste[rows] = self.rng.integers(0, len(self.states), int(np.sum(rows)))
        self.shown[rows] = 0

    def reset(self) -> Any:
        if self._seeds[0] is not None:
            self.rng = np.random.default_rng(self._seeds[0])
        self.taste, self.shown = np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs, np.int64)
        self._arrive(np.ones(self.num_envs, bool))
        return self._observe()

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        assert self.actions.shape == (self.num_envs, len(self.action_space.nvec))  # type: ignore[attr-defined]
        hit = self.actions == self.favourites[self.taste][:, None]
        clicked = np.where(hit.any(1) & (self.rng.random(self.num_envs) < 0.5), hit.argmax(1), -1)
        self.shown += 1
        done = self.shown >= 4
        last = self._observe()
        infos: list[dict[str, Any]] = [
            {
                "clicked": int(slot),
                "carted": False,
                "purchased": False,
                "revenue": 0.0,
                "TimeLimit.truncated": bool(end),
            }
            for slot, end in zip(clicked, done, strict=True)
        ]
        for row in np.flatnonzero(done):
            infos[row]["terminal_observation"] = (
                {name: part[row] for name, part in last.items()} if self.as_dict else last[row]
            )
        self._arrive(done)
        return self._observe(), (clicked >= 0).astype(np.float32), done, infos

    def close(self) -> None: ...

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None: ...

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **settings: Any) -> list[Any]: ...

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


@pytest.fixture
def taste_shop() -> type[TasteShop]:
    return TasteShop
