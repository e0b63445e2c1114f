"""The `Shopper` protocol: what every simulator of shoppers is, known-truth or fitted.

Shapes: B shoppers, K slots of a slate, T tokens, N items. Batched torch throughout; no Python loop over shoppers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor


@dataclass(slots=True)
class Rows:
    """Base of dataclasses whose tensors have a row a shopper first; fields are tensors, `Rows`, or settings."""

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows, in place, with all rows of `other`: shoppers leave and others take their places."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Tensor):
                mine[rows] = theirs
            elif hasattr(mine, "put"):
                mine.put(rows, theirs)


@dataclass(slots=True)
class TokenBatch(Rows):
    """Histories as tensors, oldest first, zeros after the end; as `datasets.tokens.History`.

    Attributes:
        items: (B, T) int64. events: (B, T) int64. gaps: (B, T) float32 seconds. lengths: (B,) int64.
    """

    items: Tensor
    events: Tensor
    gaps: Tensor
    lengths: Tensor

    def rows(self, which: Tensor) -> "TokenBatch":
        """A copy of some rows, (n,) int64."""
        return TokenBatch(self.items[which], self.events[which], self.gaps[which], self.lengths[which])


@dataclass(slots=True)
class ShopperState(Rows):
    """What every simulator's state has; simulators add their own fields.

    Attributes:
        seed: (B,) int64 the shopper's seed: with `step` it decides all the shopper's luck.
        step: (B,) int64 slates shown so far.
        gap: (B,) float32 seconds from the shopper's last token to the slate about to be shown; 0 with no history.
        arrival: tokens the shopper brought along (what was done before the first slate), at most a fixed width.
    """

    seed: Tensor
    step: Tensor
    gap: Tensor
    arrival: TokenBatch


@dataclass(frozen=True, slots=True)
class Response:
    """What shoppers did with a slate.

    Attributes:
        examined: (B, K) bool, slots that were looked at.
        clicked: (B,) int64 the slot clicked, -1 for none. At most one a slate.
        carted: (B,) bool, whether the clicked item went into the cart.
        purchased: (B,) bool, whether the clicked item was bought.
        left: (B,) bool, whether the shopper left after this slate.
        dwell: (B,) float32 seconds spent until the next slate or leaving, > 0.
        revenue: (B,) float32 price times quantity, in the shop's currency; 0 without a purchase.
        quantity: (B,) int64 how many of the item were bought; 0 without a purchase.
    """

    examined: Tensor
    clicked: Tensor
    carted: Tensor
    purchased: Tensor
    left: Tensor
    dwell: Tensor
    revenue: Tensor
    quantity: Tensor

    def tokens(self, slate: Tensor) -> tuple[Tensor, Tensor]:
        """The one token (items, events), each (B,), that this response adds to the histories.

        The item clicked with the deepest event it reached, or the best-placed item with `IMPRESSION`; an empty slate
        without a click adds none (item 0). The token's gap is the `gap` of the state the slate was shown to.
        """
        shown = torch.where(slate > 0, 1, 0)
        best = slate.gather(1, shown.argmax(1, keepdim=True)).squeeze(1)  # 0 where the whole slate is empty
        taken = slate.gather(1, self.clicked.clamp(min=0)[:, None]).squeeze(1)
        hit = self.clicked >= 0
        depth = 3 + torch.where(self.purchased, 2, torch.where(self.carted, 1, 0))
        items = torch.where(hit, taken, best)
        events = torch.where(hit, depth, torch.where(best > 0, 1, 0))
        return items, events


class Shopper(Protocol):
    """A simulator of shoppers: who arrives, and how they respond to slates. Transitions take and return states.

    Randomness comes from the state (its `seed` and `step`, see `randomness`), so equal states and slates give equal
    responses whatever else is in the batch.
    """

    n_items: int
    device: torch.device

    @property
    def prices(self) -> Tensor:
        """(N + 1,) float32 price by dense index; entry 0 is 0."""
        ...

    def reset(self, seeds: Tensor) -> ShopperState:
        """Shoppers who arrive, one for each of the (B,) int64 `seeds`."""
        ...

    def respond(self, state: Any, slate: Tensor) -> tuple[Response, Any]:
        """What shoppers do with their slates, and their states afterwards (the one passed in is used up).

        Args:
            state: `ShopperState` of B shoppers, of the simulator's own kind.
            slate: (B, K) int64 dense item indices, best place first; 0 leaves a slot empty. No repeats.
        """
        ...


@runtime_checkable
class ComesAgain(Protocol):
    """A shopper that says by itself whether and when it comes again."""

    @property
    def comes_again(self) -> bool:
        """Whether anyone does."""
        ...

    def return_chances(self, state: Any) -> Tensor:
        """(B,) chance that each shopper comes again after a visit that ended like this."""
        ...

    def returns(self, state: Any) -> tuple[Tensor, Tensor]:
        """Whether the shoppers come again after this visit (B,) bool, and after how many days (B,) float32, > 0."""
        ...


@runtime_checkable
class Searches(Protocol):
    """A shopper that says what it searches for when it comes, and chooses accordingly."""

    @property
    def queries(self) -> Sequence[str]:
        """Texts of searches by number; number 0 is "", no search."""
        ...

    def searched(self, state: Any) -> Tensor:
        """(B,) int64 number of what each shopper of these states searches for on this visit."""
        ...


def without_repeats(slate: Tensor) -> Tensor:
    """(B, K) the slate with every repeat of an item replaced by 0, an empty slot; the first place stays."""
    same = slate[:, :, None] == slate[:, None, :]
    repeated = (same & torch.ones_like(same).tril(-1)).any(2)
    return slate.masked_fill(repeated, 0)
