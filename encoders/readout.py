"""What a state takes from its history as it is: a weighted mean of the items' own vectors.

The blocks say what a history means; they pass items on only through projections that squeeze them. Shoppers come back
to what they looked at, and to its like, so a share of the items' vectors goes straight into the state, in the space
in which items are scored. Which items, attention decides.

Source: consistent representation of sessions and items, CORE (Hou et al., SIGIR 2022).

Shapes: B rows, Q states asked for, T tokens, R width of marks, D width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .settings import ShopSessionConfig

SHARE = 0.7
"""Length of what the items add, beside what the blocks say, when training begins."""


class Readout(nn.Module):
    """Attention of states on the items of their histories."""

    def __init__(self, config: ShopSessionConfig) -> None:
        super().__init__()
        self.asks = nn.Linear(config.width, config.head_width, bias=False)
        self.marks = nn.Linear(config.width, config.head_width, bias=False)
        self.share = nn.Parameter(torch.ones(()))

    def forward(self, hidden: Tensor, marks: Tensor, items: Tensor, seen: Tensor) -> Tensor:
        """(B, Q, D) what the items add to the states.

        Args:
            hidden: (B, Q, D) what the blocks say.
            marks: (B, T, R) by which the tokens are found.
            items: (B, T, D) vectors of the tokens' items, zero for the token that begins a history.
            seen: (B or 1, Q, T) bool, which tokens each state may attend to; one at least.
        """
        return self._added(self._weights(hidden, marks, seen) @ items)

    def _weights(self, hidden: Tensor, marks: Tensor, seen: Tensor) -> Tensor:
        """(B, Q, T) of the tokens in the mean."""
        scores = self.asks(hidden) @ marks.transpose(1, 2) / math.sqrt(marks.shape[-1])
        return scores.masked_fill(~seen, -torch.inf).softmax(-1)

    def _added(self, mean: Tensor) -> Tensor:
        return self.share * F.normalize(mean, dim=-1)
