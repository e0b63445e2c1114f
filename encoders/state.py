"""The `StateEncoder` protocol: how a history of tokens becomes a state, whole or one token at a time."""

from typing import Any, Protocol, Self

from torch import Tensor


class Memory(Protocol):
    """What a state encoder carries of B shoppers between tokens. Preallocated; rows are independent.

    A dataclass whose tensors have rows first, or with a method `rows(which)` that copies some of them.
    """

    state: Tensor
    """(B, dim) float32 the state after the last token of each row."""

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows, in place, with all rows of `other`."""
        ...


class StateEncoder(Protocol):
    """History of tokens -> state of unit length, in the same space as the item vectors."""

    @property
    def dim(self) -> int:
        """Width of states and item vectors."""
        ...

    @property
    def n_items(self) -> int:
        """Items known; dense indices run from 1 to this."""
        ...

    @property
    def item_vectors(self) -> Tensor:
        """(N + 1, dim) float32, unit rows by dense index; row 0 (padding) is zero."""
        ...

    def start(self, rows: int) -> Any:
        """`Memory` of `rows` shoppers with an empty history; `.state` is the state of an empty history."""
        ...

    def step(self, memory: Any, items: Tensor, events: Tensor, gaps: Tensor) -> Any:
        """Append one token to each row, in place; returns the memory.

        Args:
            memory: of B shoppers; used up, use what is returned.
            items: (B,) int64 dense item index; a row with 0 is left exactly as it was.
            events: (B,) int64 codes of `datasets.schema.Event`.
            gaps: (B,) float32 seconds since the token before, >= 0; 0 for the first.
        """
        ...

    def encode(self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        """(B, dim) states of whole histories, (B, T) each, zeros after `lengths`; equal to stepping through them."""
        ...

    def scores(self, states: Tensor, *, items: Tensor | None = None, events: Tensor | None = None) -> Tensor:
        """(B, N + 1) how likely each item is next, -inf for index 0; only the order means anything.

        Args:
            states: (B, dim).
            items: (B, T) dense indices of the histories that led to them, where they are known, zeros at padding.
            events: (B, T) their codes of `datasets.schema.Event`.
        """
        ...
