"""Nearest items of a large catalogue: inverted lists around centroids, of which only the likeliest are looked through.

Exact search compares a state with every item: one matrix product, which for hundreds of thousands of items and dozens
of shoppers at a time is much of what a step costs. Here items are grouped by k-means; a state is compared with the
centroids, then with the items of the best groups alone. Fetched items are exact in score and order; some that belong
among them may lie in a group that was not looked through, the more, the less the items form clusters.

Shapes: B shoppers, N items, D width, L lists, P lists looked through, C items fetched.

Source: inverted files, Sivic and Zisserman, ICCV 2003; as in Johnson et al., "Billion-scale similarity search with
GPUs", 2017 (arXiv 1702.08734), there IVF-Flat.
"""

import math

import torch
from torch import Tensor

from .slate_choice import NEVER

_SAMPLE = 64  # items a centroid that k-means reads
_ROUNDS = 10


class InvertedLists:
    """An index of the items that may be shown.

    Args:
        vectors: (N, D); rows not `available` are left out.
        available: (N,) bool.
        lists: L; the square root of the items by default.
        share: of the lists that a search looks through, in (0, 1].
        seed: of the centroids.
    """

    def __init__(
        self, vectors: Tensor, available: Tensor, *, lists: int | None = None, share: float = 0.1, seed: int = 0
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        items = torch.nonzero(available).squeeze(1)
        lists = min(lists or math.isqrt(len(items)), len(items))
        own = vectors[items]
        self.centroids = _centroids(own, lists, seed)
        group = _nearest(own, self.centroids)
        order = group.argsort(stable=True)
        self._items, self._vectors = items[order], own[order]
        counts = torch.bincount(group, minlength=lists)
        self._counts = counts.tolist()
        self._starts = (counts.cumsum(0) - counts).tolist()
        self._probes = max(1, math.ceil(share * lists))
        self._smallest = counts.sort().values.cumsum(0)

    def __len__(self) -> int:
        return len(self._items)

    def search(self, states: Tensor, count: int) -> Tensor:
        """(B, C) int64 items of the highest `state . vector`, best first; C is `count`.

        More lists are looked through where the smallest ones would not hold enough items.

        Raises:
            ValueError: fewer items than asked for may be shown.
        """
        if count > len(self):
            raise ValueError(f"{count} items are asked for, and {len(self)} may be shown")
        enough = int((self._smallest < count).sum()) + 1
        probed = (states @ self.centroids.T).topk(max(self._probes, enough), dim=1).indices  # (B, P)
        width = max(self._counts)
        found = states.new_full((*probed.shape, width), NEVER)
        places = torch.zeros(found.shape, dtype=torch.int64, device=states.device)
        row, slot = (part.flatten() for part in torch.meshgrid(*(torch.arange(n) for n in probed.shape), indexing="ij"))
        order = probed.flatten().cpu().argsort(stable=True)
        of = probed.flatten().cpu()[order]
        first = torch.searchsorted(of, torch.arange(len(self._counts) + 1)).tolist()
        for one, (start, size) in enumerate(zip(self._starts, self._counts, strict=True)):
            asked = order[first[one] : first[one + 1]]
            if len(asked) and size:
                scores = states[row[asked]] @ self._vectors[start : start + size].T
                found[row[asked], slot[asked], :size] = scores
                places[row[asked], slot[asked], :size] = torch.arange(start, start + size, device=states.device)
        best = found.flatten(1).topk(count, dim=1).indices
        return self._items[places.flatten(1).gather(1, best)]


def _centroids(vectors: Tensor, lists: int, seed: int) -> Tensor:
    """(L, D) by k-means (Lloyd 1982) on a sample; an empty group starts anew at an item."""
    rng = torch.Generator().manual_seed(seed)
    sample = vectors[torch.randperm(len(vectors), generator=rng)[: lists * _SAMPLE]]
    centres = sample[:lists].clone()
    for _ in range(_ROUNDS):
        group = _nearest(sample, centres)
        counts = torch.bincount(group, minlength=lists)
        sums = torch.zeros_like(centres).index_add_(0, group, sample)
        fresh = sample[torch.randint(len(sample), (lists,), generator=rng)]
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], fresh)
    return centres


def _nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """(N,) number of the centre at the smallest distance."""
    offset = 0.5 * centres.square().sum(1)
    return torch.cat([(part @ centres.T - offset).argmax(1) for part in vectors.split(8_192)])
