"""What the session encoder keeps of B shoppers between tokens: a ring of attention keys and values for each.

The ring has `window` places a row. The token at position p lies at place p % window, so it overwrites the one token
that has just slid out of sight. Rows stand at different positions and are replaced one by one, which the caches of
transformers cannot do (one length a layer); its attention is used as it is, through this layer of its cache interface.

Beside it lie the items of the same tokens, of whose vectors a state takes a share as they are (see `readout`).

Shapes: B rows, L layers, G key/value heads, W window, H width of a head, D width of the state.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from transformers import LlamaModel
from transformers.cache_utils import Cache, CacheLayerMixin

from .attention import compiled_write, write

CACHE = "cache" if "cache" in inspect.signature(LlamaModel.forward).parameters else "past_key_values"
"""Argument by which a model of transformers takes a cache; 5.24 renamed it."""


@dataclass(slots=True)
class SessionMemory:
    """Memory of `ShopSessionModel`.

    Attributes:
        state: (B, D) float32 the state after the last token of each row.
        length: (B,) int64 tokens read so far, the token that begins every history included.
        keys: (B, L, G, W, H) rotated keys, each at its token's position.
        values: (B, L, G, W, H).
        marks: (B, W, H) by which the readout finds the tokens.
        items: (B, W) int64 dense indices of the tokens' items, 0 for the token that begins every history.
    """

    state: Tensor
    length: Tensor
    keys: Tensor
    values: Tensor
    marks: Tensor
    items: Tensor

    @classmethod
    def empty(cls, width: int, ring: tuple[int, int, int, int], device: torch.device | str) -> Self:
        """Memory of one shopper before the token that begins its history; `ring` is (L, G, W, H), `width` is D."""
        layers, heads, window, head = ring
        keys = torch.zeros(1, layers, heads, window, head, device=device)
        none = torch.zeros(1, window, dtype=torch.int64, device=device)
        return cls(
            state=torch.zeros(1, width, device=device),
            length=torch.zeros(1, dtype=torch.int64, device=device),
            keys=keys,
            values=torch.zeros_like(keys),
            marks=torch.zeros(1, window, head, device=device),
            items=none,
        )

    def _parts(self) -> tuple[Tensor, ...]:
        return self.state, self.length, self.keys, self.values, self.marks, self.items

    def repeat(self, rows: int) -> "SessionMemory":
        """Memory of `rows` shoppers who are where this one is."""
        return SessionMemory(*(part.repeat(rows, *[1] * (part.ndim - 1)) for part in self._parts()))

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows, in place, with all rows of `other`; `rows` holds row numbers or is a (B,) mask."""
        for part, fresh in zip(self._parts(), other._parts(), strict=True):
            part[rows] = fresh

    def to(self, device: torch.device | str) -> "SessionMemory":
        """The same memory on another device."""
        return SessionMemory(*(part.to(device) for part in self._parts()))

    def ring(self, active: Tensor, *, compiled: bool = False) -> Cache:
        """The memory as a cache of transformers, into which each layer writes the next token of the active rows.

        Args:
            active: (B,) bool; the other rows are left bit for bit as they are.
            compiled: whether a compiler reads this.
        """
        layers, place = range(self.keys.shape[1]), self._place()
        put = compiled_write if compiled else write
        every = _all(active)
        return Cache(layers=[_RingLayer(self.keys, self.values, layer, place, active, every, put) for layer in layers])

    def keep(self, marks: Tensor, items: Tensor, active: Tensor, *, compiled: bool = False) -> None:
        """Write what the readout needs of the next token of the active rows, (B, H) and (B,), into the ring."""
        put, place, every = compiled_write if compiled else write, self._place(), _all(active)
        for ring, fresh in ((self.marks, marks), (self.items[..., None], items[:, None])):
            put(ring[:, None, None], 0, place, fresh[:, None], active[:, None, None], every)

    def _place(self) -> Tensor:
        return self.length % self.keys.shape[3]

    def in_sight(self) -> Tensor:
        """(B, 1, 1, W) bool, places that the next token may attend to: those written, its own included."""
        places = torch.arange(self.keys.shape[3], device=self.length.device)
        return (places <= self.length[:, None])[:, None, None, :]


def _all(active: Tensor) -> bool:
    """Whether all rows are known to be active: asked where the answer costs no waiting."""
    return active.device.type == "cpu" and not torch.compiler.is_compiling() and bool(active.all())


class _RingLayer(CacheLayerMixin):
    """One layer's ring, as transformers' attention asks for it."""

    is_sliding = True

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        layer: int,
        place: Tensor,
        active: Tensor,
        every: bool,
        put: Callable[[Tensor, int, Tensor, Tensor, Tensor, bool], None],
    ) -> None:
        super().__init__()
        self.keys, self.values, self.layer = keys, values, layer  # of all layers
        self.place, self.active, self.every, self.put = place, active[:, None, None], every, put
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the ring is allocated by whoever made the memory."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write one token, (B, G, 1, H), and return the layer's whole ring, (B, G, W, H)."""
        assert self.keys is not None
        assert self.values is not None
        for ring, fresh in ((self.keys, key_states), (self.values, value_states)):
            self.put(ring, self.layer, self.place, fresh[:, :, 0], self.active, self.every)
        return self.keys[:, self.layer], self.values[:, self.layer]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Width of the mask, and its offset: the ring is always seen whole."""
        del query_length
        return self.get_max_length(), 0

    def get_seq_length(self) -> int:
        """The ring's width: one number cannot tell B lengths, so positions and masks are always handed in."""
        return self.get_max_length()

    def get_max_cache_shape(self) -> int:
        """`get_max_length` as the first releases of transformers 5 call it."""
        return self.get_max_length()

    def get_max_length(self) -> int:
        """Places of the ring."""
        assert self.keys is not None
        return self.keys.shape[-2]
