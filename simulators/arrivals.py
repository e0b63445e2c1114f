"""How shoppers arrive: with what those of a log had done before their first slate.

Shapes: B shoppers, A arrivals, W tokens brought along.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .randomness import uniform
from .shopper import TokenBatch

_ARRIVAL = 1  # stream of random numbers


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What shoppers of the log had done before their first slate.

    Attributes:
        tokens: (A, W) histories. gap: (A,) float32 seconds from the last of them to the first slate, 0 with none.
    """

    tokens: TokenBatch
    gap: Tensor

    def to(self, device: torch.device) -> "Arrivals":
        """The same on a device."""
        return Arrivals(_moved(self.tokens, device), self.gap.to(device))

    def rows(self, which: Tensor) -> "Arrivals":
        """Some of them, as often as `which` names each."""
        return Arrivals(self.tokens.rows(which), self.gap[which])

    def drawn(self, seeds: Tensor) -> Tensor:
        """(B,) int64 rows: how the shopper of each of the (B,) seeds arrives."""
        return drawn_below(seeds, _ARRIVAL, len(self.gap))


def drawn_below(seeds: Tensor, stream: int, n: int) -> Tensor:
    """(B,) int64 below n, each by its seed."""
    return (uniform(seeds, 0, stream, 1).squeeze(1) * n).long().clamp(max=n - 1)


def _moved(tokens: TokenBatch, device: torch.device) -> TokenBatch:
    return TokenBatch(*(getattr(tokens, one.name).to(device) for one in fields(tokens)))
