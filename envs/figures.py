"""What came of slates in numbers: the business figures of infos, the episodes' totals, the tokens for the encoder.

By NumPy, where infos are: on one shopper each of its calls takes a third of the time of torch's.

Shapes: B rows (shoppers), K slots.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.schema import Event
from ..simulators.shopper import Response

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Figures = dict[str, NDArray[Any]]


_WITHOUT_CLICKS = np.bool_, np.bool_, np.int64, np.float32
_ONE, _MINUS_ONE = np.float32(1.0), np.float32(-1.0)


def numpy_of(tensor: Tensor) -> NDArray[Any]:
    """The tensor as an array, which shares its memory where both are on the CPU."""
    return tensor.numpy(force=True)


def figures_of(slate: Tensor, response: Response) -> tuple[Figures, Ints, Ints]:
    """Business figures of slates (B, K) by name, and the items and events of `response.tokens(slate)`; (B,) each."""
    shown, clicked = numpy_of(slate), numpy_of(response.clicked)
    items, rows, count = shown[:, 0], (clicked >= 0).nonzero()[0], len(shown)
    events, clicked_item = np.ones(count, np.int64), np.zeros(count, np.int64)  # impressions, until more is known
    if len(rows):
        done = response.carted, response.purchased, response.quantity, response.revenue
        carted, purchased, quantity, revenue = (numpy_of(one) for one in done)
        items = items.copy()
        items[rows] = clicked_item[rows] = shown[rows, clicked[rows]]
        events[rows] = int(Event.CLICK) + purchased[rows] + (carted | purchased)[rows]
    else:  # all of it takes a click, and on one shopper making zeros is quicker than asking for them
        carted, purchased, quantity, revenue = (np.zeros(count, kind) for kind in _WITHOUT_CLICKS)
    if not items.all():  # the best place is empty
        empty = (items == 0).nonzero()[0]
        items = items.copy()
        items[empty] = shown[empty, (shown[empty] > 0).argmax(1)]
        events[items == 0] = int(Event.PADDING)
    figures = {
        "clicked": clicked,
        "clicked_item": clicked_item,
        "carted": carted,
        "purchased": purchased,
        "quantity": quantity,
        "revenue": revenue,
        "dwell": numpy_of(response.dwell),
        "examined": numpy_of(response.examined).sum(1),
    }
    return figures, items, events


class Totals:
    """What the episodes of B rows have brought so far."""

    def __init__(self, rows: int) -> None:
        self.clicks, self.carts, self.purchases = (np.zeros(rows, np.int64) for _ in range(3))
        self.sales = np.zeros(rows)  # in currency

    def begin(self, rows: Ints) -> None:
        """Other episodes begin on some rows."""
        for total in (self.clicks, self.carts, self.purchases, self.sales):
            total[rows] = 0

    def add(self, figures: Figures) -> None:
        """Count a slate's figures in."""
        self.clicks += figures["clicked"] >= 0
        self.carts += figures["carted"]
        self.purchases += figures["purchased"]
        self.sales += figures["revenue"]

    def told(self) -> Figures:
        """Copies, as infos name them."""
        return {
            "clicks": self.clicks.copy(),
            "carts": self.carts.copy(),
            "purchases": self.purchases.copy(),
            "sales": self.sales.copy(),
        }


def with_masks(figures: Mapping[str, NDArray[Any]], present: Bools) -> Figures:
    """Figures as Gymnasium's vector infos have them: zero in rows without them, and a mask `_name` beside each."""
    infos: Figures = {}
    everywhere = bool(present.all())
    for name, values in figures.items():
        infos[name] = values if everywhere else values * present
        infos[f"_{name}"] = present.copy()
    return infos


def within_one(states: Tensor, out: NDArray[Any] | None = None) -> NDArray[np.float32]:
    """(B, D) states in [-1, 1], in an array of their own or in `out`: rounding may carry a unit vector's entry past."""
    clipped = np.minimum(numpy_of(states), _ONE, out=out)
    return np.maximum(clipped, _MINUS_ONE, out=clipped)
