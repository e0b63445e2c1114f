"""The bridge to stable-baselines3: a native batch of shoppers as its `VecEnv`, without a process or a loop per row."""

import time
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from .vector import ShopVectorEnv


class SB3Bridge(VecEnv):
    """A `ShopVectorEnv` that stable-baselines3 can learn on and evaluate in.

    `infos[i]` holds `clicked` (slot, -1 for none), `carted`, `purchased` and `revenue` of row i's slate. When its
    episode ended it also holds `terminal_observation`, `TimeLimit.truncated`, and, as `Monitor` writes it, `episode`
    (return `r`, length `l`, seconds since the bridge was made `t`).

    The stock `MultiInputPolicy` takes every entry of an observation for a quantity, which the item numbers of a history
    and of `candidates` are not (and torch's `ModuleDict` refuses a key named `items`). Name the `parts` that it can
    read, `["state", "context"]` say; or use `observation="state"`, or a features extractor of your own.

    Args:
        env: with `autoreset_mode=SAME_STEP`, which is stable-baselines3's own convention, and `copy=True`.
        parts: keys of the observations that are passed on; all of them by default.

    Raises:
        ValueError: `env` resets its rows otherwise, or overwrites its observations, or they have no such parts.
    """

    def __init__(self, env: ShopVectorEnv, parts: Sequence[str] | None = None) -> None:
        if env.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f"stable-baselines3 needs autoreset_mode=SAME_STEP, got {env.autoreset_mode.name}")
        if not env.copy:
            raise ValueError("stable-baselines3 keeps observations across steps; make the env with copy=True")
        self.env, self._parts = env, parts
        self._actions: NDArray[np.int64] | None = None
        self._began = time.time()
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)
        self._began_with: dict[str, NDArray[Any]] = {}
        self._reset_infos: list[dict[str, Any]] | None = None
        space = _space_with(env.single_observation_space, parts)
        super().__init__(env.num_envs, space, env.single_action_space)

    @classmethod
    def make(cls, num_envs: int, *, parts: Sequence[str] | None = None, **settings: Any) -> "SB3Bridge":
        """A bridge over a new `ShopVectorEnv` with these settings, which passes on these parts of its observations."""
        return cls(ShopVectorEnv(num_envs, **settings, autoreset_mode=AutoresetMode.SAME_STEP), parts)

    def reset(self) -> VecEnvObs:
        """Let new shoppers arrive in all rows, by the seeds and options set for this reset."""
        options = self._options[0] or None
        observation, infos = self.env.reset(seed=list(self._seeds), options=options)
        self._began_with = {name: values for name, values in infos.items() if not name.startswith("_")}
        self._reset_infos = None
        self._returns[:], self._lengths[:] = 0.0, 0
        self._reset_seeds()
        self._reset_options()
        return self._passed_on(observation)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the slates, (num_envs, k), for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Show them; observations, float32 rewards, ends of episodes, and infos."""
        assert self._actions is not None, "step_async() comes before step_wait()"
        observation, rewards, terminated, truncated, figures = self.env.step(self._actions)
        self._actions = None
        done = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        ended = np.flatnonzero(done)
        infos = _row_infos(figures, ended)
        if len(ended):
            self._tell_ends(infos, figures, ended, truncated)
        return self._passed_on(observation), rewards.astype(np.float32), done, infos

    def _passed_on(self, observation: Any) -> Any:
        """The parts of an observation that are asked for."""
        return observation if self._parts is None else {name: observation[name] for name in self._parts}

    def _tell_ends(
        self,
        infos: list[dict[str, Any]],
        figures: dict[str, Any],
        ended: NDArray[np.int64],
        truncated: NDArray[np.bool_],
    ) -> None:
        """Tell what stable-baselines3 wants to know of rows whose episode has ended, and begin their next."""
        seconds, views = round(time.time() - self._began, 6), figures["final_obs"][ended]
        if self._parts is not None:
            views = [self._passed_on(view) for view in views]
        what = [figures["final_info"][name][ended].tolist() for name in _IGNORED]
        columns = (column[ended].tolist() for column in (truncated, self._returns, self._lengths))
        for row, view, slot, carted, purchased, revenue, late, total, length in zip(
            ended.tolist(), views, *what, *columns, strict=True
        ):
            infos[row] = {
                "clicked": slot,
                "carted": carted,
                "purchased": purchased,
                "revenue": revenue,
                "terminal_observation": view,
                "TimeLimit.truncated": late,
                "episode": {"r": total, "l": length, "t": seconds},
            }
        for name, values in self._began_with.items():
            values[ended] = figures[name][ended]
        self._reset_infos = None
        self._returns[ended], self._lengths[ended] = 0.0, 0

    @property
    def reset_infos(self) -> list[dict[str, Any]]:
        """What the environment told of each row's shopper when it arrived; made when asked for."""
        if self._reset_infos is None:
            names = list(self._began_with)
            rows = zip(*(values.tolist() for values in self._began_with.values()), strict=True)
            self._reset_infos = [dict(zip(names, row, strict=True)) for row in rows]
        return self._reset_infos

    @reset_infos.setter
    def reset_infos(self, infos: list[dict[str, Any]]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._reset_infos = infos

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Options of the next reset, for all rows at once; `ShopVectorEnv.reset` says which there are.

        Raises:
            ValueError: a list of options, one a row.
        """
        if isinstance(options, list):
            raise ValueError("the rows are one env: give one dict of options, with an entry a row in its arrays")
        self._options = [dict(options or {}) for _ in range(self.num_envs)]

    def close(self) -> None:
        """Close the env."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The env's attribute, once for each row asked for."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the env's attribute; the rows share it.

        Raises:
            ValueError: for some rows only.
        """
        if indices is not None and len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"the rows are one env: {attr_name} cannot be set for some of them")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """What one call of the env's method returns, for each row asked for; of `action_masks` each has its own."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        if method_name == "action_masks":  # as sb3-contrib's MaskablePPO asks
            return [result[row] for row in self._get_indices(indices)]
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """True for `Monitor` alone, whose `episode` entries the bridge writes itself."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """The picture of each row's last slate, where `render_mode` is `"rgb_array"`; otherwise None for each."""
        frames = self.env.render() if self.env.render_mode == "rgb_array" else None
        return [None] * self.num_envs if frames is None else list(frames)


def _space_with(space: gym.Space[Any], parts: Sequence[str] | None) -> gym.Space[Any]:
    """The space of these parts of observations; all of it for None."""
    if parts is None:
        return space
    known = list(space.spaces) if isinstance(space, gym.spaces.Dict) else []
    if not isinstance(space, gym.spaces.Dict) or not parts or not set(parts) <= set(known):
        raise ValueError(
            f"parts must be keys of the env's observations, {', '.join(known) or 'a plain state'}; got {parts!r}"
        )
    return gym.spaces.Dict({name: space[name] for name in parts})


_IGNORED = {"clicked": -1, "carted": False, "purchased": False, "revenue": 0.0}


def _row_infos(figures: dict[str, Any], ended: NDArray[np.int64]) -> list[dict[str, Any]]:
    """A dict of its own for each row, from arrays; those of ended rows are left for `_tell_ends`."""
    # Copies cost half of what dicts made anew do.
    infos = list(map(dict.copy, repeat(_IGNORED, len(figures["clicked"]))))
    hit = figures["clicked"] >= 0
    hit[ended] = False
    rows = np.flatnonzero(hit)
    columns = (figures[name][rows].tolist() for name in _IGNORED)
    for row, slot, carted, purchased, revenue in zip(rows.tolist(), *columns, strict=True):
        infos[row] = {"clicked": slot, "carted": carted, "purchased": purchased, "revenue": revenue}
    return infos
