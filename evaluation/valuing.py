"""Values of policies while they are still made: one figure a shopper, quickly, always by the same shoppers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ..encoders.state import StateEncoder
from ..envs.defaults import DEFAULT_MAX_SLATES
from ..envs.rewards import RewardMix
from ..envs.vector import ShopVectorEnv
from ..simulators.shopper import Shopper
from .judge import SlatePolicy, serve

_STREAM = 20_01  # of shoppers apart from those of `judge`, whatever the seed
_LARGEST = 2**63


class Valuer:
    """Lets policies serve shoppers of one simulator, the same with the same luck each time.

    They are other shoppers than those that `judge` draws from any seed: a policy chosen by a valuer is judged by people
    that had no say in the choice.

    Args:
        shopper: the simulator.
        encoder: what policies' states are made with.
        k: slots of a slate.
        shoppers: how many are served, at least 2.
        seed: decides who they are.
        reward: what is counted.
        max_slates: slates after which a session is cut.
        batch: shoppers served at once.
        available: (N + 1,) items that may be shown; all by default.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        shopper: Shopper,
        encoder: StateEncoder,
        k: int,
        *,
        shoppers: int = 500,
        seed: int = 0,
        reward: RewardMix | str | Mapping[str, float] = "clicks_and_purchases",
        max_slates: int = DEFAULT_MAX_SLATES,
        batch: int = 512,
        available: NDArray[np.bool_] | None = None,
    ) -> None:
        if shoppers < 2 or batch < 1:
            raise ValueError(f"need 2 shoppers and batches of 1 at least, got shoppers={shoppers}, batch={batch}")
        self.k, self.shoppers = k, shoppers
        self._met = np.random.default_rng([seed, _STREAM]).integers(_LARGEST, size=shoppers, dtype=np.int64)
        self._env = ShopVectorEnv(
            min(batch, shoppers),
            shopper,
            encoder,
            k,
            RewardMix.of(reward),
            max_slates,
            available=available,
            autoreset_mode=AutoresetMode.DISABLED,
        )

    def __call__(self, policy: SlatePolicy | Any) -> NDArray[np.float64]:
        """(shoppers,) reward of each session under a policy's greedy slates.

        Raises:
            ValueError: it fills slates of another length.
        """
        if policy.k != self.k:
            raise ValueError(f"the policy fills slates of {policy.k} slots, and is valued by slates of {self.k}")
        diary = serve(policy, self._env, self._met)
        found = np.zeros(self.shoppers)
        np.add.at(found, np.concatenate(diary.who), np.concatenate(diary.reward))
        return found
