"""How far down a slate a shopper looks, and what is chosen among the items looked at: the model and its likelihood.

A shopper looks at places 1 to m, going on from place j to j + 1 with chance `sigmoid(proceed[j])`, and then chooses
among those m items and nothing by a multinomial logit. The depth m is not logged, so a click has the chance

    P(click at c) = sum over m >= c of P(m) exp(u_c) / (exp(u_nothing) + sum over j <= m of exp(u_j))

Sources: Craswell et al., "An experimental comparison of click position-bias models", WSDM 2008 (examination downwards);
McFadden, "Conditional logit analysis of qualitative choice behavior", 1974.

Shapes: S slates, K slots, F item features, O outside features, H places with a `proceed` of their own, N items.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .features import OUTSIDE_FEATURES

NEVER = -1e4
"""Utility of what cannot be chosen: exp of it is 0, and unlike minus infinity it keeps gradients finite."""


@dataclass(frozen=True, slots=True)
class ChoiceWeights:
    """Parameters of examination and choice; of an ensemble with a row a member, and then `who` says whose are meant.

    Attributes:
        item: (F,) weight of each scaled feature of `features.ITEM_FEATURES`.
        outside: (O,) weight of each of `features.OUTSIDE_FEATURES`.
        proceed: (H + 1,) logit of looking at the next place, by place; the last one holds for all further places.
        effects: (N + 1,) what an item is liked beyond its features; entry 0 is 0.
    """

    item: Tensor
    outside: Tensor
    proceed: Tensor
    effects: Tensor

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> "ChoiceWeights":
        """The same on a device."""
        return ChoiceWeights(*(getattr(self, name).to(device, dtype) for name in self.__slots__))

    def tensors(self) -> dict[str, Tensor]:
        """Parameters by name."""
        return {name: getattr(self, name).to(torch.float32).contiguous() for name in self.__slots__}

    def with_nothing(self, value: float) -> "ChoiceWeights":
        """The same with another utility of clicking nothing."""
        outside = self.outside.clone()
        outside[OUTSIDE_FEATURES.index("nothing")] = value
        return replace(self, outside=outside)

    def utility(self, scaled: Tensor, items: Tensor, who: Tensor | None = None) -> Tensor:
        """(B, K) utility of items with these scaled features (B, K, F); `NEVER` in empty slots; `who` is (B,)."""
        if who is None:
            found = scaled @ self.item + self.effects[items]
        else:
            found = torch.einsum("bkf,bf->bk", scaled, self.item[who]) + self.effects[who[:, None], items]
        return found.masked_fill(items == 0, NEVER)

    def nothing(self, outside: Tensor, who: Tensor | None = None) -> Tensor:
        """(B,) utility of clicking nothing, given outside features (B, O)."""
        return outside @ self.outside if who is None else (outside * self.outside[who]).sum(1)

    def looked(self, k: int, who: Tensor | None = None) -> Tensor:
        """(k,) chance that each place of a slate is looked at, the first 1, then falling; (B, k) given `who`."""
        proceed = self.proceed if who is None else self.proceed[who]
        going_on = torch.sigmoid(by_place(proceed, k - 1)).cumprod(-1)
        return torch.cat([torch.ones_like(proceed[..., :1]), going_on], -1)


def by_place(proceed: Tensor, places: int) -> Tensor:
    """(..., places) logit of looking on from each place, given (..., H + 1) of which the last holds for the rest."""
    return proceed[..., torch.arange(places, device=proceed.device).clamp(max=proceed.shape[-1] - 1)]


def depth_log_chances(proceed: Tensor, k: int) -> Tensor:
    """(..., k) log chance that exactly the first 1, 2, ..., k places are looked at; `proceed` as in `by_place`."""
    logits = by_place(proceed, k - 1)
    reached = torch.nn.functional.logsigmoid(logits).cumsum(-1)
    stops = torch.nn.functional.logsigmoid(-logits)
    first = torch.zeros_like(proceed[..., :1])
    return torch.cat([first, reached], -1) + torch.cat([stops, first], -1)


def slate_log_chances(utility: Tensor, nothing: Tensor, depth: Tensor) -> Tensor:
    """Log chance of a click at each place, and of none.

    Args:
        utility: (S, K) of the items by place; `NEVER` in empty slots.
        nothing: (S,) utility of clicking nothing.
        depth: (K,) or (S, K) log chances of the depths, see `depth_log_chances`.

    Returns:
        (S, K + 1), the last column for no click; the exponentials of a row sum to 1.
    """
    peak = torch.maximum(utility.amax(1), nothing).detach()[:, None]  # taken off, so that no exponential overflows
    utility, nothing = utility - peak, nothing[:, None] - peak
    total = utility.exp().cumsum(1) + nothing.exp()  # of nothing and the first m places
    share = depth.exp() / total.clamp(min=torch.finfo(total.dtype).tiny)
    deeper = share.flip(1).cumsum(1).flip(1).log()  # over all depths that reach a place
    return torch.cat([utility + deeper, nothing + deeper[:, :1]], 1)


def next_view_log_chance(utility: Tensor, correction: Tensor) -> Tensor:
    """(S,) log chance that the first of K sampled alternatives is viewed next.

    Args:
        utility: (S, K) of the alternatives.
        correction: (S, K) minus the log chance of each alternative to be sampled, which makes the estimate as if all
            items had been offered.

    Source: McFadden, "Modelling the choice of residential location", 1978, section 4.
    """
    return torch.log_softmax(utility + correction, 1)[:, 0]
