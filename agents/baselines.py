"""Recommenders to stand beside: nothing here is learnt by reinforcement. All share the agents' `predict`.

Shapes: B shoppers, K slots, T tokens, N items, S sessions.
"""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from ..datasets.schema import Event
from ..datasets.tokens import Floats, Ints, Tokens
from ..encoders.neighbours import item_counts
from .histories import ScoringShopper, history_of, last_touched, scores_by
from .replay import state_of
from .slate_choice import ITERATIONS, best_slate

Slates = tuple[Ints, None]


class Ranking:
    """Fills slates with the items of the highest scores. Subclasses give `scores`."""

    def __init__(self, k: int, available: ArrayLike) -> None:
        mask = np.array(available, dtype=bool)
        mask[0] = False
        if mask.sum() < k or k < 1:
            raise ValueError(
                f"{int(mask.sum())} items are available for slates of {k} slots; need at least as many, and k >= 1"
            )
        self.k, self.available, self.n_items = k, mask, len(mask) - 1

    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) scores; those of items that are not available are not read."""
        raise NotImplementedError

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Slates:
        """(B, K) int64 slates, best place first, and None; the same whether `deterministic` or not."""
        del state, episode_start, deterministic
        return top_slates(np.where(self.available, self.scores(observation), -np.inf), self.k), None


def top_slates(scores: NDArray[Any], k: int) -> Ints:
    """(B, K) columns of the K highest scores, best first; ties go to the lower column."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)


class RandomPolicy:
    """Slates drawn uniformly among the available items, without repeats."""

    def __init__(self, available: ArrayLike, k: int, seed: int = 0) -> None:
        self._ranking = Ranking(k, available)
        self.k, self.rng = k, np.random.default_rng(seed)

    def reseed(self, seed: int) -> None:
        """Draw from here on as a new policy of this seed would."""
        self.rng = np.random.default_rng(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Slates:
        """(B, K) int64 slates, drawn anew at each call, and None."""
        del state, episode_start, deterministic
        noise = self.rng.random((len(state_of(observation)), self._ranking.n_items + 1))
        return top_slates(np.where(self._ranking.available, noise, -np.inf), self.k), None


class PopularPolicy(Ranking):
    """The items most often touched in the log; with `categories`, those of the category touched last come first.

    Args:
        counts: (N + 1,) how often each item was touched.
        k: slots.
        available: (N + 1,) bool; all by default.
        categories: (N + 1,) category numbers; then observations must be those of "history".
    """

    def __init__(
        self, counts: ArrayLike, k: int, available: ArrayLike | None = None, categories: ArrayLike | None = None
    ) -> None:
        self.counts = np.asarray(counts, dtype=np.float64)
        super().__init__(k, np.ones(len(self.counts)) if available is None else available)
        self.categories = None if categories is None else np.asarray(categories)

    @classmethod
    def from_tokens(
        cls,
        tokens: Tokens,
        n_items: int,
        k: int,
        available: ArrayLike | None = None,
        categories: ArrayLike | None = None,
    ) -> "PopularPolicy":
        """By what shoppers touched in training sessions; slates shown and left do not count."""
        return cls(item_counts(tokens, n_items), k, available, categories)

    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) counts, raised above all others in the category touched last."""
        score = np.tile(self.counts, (len(state_of(observation)), 1))
        if self.categories is not None:
            item = last_touched(observation)
            same = (self.categories == self.categories[item][:, None]) & (item > 0)[:, None]
            score += same * (self.counts.max() + 1)
        return score.astype(np.float32)


class ItemKNNPolicy(Ranking):
    """Items that sessions of the log hold together with what this shopper touched, the latest counting most.

    Args:
        similarity: (N + 1, N + 1) sparse; row i: how close other items are to item i.
        counts: (N + 1,) popularity; ranks what the neighbours leave equal.
        k: slots.
        available: (N + 1,) bool; all by default.
        decay: what a token keeps of its weight when the next one comes, in (0, 1].

    Source: item-based collaborative filtering, Sarwar et al., WWW 2001; decayed by recency as in Ludewig and Jannach,
    "Evaluation of session-based recommendation algorithms", 2018.
    """

    def __init__(
        self,
        similarity: sparse.csr_matrix,
        counts: ArrayLike,
        k: int,
        available: ArrayLike | None = None,
        *,
        decay: float = 0.8,
    ) -> None:
        if not 0 < decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {decay}")
        counts = np.asarray(counts, dtype=np.float64)
        super().__init__(k, np.ones(len(counts)) if available is None else available)
        self.similarity, self.decay = similarity, decay
        self.popularity = 1e-6 * counts / max(counts.max(), 1.0)

    @classmethod
    def from_tokens(
        cls,
        tokens: Tokens,
        n_items: int,
        k: int,
        available: ArrayLike | None = None,
        *,
        neighbours: int = 100,
        shrink: float = 5.0,
        decay: float = 0.8,
    ) -> "ItemKNNPolicy":
        """From training sessions; see `item_similarity`."""
        similarity = item_similarity(tokens, n_items, neighbours=neighbours, shrink=shrink)
        return cls(similarity, item_counts(tokens, n_items), k, available, decay=decay)

    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) decayed sums of similarities to the items touched, and a trace of popularity."""
        history = history_of(observation)
        items, events, lengths = history["items"], history["events"], history["lengths"]
        back = lengths[:, None] - 1 - np.arange(items.shape[1])
        weight = np.where((back >= 0) & (events != Event.IMPRESSION), self.decay ** np.maximum(back, 0), 0.0)
        row = np.repeat(np.arange(len(items)), items.shape[1])
        touched = sparse.csr_matrix((weight.ravel(), (row, items.ravel())), shape=(len(items), self.n_items + 1))
        near = sparse.csr_matrix(touched @ self.similarity)
        return (near.toarray() + self.popularity).astype(np.float32)


def item_similarity(tokens: Tokens, n_items: int, *, neighbours: int = 100, shrink: float = 5.0) -> sparse.csr_matrix:
    """Cosine of items over the sessions that touched them, shrunk where sessions are few.

    Args:
        tokens: training sessions.
        n_items: N.
        neighbours: how many neighbours to keep of each item.
        shrink: added to the denominator, in sessions, so that rare pairs weigh little.

    Returns:
        (N + 1, N + 1) sparse, entries in [0, 1), diagonal 0.
    """
    session = np.repeat(np.arange(len(tokens)), tokens.lengths)
    kept = (tokens.events != Event.IMPRESSION) & (tokens.items > 0)
    shape = (len(tokens), n_items + 1)
    seen = sparse.csr_matrix((np.ones(int(kept.sum()), np.float32), (session[kept], tokens.items[kept])), shape=shape)
    seen.data[:] = 1.0  # touched twice in a session counts once
    together = sparse.csr_matrix(seen.T @ seen)
    sessions = together.diagonal()
    pairs = together.tocoo()
    near = pairs.data / (np.sqrt(sessions[pairs.row] * sessions[pairs.col]) + shrink) * (pairs.row != pairs.col)
    order = np.lexsort((-near, pairs.row))
    first = np.searchsorted(pairs.row[order], np.arange(n_items + 2))
    rank = np.arange(len(order)) - first[pairs.row[order]]
    best = order[(rank < neighbours) & (near[order] > 0)]
    return sparse.csr_matrix((near[best], (pairs.row[best], pairs.col[best])), shape=(n_items + 1, n_items + 1))


class VectorRanking(Ranking):
    """What all rankings by item vectors hold.

    Args:
        item_vectors: (N + 1, D) by dense index.
        k: slots.
        available: (N + 1,) bool; all by default.
        counts: (N + 1,) popularity, which ranks items for a shopper without history; by item number without it.
    """

    def __init__(
        self,
        item_vectors: ArrayLike | torch.Tensor,
        k: int,
        available: ArrayLike | None = None,
        counts: ArrayLike | None = None,
    ) -> None:
        self.item_vectors = torch.as_tensor(item_vectors, dtype=torch.float32).detach().cpu().numpy()
        super().__init__(k, np.ones(len(self.item_vectors)) if available is None else available)
        counts = np.zeros(len(self.item_vectors)) if counts is None else np.asarray(counts, dtype=np.float64)
        self.popularity = (1e-6 * counts / max(counts.max(), 1.0)).astype(np.float32)


class NextItemPolicy(VectorRanking):
    """The encoder's own ranking, `state . item vector`: what the shopper is expected to touch next.

    Arguments as of `VectorRanking`; a shopper without history has the state zero.
    """

    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) dot products."""
        return np.asarray(state_of(observation), np.float32) @ self.item_vectors.T + self.popularity


class MyopicPolicy:
    """The slate of largest expected value right now, by a fitted shopper's choice model and funnel; no look ahead.

    Reads the "history" observation, and of the slates in it what was shown before. For clicks the items of highest
    utility are the best slate, the best of them in the slot that is looked at most; for purchases and revenue the best
    slate is found by `slate_choice.best_slate`: exactly, where every slot is looked at; otherwise with the chance that
    a slot is looked at as its weight. Shoppers who do not compare (cascade, dbn) are taken to: where slates are seldom
    clicked, that makes little difference.

    Args:
        shopper: whose `choice_scores` are trusted.
        k: slots.
        value: what counts: a click, a purchase, or the price paid for all that is bought.
        available: (N + 1,) bool; all by default.
    """

    def __init__(
        self,
        shopper: ScoringShopper,
        k: int,
        value: Literal["click", "purchase", "revenue"] = "click",
        available: ArrayLike | None = None,
    ) -> None:
        if value not in ("click", "purchase", "revenue"):
            raise ValueError(f"value must be 'click', 'purchase' or 'revenue', got {value!r}")
        ranking = Ranking(k, np.ones(shopper.n_items + 1) if available is None else available)
        self.k, self.shopper, self.value = k, shopper, value
        self.available = torch.from_numpy(ranking.available).to(shopper.device)
        looked, self._slots = shopper.looked(k).sort(descending=True, stable=True)
        self._place = torch.log(looked.clamp(min=1e-6))

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Slates:
        """(B, K) int64 slates, best place first, and None; the same whether `deterministic` or not."""
        del state, episode_start, deterministic
        scores = scores_by(self.shopper, observation)
        if self.value == "click":
            slates = scores.utility.masked_fill(~self.available, -torch.inf).topk(self.k, dim=1).indices
        else:
            gain = scores.purchase_chance * (self.shopper.prices * scores.quantity if self.value == "revenue" else 1.0)
            utility = scores.utility.nan_to_num(neginf=-1e4)
            slates = best_slate(utility, gain, scores.outside, self._place, self.available, ITERATIONS).slate
        return slates[:, self._slots.argsort()].cpu().numpy(), None
