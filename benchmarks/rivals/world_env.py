"""Other people's worlds of shoppers as stable-baselines3's `VecEnv`, in the spaces that our agents want.

Shapes: B rows, K slots, N items, D width of the state.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from .world_process import Arrays, World


class Reader(Protocol):
    """Makes observations for our agents of what a world tells, row by row."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]

    def begin(self, told: Arrays, rows: NDArray[np.bool_]) -> None:
        """Forget these rows' shoppers, (B,) bool, and read what is told of the new ones."""
        ...

    def read(self, told: Arrays) -> None:
        """Read what is told after a slate, in all rows."""
        ...

    def observe(self) -> Any:
        """What an agent observes now, in all rows; arrays of its own."""
        ...

    def infos(self, told: Arrays) -> list[dict[str, Any]]:
        """What our agents want to know of each row's clicks: "clicked", "clicks"."""
        ...

    def to_world(self, slates: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, K) slates of the world's own numbers."""
        ...


class WorldEnv(VecEnv):
    """B shoppers of a world. Who leaves is followed at once by another, as stable-baselines3 wants it.

    Args:
        world: the process.
        reader: makes observations; with its spaces.
        time_limit: whether episodes end by a limit of slates, over which values are bootstrapped, and by nothing else.
        unit: what rewards are divided by.

    Attributes:
        idle: (B,) rows in which nothing happens at a step, for who is not looked at any more.
    """

    def __init__(self, world: World, reader: Reader, *, time_limit: bool, unit: float = 1.0) -> None:
        self.world, self.reader, self._limited, self._unit = world, reader, time_limit, unit
        self._slates = np.zeros(0, np.int64)
        self.idle = np.zeros(world.rows, bool)
        self._returns = np.zeros(world.rows)
        super().__init__(world.rows, reader.observation_space, reader.action_space)  # pyright: ignore[reportArgumentType]

    def reset(self) -> Any:
        """New shoppers in all rows, by the seeds given to `seed` before."""
        seeds = np.array([0 if seed is None else seed for seed in self._seeds])
        return self.reset_by(seeds)

    def reset_by(self, seeds: NDArray[np.int64]) -> Any:
        """New shoppers in all rows, by a seed each."""
        self._returns[:] = 0
        self.reader.begin(self.world.reset(seeds), np.ones(self.num_envs, bool))
        return self.reader.observe()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the slates, (B, K), for `step_wait`."""
        self._slates = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Show them."""
        answer = self.world.step(self.reader.to_world(self._slates), self.idle)
        last = {name[5:]: one for name, one in answer.items() if name.startswith("last_")}
        reward, ended = answer["reward"] / np.float32(self._unit), answer["ended"]
        self._returns += reward
        self.reader.read(last)
        infos = self.reader.infos(last)
        if ended.any():
            final = self.reader.observe()
            for row in np.flatnonzero(ended):
                one = {name: part[row] for name, part in final.items()} if isinstance(final, dict) else final[row]
                infos[row] |= {"terminal_observation": one, "TimeLimit.truncated": self._limited}
                infos[row]["episode"] = {"r": float(self._returns[row]), "l": 0, "t": 0.0}
            self._returns[ended] = 0
            self.reader.begin(answer, ended)
        return self.reader.observe(), reward, ended, infos

    def close(self) -> None:
        """End the process."""
        self.world.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the reader, for each row asked for."""
        return [getattr(self.reader, attr_name, None) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Rows share all there is; nothing can be set."""
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **named: Any) -> list[Any]:
        """There are no methods to call."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:  # noqa: ARG002
        """Never."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """None."""
        return [None] * self.num_envs
