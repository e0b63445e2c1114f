"""Chances of the known-truth shopper as functions of numbers alone.

Sources: choice among what was seen, McFadden 1974; looking down to a geometric depth, the dependent click model with
one constant, Guo, Liu and Wang, WSDM 2009.
"""

import math

import torch
from torch import Tensor


def depth_choice(utility: Tensor, filled: Tensor, reach: Tensor, outside: float) -> Tensor:
    """Chance that each slot is chosen by a multinomial logit over the slots down to a random depth and nothing.

    Args:
        utility: (B, K) logits; those of empty slots are not read.
        filled: (B, K) bool, slots that hold an item.
        reach: (K,) chance that each place is looked at, first entry 1, non-increasing.
        outside: attraction of choosing nothing, >= 0, where a utility of 0 has 1.

    Returns:
        (B, K) chances; 0 for empty slots.
    """
    peak = torch.where(filled, utility, -math.inf).amax(1, keepdim=True).clamp(min=-60.0)
    attraction = torch.where(filled, (utility - peak).exp(), 0.0)
    rivals = (attraction.cumsum(1) + outside * (-peak).exp()).clamp(min=1e-30)  # what is compared at each depth
    stops = reach - torch.cat([reach[1:], torch.zeros_like(reach[:1])])  # chance that this place is the last looked at
    share = (stops / rivals).flip(1).cumsum(1).flip(1)
    return attraction * share


def logit(chance: float) -> float:
    """Log odds of a chance in [0, 1)."""
    return math.log(chance / (1 - chance)) if chance > 0 else -math.inf
