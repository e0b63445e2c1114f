"""What may be shown: from the slates that an agent names to those that shoppers see.

Shapes: B rows (shoppers), n some of them, K slots, N items, M candidates, n choices for a slot.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..encoders.state import StateEncoder
from ..simulators.known_truth import KnownTruthShopper
from ..simulators.shopper import Shopper, without_repeats
from .retrieval import Retrieval
from .settings import ShopSettings, as_mask, is_on_sale
from .spaces import SlateSpace

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Shelf:
    """The slates that agents may name for B shoppers: of items, or of places in each shopper's list of candidates.

    Args:
        rows: shoppers, B.
        shopper: whose items.
        encoder: retrieves them, unless the settings say otherwise.
        settings: see `ShopSettings`.

    Raises:
        ValueError: the settings do not fit these items.
    """

    def __init__(self, rows: int, shopper: Shopper, encoder: StateEncoder, settings: ShopSettings) -> None:
        self.rows, self.k, self.n_items, self.by_place = rows, settings.k, shopper.n_items, settings.by_place
        self.available = as_mask(settings.available, shopper.n_items)
        self._device = shopper.device
        self._allowed = None if self.available is None else torch.from_numpy(self.available).to(shopper.device)
        self.retrieval = None
        if settings.candidates is not None:
            how = settings.candidates, encoder, shopper.prices, self.available, settings.retrieve
            self.retrieval = Retrieval(*how)
        by_items = SlateSpace(shopper.n_items, settings.k, self.available)
        self.action_space = _by_places(settings, self.available) if self.by_place else by_items
        self._calendar = _calendar(shopper) if is_on_sale(settings.available) else None
        self._on_sale: Tensor | None = None  # (B, N + 1) bool once shoppers have come, where the day decides
        self.found = torch.zeros(0)
        """(B, M + 1) int64 candidates, best first, on the encoder's device; entry 0, and those left over, are 0."""

    def stock(self, rows: Ints, state: Any) -> None:
        """Shoppers in these states, (n,), come in on some rows: what is there on their days."""
        if self._calendar is None:
            return
        there = self._calendar.there(state.day)
        if self._on_sale is None:
            self._on_sale = torch.empty((self.rows, self.n_items + 1), dtype=torch.bool, device=there.device)
        self._on_sale[torch.from_numpy(rows).to(there.device)] = there

    def retrieve(self, states: Tensor, rows: Ints | None = None) -> None:
        """Find the candidates of some rows, or all, anew; `states` are of all rows, (B, D)."""
        if self.retrieval is None:
            return
        on_sale = None if self._on_sale is None else self._on_sale.to(states.device)
        if rows is None or len(rows) == self.rows:
            self.found = self.retrieval.find(states, on_sale)
        else:
            places = torch.from_numpy(rows).to(states.device)
            self.found[places] = self.retrieval.find(states[places], None if on_sale is None else on_sale[places])

    def candidates(self, rows: Ints | None) -> Tensor:
        """(n, M + 1) candidates of some rows, or all."""
        return self.found if rows is None else self.found[torch.from_numpy(rows).to(self.found.device)]

    def legal(self, slates: ArrayLike) -> Tensor:
        """(B, K) int64 the items that shoppers see: repeats and what cannot be shown leave their slots empty.

        Raises:
            ValueError: another shape than (B, K), no integers, or an item or a place that does not exist.
        """
        array, most = np.asarray(slates), self.action_space.n_items
        if array.shape != (self.rows, self.k) or array.dtype.kind not in "iu":
            raise ValueError(
                f"slates must be integers of shape ({self.rows}, {self.k}), got {array.dtype} of shape {array.shape}"
            )
        array = array.astype(np.int64)
        if array.view(np.uint64).max() > most:  # below 0 is far above
            strange = array[(array < 0) | (array > most)][0]
            named = "places of candidates" if self.by_place else "items"
            raise ValueError(f"slates hold {named} in [0, {most}], 0 an empty slot, got {strange}")
        slate = torch.from_numpy(array).to(self._device)
        if self.by_place:
            slate = self.found.to(slate.device).gather(1, slate)
        if _may_repeat(array):
            slate = without_repeats(slate)
        if self._on_sale is not None:
            slate = slate * self._on_sale.gather(1, slate)
        return slate if self._allowed is None else slate * self._allowed[slate]

    def masks(self, rows: Ints | None = None) -> Bools:
        """(B, n) whether each item, or place, can be shown; entry 0, an empty slot, always is."""
        if self.by_place:
            masks = self.candidates(rows).cpu().numpy() > 0
        elif self._on_sale is not None:
            masks = (
                (self._on_sale if rows is None else self._on_sale[torch.from_numpy(rows).to(self._on_sale.device)])
                .cpu()
                .numpy()
                .copy()
            )
        else:
            able = np.ones(self.n_items + 1, np.bool_) if self.available is None else self.available
            masks = np.tile(able, (self.rows if rows is None else len(rows), 1))
        masks[:, 0] = True
        return masks

    def action_masks(self, rows: Ints | None = None) -> Bools:
        """(B, K * n) the masks once for each slot, as sb3-contrib lays them out for a `MultiDiscrete`."""
        return np.tile(self.masks(rows), (1, self.k))


_FEW = 32  # slates up to which a set for each is quicker than NumPy


def _by_places(settings: ShopSettings, available: Bools | None) -> SlateSpace:
    """Slates of places; samples are of those that there are items for."""
    size = settings.candidates or 1
    places = np.arange(size + 1)
    filled = None if available is None else (places > 0) & (places <= available.sum())
    return SlateSpace(size, settings.k, filled, places=True)


def _calendar(shopper: Shopper) -> KnownTruthShopper:
    if not isinstance(shopper, KnownTruthShopper):
        raise ValueError(
            f"available='on_sale' needs a known-truth shop, where items come and go by the day; the shoppers of this "
            f"{type(shopper).__name__} know no days, so say for every item whether it is available"
        )
    return shopper


def _may_repeat(slates: NDArray[Any]) -> bool:
    """Whether some slate may hold an item twice: most policies' never do, and looking is cheaper than emptying."""
    if len(slates) <= _FEW:
        return any(len(set(row)) < len(row) for row in slates.tolist())
    places = np.ascontiguousarray(slates.T)  # (K, B)
    if not places.all():  # empty slots do not repeat each other
        places = np.where(places > 0, places, -np.arange(len(places))[:, None])
    return any((places[apart:] == places[:-apart]).any() for apart in range(1, len(places)))
