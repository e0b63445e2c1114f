"""Everything of a boosted shopper, and of the members of its ensemble.

Shapes: N items, A arrivals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .arrivals import Arrivals
from .boosted_choice import BoostedChoice
from .boosted_hazards import Hazard
from .drawn import no_member
from .hand_features import ItemTables
from .pauses import Pauses


@dataclass(frozen=True)
class BoostedParts:
    """All of a boosted shopper that is fitted again for each member of an ensemble.

    Attributes:
        tables: of the items; of members other than the shopper's own in `popularity` and `liked` alone.
        choice: examination and choice.
        cart, purchase: funnel steps over `ITEM_COLUMNS` and `SHOPPER_COLUMNS`, the second given the first.
        dwell: the time on a slate.
        leaving: over `LEAVING_COLUMNS`; the item is the latest one clicked.
        arrivals: (A,) int64 rows of the arrivals that all members share, as often as each came.
    """

    tables: ItemTables
    choice: BoostedChoice
    cart: Hazard
    purchase: Hazard
    dwell: Pauses
    leaving: Hazard
    arrivals: Tensor

    def to(self, device: torch.device) -> "BoostedParts":
        """The same on a device; trees are asked on the CPU."""
        tables, dwell, arrivals = (part.to(device) for part in (self.tables, self.dwell, self.arrivals))
        return replace(self, tables=tables, dwell=dwell, arrivals=arrivals)


@dataclass(frozen=True)
class BoostedModel:
    """Everything of a boosted shopper, and of the members of its ensemble.

    Attributes:
        own: all that members of an ensemble have of their own, as fitted on all shoppers.
        arrivals: how shoppers come; `own` and `members` name rows of it.
        prices: (N + 1,) float32.
        from_slates: whether choices were learnt from logged slates; otherwise from next views.
        leaving_known: whether a log told when they leave.
        rivals: simpler choice models fitted on the same occasions, by name.
        members: of an ensemble on resampled shoppers, if one was fitted.
    """

    own: BoostedParts
    arrivals: Arrivals
    prices: Tensor
    from_slates: bool
    leaving_known: bool
    rivals: Mapping[str, BoostedChoice] = field(default_factory=dict)
    members: Sequence[BoostedParts] = ()

    def member(self, number: int) -> "BoostedModel":
        """The model with the parts of one member in place of its own."""
        if not 0 <= number < len(self.members):
            raise no_member(number, len(self.members))
        return replace(self, own=self.members[number], members=())

    def to(self, device: torch.device) -> "BoostedModel":
        """The same on a device."""
        names = ("own", "arrivals", "prices")
        members = tuple(member.to(device) for member in self.members)
        return replace(self, **{name: getattr(self, name).to(device) for name in names}, members=members)
