"""Rewards: what a shop is paid for a shopper's response to a slate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.members import Expected
from ..simulators.shopper import Response


@dataclass(frozen=True, slots=True)
class SlateOutcome:
    """What came of a slate shown to each of B shoppers: all that a reward of one's own may look at.

    Attributes:
        slate: (B, K) int64 dense indices as the shoppers saw them, 0 for an empty slot.
        response: what the shoppers did.
        returned: (B,) bool, the shopper left, and comes again; never where shoppers have a single visit.
        days_away: (B,) float32 days until then; 0 where not `returned`.
    """

    slate: Tensor
    response: Response
    returned: Tensor
    days_away: Tensor

    def copy(self) -> "SlateOutcome":
        """The same, in tensors of its own."""
        columns = {one.name: getattr(self.response, one.name).clone() for one in fields(self.response)}
        response = replace(self.response, **columns)
        return SlateOutcome(self.slate.clone(), response, self.returned.clone(), self.days_away.clone())


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
    returned: float = 0.0
    """For a visit that ended and is followed by another one; only where visits are on (`slatewise/Visits-v0`)."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, int | float) or value != value or value in (float("inf"), float("-inf")):
                raise ValueError(f"the weight of {one.name} must be a finite number, got {value!r}")
        if not any(getattr(self, one.name) for one in fields(self)):
            raise ValueError(
                "every weight of the reward is 0; give click, cart, purchase, revenue or returned a weight"
            )

    @property
    def only_returns(self) -> bool:
        """Whether nothing but return visits is paid."""
        return not (self.click or self.cart or self.purchase or self.revenue)

    def __call__(self, response: Response, returned: Tensor | None = None) -> Tensor:
        """(B,) float32 reward of each shopper's slate; `returned`, (B,) bool, says who comes again after it."""
        total = self.revenue * response.revenue if self.revenue else torch.zeros_like(response.revenue)
        if self.click:
            total = total + self.click * (response.clicked >= 0)
        if self.cart:
            total = total + self.cart * response.carted
        if self.purchase:
            total = total + self.purchase * response.purchased
        if self.returned and returned is not None:
            total = total + self.returned * returned
        return total

    def expected(self, expected: Expected) -> Tensor:
        """(M, B) float32 what members of an ensemble expect a slate to earn, without what coming again does."""
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
    "long_term": RewardMix(click=1.0, purchase=5.0, returned=5.0),
}
"""Rewards by name. The default pays 1 for a click and 5 more when the item is bought: a shop wants sales, and clicks,
which are many times as frequent, keep the signal dense. `long_term` pays a visit that is followed by another one like a
purchase, so that even a learner who looks a few slates ahead is told what keeps shoppers; without visits it is the
default. The ratios are settings, not findings."""

Reward = RewardMix | Callable[[SlateOutcome], Any]
"""A mix, or a function of one's own from what came of B slates to (B,) numbers."""


def reward_of(reward: RewardMix | str | Mapping[str, float] | Callable[[SlateOutcome], Any]) -> Reward:
    """The reward meant: what `RewardMix.of` takes, or a function of one's own, as it is.

    Raises:
        ValueError: `RewardMix.of` refuses it.
    """
    return reward if callable(reward) else RewardMix.of(reward)


def paid(reward: Reward, outcome: SlateOutcome) -> NDArray[np.float64]:
    """(B,) what each shopper's slate earns.

    Raises:
        ValueError: a function of one's own gave another shape, or a number that is not finite.
    """
    if isinstance(reward, RewardMix):
        return reward(outcome.response, outcome.returned).detach().cpu().numpy().astype(np.float64)
    values = reward(outcome.copy())  # what happened is not for it to change
    values = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, np.float64)
    if values.shape != (len(outcome.slate),):
        raise ValueError(f"the reward must give a number a shopper, shape ({len(outcome.slate)},), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"the reward must be finite, got {values[~np.isfinite(values)][0]}")
    return values
