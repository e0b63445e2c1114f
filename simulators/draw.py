"""How slots of a log draw clicks whoever sees them: by their place, and by the item they hold.

It tells how good a slate was that a shopper passed over, or how little a click on it says: who clicks nothing among the
best items wants little, and who clicks one of five items of a category that all like need not be fond of it.

Shapes: B shoppers, S slates, K slots, P places, N items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.tokens import Ints
from .popularity import expected_clicks

CLICKS = 5.0
"""Clicks, at the rate of the place above or of an item's places, given to each on top, so that few shows say little."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What a log tells of it.

    Attributes:
        place: (P,) float32 clicks that a slot shown at each place brings; the last holds for all further places.
        item: (N + 1,) float32 clicks that an item brings, over those its places would bring any item; entry 0 is 0.
    """

    place: Tensor
    item: Tensor

    @classmethod
    def of(cls, items: Ints, clicked: Ints, n_items: int) -> "Draw":
        """Of slates.

        Args:
            items: (S, K) slates, 0 in empty slots.
            clicked: (S,) slot, -1 for none.
            n_items: N.
        """
        shown, hit = (items > 0).sum(0), np.flatnonzero(clicked >= 0)
        if not len(hit):
            return cls.alike(n_items)
        place, above = np.empty(items.shape[1]), len(hit) / shown.sum()
        for at, clicks in enumerate(np.bincount(clicked[hit], minlength=items.shape[1])):
            place[at] = above = (clicks + CLICKS) / (shown[at] + CLICKS / above)
        brought = np.bincount(items[hit, clicked[hit]], minlength=n_items + 1)
        item = (brought + CLICKS) / (expected_clicks(items, clicked, n_items) + CLICKS)
        item[0] = 0
        return cls(*(torch.from_numpy(part.astype(np.float32)) for part in (place, item)))

    @classmethod
    def alike(cls, n_items: int) -> "Draw":
        """Where nothing is known: all places are alike, and no click is expected."""
        return cls(torch.ones(1), torch.zeros(n_items + 1))

    def looks(self, slate: Tensor) -> Tensor:
        """(B, K) float32 how many looks at the best place a look at each slot of slates (B, K) is worth."""
        return self._places(slate) / self.place.max() * (slate > 0)

    def clicks(self, slate: Tensor) -> Tensor:
        """(B, K) float32 clicks that each slot of slates (B, K) would bring whoever sees it."""
        return self._places(slate) * self.item[slate]

    def to(self, device: torch.device) -> "Draw":
        """The same on a device."""
        return Draw(self.place.to(device), self.item.to(device))

    def _places(self, slate: Tensor) -> Tensor:
        """(K,) clicks by place."""
        return self.place[torch.arange(slate.shape[1], device=self.place.device).clamp(max=len(self.place) - 1)]
