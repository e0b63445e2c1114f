"""What a shopper foretells of a log, beside what shoppers did: the ground on which fitted shoppers are judged.

Shapes: S occasions (slates, or next views), K slots.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..datasets.log import ShopLog, Slates
from ..datasets.tokens import Ints
from .replay import Progress

FITTED = "fitted"
"""What tables call the shopper's own choice model, beside its simpler rivals."""


@dataclass(frozen=True, slots=True)
class Foretold:
    """Chances that a shopper gave to what a log's shoppers did.

    Of a log that keeps only slates that were clicked they are chances given a click, for it cannot tell how often there
    is none.

    Attributes:
        session: (S,) session of each occasion. shopper: (S,) its shopper, as a number.
        items: (S, K) int64 what was offered, 0 in empty slots. clicked: (S,) int64 slot, -1 for none.
        choices: by choice model, `FITTED` first: (S,) log chance of what was done, and (S, K) what slots rank by: log
            chance of a click, or utility of a next view.
        slates: the log's slates; none where choices are next views, and then the fields below are none too.
        cart: (S,) chance of a cart given the click, purchase: (S,) of a purchase given the cart; 0 without a click.
        leaving: (S,) chance to leave after the slate; none where the log cannot tell when shoppers leave.
        correction: (S, K) of sampled alternatives, see `choice.next_view_log_chance`; none for slates.
    """

    session: Ints
    shopper: Ints
    items: Tensor
    clicked: Tensor
    choices: Mapping[str, tuple[Tensor, Tensor]]
    slates: Slates | None = None
    cart: Tensor | None = None
    purchase: Tensor | None = None
    leaving: Tensor | None = None
    correction: Tensor | None = None


@runtime_checkable
class Foretells(Protocol):
    """A shopper that can be judged by a log."""

    def foretell(self, log: ShopLog, *, seed: int = 0, progress: Progress | None = None) -> Foretold:
        """What it foretells of a log that it was not fitted on; `seed` draws alternatives where there are no slates.

        Raises:
            EvidenceError: the log holds nothing to judge by, or is of another catalogue.
        """
        ...
