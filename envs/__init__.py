"""Gymnasium faces of a `Shopper`: one, a batch, a bridge to stable-baselines3. Importing this registers them."""

import gymnasium as gym

from .context import CONTEXT
from .rewards import REWARDS, RewardMix, SlateOutcome
from .shop import ShopEnv
from .spaces import SlateSpace
from .vector import ShopVectorEnv

# No max_episode_steps here: `max_slates` is the limit of both faces, and a second one would silently undercut it.
for _id, _settings in {
    "slatewise/Shop-v0": {},
    "slatewise/Visits-v0": {"visits": True, "observation": "context", "max_slates": 200},
    "slatewise/Search-v0": {"search": True, "observation": "query"},
}.items():
    gym.register(
        id=_id,
        entry_point="slatewise.envs.shop:ShopEnv",
        vector_entry_point="slatewise.envs.vector:ShopVectorEnv",
        kwargs=_settings,
    )

__all__ = ["CONTEXT", "REWARDS", "RewardMix", "ShopEnv", "ShopVectorEnv", "SlateOutcome", "SlateSpace"]
