"""What a shopper has seen and done so far, as far as later choices depend on it.

The same code follows a logged session when a shopper is fitted and a simulated one when it runs, so that both mean the
same by "shown before" or "dearer than usual".

Shapes: B shoppers, K slots of a slate, R slots kept, N items.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from ..datasets.schema import Event
from .draw import Draw
from .shopper import Rows, TokenBatch

SHOWN_KEPT = 64
"""Latest slots shown whose items count as shown before."""
TAKEN_KEPT = 16
"""Latest items viewed or deeper, clicked, and bought, that are remembered."""


@dataclass(slots=True)
class Trail(Rows):
    """What B shoppers remember; rows are independent.

    Attributes:
        shown: (B, SHOWN_KEPT) int64 items shown, latest slate first; 0 where none.
        looks: (B, SHOWN_KEPT) float32 looks that each of these slots is worth, see `Draw`.
        draws: (B, SHOWN_KEPT) float32 clicks that each would have brought whoever saw it.
        shown_at: (B, SHOWN_KEPT) int64 slates shown before the one that held it.
        taken: (B, TAKEN_KEPT) int64 items viewed or deeper, latest first; 0 where none.
        clicked: (B, TAKEN_KEPT) int64 items clicked or deeper, latest first; 0 where none.
        bought: (B, TAKEN_KEPT) int64 items bought, latest first; 0 where none.
        price_sum: (B,) float32 sum, over all items taken, of the standardised price within the category.
        interests: (B,) int64 how many items were taken.
        slates: (B,) int64 slates shown.
        idle: (B,) int64 slates shown since the latest item taken, or since the start.
    """

    shown: Tensor
    looks: Tensor
    draws: Tensor
    shown_at: Tensor
    taken: Tensor
    clicked: Tensor
    bought: Tensor
    price_sum: Tensor
    interests: Tensor
    slates: Tensor
    idle: Tensor

    @classmethod
    def start(cls, rows: int, device: torch.device) -> Self:
        """Trails of shoppers who have done nothing yet."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        return cls(
            shown=zeros(rows, SHOWN_KEPT),
            looks=torch.zeros(rows, SHOWN_KEPT, device=device),
            draws=torch.zeros(rows, SHOWN_KEPT, device=device),
            shown_at=zeros(rows, SHOWN_KEPT),
            taken=zeros(rows, TAKEN_KEPT),
            clicked=zeros(rows, TAKEN_KEPT),
            bought=zeros(rows, TAKEN_KEPT),
            price_sum=torch.zeros(rows, device=device),
            interests=zeros(rows),
            slates=zeros(rows),
            idle=zeros(rows),
        )

    def after_slate(self, slate: Tensor, draw: Draw | None = None, here: Tensor | None = None) -> None:
        """A slate was shown; in place. What came of it is told by `after_token`.

        Args:
            slate: (B, K) int64 items, 0 in empty slots.
            draw: of the shop's slots; without it every slot is worth a look, and draws no clicks.
            here: (B,) bool rows that saw one; all by default.
        """
        counted = torch.ones_like(self.slates) if here is None else here.to(torch.int64)
        looks = (slate > 0).float() if draw is None else draw.looks(slate)
        draws = torch.zeros_like(looks) if draw is None else draw.clicks(slate)
        self.shown = _in_front(slate, self.shown, here)
        self.looks, self.draws = _in_front(looks, self.looks, here), _in_front(draws, self.draws, here)
        self.shown_at = _in_front(self.slates[:, None].expand_as(slate), self.shown_at, here)
        self.slates = self.slates + counted
        self.idle = self.idle + counted

    def after_token(self, items: Tensor, events: Tensor, price: Tensor) -> None:
        """A token was added to each row, in place; rows with item 0 stay as they are.

        Args:
            items: (B,) int64.
            events: (B,) int64.
            price: (N + 1,) standardised price within the category, entry 0 is 0.
        """
        items = torch.where(is_interest(events), items, 0)
        there = items > 0
        self.taken = _pushed(self.taken, items, there)
        self.clicked = _pushed(self.clicked, items, there & (events >= Event.CLICK))
        self.bought = _pushed(self.bought, items, there & (events == Event.PURCHASE))
        self.price_sum = self.price_sum + price[items]
        self.interests = self.interests + there
        self.idle = torch.where(there, 0, self.idle)

    def rows(self, which: Tensor) -> Self:
        """A copy of some rows, (n,) int64 numbers of which on any device."""
        which = which.to(self.slates.device)
        return type(self)(*(getattr(self, one.name)[which] for one in fields(self)))


def trail_of(tokens: TokenBatch, slates: Tensor | None, price: Tensor, draw: Draw | None = None) -> Trail:
    """The trail that histories tell.

    Args:
        tokens: B histories.
        slates: (B, T, K) int64 the slates that their tokens answer, zeros where they answer none; without them each
            counts as the one item its token holds.
        price: (N + 1,) standardised price within the category, entry 0 is 0.
        draw: of the shop's slots.
    """
    trail = Trail.start(len(tokens.lengths), price.device)
    for place in range(int(tokens.lengths.max()) if len(tokens.lengths) else 0):
        item, event = tokens.items[:, place], tokens.events[:, place]
        if slates is None:
            answers = (event == Event.IMPRESSION) | ((event >= Event.CLICK) & (event <= Event.PURCHASE))
            trail.after_slate(item[:, None], draw, (item > 0) & answers)
        else:
            trail.after_slate(slates[:, place], draw, (slates[:, place] > 0).any(1))
        trail.after_token(item, event, price)
    return trail


def _in_front(new: Tensor, kept: Tensor, here: Tensor | None) -> Tensor:
    """(B, R) what was kept with (B, K) in front, in rows (B,) where it is here."""
    pushed = torch.cat([new, kept], 1)[:, : kept.shape[1]]
    return pushed if here is None else torch.where(here[:, None], pushed, kept)


def _pushed(kept: Tensor, items: Tensor, there: Tensor) -> Tensor:
    """(B, R) the latest items with one more (B,) in front, in the rows where it is there."""
    return torch.where(there[:, None], torch.cat([items[:, None], kept[:, :-1]], 1), kept)


def is_interest(events: Tensor) -> Tensor:
    """Whether a token's event is a view or deeper: not an impression, and not a removal from the cart."""
    return (events >= Event.VIEW) & (events <= Event.PURCHASE)
