"""Everything of a boosted shopper.

Shapes: N items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .arrivals import Arrivals
from .boosted_choice import BoostedChoice
from .boosted_hazards import Hazard
from .hand_features import ItemTables


@dataclass(frozen=True)
class BoostedParts:
    """What shoppers know of the items, and what they do.

    Attributes:
        tables: of the items.
        choice: examination and choice.
        cart, purchase: funnel steps over `ITEM_COLUMNS` and `SHOPPER_COLUMNS`, the second given the first.
        dwell: (4, 2) float32 mean and standard deviation of log seconds on a slate, by `funnel.OUTCOMES`.
        leaving: over `LEAVING_COLUMNS`; the item is the latest one clicked.
    """

    tables: ItemTables
    choice: BoostedChoice
    cart: Hazard
    purchase: Hazard
    dwell: Tensor
    leaving: Hazard

    def to(self, device: torch.device) -> "BoostedParts":
        """The same on a device; trees are asked on the CPU."""
        return replace(self, tables=self.tables.to(device), dwell=self.dwell.to(device))


@dataclass(frozen=True)
class BoostedModel:
    """Everything of a boosted shopper.

    Attributes:
        own: what it knows and does.
        arrivals: how shoppers come.
        prices: (N + 1,) float32.
        from_slates: whether choices were learnt from logged slates; otherwise from next views.
        leaving_known: whether a log told when they leave.
        rivals: simpler choice models fitted on the same occasions, by name.
    """

    own: BoostedParts
    arrivals: Arrivals
    prices: Tensor
    from_slates: bool
    leaving_known: bool
    rivals: Mapping[str, BoostedChoice] = field(default_factory=dict)

    def to(self, device: torch.device) -> "BoostedModel":
        """The same on a device."""
        names = ("own", "arrivals", "prices")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})
