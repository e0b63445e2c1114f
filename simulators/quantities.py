"""How many of an item are bought at once, given that it is bought: one or more, by its price.

Shapes: B purchases, N items, M members of an ensemble, L features.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import nbinom
from torch import Tensor

from .features import ItemFacts

QUANTITY_FEATURES = ("always", "price", "price_in_category")
"""What a quantity depends on: 1 and two of `features.ITEM_FEATURES`, both of the item alone."""
Doubles = NDArray[np.float64]
_CELLS = 2_000_000  # items x quantities added up at once


@dataclass(frozen=True, slots=True)
class Quantities:
    """A law of the quantity of each item, held within 1 and a cap.

    Heavy-tailed, the quantity is a log-normal number rounded, and at least 1: log numbers are normal with the item's
    location as mean and `spread` as deviation. Otherwise it is 1 and a negative binomial number of mean exp(location)
    and dispersion `spread` (1 is geometric). Of an ensemble all have a row a member, and then `who` says whose is
    meant.

    Attributes:
        weights: (L,) float32, of `QUANTITY_FEATURES`. spread: () float32, > 0. heavy: () bool. cap: () int64, >= 1.
        location: (N + 1,) float32. mean: (N + 1,) float32 expected quantity; entry 0 is 0.
    """

    weights: Tensor
    spread: Tensor
    heavy: Tensor
    cap: Tensor
    location: Tensor
    mean: Tensor

    @classmethod
    def constant(cls, mean: float, n_items: int) -> "Quantities":
        """One geometric law for all items; a mean of 1 is always 1."""
        level = math.log(max(mean - 1, 1e-9))
        cap = 1 + math.ceil(20 * (mean - 1))  # beyond it lies less than 1e-8
        means = torch.full((n_items + 1,), float(mean))
        means[0] = 0.0
        weights = torch.tensor([level, *(0.0 for _ in QUANTITY_FEATURES[1:])])
        one = torch.tensor(1.0), torch.tensor(False), torch.tensor(cap)
        return cls(weights, *one, torch.full((n_items + 1,), level), means)

    @classmethod
    def of(cls, weights: Doubles, spread: float, heavy: bool, cap: int, facts: ItemFacts) -> "Quantities":
        """The laws of a catalogue's items, from weights (L,)."""
        location = quantity_features(facts) @ weights
        mean = np.zeros(len(location))
        for rows in np.array_split(np.arange(1, len(location)), 1 + len(location) * cap // _CELLS):
            mean[rows] = 1 + outnumbering(np.arange(1, cap)[None], location[rows, None], spread, heavy).sum(1)
        kept = (torch.from_numpy(one.astype(np.float32)) for one in (weights, location, mean))
        first, *rest = kept
        return cls(first, torch.tensor(spread, dtype=torch.float32), torch.tensor(heavy), torch.tensor(cap), *rest)

    def drawn(self, items: Tensor, luck: Tensor, who: Tensor | None = None) -> Tensor:
        """(B,) int64 quantities of items (B,), given luck (B,) in (0, 1)."""
        location = self.location[items] if who is None else self.location[who, items]
        laws = (self.spread, self.heavy, self.cap)
        spread, heavy, cap = (one.expand(len(items)) if who is None else one[who] for one in laws)
        numbers = torch.exp(location + spread * torch.special.ndtri(luck)).round()
        quantity = torch.where(heavy, numbers, 1.0)
        light = torch.nonzero(~heavy).squeeze(1)
        if len(light):
            quantity[light] = _negative_binomial(location[light], spread[light], luck[light], int(cap.max()))
        return torch.minimum(quantity.clamp(min=1), cap).long()

    def to(self, device: torch.device) -> "Quantities":
        """The same on a device."""
        return Quantities(*(getattr(self, name).to(device) for name in self.__slots__))


def _negative_binomial(location: Tensor, spread: Tensor, luck: Tensor, cap: int) -> Tensor:
    """(B,) float32 quantities at which the law's distribution function reaches the luck, at most the cap."""
    beyond = torch.arange(cap, device=luck.device, dtype=torch.float64)
    mean, size = location.double().exp()[:, None], spread.double()[:, None]
    share = mean / (size + mean)
    log = torch.lgamma(beyond + size) - torch.lgamma(size) - torch.lgamma(beyond + 1)
    log = log + torch.xlogy(size, 1 - share) + torch.xlogy(beyond, share)
    reached = log.exp().cumsum(1) < luck.double()[:, None]
    return 1 + reached.sum(1).to(torch.float32)


def quantity_features(facts: ItemFacts) -> Doubles:
    """(N + 1, L) features of each item, columns as `QUANTITY_FEATURES`."""
    columns = (torch.ones_like(facts.price), facts.price, facts.price_in_category)
    return torch.stack(columns, 1).cpu().double().numpy()


def outnumbering(quantity: Doubles | NDArray[np.int64], location: Doubles, spread: float, heavy: bool) -> Doubles:
    """Chance that a quantity is above the one given (>= 0), by laws without a cap; shapes are broadcast."""
    if not heavy:
        mean = np.exp(location)
        return np.asarray(nbinom.sf(quantity - 1, spread, spread / (spread + mean)), np.float64)
    above = ndtr((location - np.log(quantity + 0.5)) / spread)
    return np.where(quantity < 1, 1.0, above)
