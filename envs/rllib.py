"""The bridge to RLlib: the shop under a name that its algorithms know, one shopper or a native batch at a time.

    from ray.rllib.algorithms.ppo import PPOConfig
    from slatewise.envs.rllib import register

    config = (
        PPOConfig()
        .environment(register(), env_config={"k": 5})
        .env_runners(num_envs_per_env_runner=64, gym_env_vectorize_mode="vector_entry_point")
    )

Needs `pip install "slatewise[rllib]"`. Every env runner builds its shop itself, from `env_config`.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from .shop import ShopEnv
from .vector import ShopVectorEnv

NAME = "slatewise-shop"
"""What the shop is called where no other name is given."""


def make(settings: Mapping[str, Any]) -> gym.Env[Any, Any] | ShopVectorEnv:
    """A `ShopEnv` of these settings or, where they have `num_envs`, a `ShopVectorEnv`, whose convention RLlib shares.

    Parts may be among them, a fitted shopper say; Ray sends them to its workers.
    """
    settings = dict(settings)
    return ShopVectorEnv(**settings) if "num_envs" in settings else ShopEnv(**settings)


def register(name: str = NAME) -> str:
    """Make the shop known to RLlib, whose `environment(name, env_config=...)` takes the arguments of `ShopEnv`.

    Returns:
        The name.

    Raises:
        ModuleNotFoundError: ray is not installed.
    """
    try:
        from ray.tune.registry import register_env  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        words = 'RLlib needs the package ray; pip install "slatewise[rllib]"'
        raise ModuleNotFoundError(words, name=error.name) from error
    register_env(name, make)
    return name
