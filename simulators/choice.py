"""What a shopper likes of a slate, as utilities; how it looks over the slate is one of the forms of `examination`.

Source of the choice: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974.

Shapes: S slates, B shoppers, K slots, F item features, O outside features, H places with a `proceed` of their own, N
items.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .examination import Examination, click_log_chances, looked_chances, outcome_log_chance
from .features import OUTSIDE_FEATURES

NEVER = -1e4
"""Utility of what cannot be chosen: exp of it is 0, and unlike minus infinity it keeps gradients finite."""


@dataclass(frozen=True, slots=True)
class ChoiceWeights:
    """Parameters of examination and choice; of an ensemble with a row a member, and then `who` says whose are meant.

    Attributes:
        item: (F,) weight of each scaled feature of `features.ITEM_FEATURES`.
        outside: (O,) weight of each of `features.OUTSIDE_FEATURES`.
        proceed: (H + 1,) logits of looking, by place, see `examination`; the last one holds for all further places.
        effects: (N + 1,) what an item is liked beyond its features; entry 0 is 0.
        form: of examination.
    """

    item: Tensor
    outside: Tensor
    proceed: Tensor
    effects: Tensor
    form: Examination = "depth"

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "ChoiceWeights":
        """The same on a device."""
        names = ("item", "outside", "proceed", "effects")
        return replace(self, **{name: getattr(self, name).to(device, dtype) for name in names})

    def with_nothing(self, value: float) -> "ChoiceWeights":
        """The same with another utility of clicking nothing."""
        outside = self.outside.clone()
        outside[OUTSIDE_FEATURES.index("nothing")] = value
        return replace(self, outside=outside)

    def utility(self, scaled: Tensor, items: Tensor, who: Tensor | None = None) -> Tensor:
        """(...,) utility of items (...,) with these scaled features (..., F); `NEVER` of item 0.

        Given `who`, (B,), items are (B, K).
        """
        if who is None:
            found = scaled @ self.item + self.effects[items]
        else:
            found = torch.einsum("bkf,bf->bk", scaled, self.item[who]) + self.effects[who[:, None], items]
        return found.masked_fill(items == 0, NEVER)

    def nothing(self, outside: Tensor, who: Tensor | None = None) -> Tensor:
        """(B,) utility of clicking nothing, given outside features (B, O)."""
        return outside @ self.outside if who is None else (outside * self.outside[who]).sum(1)

    def looked(self, k: int, who: Tensor | None = None) -> Tensor:
        """(k,) chance that each place of a slate is looked at while nothing is clicked; (B, k) given `who`."""
        return looked_chances(self.form, self.logits(who), k)

    def logits(self, who: Tensor | None = None) -> Tensor:
        """(H + 1,) logits of looking; (B, H + 1) given `who`."""
        return self.proceed if who is None else self.proceed[who]

    def log_chances(self, utility: Tensor, nothing: Tensor, who: Tensor | None = None) -> Tensor:
        """(B, K + 1) log chance of a click at each place, and of none, given utilities (B, K) and (B,)."""
        return click_log_chances(self.form, utility, nothing, self.logits(who))

    def log_chance(self, utility: Tensor, nothing: Tensor, place: Tensor) -> Tensor:
        """(B,) log chance of a click at `place` (B,), or, where it is K, of none."""
        return outcome_log_chance(self.form, utility, nothing, self.proceed, place)


def next_view_log_chance(utility: Tensor, correction: Tensor) -> Tensor:
    """(S,) log chance that the first of K sampled alternatives is viewed next.

    Args:
        utility: (S, K) of the alternatives.
        correction: (S, K) minus the log chance of each alternative to be sampled, which makes the estimate as if all
            items had been offered.

    Source: McFadden, "Modelling the choice of residential location", 1978, section 4.
    """
    return torch.log_softmax(utility + correction, 1)[:, 0]
