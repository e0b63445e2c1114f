"""Why shoppers would click what they are shown: how much each item is liked, for what, and the chances that follow.

What a simulator can tell differs: the known-truth shopper and the fitted one say of what a utility is the sum; trees
say the utility alone.

Shapes: B shoppers, K slots, F item features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .boosted import BoostedShopper, BoostedState
from .features import ITEM_FEATURES
from .fitted import FittedShopper, FittedState
from .hand_features import item_columns, shopper_columns
from .known_truth import KnownTruthShopper, KnownTruthState
from .known_truth_chances import depth_choice


@dataclass(frozen=True, slots=True)
class Reasons:
    """What shoppers make of the slates about to be shown to them; figures of empty slots are 0.

    Attributes:
        utility: (B, K) float32 how much the item is liked right now, in logits.
        nothing: (B,) float32 utility of clicking nothing; -inf where something always is.
        looked: (B, K) float32 chance that the place is looked at while nothing above it is clicked.
        click: (B, K) float32 chance that the slot is clicked; what is missing to 1 is the chance of no click.
        cart: (B, K) float32 chance of a cart given the click. purchase: (B, K) float32 of a purchase given the cart.
        parts: name -> (B, K) float32, summands of `utility`; empty where the simulator cannot tell them.
    """

    utility: Tensor
    nothing: Tensor
    looked: Tensor
    click: Tensor
    cart: Tensor
    purchase: Tensor
    parts: Mapping[str, Tensor]


@torch.no_grad()
def reasons(shopper: Any, state: Any, slate: Tensor) -> Reasons | None:
    """What shoppers make of slates; the state is left as it is.

    Args:
        shopper: a simulator.
        state: its own, of B shoppers.
        slate: (B, K) int64 dense indices, best place first, no repeats; 0 leaves a slot empty.

    Returns:
        None where the simulator cannot tell: it is of a family unknown here, or of boosted shoppers drawn of an
        ensemble (ask a member, or the shopper itself).
    """
    if isinstance(shopper, KnownTruthShopper):
        return _of_known_truth(shopper, state, slate)
    if isinstance(shopper, FittedShopper):
        return _of_fitted(shopper, state, slate)
    if isinstance(shopper, BoostedShopper) and state.member is None:
        return _of_boosted(shopper, state, slate)
    return None


def _of_known_truth(shopper: KnownTruthShopper, state: KnownTruthState, slate: Tensor) -> Reasons:
    filled = slate > 0
    cart, purchase = shopper.funnel_chances(state, slate)
    outside = torch.tensor(shopper.config.outside_option, device=slate.device)
    return Reasons(
        utility=shopper.utilities(state, slate) * filled,
        nothing=outside.log().expand(len(slate)).clone(),
        looked=shopper.looked(slate.shape[1]) * filled,
        click=shopper.click_chances(state, slate),
        cart=cart * filled,
        purchase=purchase * filled,
        parts={name: part * filled for name, part in _known_truth_parts(shopper, state, slate).items()},
    )


def _known_truth_parts(shopper: KnownTruthShopper, state: KnownTruthState, slate: Tensor) -> dict[str, Tensor]:
    """What `KnownTruthShopper.utilities` sums up; mechanisms that are off are left out."""
    shop, config = shopper.shop, shopper.config
    category = torch.as_tensor(shop.category, device=slate.device)[slate]
    style, *columns = (
        torch.as_tensor(column, device=slate.device)[slate]
        for column in (shop.style, shop.quality, shop.allure, shop.log_price)
    )
    width = style.shape[-1]
    weary = ((slate[:, :, None] == state.familiar[:, None, :]) * state.weariness[:, None, :]).sum(2)
    quality, allure, price = (column * state.weights[:, width + place, None] for place, column in enumerate(columns))
    parts = {
        "category": state.liking.gather(1, category),
        "style": torch.einsum("bkd,bd->bk", style, state.weights[:, :width]),
        "quality": quality,
        "allure": allure,
        "price": price,
        "seen enough of it": -state.satiation.gather(1, category),
        "clicked before": -weary,
    }
    if config.complements:
        parts["goes with what it took"] = state.gain.gather(1, category)
    if config.owned:
        parts["owned already"] = -config.owned * (slate[:, :, None] == state.owned[:, None, :]).sum(2).float()
    return parts


def _of_fitted(shopper: FittedShopper, state: FittedState, slate: Tensor) -> Reasons:
    model, who, filled, k = shopper.model, state.member, slate > 0, slate.shape[1]
    parts = model.own if who is None else model.members
    assert parts is not None
    scaled = shopper.scaled(state.memory.state, state.trail, slate)
    nothing = parts.choice.nothing(shopper.outside(state.trail, filled.sum(1)), who)
    utility = parts.choice.utility(scaled, slate, who)
    cart, purchase = (stage.chance(scaled, slate, utility, who) * filled for stage in (parts.cart, parts.purchase))
    weights = parts.choice.item.expand(len(slate), -1) if who is None else parts.choice.item[who]
    effects = parts.choice.effects[slate] if who is None else parts.choice.effects[who[:, None], slate]
    told = scaled * weights[:, None] * filled[..., None]
    named = {name.replace("_", " "): told[..., place] for place, name in enumerate(ITEM_FEATURES)}
    return Reasons(
        utility=utility * filled,
        nothing=nothing,
        looked=parts.choice.looked(k, who).expand(len(slate), -1) * filled,
        click=parts.choice.log_chances(utility, nothing, who)[:, :k].exp() * filled,
        cart=cart,
        purchase=purchase,
        parts={name: part for name, part in {**named, "the item itself": effects * filled}.items() if part.any()},
    )


def _of_boosted(shopper: BoostedShopper, state: BoostedState, slate: Tensor) -> Reasons:
    own, filled, (rows, k) = shopper.model.own, slate > 0, slate.shape
    items, shoppers = item_columns(state.trail, slate, own.tables), shopper_columns(state.trail)
    utility, nothing = shopper.utilities(own.choice, items, shoppers, filled)
    looked = shopper.looked(k)
    columns = torch.cat([items, shoppers[:, None].expand(-1, k, -1)], 2).flatten(0, 1).cpu().numpy()
    number = slate.flatten().cpu().numpy()
    cart, purchase = (
        torch.from_numpy(step.chance(columns, number)).view(rows, k).to(slate.device) * filled
        for step in (own.cart, own.purchase)
    )
    over = utility - nothing[:, None]  # choosing nothing then has the utility 0
    return Reasons(
        utility=utility * filled,
        nothing=nothing,
        looked=looked * filled,
        click=depth_choice(over, filled, looked, 1.0),
        cart=cart,
        purchase=purchase,
        parts={},
    )
