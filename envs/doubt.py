"""What the members of a shopper's ensemble disagree by about a slate, and what it costs.

An agent that learns on simulated shoppers finds where these are wrong in its favour. Where the log says little members
differ, so a price on their differing keeps the agent where the log has something to say.

Source: MOPO, Yu et al., "Model-based offline policy optimization", NeurIPS 2020, section 4.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.members import Expects
from ..simulators.shopper import Shopper
from .rewards import Reward, RewardMix


@dataclass(frozen=True, slots=True)
class Doubt:
    """A price on disagreement.

    Attributes:
        shopper: with an ensemble.
        reward: what a slate earns, of which members expect more or less.
        price: reward taken off for each unit of the members' standard deviation, at least 0.
    """

    shopper: Expects
    reward: RewardMix
    price: float

    @classmethod
    def of(cls, shopper: Shopper, reward: Reward, price: float) -> Self:
        """Check what it is made of.

        Raises:
            ValueError: the price is negative or not finite, the shopper has no ensemble that can `expect`, or the
                reward is no mix.
        """
        if not 0 <= price < float("inf"):
            raise ValueError(f"doubt must be a finite number, at least 0, got {price}")
        if not isinstance(shopper, Expects) or shopper.members < 2:
            raise ValueError("doubt needs a fitted shopper with an ensemble; fit it with at least 2 members")
        if not isinstance(reward, RewardMix):
            raise ValueError("doubt needs a reward by name or by weights: what a function will pay, nobody can expect")
        return cls(shopper, reward, price)

    def about(self, state: Any, slate: Tensor) -> NDArray[np.float64]:
        """(B,) standard deviation over members of the reward that they expect of slates (B, K)."""
        worth = self.reward.expected(self.shopper.expect(state, slate))
        return worth.std(0).cpu().numpy().astype(np.float64)
