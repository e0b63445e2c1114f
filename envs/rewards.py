"""Rewards: what a shop is paid for a shopper's response to a slate."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..simulators.members import Expected
from ..simulators.shopper import Response


@dataclass(frozen=True, kw_only=True)
class RewardMix:
    """A weighted sum of what happened on a slate; every weight in reward per unit, any sign.

    A purchase is a click first, so with `click=1, purchase=5` a slate that sells earns 6.
    """

    click: float = 0.0
    """For a click."""
    cart: float = 0.0
    """For a clicked item that went into the cart."""
    purchase: float = 0.0
    """For a clicked item that was bought."""
    revenue: float = 0.0
    """For each unit of the shop's currency paid."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, int | float) or value != value or value in (float("inf"), float("-inf")):
                raise ValueError(f"the weight of {one.name} must be a finite number, got {value!r}")
        if not any(getattr(self, one.name) for one in fields(self)):
            raise ValueError("every weight of the reward is 0; give click, cart, purchase or revenue a weight")

    def __call__(self, response: Response) -> Tensor:
        """(B,) float32 reward of each shopper's slate."""
        total = self.revenue * response.revenue if self.revenue else torch.zeros_like(response.revenue)
        if self.click:
            total = total + self.click * (response.clicked >= 0)
        if self.cart:
            total = total + self.cart * response.carted
        if self.purchase:
            total = total + self.purchase * response.purchased
        return total

    def expected(self, expected: Expected) -> Tensor:
        """(M, B) float32 what members of an ensemble expect a slate to earn."""
        return (
            self.click * expected.click
            + self.cart * expected.cart
            + self.purchase * expected.purchase
            + self.revenue * expected.revenue
        )

    @classmethod
    def from_mapping(cls, weights: Mapping[str, float]) -> "RewardMix":
        """A mix from weights by name, for instance `{"click": 1, "revenue": 0.1}`; what is not named weighs 0.

        Raises:
            ValueError: a name is unknown, or a weight is no finite number.
        """
        known = [one.name for one in fields(cls)]
        for name in weights:
            if name not in known:
                raise ValueError(f"a reward cannot weigh {name!r}; it weighs {', '.join(known)}")
        return cls(**weights)

    @classmethod
    def of(cls, reward: "RewardMix | str | Mapping[str, float]") -> "RewardMix":
        """The mix meant: a mix itself, one of `REWARDS` by name, or weights by name.

        Raises:
            ValueError: no reward of that name, or weights that `from_mapping` refuses.
        """
        if isinstance(reward, RewardMix):
            return reward
        if isinstance(reward, Mapping):
            return cls.from_mapping(reward)
        if reward not in REWARDS:
            raise ValueError(f"no reward is named {reward!r}; choose {', '.join(REWARDS)}, or give weights by name")
        return REWARDS[reward]


REWARDS = {
    "clicks_and_purchases": RewardMix(click=1.0, purchase=5.0),
    "clicks": RewardMix(click=1.0),
    "purchases": RewardMix(purchase=1.0),
    "revenue": RewardMix(revenue=1.0),
}
"""Rewards by name. The default pays 1 for a click and 5 more when the item is bought: a shop wants sales, and clicks,
which are many times as frequent, keep the signal dense. The ratio is a setting, not a finding."""
