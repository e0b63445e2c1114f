"""From a click to the cart to a purchase: what follows a click.

Shapes: C clicks, F' funnel features, N items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .features import ITEM_FEATURES
from .logistic import ItemEffects, LogisticFit, fit_logistic, logit

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
"""Item features that carts and purchases may depend on, after an intercept. The last four let a shopper who has seen
enough of an item or its category buy less: one who could not tire would buy as much from a slate shown again and
again."""
COLUMNS = [ITEM_FEATURES.index(name) for name in FUNNEL_FEATURES]
OUTCOMES = ("nothing", "click", "cart", "purchase")
"""What came of a slate, by code 0..3: the deepest that was reached."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the funnel: chance = sigmoid(weights . (1, features) + effect of the item).

    Of an ensemble it has a row a member, and then `who` says whose chance is meant.

    Attributes:
        weights: (1 + F',) float32 intercept first. effects: (N + 1,) float32.

    Raises:
        TypeError: there is not one weight a feature, as in a shopper stored when features were others.
    """

    weights: Tensor
    effects: Tensor

    def __post_init__(self) -> None:
        if self.weights.shape[-1] != 1 + len(COLUMNS):
            raise TypeError(f"a step of the funnel takes {1 + len(COLUMNS)} weights, got {self.weights.shape[-1]}")

    def chance(self, scaled: Tensor, items: Tensor, who: Tensor | None = None) -> Tensor:
        """(...,) chance of passing, given scaled item features (..., F) and the items (...,).

        Given `who`, (B,), features are (B, F) and items (B,).
        """
        if who is None:
            return torch.sigmoid(self.weights[0] + scaled[..., COLUMNS] @ self.weights[1:] + self.effects[items])
        weights = self.weights[who]
        return torch.sigmoid(weights[:, 0] + (scaled[:, COLUMNS] * weights[:, 1:]).sum(1) + self.effects[who, items])

    @classmethod
    def constant(cls, chance: float, n_items: int) -> "Stage":
        """A step that everything passes with the same chance."""
        weights = torch.zeros(1 + len(COLUMNS))
        weights[0] = logit(chance)
        return cls(weights, torch.zeros(n_items + 1))

    def to(self, device: torch.device) -> "Stage":
        """The same on a device."""
        return Stage(self.weights.to(device), self.effects.to(device))


def fit_stage(
    scaled: NDArray[np.float64],
    items: NDArray[np.int64],
    passed: NDArray[np.bool_],
    weight: NDArray[np.float64],
    *,
    effects: ItemEffects,
    start: LogisticFit | None = None,
) -> tuple[Stage, LogisticFit]:
    """One step of the funnel.

    Args:
        scaled: (C, F) scaled item features of those who got as far as this step.
        items: (C,) their items.
        passed: (C,) whether they passed it, some of them and not all.
        weight: (C,) how often each counts.
        effects: prior of the items' effects.
        start: a fit of the same clicks, weighted otherwise, to begin from.
    """
    x = np.column_stack([np.ones(len(items)), scaled[:, COLUMNS]])
    centre = np.append(logit(float(np.average(passed, weights=weight))), np.zeros(len(COLUMNS)))
    spread = np.append(2.0, np.full(len(COLUMNS), 0.5))  # few events: a feature moves the log odds by half or less
    fit = fit_logistic(x, passed, weight, items, centre=centre, spread=spread, prior=effects, start=start)
    return Stage(torch.from_numpy(fit.weights).float(), torch.from_numpy(fit.effects).float()), fit


def outcome_codes(clicked: Tensor, carted: Tensor, purchased: Tensor) -> Tensor:
    """(B,) int64 codes of `OUTCOMES`; `clicked` (B,) is a slot or -1, the others (B,) bool only count with a click."""
    hit = clicked >= 0
    return hit.long() + (hit & (carted | purchased)).long() + (hit & purchased).long()
