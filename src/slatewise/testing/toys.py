"""Toy shoppers whose best slate is known, so that a test can tell whether a learner has learnt it.

Shapes: B shoppers, K slots.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..datasets.schema import Event
from ..simulators.randomness import mix, uniform
from ..simulators.shopper import Response, ShopperState, TokenBatch

_LUCK = 1  # stream of random numbers
_WAIT = 10.0  # seconds on every slate


class OneFavouriteShopper:
    """Everyone wants one item and nothing else; the best slate has it in the first place.

    A shopper arrives having viewed its favourite, looks from the top down, clicks the favourite if it sees it, buys it
    now and then, and leaves after a fixed number of slates. The best return in clicks is `slates`.

    Args:
        n_items: items in the catalogue, N.
        favourites: dense indices; each shopper has one of them, by its seed.
        slates: slates until it leaves, at least 1.
        glance: chance that a look goes on from one place to the next, in [0, 1].
        buys: chance that a click becomes a purchase, at a price of the item's index.
    """

    def __init__(
        self,
        n_items: int = 20,
        favourites: Sequence[int] = (7,),
        *,
        slates: int = 5,
        glance: float = 0.8,
        buys: float = 0.5,
        device: torch.device | str = "cpu",
    ) -> None:
        self.n_items, self.slates, self.glance, self.buys = n_items, slates, glance, buys
        self.device = torch.device(device)
        self.favourites = torch.tensor(list(favourites), device=self.device)
        if not len(self.favourites) or not ((self.favourites >= 1) & (self.favourites <= n_items)).all():
            raise ValueError(f"favourites must be items in [1, {n_items}], got {list(favourites)}")

    @property
    def prices(self) -> Tensor:
        """(N + 1,) float32: an item's price is its index."""
        return torch.arange(self.n_items + 1, dtype=torch.float32, device=self.device)

    def favourite(self, seeds: Tensor) -> Tensor:
        """(B,) int64 the item that these shoppers want."""
        return self.favourites[mix(seeds) % len(self.favourites)]

    def reset(self, seeds: Tensor) -> ShopperState:
        """Shoppers who have just viewed what they want."""
        seeds = seeds.to(self.device)
        rows = len(seeds)
        viewed = torch.full((rows, 1), int(Event.VIEW), device=self.device)
        none, one = torch.zeros((rows, 1), device=self.device), torch.ones_like(seeds)
        arrival = TokenBatch(self.favourite(seeds)[:, None], viewed, none, one)
        return ShopperState(
            seeds.clone(), torch.zeros_like(seeds), torch.full((rows,), _WAIT, device=self.device), arrival
        )

    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        """Click the favourite where it is seen."""
        luck = uniform(state.seed, state.step, _LUCK, 2)
        places = torch.arange(slate.shape[1], device=self.device)
        examined = (luck[:, :1] < self.glance**places) & (slate > 0)
        wanted = examined & (slate == self.favourite(state.seed)[:, None])
        return _answer(
            self, state, slate, examined, wanted, luck[:, 1] < self.buys, leaves=torch.zeros_like(wanted[:, 0])
        )


class BaitShopper:
    """What earns now costs later: the bait is always clicked and drives the shopper away, the staple keeps it.

    The shopper looks at everything. Of bait and staple it takes the one placed higher; the staple is clicked with
    chance `liking`. The best for one slate is the bait (1 click, then nobody is left); the best over a visit is the
    staple, worth `liking * slates` clicks.

    Args:
        n_items: items in the catalogue, N, at least 2.
        bait: dense index. staple: dense index.
        liking: chance that the staple is clicked when it is the one taken, in [0, 1].
        slates: slates until the shopper leaves by itself, at least 1.
    """

    def __init__(
        self,
        n_items: int = 20,
        *,
        bait: int = 3,
        staple: int = 7,
        liking: float = 0.6,
        slates: int = 10,
        device: str = "cpu",
    ) -> None:
        if not (1 <= bait <= n_items and 1 <= staple <= n_items and bait != staple):
            raise ValueError(f"bait and staple must be two items in [1, {n_items}], got {bait} and {staple}")
        self.n_items, self.bait, self.staple, self.liking, self.slates = n_items, bait, staple, liking, slates
        self.device = torch.device(device)

    @property
    def prices(self) -> Tensor:
        """(N + 1,) float32: every item costs 1."""
        return (torch.arange(self.n_items + 1, device=self.device) > 0).float()

    def reset(self, seeds: Tensor) -> ShopperState:
        """Shoppers without a history."""
        seeds = seeds.to(self.device)
        empty = torch.zeros((len(seeds), 1), dtype=torch.int64, device=self.device)
        arrival = TokenBatch(empty, empty.clone(), empty.float(), torch.zeros_like(seeds))
        return ShopperState(
            seeds.clone(), torch.zeros_like(seeds), torch.zeros_like(seeds, dtype=torch.float32), arrival
        )

    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        """Take the higher of bait and staple."""
        luck = uniform(state.seed, state.step, _LUCK, 1)
        known = (slate == self.bait) | (slate == self.staple)
        first = known & (known.cumsum(1) == 1)
        baited = (first & (slate == self.bait)).any(1)
        wanted = first & (baited[:, None] | (luck < self.liking))
        return _answer(self, state, slate, slate > 0, wanted, torch.zeros_like(baited), leaves=baited)


def _answer(
    shopper: OneFavouriteShopper | BaitShopper,
    state: ShopperState,
    slate: Tensor,
    examined: Tensor,
    wanted: Tensor,
    buys: Tensor,
    *,
    leaves: Tensor,
) -> tuple[Response, ShopperState]:
    """The response of a shopper who clicks the slot `wanted` (at most one a row), and its next state."""
    found = wanted.any(1)
    place = wanted.int().argmax(1)
    purchased = found & buys
    item = slate.gather(1, place[:, None]).squeeze(1)
    dwell = torch.full_like(state.gap, _WAIT)
    state.step, state.gap = state.step + 1, dwell.clone()
    revenue = torch.where(purchased, shopper.prices[item], 0.0)
    left = leaves | (state.step >= shopper.slates)
    clicked = torch.where(found, place, -1)
    return Response(examined, clicked, purchased, purchased, left, dwell, revenue, purchased.long()), state
