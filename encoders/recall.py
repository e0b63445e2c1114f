"""Beside another encoder's state, what it does not hold: the last click, what was shown and done lately, and counts.

A state of unit length tells a taste, and forgets how much was done and how long ago. What today's slate does to
tomorrow hangs on just that: how many slates went by without a click, what the last click was on, which categories have
been shown and bought. All of it is in the tokens.

Shapes: B shoppers, T tokens, N items, E width of the inner encoder, D = 5 E + 8 width of the state.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.schema import Event
from .state import StateEncoder

_SUMS = 3  # kept vectors beside the last click's: clicked lately, passed over lately, gone into the cart or bought
_COUNTS = 7
_HALF = (2.0, 4.0, 5.0, 5.0, 2.0, 2.0, 10.0)  # counts at which each column of counts is half of its largest
_TAKEN = (Event.CLICK, Event.CART, Event.PURCHASE)


@dataclass(slots=True)
class RecallMemory:
    """Memory of `RecallEncoder`.

    Attributes:
        state: (B, D) float32 unit length, or zero with no history.
        inner: of the inner encoder.
        last: (B, E) float32 vector of the item clicked last; zero before the first click.
        sums: (B, 3, E) float32 decayed sums of the vectors of items clicked, shown and left, and carted or bought.
        counts: (B, 7) float32 tokens since the last click, cart and purchase; clicks, carts, purchases; and tokens in
            all. Views, which answer no slate, are not counted.
    """

    state: Tensor
    inner: Any
    last: Tensor
    sums: Tensor
    counts: Tensor

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows, in place, with all rows of `other`."""
        self.inner.put(rows, other.inner)
        for name in ("state", "last", "sums", "counts"):
            getattr(self, name)[rows] = getattr(other, name)


class RecallEncoder:
    """`StateEncoder` that puts beside another one's state what a policy that looks ahead has to see.

    The state is, each part scaled so that the whole stays within unit length:

    - the inner state (E);
    - the vector of the item clicked last (E);
    - sums of the vectors clicked, of those shown and left, and of those that went into the cart or were bought, each
      decayed by the token and squashed, `x / sqrt(1 + |x| ** 2)` (3 E);
    - counts, `n / (n + half)`: tokens since the last click, cart and purchase; clicks, carts, purchases; tokens (7);
    - what fills the length up to 1 (1).

    Item vectors are the inner ones with zeros behind: a state ranks items as the inner state does, and whatever learns
    on it starts from that ranking. Only what the tokens say is read, nothing of a simulator's own state. Of a slate
    without a click a token names the best-placed item alone, so that what else was passed over is not known.
    """

    def __init__(self, encoder: StateEncoder, *, decay: float = 0.85, kept: float = 0.98) -> None:
        """Wrap an encoder.

        Args:
            encoder: whose state comes first.
            decay: what is left, when the next token comes, of what was clicked or passed over; in (0, 1].
            kept: the same of what went into the cart or was bought.

        Raises:
            ValueError: a decay is out of range.
        """
        for name, value in (("decay", decay), ("kept", kept)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {value}")
        self.encoder, self.decay, self.kept = encoder, decay, kept
        inner = encoder.item_vectors.detach()
        self._vectors = inner
        self._width = encoder.dim
        self.n_items, self.dim = encoder.n_items, (2 + _SUMS) * encoder.dim + _COUNTS + 1
        self.item_vectors = F.pad(inner, (0, self.dim - encoder.dim))
        device = inner.device
        self._fades = torch.tensor([decay, decay, kept], device=device)[:, None]
        self._half = torch.tensor(_HALF, device=device)

    def start(self, rows: int) -> RecallMemory:
        """Memory of `rows` shoppers who have done nothing; their state is zero."""
        device = self.item_vectors.device
        return RecallMemory(
            state=torch.zeros((rows, self.dim), device=device),
            inner=self.encoder.start(rows),
            last=torch.zeros((rows, self._width), device=device),
            sums=torch.zeros((rows, _SUMS, self._width), device=device),
            counts=torch.zeros((rows, _COUNTS), device=device),
        )

    def step(self, memory: RecallMemory, items: Tensor, events: Tensor, gaps: Tensor) -> RecallMemory:
        """Append one token to each row; a row whose item is 0 is left exactly as it was."""
        memory.inner = self.encoder.step(memory.inner, items, events, gaps)
        active = items > 0
        vector = self._vectors[items]
        taken = active & (events <= int(Event.PURCHASE))
        kind = torch.stack([taken & (events >= int(event)) for event in _TAKEN], 1)  # (B, 3)
        clicked, deep = kind[:, 0], kind[:, 1]
        memory.last = torch.where(clicked[:, None], vector, memory.last)
        added = torch.stack([clicked, events == int(Event.IMPRESSION), deep], 1)[:, :, None] * vector[:, None, :]
        memory.sums = torch.where(active[:, None, None], self._fades * memory.sums + added, memory.sums)
        since, totals = memory.counts[:, :3], memory.counts[:, 3:6]
        answer = (events != int(Event.VIEW)).float()[:, None]  # a view is the shopper's own doing
        counts = torch.cat([torch.where(kind, 0.0, since + answer), totals + kind, memory.counts[:, 6:] + answer], 1)
        memory.counts = torch.where(active[:, None], counts, memory.counts)
        memory.state = torch.where(active[:, None], self._state(memory), memory.state)
        return memory

    def _state(self, memory: RecallMemory) -> Tensor:
        """(B, D) the parts side by side: five vectors and the counts, each of a squared length of at most 1/7."""
        sums = memory.sums / torch.sqrt(1 + memory.sums.square().sum(2, keepdim=True))
        vectors = torch.cat([memory.inner.state, memory.last, sums.flatten(1)], 1) * math.sqrt(1 / 7)
        counts = memory.counts / (memory.counts + self._half) * math.sqrt(1 / (7 * _COUNTS))
        told = torch.cat([vectors, counts], 1)
        rest = (1 - told.square().sum(1, keepdim=True)).clamp(min=0)
        return torch.cat([told, rest.sqrt()], 1)

    def encode(self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        """(B, D) states of whole histories, (B, T) each, zeros after `lengths`."""
        memory = self.start(len(items))
        for place in range(items.shape[1]):
            here = torch.where(place < lengths, items[:, place], 0)
            memory = self.step(memory, here, events[:, place], gaps[:, place])
        return memory.state

    def scores(self, states: Tensor, *, items: Tensor | None = None, events: Tensor | None = None) -> Tensor:
        """(B, N + 1) as the inner encoder's, of the inner states."""
        inner = F.normalize(states[:, : self._width], dim=1)
        return self.encoder.scores(inner, items=items, events=events)
