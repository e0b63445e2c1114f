"""Everything of a fitted shopper but its encoder, and of the members of its ensemble.

Shapes: N items, A arrivals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .arrivals import Arrivals
from .choice import ChoiceWeights
from .features import ItemFacts, Scaling
from .funnel import Stage
from .leaving import Leaving
from .members import Parts
from .quantities import Quantities
from .returning import Returning

_REFITTED = ("choice", "cart", "purchase", "leaving", "dwell", "returning", "quantities")  # for each member


@dataclass(frozen=True)
class ShopperModel:
    """Everything of a fitted shopper that was learnt or assumed, but for its encoder.

    Attributes:
        facts: of the items. scaling: of their features.
        choice: examination and choice. rivals: simpler choice models fitted on the same slates, by name.
        cart, purchase: funnel steps, the second given the first.
        dwell: (4, 2) float32 mean and standard deviation of log seconds on a slate, by `funnel.OUTCOMES`.
        leaving: when shoppers leave. returning: whether and when they come again.
        quantities: how many they buy at once.
        arrivals: how they come.
        prices: (N + 1,) float32.
        from_slates: whether choices were learnt from logged slates; otherwise from next views, and how shoppers look
            and how often they click nothing was assumed.
        members: of an ensemble on resampled shoppers, if one was fitted.
    """

    facts: ItemFacts
    scaling: Scaling
    choice: ChoiceWeights
    cart: Stage
    purchase: Stage
    dwell: Tensor
    leaving: Leaving
    returning: Returning
    quantities: Quantities
    arrivals: Arrivals
    prices: Tensor
    from_slates: bool
    rivals: Mapping[str, ChoiceWeights] = field(default_factory=dict)
    members: Parts | None = None

    @property
    def parts(self) -> Parts:
        """What a member of an ensemble has of its own, as fitted on all shoppers."""
        every = torch.arange(len(self.arrivals.gap), device=self.arrivals.gap.device)
        return Parts(**{name: getattr(self, name) for name in _REFITTED}, arrivals=every)

    def member(self, number: int) -> "ShopperModel":
        """The model with the parts of one member in place of its own."""
        if self.members is None or not 0 <= number < len(self.members):
            held = 0 if self.members is None else len(self.members)
            raise IndexError(f"no member {number} in an ensemble of {held}; fit with more members")
        own = self.members.member(number)
        kept = {name: getattr(own, name) for name in _REFITTED}
        return replace(self, **kept, arrivals=self.arrivals.rows(own.arrivals), members=None)

    def to(self, device: torch.device) -> "ShopperModel":
        """The same on a device."""
        names = ("facts", "scaling", *_REFITTED, "arrivals", "prices")
        rivals = {name: weights.to(device) for name, weights in self.rivals.items()}
        members = self.members and self.members.to(device)
        return replace(self, **{name: getattr(self, name).to(device) for name in names}, rivals=rivals, members=members)
