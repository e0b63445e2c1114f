"""Everything of a fitted shopper but its encoder, and of the members of its ensemble.

Shapes: N items.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from .arrivals import Arrivals
from .choice import ChoiceWeights
from .drawn import no_member
from .features import ItemFacts, Scaling
from .members import Parts

P = TypeVar("P", covariant=True)
C = TypeVar("C")


class Members(Protocol[P]):
    """The parts of an ensemble's members, one after the other; a tuple is one such."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> P: ...

    def __iter__(self) -> Iterator[P]: ...


@dataclass(frozen=True, kw_only=True)
class FamilyModel(Generic[P, C]):
    """What models of either family hold; families add what all members of an ensemble share.

    Attributes:
        own: all that members of an ensemble have of their own, as fitted on all shoppers.
        arrivals: how shoppers come; `own` and `members` name rows of it.
        prices: (N + 1,) float32.
        from_slates: whether choices were learnt from logged slates; otherwise from next views, and how shoppers look
            and how often they click nothing was assumed.
        rivals: simpler choice models fitted on the same occasions, by name.
        members: of an ensemble on resampled shoppers, if one was fitted.
    """

    own: P
    arrivals: Arrivals
    prices: Tensor
    from_slates: bool
    rivals: Mapping[str, C] = field(default_factory=dict)
    members: Members[P] | None = None

    def member(self, number: int) -> Self:
        """The model with the parts of one member in place of its own.

        Raises:
            IndexError: there is no such member.
        """
        members = self.members or ()
        if not 0 <= number < len(members):
            raise no_member(number, len(members))
        return replace(self, own=members[number], members=type(self).members)  # the family's default: none


@dataclass(frozen=True, kw_only=True)
class ShopperModel(FamilyModel[Parts, ChoiceWeights]):
    """Everything of a fitted shopper that was learnt or assumed, but for its encoder.

    Attributes:
        facts: of the items. scaling: of their features.
    """

    facts: ItemFacts
    scaling: Scaling
    members: Parts | None = None

    def to(self, device: torch.device) -> "ShopperModel":
        """The same on a device."""
        names = ("facts", "scaling", "own", "arrivals", "prices")
        rivals = {name: weights.to(device) for name, weights in self.rivals.items()}
        members = self.members and self.members.to(device)
        return replace(self, **{name: getattr(self, name).to(device) for name in names}, rivals=rivals, members=members)
