"""What a shopper of the known-truth shop carries along, and the seeds of its visits.

Shapes: B shoppers, C categories, D style dimensions, F items clicked lately, M items bought.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .shopper import ShopperState, without_repeats

VISIT_BITS = 40
"""Bits of a seed that name the shopper; those above number the visit."""


def visit_seed(shopper: Tensor, visit: Tensor | int) -> Tensor:
    """The seed of a shopper's visit: the same shopper keeps its lasting taste, and has another intent and other luck.

    Args:
        shopper: (B,) int64 in [0, 2**40).
        visit: (B,) int64 or int in [0, 2**23).
    """
    return shopper + (visit << VISIT_BITS)


def first_visit(seeds: Any) -> Any:
    """Seeds of the first visits of the shoppers whose visits these seeds, an array or a tensor, are of."""
    return seeds & ((1 << VISIT_BITS) - 1)


@dataclass(slots=True)
class KnownTruthState(ShopperState):
    """A shopper of the known-truth shop; all fields beyond `ShopperState`'s are hidden from any recommender.

    Attributes:
        liking: (B, C) float32 logits that each category has for this visit: lasting taste and intent.
        weights: (B, D + 3) float32 logits per unit of an item's style, quality, allure and log price (last <= 0).
        satiation: (B, C) float32 logits that each category has lost for now.
        familiar: (B, F) int64 items clicked lately, 0 for none. weariness: (B, F) float32 logits each of them has lost.
        patience: (B,) float32 slates without a click still borne.
        day: (B,) float32 days from `DAY_ZERO` to this visit.
        gain: (B, C) float32 logits that categories have gained by what they go with.
        owned: (B, M) int64 items bought on earlier visits, the latest first, 0 for none; M is 0 if they do not matter.
        basket: (B, M) int64 items bought on this visit, the latest first.
        pleasure: (B,) int64 the best thing that happened on this visit: 1 a purchase, 0 a click, -1 nothing.
    """

    liking: Tensor
    weights: Tensor
    satiation: Tensor
    familiar: Tensor
    weariness: Tensor
    patience: Tensor
    day: Tensor
    gain: Tensor
    owned: Tensor
    basket: Tensor
    pleasure: Tensor

    def belongings(self) -> Tensor:
        """(B, M) int64 what was bought on this visit and earlier ones, the latest first, no repeats; 0 for none."""
        bought = without_repeats(torch.cat([self.basket, self.owned], 1))
        latest = (bought == 0).to(torch.int8).argsort(dim=1, stable=True)[:, : self.owned.shape[1]]
        return bought.gather(1, latest)
