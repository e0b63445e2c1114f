"""Shops of the study of long-term effects: one mechanism on in each, what a shop is paid, and the best plan known.

All shoppers like the same things (no taste, intent or thrift of their own) and look at the whole slate: policies differ
by foresight and not by how well they know a stranger. What makes a visit end beside the mechanism is chance alone, the
same after every slate, sale or not.

Shapes: S states of a mechanism, N items.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from long_term_bounds import (
    Planned,
    Privileged,
    complements_chain,
    off_chain,
    patience_chain,
    visits_chain,
)
from long_term_satiation import SatiationPlan
from long_term_shown import HISTORY

from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder, RecallEncoder
from slatewise.envs import REWARDS, RewardMix
from slatewise.envs.vector import ShopVectorEnv
from slatewise.simulators import KnownTruthShopper

K = 4
MAX_SLATES, MAX_VISITS = 30, 10
SAME: dict[str, Any] = {
    "n_items": 60,
    "n_categories": 4,
    "n_brands": 12,
    "category_taste": 0.0,
    "intent": 0.0,
    "style_taste": 0.0,
    "price_sensitivity": 0.0,
    "position_decay": 0.0,
    "satiation": 0.0,
    "familiarity": 0.0,
    "patience": 0,
    "letdown": 0.0,
    "leave": 0.06,
    "leave_bought": 0.06,
    "cart_rate": 0.3,
    "purchase_rate": 0.4,
    "outside_option": 30.0,
}
"""Common to all shops: every mechanism off."""


@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """A shop, and how it is played.

    Attributes:
        on: settings of the shop beside `SAME`.
        reward: what a slate earns.
        plan: the truth and the reward -> the strongest policy known.
        exact: whether nothing can be better than that plan.
        env: settings of the environment beside k, reward and max_slates.
        max_slates: slates of an episode at most.
        learner: settings of each agent that differ here from what all shops have in common.
        longer: how many times as long as elsewhere each agent learns here.
    """

    plan: Callable[[KnownTruthShopper, RewardMix], Privileged]
    on: Mapping[str, Any] = field(default_factory=dict)
    reward: RewardMix = REWARDS["clicks_and_purchases"]
    exact: bool = True
    env: Mapping[str, Any] = field(default_factory=dict)
    max_slates: int = MAX_SLATES
    learner: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    longer: Mapping[str, int] = field(default_factory=dict)

    def learners(self, common: Mapping[str, Any]) -> dict[str, Any]:
        """Agent -> its config here, by what it is in common."""
        return {agent: replace(config, **self.learner.get(agent, {})) for agent, config in common.items()}

    def truth(self) -> KnownTruthShopper:
        """The shoppers."""
        return KnownTruthShopper(KnownShop.make(KnownShopConfig(**{**SAME, **self.on})))

    def settings(self) -> dict[str, Any]:
        """What the environment is set to."""
        return {"k": K, "reward": self.reward, "max_slates": self.max_slates, **self.env}

    def batch(self, rows: int, truth: KnownTruthShopper, encoder: RecallEncoder, **more: Any) -> ShopVectorEnv:
        """The environment with so many rows; it lets the slates shown be seen."""
        seen: dict[str, Any] = {"observation": "history", "history_len": HISTORY}
        return ShopVectorEnv(rows, shopper=truth, encoder=encoder, **self.settings(), **seen, **more)


def eyes(truth: KnownTruthShopper) -> RecallEncoder:
    """What agents see: titles, categories and prices of the items, and what the tokens of the visit tell."""
    return RecallEncoder(MeanEncoder.from_catalogue(truth.shop.catalogue, 32, words=0.5))


def _exact(chain: Callable[..., Any], horizon: int = MAX_SLATES) -> Callable[..., Privileged]:
    return lambda truth, reward: Planned(truth, K, chain(truth, reward), horizon, stationary=False)


MECHANISMS: dict[str, Mechanism] = {
    "off": Mechanism(plan=_exact(off_chain)),
    "patience": Mechanism(on={"patience": 5, "letdown": 2.5}, plan=_exact(patience_chain)),
    "satiation": Mechanism(
        on={"n_categories": 3, "satiation": 2.0, "satiation_kept": 0.8, "outside_option": 3.0},
        reward=RewardMix(click=1.0),
        plan=lambda truth, reward: SatiationPlan(truth, K, reward, 25),
        exact=False,
        learner={
            "slate_dqn": {
                "shown_value": True,
                "buffer_size": 60_000,
                "gradient_steps": 1,
                "exploration_start": 0.2,
                "exploration_end": 0.02,
            },
            "slate_ppo": {"credit": "slate"},
        },
        longer={"slate_dqn": 12, "slate_ppo": 16},
    ),
    "complements": Mechanism(
        on={"complements": 1.5, "outside_option": 60.0, "cart_rate": 0.5, "purchase_rate": 0.5},
        reward=RewardMix(click=0.2, revenue=0.01),
        plan=_exact(complements_chain),
        longer={"slate_ppo": 2},
    ),
    "return_visits": Mechanism(
        on={
            "seed": 2,
            "allure": 2.0,
            "match": 1.2,
            "leave": 0.15,
            "leave_bought": 0.15,
            "cart_rate": 0.15,
            "come_back": 0.5,
            "delight": 3.0,
        },
        reward=RewardMix(click=1.0),
        plan=lambda truth, reward: Planned(truth, K, visits_chain(truth, reward, MAX_VISITS), 150, stationary=True),
        env={"visits": True, "max_visits": MAX_VISITS},
        max_slates=200,
    ),
}
