"""The best slate for a shopper known exactly: what one slate can earn at most, so that regret is exact.

A slate earns, from a shopper who looks down to place j with chance d_j and then chooses among what it saw and nothing,

    sum over j of d_j f(S_j),   f(S) = sum over i in S of a_i w_i / (outside + sum over i in S of a_i)

with S_j the items of the first j places, a_i the attraction of item i and w_i what a click on it is worth: 1, the
chance of a purchase, or the revenue expected. Adding an item raises f exactly if the item is worth more than f. So some
best slate has empty slots at its end alone, and each of its items is worth more than f of those above it: whatever
breaks this can be left out, or moved up, at no loss. The search looks at such slates alone.

It branches from the best place down, the most promising beginning first. A beginning S can earn at each further place
at most the largest f of S and as many more items as there are places, whatever was chosen for the other places; this is
fractional programming with a linear order, solved by Dinkelbach's iteration.
Source: Dinkelbach, "On nonlinear fractional programming", Management Science 1967.

Shapes: B shoppers, K slots, N items.
"""

import heapq
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SearchLimitError
from .known_truth import KnownTruthShopper, KnownTruthState, Value

MOST_SLATES = 200_000
"""Slates that are tried one by one at most."""
_EXACT = 1e-12  # relative gap below which a slate is as good as the best
Doubles = NDArray[np.float64]


class BestSlates(NamedTuple):
    """Best slates and what they earn.

    Attributes:
        slates: (B, K) int64 dense indices, best place first; 0 leaves a slot empty, where an item would cost more than
            it brings.
        values: (B,) float64 what one showing of each earns.
    """

    slates: Tensor
    values: Tensor


def slate_values(shopper: KnownTruthShopper, state: KnownTruthState, slate: Tensor, value: Value = "click") -> Tensor:
    """What slates earn when shown once, exactly.

    Args:
        shopper: the truth.
        state: B shoppers.
        slate: (B, K) int64 dense indices, no repeats; 0 leaves a slot empty.
        value: the chance of a click, of a purchase, or the revenue expected, in the shop's currency.

    Returns:
        (B,) float64.
    """
    utility = shopper.utilities(state, slate).to(torch.float64).masked_fill(slate == 0, -torch.inf)
    attraction, outside = _attractions(shopper, utility)
    return _values(attraction, _worths(shopper, state, slate, value), outside, shopper.stops(slate.shape[1]))


def best_slates(
    shopper: KnownTruthShopper,
    state: KnownTruthState,
    k: int,
    *,
    value: Value = "purchase",
    available: Tensor | None = None,
    max_nodes: int = 20_000,
) -> BestSlates:
    """The slates that earn the most when shown once, by branch and bound; exact to a relative 1e-12.

    A node costs about N x k. A shopper took one to thirteen nodes in trials with 30 to 1,000 items and up to ten slots.
    Shoppers are searched for one after the other.

    Args:
        shopper: the truth.
        state: B shoppers.
        k: slots, at least 1.
        value: what is to be earned; see `slate_values`.
        available: (N + 1,) bool items that may be shown; all by default.
        max_nodes: beginnings of slates that are looked into for a shopper at most.

    Raises:
        ValueError: `k` or `value` is out of range.
        SearchLimitError: `max_nodes` were not enough to prove a slate best; the message says how near it is.
    """
    attraction, worth, outside = _terms(shopper, state, k, value, available)
    stops = shopper.stops(k).numpy()
    found = [best_slate(*row, stops, max_nodes=max_nodes) for row in zip(attraction, worth, outside, strict=True)]
    slates = torch.tensor([items + [0] * (k - len(items)) for items, _ in found])
    return BestSlates(slates.to(shopper.device), torch.tensor([earned for _, earned in found], dtype=torch.float64))


def best_slates_by_trying(
    shopper: KnownTruthShopper,
    state: KnownTruthState,
    k: int,
    *,
    value: Value = "purchase",
    available: Tensor | None = None,
) -> BestSlates:
    """As `best_slates`, by trying every ordered slate, empty slots anywhere included; for tiny shops.

    Raises:
        ValueError: `k` or `value` is out of range, or there are more than `MOST_SLATES` slates, repeats included.
    """
    attraction, worth, outside = (torch.as_tensor(one) for one in _terms(shopper, state, k, value, available))
    n = attraction.shape[1]
    if n**k > MOST_SLATES:
        raise ValueError(f"{n - 1} items in {k} slots are {n**k} slates, more than {MOST_SLATES}; use best_slates")
    slates = torch.cartesian_prod(*[torch.arange(n)] * k).view(-1, k)
    apart = (slates[:, :, None] != slates[:, None, :]) | (slates == 0)[:, :, None] | torch.eye(k, dtype=torch.bool)
    slates = slates[apart.all(2).all(1)]
    stops, chosen, earned = shopper.stops(k), [], []
    for liked, worths, nothing in zip(attraction, worth, outside, strict=True):
        values = _values(liked[slates], worths[slates], nothing, stops)
        chosen.append(slates[values.argmax()])
        earned.append(values.max())
    return BestSlates(torch.stack(chosen).to(shopper.device), torch.stack(earned))


def regrets(
    shopper: KnownTruthShopper,
    state: KnownTruthState,
    slate: Tensor,
    *,
    value: Value = "purchase",
    available: Tensor | None = None,
    max_nodes: int = 20_000,
) -> Tensor:
    """(B,) float64, >= 0: how much less slates (B, K) earn when shown once than the best slates of as many slots.

    Arguments and errors as for `best_slates`.
    """
    k, slate = slate.shape[1], slate.cpu()
    best = best_slates(shopper, state, k, value=value, available=available, max_nodes=max_nodes)
    # From the same numbers as the best ones, so that the best slate's regret is 0 but for rounding in double precision.
    attraction, worth, outside = (torch.as_tensor(one) for one in _terms(shopper, state, k, value, None))
    earned = _values(attraction.gather(1, slate), worth.gather(1, slate), outside[:, None], shopper.stops(k))
    return (best.values - earned).clamp(min=0.0)


def best_slate(
    attraction: Doubles, worth: Doubles, outside: float, stops: Doubles, *, max_nodes: int = 20_000
) -> tuple[list[int], float]:
    """The best slate of one shopper, and what it earns.

    Args:
        attraction: (M,) of the items, >= 0; one of 0 is never shown.
        worth: (M,) what a click on each is worth, >= 0.
        outside: attraction of choosing nothing, >= 0.
        stops: (K,) chance that each place is the last looked at.
        max_nodes: beginnings that are looked into at most.

    Returns:
        Numbers of the items, at most K, best place first; and the value.

    Raises:
        SearchLimitError: `max_nodes` were not enough.
    """
    k, rest = len(stops), np.append(stops[::-1].cumsum()[::-1], 0.0)  # rest[j]: chance of looking at place j at all
    best: tuple[float, list[int]] = (0.0, [])
    ties, heap = count(), [(-np.inf, -1, ([], float(outside), 0.0, 0.0))]
    for node in count(1):
        if not heap or -heap[0][0] <= best[0] * (1 + _EXACT):
            return best[1], best[0]
        if node > max_nodes:
            raise SearchLimitError(
                f"no slate was proven best within {max_nodes} nodes: one found earns {best[0]:.6g}, none earns more "
                f"than {-heap[0][0]:.6g}; give more max_nodes, fewer slots or fewer available items"
            )
        _, _, (items, below, above, earned) = heapq.heappop(heap)
        place, level = len(items), above / below if below > 0 else 0.0
        best = max(best, (earned + level * rest[place], items), key=lambda one: one[0])
        if place == k:
            continue
        free = attraction.copy()
        free[items] = 0.0
        most, filled = _most(free, worth, below, above, k - place)
        best = max(best, _completed(items, filled, attraction, worth, outside, stops), key=lambda one: one[0])
        able = np.flatnonzero((free > 0) & (worth > level))
        new_below, new_above = below + free[able], above + (free * worth)[able]
        new_earned = earned + stops[place] * new_above / new_below
        bound = new_earned + float(stops[place + 1 :] @ most[1:])
        for one in np.flatnonzero(bound > best[0] * (1 + _EXACT)):
            child = ([*items, int(able[one])], float(new_below[one]), float(new_above[one]), float(new_earned[one]))
            heapq.heappush(heap, (-float(bound[one]), next(ties), child))
    raise AssertionError("unreachable")


def _most(free: Doubles, worth: Doubles, below: float, above: float, places: int) -> tuple[Doubles, Sequence[int]]:
    """Upper bounds of f with up to 1, 2, ... more items; and the items with which the last one is reached.

    Args:
        free: (M,) attraction of the items that can still be added, 0 for others.
        worth: (M,) their worth.
        below: denominator of f without them.
        above: its numerator.
        places: how many more items at most.
    """
    if below <= 0:  # nothing else to choose: the item that is worth the most is best alone
        usable = np.where(free > 0, worth, -np.inf)
        return np.full(places, max(usable.max(), 0.0)), [int(usable.argmax())]
    most, level = np.zeros(places), above / below
    chosen: NDArray[np.int64] = np.zeros(0, np.int64)
    for more in range(1, places + 1):
        while True:  # the level rises each time, and there are finitely many sets
            surplus = free * (worth - level)
            first = np.argpartition(-surplus, min(more, len(free)) - 1)[:more]
            chosen = first[surplus[first] > 0]
            reached = (above + (free * worth)[chosen].sum()) / (below + free[chosen].sum())
            if reached <= level * (1 + 1e-15):
                break
            level = reached
        over = above - level * below + (free * (worth - level))[chosen].sum()
        most[more - 1] = level + max(over, 0.0) / below  # rounding errors included, no set is above this
    order = np.argsort(-(free * (worth - level))[chosen], kind="stable")
    return most, chosen[order].tolist()


def _completed(
    items: list[int], more: Sequence[int], attraction: Doubles, worth: Doubles, outside: float, stops: Doubles
) -> tuple[float, list[int]]:
    """The value of a beginning with more items below it, and the slate."""
    slate = [*items, *more]
    below = outside + attraction[slate].cumsum()
    level = (attraction * worth)[slate].cumsum() / np.maximum(below, 1e-300)
    padded = np.append(level, np.full(len(stops) - len(slate), level[-1] if slate else 0.0))
    return float(stops @ padded), slate


def _terms(
    shopper: KnownTruthShopper, state: KnownTruthState, k: int, value: Value, available: Tensor | None
) -> tuple[Doubles, Doubles, Doubles]:
    """Attraction (B, N + 1) of the items, 0 for those that may not be shown, their worth, and the outside's (B,)."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    utility = shopper.utilities(state).to(torch.float64)
    if available is not None:
        utility = utility.masked_fill(~available.to(shopper.device), -torch.inf)
    items = torch.arange(shopper.n_items + 1, device=shopper.device).expand(len(utility), -1)
    attraction, outside = _attractions(shopper, utility)
    worth = _worths(shopper, state, items, value)
    return attraction.cpu().numpy(), worth.cpu().numpy(), outside.squeeze(1).cpu().numpy()


def _attractions(shopper: KnownTruthShopper, utility: Tensor) -> tuple[Tensor, Tensor]:
    """Attraction (B, M) of items and (B, 1) of doing nothing, over that of the most attractive item."""
    peak = utility.amax(1, keepdim=True).clamp(min=-60.0)
    return (utility - peak).exp(), shopper.config.outside_option * (-peak).exp()


def _worths(shopper: KnownTruthShopper, state: KnownTruthState, items: Tensor, value: Value) -> Tensor:
    """(B, M) float64 what a click on each item is worth."""
    if value not in ("click", "purchase", "revenue"):
        raise ValueError(f"value must be 'click', 'purchase' or 'revenue', got {value!r}")
    if value == "click":
        return torch.ones(items.shape, dtype=torch.float64, device=items.device)
    cart, purchase = shopper.funnel_chances(state, items)
    price = shopper.prices[items] if value == "revenue" else 1.0
    return torch.where(items > 0, cart * purchase * price, 0.0).to(torch.float64)


def _values(attraction: Tensor, worth: Tensor, outside: Tensor, stops: Tensor) -> Tensor:
    """(B,) what slates earn, of attraction and worth (B, K) in order of place; empty slots have attraction 0."""
    below = (outside + attraction.cumsum(1)).clamp(min=1e-300)
    return ((attraction * worth).cumsum(1) / below) @ stops.to(below.device)
