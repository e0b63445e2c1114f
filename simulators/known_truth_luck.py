"""The luck of known-truth shoppers with a slate: a function of (shopper's seed, slate number), drawn at once.

Shapes: B shoppers, K slots.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from .randomness import uniform

_LUCK = 5  # stream of random numbers; all of a slate's luck is one stream, so that one call draws it
_LUCKS = 5  # depth, cart, purchase, leaving, dwell; then one number for the outside option and one a slot
_DWELL_SPREAD = 0.7  # log-normal
_AHEAD = 8  # slates of a shopper who is alone, drawn together: few visits have more
_REMEMBERED = 64  # such draws, for as many environments of one shopper


class Luck(NamedTuple):
    """What chance decides of a slate; the rest is the shoppers' taste.

    Attributes:
        looks: (B, K) bool, places that are looked at, whatever is there.
        idle: (B,) minus the Gumbel noise on doing nothing. haste: (B, K) the same on each place.
        cart: (B,) below the chance of a cart where a clicked item goes into it. purchase: (B,) the same of a purchase.
        leave: (B,) the same of leaving.
        dwell: (B,) seconds spent, in units of a middling dwell; a tensor of the caller's own.
    """

    looks: Tensor
    idle: Tensor
    haste: Tensor
    cart: Tensor
    purchase: Tensor
    leave: Tensor
    dwell: Tensor


def luck_of(seed: Tensor, step: Tensor, reach: Tensor) -> Luck:
    """The luck of shoppers with their next slates.

    Args:
        seed: (B,) int64 of the shoppers.
        step: (B,) int64 slates shown before.
        reach: (K,) chance that each place is looked at.
    """
    if len(seed) > 1 or seed.device.type != "cpu":
        return _drawn(seed, step, reach)
    number = int(step)
    place = number % _AHEAD
    luck = Luck._make(torch.from_numpy(one[place : place + 1]) for one in _ahead(int(seed), number // _AHEAD, reach))
    return luck._replace(dwell=luck.dwell.clone())


def _drawn(seed: Tensor, step: Tensor, reach: Tensor) -> Luck:
    drawn = uniform(seed, step, _LUCK, _LUCKS + 1 + len(reach))
    haste = drawn[:, _LUCKS:].log().neg_().log_()
    dwell = torch.special.ndtri(drawn[:, 4]).mul_(_DWELL_SPREAD).exp_()
    return Luck(drawn[:, :1] < reach, haste[:, 0], haste[:, 1:], drawn[:, 1], drawn[:, 2], drawn[:, 3], dwell)


@lru_cache(maxsize=_REMEMBERED)
def _ahead(seed: int, block: int, reach: Tensor) -> list[NDArray[Any]]:
    """The luck of one shopper with `_AHEAD` slates, a row each: drawing so many takes little longer than one.

    As arrays, which are cut in rows at a fraction of the cost of tensors.
    """
    steps = torch.arange(block * _AHEAD, (block + 1) * _AHEAD)
    return [column.numpy() for column in _drawn(torch.full((_AHEAD,), seed), steps, reach)]
