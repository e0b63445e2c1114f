"""Everything of a fitted shopper but its encoder, and of the members of its ensemble.

Shapes: N items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .arrivals import Arrivals
from .choice import ChoiceWeights
from .drawn import no_member
from .features import ItemFacts, Scaling
from .members import Parts


@dataclass(frozen=True)
class ShopperModel:
    """Everything of a fitted shopper that was learnt or assumed, but for its encoder.

    Attributes:
        facts: of the items. scaling: of their features.
        own: all that members of an ensemble have of their own, as fitted on all shoppers.
        arrivals: how they come; `own` and `members` name rows of it.
        prices: (N + 1,) float32.
        from_slates: whether choices were learnt from logged slates; otherwise from next views, and how shoppers look
            and how often they click nothing was assumed.
        rivals: simpler choice models fitted on the same slates, by name.
        members: of an ensemble on resampled shoppers, if one was fitted.
    """

    facts: ItemFacts
    scaling: Scaling
    own: Parts
    arrivals: Arrivals
    prices: Tensor
    from_slates: bool
    rivals: Mapping[str, ChoiceWeights] = field(default_factory=dict)
    members: Parts | None = None

    def member(self, number: int) -> "ShopperModel":
        """The model with the parts of one member in place of its own."""
        if self.members is None or not 0 <= number < len(self.members):
            raise no_member(number, 0 if self.members is None else len(self.members))
        return replace(self, own=self.members.member(number), members=None)

    def to(self, device: torch.device) -> "ShopperModel":
        """The same on a device."""
        names = ("facts", "scaling", "own", "arrivals", "prices")
        rivals = {name: weights.to(device) for name, weights in self.rivals.items()}
        members = self.members and self.members.to(device)
        return replace(self, **{name: getattr(self, name).to(device) for name in names}, rivals=rivals, members=members)
