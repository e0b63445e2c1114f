"""What the session encoder keeps of B shoppers between tokens: a ring of attention keys and values for each.

The ring has `window` places a row. The token at position p lies at place p % window, so it overwrites the one token
that has just slid out of sight. Rows stand at different positions and are replaced one by one, which the caches of
transformers cannot do (one length a layer). A row without a token writes like the others, but stays where it is: until
its next token comes, nobody reads the place that this token will take.

Beside it lie the items of the same tokens, of whose vectors a state takes a share as they are (see `readout`).

Shapes: B rows, L layers, G key/value heads, W window, H width of a head, D width of the state, P = 2 L G + 1 planes.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(slots=True)
class SessionMemory:
    """Memory of `ShopSessionModel`.

    Attributes:
        state: (B, D) float32 the state after the last token of each row.
        length: (B,) int64 tokens read so far, the token that begins every history included.
        ring: (P, B, W, H) of each layer, first keys, each turned by its token's position, then values, a plane for each
            head; in the last plane the marks by which the readout finds the tokens. Attention reads plane after plane,
            so planes come first: it takes half the time.
        items: (B, W) int32 dense indices of the tokens' items, 0 for the token that begins every history.
    """

    state: Tensor
    length: Tensor
    ring: Tensor
    items: Tensor

    @classmethod
    def empty(cls, width: int, ring: tuple[int, int, int, int], device: torch.device | str) -> Self:
        """Memory of one shopper before the token that begins its history; `ring` is (L, G, W, H), `width` is D."""
        layers, heads, window, head = ring
        return cls(
            state=torch.zeros(1, width, device=device),
            length=torch.zeros(1, dtype=torch.int64, device=device),
            ring=torch.zeros(2 * layers * heads + 1, 1, window, head, device=device),
            items=torch.zeros(1, window, dtype=torch.int32, device=device),
        )

    def _parts(self) -> tuple[Tensor, ...]:
        """All that is kept, rows first."""
        return self.state, self.length, self.ring.transpose(0, 1), self.items

    def repeat(self, rows: int) -> "SessionMemory":
        """Memory of `rows` shoppers who are where this one is."""
        state, length, ring, items = self.state, self.length, self.ring, self.items
        return SessionMemory(
            state.repeat(rows, 1), length.repeat(rows), ring.repeat(1, rows, 1, 1), items.repeat(rows, 1)
        )

    def rows(self, which: Tensor) -> "SessionMemory":
        """A copy of some rows, (n,) int64 numbers of which on any device."""
        which = which.to(self.length.device)
        state, length, items = (part.index_select(0, which) for part in (self.state, self.length, self.items))
        return SessionMemory(state, length, self.ring.index_select(1, which), items)

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows, in place, with all rows of `other`; `rows` holds row numbers or is a (B,) mask."""
        for part, fresh in zip(self._parts(), other._parts(), strict=True):
            part[rows] = fresh

    def to(self, device: torch.device | str) -> "SessionMemory":
        """The same memory on another device."""
        return SessionMemory(*(part.to(device) for part in (self.state, self.length, self.ring, self.items)))

    def spots(self) -> Tensor:
        """(P, B) int64 where the next token of each row goes, for `write`."""
        planes, rows, places, _ = self.ring.shape
        begins = torch.arange(0, planes * rows * places, places, device=self.length.device)
        return begins.view(planes, rows) + self.length % places

    def write(self, spots: Tensor, fresh: Tensor) -> None:
        """Put (n, B, H) vectors into the n planes of the ring to which (n, B) spots lead."""
        (_compiled_write if torch.compiler.is_compiling() else _write)(self.ring, spots, fresh)

    def note(self, spots: Tensor, items: Tensor) -> None:
        """Write the items of the next tokens, (B,); the spots are those of the first plane."""
        self.items.view(-1).index_copy_(0, spots, items.to(self.items.dtype))

    def unseen(self) -> Tensor:
        """(B, W) float32, 0 at places that the next token attends to, its own included, -inf at those never written."""
        window = self.items.shape[1]
        unseen = torch.full((window, window), -torch.inf, device=self.ring.device).triu_(1)
        return unseen.index_select(0, self.length.clamp(max=window - 1))


def _write(ring: Tensor, spots: Tensor, fresh: Tensor) -> None:
    head = ring.shape[-1]
    ring.view(-1, head).index_copy_(0, spots.reshape(-1), fresh.reshape(-1, head))


# A compiler that looked into it would copy the ring at every step.
_compiled_write = torch.library.custom_op("slatewise::write", _write, mutates_args=("ring",))
