"""Networks that score the items of a catalogue for a shopper's state.

Shapes: B shoppers, K slots, D width of states and item vectors, N items, C candidates.

Items are scored by their vectors: catalogue size is no constant of the parameters, and item vectors and availability
are buffers that can be swapped. Every part is the identity at first, so an untrained scorer ranks items by `state .
item vector`, as the encoder was pretrained to: learning starts from the encoder's next-item ranking, not from noise.
"""

import math
from typing import Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from .plackett_luce import sample_slates
from .retrieval import InvertedLists
from .slate_choice import ITERATIONS, NEVER, BestSlate, best_shown_slate, best_slate, ranking

APPROXIMATE_ABOVE = 100_000
"""Items from which on candidates are found by an index; up to there exact search costs less than it saves."""
_FAR = 1e4  # taken off the scores of items that are no candidates, so that they rank below all candidates, in order


class Tower(nn.Module):
    """(..., D) -> (..., D): what comes in plus a small network, which is zero at first."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(dim, hidden)
        self.last = nn.Linear(hidden, dim)
        self.gain = math.sqrt(dim)  # components of a unit vector are small; this brings them near 1
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D), of unit length at first where `x` is."""
        return x + self.last(F.gelu(self.first(x * self.gain)))


class Head(nn.Module):
    """(..., D) -> (...): one number each, a constant at first."""

    def __init__(self, dim: int, hidden: int, start: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(dim, hidden)
        self.last = nn.Linear(hidden, 1)
        self.gain = math.sqrt(dim)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, start)

    def forward(self, x: Tensor) -> Tensor:
        """(...) the number."""
        return self.last(F.gelu(self.first(x * self.gain))).squeeze(-1)


class PairScorer(nn.Module):
    """Score of a state and an item: `scale * f(state) . g(item) + b(item)`; at first `scale * state . item + start`."""

    def __init__(self, dim: int, hidden: int, scale: float, start: float = 0.0) -> None:
        super().__init__()
        self.state_tower = Tower(dim, hidden)
        self.item_tower = Tower(dim, hidden)
        self.bias = Head(dim, hidden, start)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, state: Tensor, table: Tensor) -> Tensor:
        """(B, N) scores of (B, D) states with every row of a (N, D) table of item vectors."""
        return self._query(state) @ self.item_tower(table).T + self.bias(table)

    def at(self, state: Tensor, table: Tensor, items: Tensor) -> Tensor:
        """(B, C) scores of (B, D) states with the (B, C) rows of the table named by `items`."""
        # The graph that is served scores one shopper's candidates, and cannot branch on how many shoppers there are.
        if torch.compiler.is_exporting() or items.numel() < table.shape[0]:
            rows = table[items]
            return torch.einsum("bd,bcd->bc", self._query(state), self.item_tower(rows)) + self.bias(rows)
        # Many shoppers share candidates: the towers see each item once, and no (B, C, D) table is ever made.
        different, column = items.unique(return_inverse=True)
        return self(state, table[different]).gather(1, column)

    def _query(self, state: Tensor) -> Tensor:
        return self.state_tower(state) * torch.exp(self.log_scale)


class SlateScorer(nn.Module):
    """State -> scores of all items, whose top K, in order, is the greedy slate. What an agent exports.

    Scores are also Plackett-Luce logits: sampling slates by them gives the policy's random form.

    Catalogues larger than `max_candidates` are re-ranked: the C available items nearest to the state are candidates,
    in training and after; all others rank below them, in order of nearness. See `candidates` for how they are found.

    Args:
        dim: width D of states and item vectors.
        n_items: size of the catalogue; the tables have one row more, for the padding.
        k: slots of a slate.
        hidden: width of the hidden layers.
        scale: what `state . item` is multiplied by at first (an inverse temperature).
        max_candidates: C.
    """

    kind: ClassVar[str]
    item_vectors: Tensor
    """(N + 1, D) float32; row 0, the padding, is zero."""
    available: Tensor
    """(N + 1,) bool, items that may be shown; False for the padding."""

    def __init__(self, dim: int, n_items: int, k: int, *, hidden: int, scale: float, max_candidates: int) -> None:
        super().__init__()
        if max_candidates < min(k, n_items):
            raise ValueError(f"max_candidates={max_candidates} cannot fill slates of {k} slots")
        self.dim, self.k, self.hidden, self.scale, self.max_candidates = dim, k, hidden, scale, max_candidates
        self._index: tuple[Any, InvertedLists] | None = None
        self.register_buffer("item_vectors", torch.zeros(n_items + 1, dim))
        self.register_buffer(
            "available", torch.ones(n_items + 1, dtype=torch.bool).index_fill(0, torch.tensor([0]), False)
        )

    @property
    def n_items(self) -> int:
        """Size of the catalogue; items are numbered 1 to this."""
        return self.item_vectors.shape[0] - 1

    def settings(self) -> dict[str, Any]:
        """What a constructor needs to make this scorer again, weights apart."""
        names = ("dim", "n_items", "k", "hidden", "scale", "max_candidates")
        return {name: getattr(self, name) for name in names}

    def set_items(self, vectors: ArrayLike | Tensor, available: ArrayLike | Tensor | None = None) -> None:
        """Swap the catalogue: other vectors, more or fewer items, others available. Learned weights stay.

        Args:
            vectors: (N + 1, D) item vectors by dense index; row 0 is the padding.
            available: (N + 1,) bool; all by default.

        Raises:
            ValueError: shapes do not fit, a number is not finite, or fewer than k items are available.
        """
        table = torch.as_tensor(vectors, dtype=torch.float32).detach()
        if table.ndim != 2 or table.shape[1] != self.dim:
            raise ValueError(
                f"item vectors must be (n_items + 1, {self.dim}), as wide as the state; got {tuple(table.shape)}"
            )
        if not torch.isfinite(table).all():
            raise ValueError("item vectors hold numbers that are not finite; encode the catalogue again")
        mask = (
            torch.ones(len(table), dtype=torch.bool) if available is None else torch.as_tensor(available).bool().clone()
        )
        if mask.shape != table.shape[:1]:
            raise ValueError(
                f"available must have one entry a row of the item vectors, {len(table)}; got {tuple(mask.shape)}"
            )
        mask[0] = False
        if int(mask.sum()) < self.k:
            raise ValueError(f"only {int(mask.sum())} items are available, fewer than the {self.k} slots of a slate")
        place = self.item_vectors.device
        self.item_vectors, self.available = table.clone().to(place), mask.to(place)
        self._index = None  # a freed tensor's id may come back

    def candidates(self, state: Tensor, *, exact: bool = False) -> Tensor | None:
        """(B, C) items that are scored in each state; None where it is the whole catalogue.

        The nearest by `state . item`. Above `APPROXIMATE_ABOVE` items an index finds them, see `InvertedLists`, unless
        they are to be `exact`, as what is judged and served always is.
        """
        if self.n_items <= self.max_candidates:
            return None
        if not exact and self.n_items > APPROXIMATE_ABOVE and int(self.available.sum()) >= self.max_candidates:
            return self._lists().search(state, self.max_candidates)
        return self._near(state).topk(self.max_candidates, dim=1).indices

    def allowed(self, items: Tensor | None) -> Tensor:
        """Which of the columns may be shown: (N + 1,), or (B, C) for given candidates."""
        return self.available if items is None else self.available[items]

    def scored(self, state: Tensor, *, exact: bool = False) -> tuple[Tensor, Tensor | None]:
        """Scores of the candidates, `NEVER` where one may not be shown, and which items they are (None: all)."""
        items = self.candidates(state, exact=exact)
        return self.rank(state, items).masked_fill(~self.allowed(items), NEVER), items

    def slates(self, state: Tensor, generator: torch.Generator | None = None, *, exact: bool = False) -> Tensor:
        """(B, K) int64 greedy slates; with a generator, slates drawn by Plackett-Luce on the scores."""
        scores, items = self.scored(state, exact=exact)
        columns = scores.topk(self.k, dim=1).indices if generator is None else sample_slates(scores, self.k, generator)
        return columns if items is None else items.gather(1, columns)

    def forward(self, state: Tensor) -> Tensor:
        """(B, N + 1) scores; `NEVER` for the padding and for items that are not available. Its candidates are exact."""
        if self.n_items <= self.max_candidates:
            return self.rank(state, None).masked_fill(~self.available, NEVER)
        near = self._near(state)
        items = near.topk(self.max_candidates, dim=1).indices
        return (near - _FAR).scatter(1, items, self.rank(state, items)).masked_fill(~self.available, NEVER)

    def rank(self, state: Tensor, items: Tensor | None) -> Tensor:
        """(B, N + 1) scores of all items, or (B, C) of candidates, whose top K is the best slate of what is allowed."""
        raise NotImplementedError

    def _near(self, state: Tensor) -> Tensor:
        return (state @ self.item_vectors.T).masked_fill(~self.available, NEVER)

    def _lists(self) -> InvertedLists:
        """The index of the catalogue as it is now; made at first use, and anew when the catalogue is another."""
        now = tuple((id(part), part._version) for part in (self.item_vectors, self.available))
        if self._index is None or self._index[0] != now:
            with torch.no_grad():
                self._index = (now, InvertedLists(self.item_vectors, self.available))
        return self._index[1]


class LogitScorer(SlateScorer):
    """Scores are logits of a Plackett-Luce policy."""

    kind = "plackett-luce"

    def __init__(self, dim: int, n_items: int, k: int, *, hidden: int, scale: float, max_candidates: int) -> None:
        super().__init__(dim, n_items, k, hidden=hidden, scale=scale, max_candidates=max_candidates)
        self.pair = PairScorer(dim, hidden, scale)

    def rank(self, state: Tensor, items: Tensor | None) -> Tensor:
        """(B, N + 1) logits, or (B, C) at given candidates, whatever is allowed."""
        return self.pair(state, self.item_vectors) if items is None else self.pair.at(state, self.item_vectors, items)

    def logits(self, state: Tensor, items: Tensor | None) -> Tensor:
        """(B, N + 1) logits, or (B, C) at given candidates; `NEVER` where an item is not available."""
        return self.rank(state, items).masked_fill(~self.allowed(items), NEVER)


class SlateQScorer(SlateScorer):
    """Values of items and the shopper's choice among them; scores rank by what an item adds to the slate's value.

    `Q(s, i) = Q(s, 0) + gain(s, i)` if item i is clicked, `Q(s, 0)` if nothing is; `choice(s, i)` and `outside(s)` are
    the utilities of a conditional logit with slot effects that never rise from one place to the next. Values are in
    units of `unit`, the mean size of a reward. Source: SlateQ, Ie et al., IJCAI 2019 (arXiv 1905.12767).

    With `shown_value`, every item of a slate adds `shown(s, i)` to its value, whatever is clicked.
    """

    kind = "slateq"
    unit: Tensor
    """Reward that counts as 1 inside."""

    def __init__(
        self,
        dim: int,
        n_items: int,
        k: int,
        *,
        hidden: int,
        scale: float,
        max_candidates: int,
        shown_value: bool = False,
    ) -> None:
        super().__init__(dim, n_items, k, hidden=hidden, scale=scale, max_candidates=max_candidates)
        self.choice = PairScorer(dim, hidden, scale)
        self.outside = Head(dim, hidden, start=scale / 2)
        self.gain = PairScorer(dim, hidden, scale=0.1, start=1.0)  # all clicks worth about the same at first
        self.null = Head(dim, hidden)
        self.shown = PairScorer(dim, hidden, scale=0.01) if shown_value else None
        self.drops = nn.Parameter(torch.full((k - 1,), -2.0))
        self.register_buffer("unit", torch.tensor(1.0))

    @property
    def place(self) -> Tensor:
        """(K,) log weight of each slot: 0 for the first, non-increasing."""
        return torch.cat([self.drops.new_zeros(1), -F.softplus(self.drops).cumsum(0)])

    def settings(self) -> dict[str, Any]:
        """What a constructor needs to make this scorer again, weights apart."""
        return super().settings() | {"shown_value": self.shown is not None}

    def best(self, state: Tensor, items: Tensor | None, iterations: int = ITERATIONS) -> BestSlate:
        """The best slates, as columns of `items` (or items themselves where None), and what they are worth."""
        choice = self.utilities(state, items), self._at(self.gain, state, items), self.outside(state), self.place
        if self.shown is None:
            return best_slate(*choice, self.allowed(items), iterations)
        return best_shown_slate(*choice, self.allowed(items), self._at(self.shown, state, items), iterations)

    def utilities(self, state: Tensor, items: Tensor | None) -> Tensor:
        """(B, N + 1) or (B, C) utilities of a click."""
        return self._at(self.choice, state, items)

    def showing(self, state: Tensor, slates: Tensor) -> Tensor | float:
        """(B,) what slates (B, K) add to their values by being shown; 0 without `shown_value`. Empty slots add none."""
        if self.shown is None:
            return 0.0
        return self.shown.at(state, self.item_vectors, slates).masked_fill(slates == 0, 0.0).sum(1)

    def _at(self, pair: PairScorer, state: Tensor, items: Tensor | None) -> Tensor:
        return pair(state, self.item_vectors) if items is None else pair.at(state, self.item_vectors, items)

    def rank(self, state: Tensor, items: Tensor | None) -> Tensor:
        """(B, N + 1) or (B, C) scores: the log of what an item adds to the best slate's value."""
        return ranking(self.best(state, items).worth)


SCORERS: dict[str, type[SlateScorer]] = {one.kind: one for one in (LogitScorer, SlateQScorer)}
