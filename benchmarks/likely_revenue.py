"""Simulators whose revenue is what clicks were likely to bring, so that few purchases do not blur what is compared.

Shapes: B shoppers, K slots.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from slatewise.simulators import FittedShopper, KnownTruthShopper, Response


class LikelyRevenue:
    """A shopper that does what it does, with another `revenue`: price times the chance that what it clicked is bought.

    Its mean is the revenue's (Rao-Blackwell). Of a thousand clicks some forty are bought: the purchases alone would
    tell no more than to a tenth what the shoppers of one policy are worth.

    Args:
        shopper: of the known truth, or fitted.
    """

    def __init__(self, shopper: KnownTruthShopper | FittedShopper) -> None:
        self._shopper: Any = shopper
        self._worth: Callable[[Any, Tensor, Tensor], Tensor] = (
            _true if isinstance(shopper, KnownTruthShopper) else _fitted
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shopper, name)

    @torch.no_grad()
    def respond(self, state: Any, slate: Tensor) -> tuple[Response, Any]:
        """As the shopper's."""
        worth = self._worth(self._shopper, state, slate)
        response, after = self._shopper.respond(state, slate)
        taken = worth.gather(1, response.clicked.clamp(min=0)[:, None]).squeeze(1)
        return replace(response, revenue=torch.where(response.clicked >= 0, taken, 0.0)), after


def _true(shopper: KnownTruthShopper, state: Any, slate: Tensor) -> Tensor:
    """(B, K) what a click on each item brings on average."""
    cart, purchase = shopper.funnel_chances(state, slate)
    return shopper.prices[slate] * cart * purchase


def _fitted(shopper: FittedShopper, state: Any, slate: Tensor) -> Tensor:
    who, parts = state.member, shopper._parts(state.member)
    scaled = shopper.scaled(state.memory.state, state.trail, slate)
    utility = parts.choice.utility(scaled, slate, who)
    cart, purchase = (stage.chance(scaled, slate, utility, who) for stage in (parts.cart, parts.purchase))
    units = parts.quantities.mean[slate] if who is None else parts.quantities.mean[who[:, None], slate]
    return shopper.prices[slate] * cart * purchase * units
