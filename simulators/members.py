"""An ensemble of fitted shoppers: the same encoder and features, and every weight fitted again on resampled shoppers.

How far its members differ says how far the log leaves open what shoppers would do, and in part what hangs on the form
of the model, for each does without some features (`ensemble`); what was assumed, and what no member can say, is not in
it.

Source: bagging, Breiman, "Bagging predictors", Machine Learning 1996; the bootstrap by groups, Davison and Hinkley,
"Bootstrap methods and their application", 1997, section 3.8.

Shapes: M members, B shoppers, K slots, F item features, O outside features, A arrivals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from .choice import ChoiceWeights
from .funnel import Stage
from .leaving import Leaving
from .pauses import Pauses
from .quantities import Quantities
from .returning import Returning


@dataclass(frozen=True, slots=True)
class Parts:
    """All of a fitted shopper that is fitted again for each member of an ensemble.

    Attributes:
        choice: examination and choice. cart, purchase: funnel steps. leaving: when shoppers leave.
        dwell: the time on a slate.
        returning: whether and when they come again. quantities: how many they buy at once.
        arrivals: (A,) int64 rows of the arrivals that all members share, as often as each came.

    Of an ensemble every tensor has a row a member first.
    """

    choice: ChoiceWeights
    cart: Stage
    purchase: Stage
    leaving: Leaving
    dwell: Pauses
    returning: Returning
    quantities: Quantities
    arrivals: Tensor

    @classmethod
    def stacked(cls, members: Sequence["Parts"]) -> Self:
        """An ensemble of these members, which have a `proceed` for as many places."""
        return cls(**{one.name: _stacked([getattr(member, one.name) for member in members]) for one in fields(cls)})

    def __len__(self) -> int:
        return len(self.arrivals)

    def __getitem__(self, number: int) -> "Parts":
        """One of an ensemble."""
        return Parts(**{one.name: _row(getattr(self, one.name), number) for one in fields(self)})

    def __iter__(self) -> Iterator["Parts"]:
        return (self[number] for number in range(len(self)))

    def to(self, device: torch.device) -> "Parts":
        """The same on a device."""
        return Parts(**{one.name: getattr(self, one.name).to(device) for one in fields(self)})


@runtime_checkable
class Expects(Protocol):
    """A shopper that says what the members of its ensemble expect of slates, as those of both fitted families do."""

    @property
    def members(self) -> int:
        """Members of the ensemble, 0 where none was fitted."""
        ...

    def expect(self, state: Any, slate: Tensor) -> "Expected":
        """What they expect of slates (B, K), (M, B) each; without an ensemble the one row of the shopper itself."""
        ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What members expect of a slate shown to B shoppers, (M, B) float32 each.

    Attributes:
        click, cart, purchase: chances that the slate leads to one.
        revenue: expected, in the shop's currency.
    """

    click: Tensor
    cart: Tensor
    purchase: Tensor
    revenue: Tensor


def expected(parts: Parts, scaled: Tensor, outside: Tensor, slate: Tensor, prices: Tensor) -> Expected:
    """What each member of an ensemble expects of slates.

    Args:
        parts: of the ensemble.
        scaled: (B, K, F) features of the items.
        outside: (B, O) features of clicking nothing.
        slate: (B, K) int64 items, 0 in empty slots.
        prices: (N + 1,).
    """
    members, k = len(parts), slate.shape[1]
    every = torch.arange(members, device=slate.device)
    who = every.repeat_interleave(len(slate))  # members times shoppers, a member at a time
    features, items = scaled.repeat(members, 1, 1), slate.repeat(members, 1)
    utility = parts.choice.utility(features, items, who)
    nothing = parts.choice.nothing(outside.repeat(members, 1), who)
    click = parts.choice.log_chances(utility, nothing, who)[:, :k].exp() * (items > 0)
    cart, purchase = (stage.chance(features, items, utility, who) for stage in (parts.cart, parts.purchase))
    spent = prices[items] * parts.quantities.mean[who[:, None], items]
    return summed(*(one.reshape(members, -1, k) for one in (click, cart, purchase, spent)))


def summed(click: Tensor, cart: Tensor, purchase: Tensor, spent: Tensor) -> Expected:
    """What is expected of whole slates.

    Args:
        click: (M, B, K) chance of a click at each place, 0 in empty slots.
        cart: (M, B, K) chance of a cart given a click.
        purchase: (M, B, K) chance of a purchase given a cart.
        spent: (M, B, K), or (B, K) where all members agree, what a purchase brings.
    """
    carted = click * cart
    bought = carted * purchase
    return Expected(*(one.sum(-1) for one in (click, carted, bought, bought * spent)))


def _stacked(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.stack(list(parts))
    if not is_dataclass(first):
        return first  # a setting, which all members share
    return type(first)(**{one.name: _stacked([getattr(part, one.name) for part in parts]) for one in fields(first)})


def _row(part: Any, number: int) -> Any:
    if isinstance(part, Tensor):
        return part[number]
    if not is_dataclass(part):
        return part
    return type(part)(**{one.name: _row(getattr(part, one.name), number) for one in fields(part)})
