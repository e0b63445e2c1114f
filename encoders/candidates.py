"""The items that the next one is told from while the session encoder learns: all of a small catalogue, some of a large.

Beyond `full_softmax_up_to` items these are a batch's own targets and items drawn uniformly, each corrected by the
logarithm of its chance to be there, which keeps the softmax over all items unbiased in the limit.

Sources: sampling of alternatives, McFadden 1978; Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019.

Shapes: R rows of L places, N items, C candidates, M predictions.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.tokens import Ints
from .batches import PackedBatch
from .settings import PretrainConfig
from .softmax import Company


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items to tell apart, sorted.

    Attributes:
        items: (C,) int64. correction: (C,) what their logits are too high by. drawn: (C,) bool, which were drawn.
        sampled: whether there are others.
    """

    items: Tensor
    correction: Tensor
    drawn: Tensor
    sampled: bool

    def rows(self, items: Tensor) -> Tensor:
        """Where items are among the candidates; anywhere for those that are not."""
        return torch.searchsorted(self.items, items).clamp(max=len(self.items) - 1)

    def company(self, batch: PackedBatch, places: Tensor) -> Company | None:
        """Which of them the predictions' own sessions brought, and nothing else did; None where every item is one.

        Args:
            batch: its targets are candidates.
            places: (M,) of the predictions, counted over all rows.
        """
        if not self.sampled:
            return None
        source, before, after = batch.choices(places)
        row = self.rows(batch.items.flatten())  # (R * L,)
        total = torch.bincount(row[batch.choice.flatten()], minlength=len(self.items))
        elsewhere = self.drawn[row] | (total[row] > batch.often().flatten())
        return Company(row[source], before, after & ~elsewhere[source])


class Sampler:
    """Where candidates come from: the items that were learnt from."""

    def __init__(self, counts: Ints, config: PretrainConfig, device: torch.device) -> None:
        """Take (N + 1,) tokens of each item in the training sessions."""
        self.items = torch.from_numpy(np.flatnonzero(counts)).to(device)
        self._chance = torch.from_numpy(counts / max(counts.sum(), 1)).to(device, torch.float32)
        self._sampled = len(self.items) > config.full_softmax_up_to
        self._negatives = config.negatives

    def draw(self, targets: Tensor, rng: np.random.Generator) -> Candidates:
        """Candidates of a batch whose (M,) targets are these."""
        every = len(self.items)
        if not self._sampled:
            none = torch.zeros(every, device=targets.device)
            return Candidates(self.items, none, none == 0, sampled=False)
        places = torch.from_numpy(rng.integers(0, every, self._negatives)).to(targets.device)
        drawn = self.items[places]
        items = torch.unique(torch.cat([targets, drawn]))
        by_target = len(targets) * torch.log1p(-self._chance[items].clamp(max=1 - 1e-6))
        by_draw = self._negatives * math.log1p(-1 / every)
        return Candidates(items, torch.log(-torch.expm1(by_target + by_draw)), torch.isin(items, drawn), sampled=True)
