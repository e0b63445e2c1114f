"""Everything of a boosted shopper, and of the members of its ensemble.

Shapes: A arrivals.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .boosted_choice import BoostedChoice
from .boosted_hazards import Hazard
from .hand_features import ItemTables
from .pauses import Pauses
from .shopper_model import FamilyModel


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


@dataclass(frozen=True, kw_only=True)
class BoostedModel(FamilyModel[BoostedParts, BoostedChoice]):
    """Everything of a boosted shopper, and of the members of its ensemble.

    Attributes:
        leaving_known: whether a log told when they leave.
        usual_size: items that the log's slates held, their geometric mean.
    """

    leaving_known: bool
    usual_size: float
    members: tuple[BoostedParts, ...] = ()

    def to(self, device: torch.device) -> "BoostedModel":
        """The same on a device."""
        names = ("own", "arrivals", "prices")
        members = tuple(member.to(device) for member in self.members)
        return replace(self, **{name: getattr(self, name).to(device) for name in names}, members=members)
