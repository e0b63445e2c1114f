"""What fitted shoppers of either family carry from one slate to the next, and how a slate moves it on.

Shapes: B shoppers, K slots, N items.
"""

from dataclasses import dataclass

from torch import Tensor

from .draw import Draw
from .shopper import Response, ShopperState
from .trail import Trail


@dataclass(slots=True)
class FollowedState(ShopperState):
    """A fitted shopper between slates; families add what is their own.

    Attributes:
        trail: what was seen and done so far.
        pace: (B,) float32 what this visit adds to log seconds on a slate.
        member: (B,) int64 the member of an ensemble that each shopper is of; none outside one.
    """

    trail: Trail
    pace: Tensor
    member: Tensor | None

    def moved_on(
        self, slate: Tensor, response: Response, price: Tensor, draw: Draw | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take in a slate and what came of it, in place.

        Args:
            slate: (B, K) int64 items, 0 in empty slots.
            response: to it.
            price: (N + 1,) standardised price within the category, which trails add up.
            draw: of the shop's slots, which trails remember.

        Returns:
            The token that the response adds, items and events, (B,) each; `gap` is by then that of the next one.
        """
        items, events = response.tokens(slate)
        self.trail.after_slate(slate, draw)
        self.trail.after_token(items, events, price)
        self.step, self.gap = self.step + 1, response.dwell.clone()
        return items, events
