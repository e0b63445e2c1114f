"""Policies that fill a shop's shelves while its log is kept, and know the chance of every slate they show.

Shapes: B sessions, K slots, N items.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from .randomness import gumbel, uniform

_POLICY_STREAM = 4096  # far from the shoppers' own streams, so that a policy's luck tells nothing of theirs


class LoggingPolicy(Protocol):
    """A policy that knows the chance of each slate it shows."""

    k: int

    def sample(self, seeds: Tensor, step: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slates and how likely they were.

        Args:
            seeds: (B,) int64 seeds of the sessions.
            step: (B,) int64 slates shown to each before.
            there: (B, N + 1) bool items on sale in each session; all where not given.

        Returns:
            (B, K) int64 slates without repeats, and (B, K) float64 chance of each item at its place given those above.
        """
        ...


class PlackettLucePolicy:
    """Shows items in proportion to fixed weights, place by place without replacement: every item has a chance.

    Sampled by adding Gumbel noise and taking the top k (Yellott 1977; Kool, van Hoof and Welling, ICML 2019).

    Args:
        logits: (N + 1,) log weights by dense index; index 0 is never shown, nor an item at -inf.
        k: slots of a slate.

    Raises:
        ValueError: fewer than `k` items can be shown.
    """

    def __init__(self, logits: Tensor, k: int) -> None:
        logits = logits.to(torch.float64).clone()
        logits[0] = -math.inf
        shown = int(torch.isfinite(logits).sum())
        if not 1 <= k <= shown:
            raise ValueError(f"k must be from 1 to the {shown} items that can be shown, got {k}")
        self.k = k
        self.logits = logits
        self._weights = logits.softmax(0)

    def sample(self, seeds: Tensor, step: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slates and propensities; see `LoggingPolicy.sample`. Slots stay empty where too few items are on sale."""
        noise = gumbel(seeds, step, _POLICY_STREAM, len(self.logits))
        keys = self.logits.to(torch.float32) + noise
        if there is None:
            slate = keys.topk(self.k, dim=1).indices
        else:
            best = keys.masked_fill(~there, -math.inf).topk(self.k, dim=1)
            slate = best.indices * torch.isfinite(best.values)
        return slate, self.propensities(slate, there)

    def propensities(self, slate: Tensor, there: Tensor | None = None) -> Tensor:
        """Chance of each item at its place given those above; the product of a row is the slate's.

        Args:
            slate: (B, K) int64; 0 leaves a slot empty, with a chance of 1.
            there: (B, N + 1) bool items on sale; all where not given.

        Returns:
            (B, K) float64.
        """
        weight = self._weights[slate]
        whole = 1.0 if there is None else (self._weights * there).sum(1, keepdim=True)
        rest = whole - (weight.cumsum(1) - weight)
        return torch.where(slate > 0, weight / rest, 1.0).clamp(max=1.0)


class StickyPolicy:
    """Shows the slate before once more with a chance, and otherwise a fresh one: shelves change slower than pages load.

    Its logs tell how shoppers tire of what they have seen, which a log of ever fresh slates does not.

    Args:
        fresh: draws the fresh slates.
        again: chance that a slate is the one before, in [0, 1); a session's first is fresh.

    Raises:
        ValueError: `again` is out of range.
    """

    def __init__(self, fresh: PlackettLucePolicy, again: float) -> None:
        if not 0 <= again < 1:
            raise ValueError(f"again must be in [0, 1), got {again}")
        self.k, self.fresh, self.again = fresh.k, fresh, again

    def sample(self, seeds: Tensor, step: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slates and propensities given the slates before; see `LoggingPolicy.sample`.

        The chance of a slate's first places is `again`, if the slate before begins so, and `1 - again` times that of
        a fresh one; what is given is each place's chance after the places above it.
        """
        slate, alone = self.fresh.sample(seeds, self._drawn(seeds, step), there)
        before, _ = self.fresh.sample(seeds, self._drawn(seeds, (step - 1).clamp(min=0)), there)
        again = torch.where(step > 0, self.again, 0.0).to(torch.float64)[:, None]
        beginning = again * (slate == before).cumprod(1) + (1 - again) * alone.cumprod(1)
        above = torch.cat([torch.ones_like(beginning[:, :1]), beginning[:, :-1]], dim=1)
        return slate, (beginning / above).clamp(max=1.0)

    def _drawn(self, seeds: Tensor, step: Tensor) -> Tensor:
        """(B,) the latest step, up to this one, at which a fresh slate was drawn."""
        steps = torch.arange(int(step.max()) + 1, device=seeds.device)
        fresh = uniform(seeds, 0, _POLICY_STREAM + 1, len(steps)) >= self.again
        fresh[:, 0] = True
        return (steps * (fresh & (steps <= step[:, None]))).amax(1)
