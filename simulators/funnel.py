"""From a click to the cart to a purchase: what follows a click.

Shapes: B shoppers, F' funnel features, N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .features import ITEM_FEATURES
from .logistic import logit

FUNNEL_FEATURES = (
    "match",
    "match_high",
    "price",
    "price_in_category",
    "dearer",
    "popularity",
    "clicked_before",
    "shown_before",
    "category_clicks",
    "category_shown",
)
"""Item features that carts and purchases may depend on, beside an intercept and the utility that made the click.

The utility carries most of it, for carts and purchases are far fewer than clicks: who is drawn to an item as such,
and not tired of it, also buys it sooner.
"""
FUNNEL_WEIGHTS = ("always", *FUNNEL_FEATURES, "utility")
"""What the weights of a step belong to, in order."""
COLUMNS = [ITEM_FEATURES.index(name) for name in FUNNEL_FEATURES]
OUTCOMES = ("nothing", "click", "cart", "purchase")
"""What came of a slate, by code 0..3: the deepest that was reached."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the funnel: chance = sigmoid(weights . (1, features, utility) + effect of the item).

    Of an ensemble it has a row a member, and then `who` says whose chance is meant.

    Attributes:
        weights: (F' + 2,) float32, see `FUNNEL_WEIGHTS`. effects: (N + 1,) float32.

    Raises:
        TypeError: there is not one weight a feature, as in a shopper stored when features were others.
    """

    weights: Tensor
    effects: Tensor

    def __post_init__(self) -> None:
        if self.weights.shape[-1] != len(FUNNEL_WEIGHTS):
            raise TypeError(f"a step of the funnel takes {len(FUNNEL_WEIGHTS)} weights, got {self.weights.shape[-1]}")

    def chance(self, scaled: Tensor, items: Tensor, utility: Tensor, who: Tensor | None = None) -> Tensor:
        """(...,) chance of passing, given scaled item features (..., F), the items (...,) and their utility (...,).

        Given `who`, (B,), the first of these dimensions is that of the B shoppers.
        """
        if who is None:
            weights, effects = self.weights, self.effects[items]
            found = scaled[..., COLUMNS] @ weights[1:-1]
        else:
            who = who.view(-1, *[1] * (items.dim() - 1))
            weights, effects = self.weights[who], self.effects[who, items]
            found = (scaled[..., COLUMNS] * weights[..., 1:-1]).sum(-1)
        return torch.sigmoid(weights[..., 0] + found + weights[..., -1] * utility + effects)

    @classmethod
    def constant(cls, chance: float, n_items: int) -> "Stage":
        """A step that everything passes with the same chance."""
        weights = torch.zeros(len(FUNNEL_WEIGHTS))
        weights[0] = logit(chance)
        return cls(weights, torch.zeros(n_items + 1))

    def to(self, device: torch.device) -> "Stage":
        """The same on a device."""
        return Stage(self.weights.to(device), self.effects.to(device))


def outcome_codes(clicked: Tensor, carted: Tensor, purchased: Tensor) -> Tensor:
    """(B,) int64 codes of `OUTCOMES`; `clicked` (B,) is a slot or -1, the others (B,) bool only count with a click."""
    hit = clicked >= 0
    return hit.long() + (hit & (carted | purchased)).long() + (hit & purchased).long()
