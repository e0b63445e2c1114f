"""When a shopper leaves: a hazard after every slate, by what came of it and of the slates before.

Shapes: B shoppers, S slates, Q leaving features, N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .logistic import LogisticFit, logit

IDLE_LEVELS = 6
"""Slates without interest in a row that can each change the hazard; after more it stays as it is."""
LEAVING_FEATURES = (
    "always",
    "after_first_slate",
    "by_slate",
    *(f"idle_{level}_or_more" for level in range(1, IDLE_LEVELS + 1)),
    *(f"idle_{level}_or_more_after_click" for level in range(1, IDLE_LEVELS + 1)),
    "carted",
    "purchased",
    "slate_match",
)
"""Columns of `leaving_features`: 1, whether it was the first slate, log(slates), slates since the last interest as
steps for who has not clicked yet and for who has (so that a level that the log never saw is like the one before),
whether the slate led to a cart or a purchase, and the mean scaled `match` of the slate's items."""
STEPS = [number for number, name in enumerate(LEAVING_FEATURES) if name.startswith("idle_")]
"""Columns that are steps."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """Chance to leave = sigmoid(weights . features + effect of the latest item clicked).

    The effect is what a click on the item does to the rest of the session: an item that disappoints shortens it. Of an
    ensemble it has a row a member, and then `who` says whose chance is meant.

    Attributes:
        weights: (Q,) float32. effects: (N + 1,) float32, entry 0 (nothing clicked yet) 0.
    """

    weights: Tensor
    effects: Tensor

    def chance(self, features: Tensor, last_clicked: Tensor, who: Tensor | None = None) -> Tensor:
        """(B,) chance to leave, given features (B, Q) and the latest item clicked (B,), 0 for none; `who` is (B,)."""
        weights = self.weights if who is None else self.weights[who]
        effects = self.effects[last_clicked] if who is None else self.effects[who, last_clicked]
        return torch.sigmoid((features * weights).sum(-1) + effects)

    def to(self, device: torch.device) -> "Leaving":
        """The same on a device."""
        return Leaving(self.weights.to(device), self.effects.to(device))


def leaving_features(
    slates: Tensor, idle: Tensor, last_clicked: Tensor, outcome: Tensor, slate_match: Tensor
) -> Tensor:
    """(B, Q) features of leaving after a slate.

    Args:
        slates: (B,) int64 slates shown, this one included.
        idle: (B,) int64 slates since the latest interest, 0 if this one was clicked.
        last_clicked: (B,) int64 latest item clicked, on this slate or before, 0 for none.
        outcome: (B,) codes of `funnel.OUTCOMES`.
        slate_match: (B,) see `mean_match`.
    """
    level = (idle[:, None] >= torch.arange(1, IDLE_LEVELS + 1, device=idle.device)).long()
    levels = [level * (last_clicked == 0)[:, None], level * (last_clicked > 0)[:, None]]
    idling = [column for part in levels for column in part.unbind(1)]
    columns = [torch.ones_like(slates), slates == 1, slates.float().log(), *idling, outcome == 2, outcome == 3]
    return torch.stack([*(column.to(slate_match.dtype) for column in columns), slate_match], 1)


def mean_match(scaled: Tensor, slate: Tensor) -> Tensor:
    """(B,) mean scaled `match`, the first feature of (B, K, F), over the filled slots of (B, K); 0 with none filled."""
    filled = (slate > 0).to(scaled.dtype)
    return (scaled[..., 0] * filled).sum(1) / filled.sum(1).clamp(min=1)


def constant_leaving(chance: float, n_items: int) -> Leaving:
    """Leaving with the same chance after every slate."""
    weights = torch.zeros(len(LEAVING_FEATURES))
    weights[0] = logit(min(chance, 1 - 1e-6))
    return Leaving(weights, torch.zeros(n_items + 1))


def leaving_from(fit: LogisticFit) -> Leaving:
    """Leaving with fitted weights."""
    return Leaving(torch.from_numpy(fit.weights).float(), torch.from_numpy(fit.effects).float())
