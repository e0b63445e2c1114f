"""What SARDINE tells of a shopper, as a state for our agents: a taste and a freshness of topics.

Shapes: B rows, K slots, N items, T topics, D width of the state.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from slatewise.envs.spaces import SlateSpace

from .world_process import Arrays

SEEN = 0.85
"""How much less sure it is of each slot than of the one above that it was looked at: SARDINE's published setting where
the best of many are shown."""
RERANKED = 0.7
"""The same where all that there is is put in order."""
REST = 5
"""Slates without news after a topic has filled up: likewise."""
K = 10


class SardineReader:
    """States of what SARDINE observes, and nothing else: slates, clicks, and "hist", the fill of topics.

    The taste is a ridge regression of clicks on item vectors, one a shopper, over all slates so far, as a linear
    bandit's belief; slots further down count less where they were not clicked, and slates do not count while nobody
    clicks because a topic has filled up.

    Args:
        rows: B.
        vectors: (N, T) of items, as SARDINE hands them to its agents (`sardine.wrappers.TopK`).
        ridge: weight of the prior, a taste of zero.
        ranked: items that an agent ranks for a slate.
        most: items of one topic on a slate at most, a rule that the shop keeps when it fills the slate down an agent's
            ranking; None for no rule, and then `ranked` is K.
        all_clicks: whether agents are told all clicks of a slate, or the topmost alone.
        seen: how much less sure it is of each slot than of the one above that it was looked at.

    Attributes:
        item_vectors: (N + 1, D) for our agents: an item's vector, and which topic is its largest.
    """

    def __init__(
        self,
        rows: int,
        vectors: NDArray[np.float32],
        *,
        ridge: float = 1.0,
        ranked: int = K,
        most: int | None = None,
        all_clicks: bool = True,
        seen: float = SEEN,
    ) -> None:
        n_items, self._topics = vectors.shape
        self._ridge, self._vectors = ridge, vectors.astype(np.float64)
        dim = 2 * self._topics + 4
        self.item_vectors = np.zeros((n_items + 1, dim), np.float32)
        self.item_vectors[1:, : self._topics] = vectors
        self.item_vectors[1:, self._topics : 2 * self._topics] = np.eye(self._topics)[vectors.argmax(1)]
        self._topic, self._most, self._all_clicks = np.append(0, vectors.argmax(1)), most, all_clicks
        self._filled = np.zeros((rows, K), np.int64)
        self._seen = seen ** np.arange(K)
        self._known = np.zeros((rows, self._topics, self._topics))
        self._liked = np.zeros((rows, self._topics))
        self._fill = np.zeros((rows, self._topics))
        self._rest, self._slates, self._got = np.zeros(rows), np.zeros(rows), np.zeros(rows)
        self.observation_space = spaces.Box(-1.0, 1.0, (dim,), np.float32)
        self.action_space = SlateSpace(n_items, ranked)

    def begin(self, told: Arrays, rows: NDArray[np.bool_]) -> None:
        """Forget these rows' shoppers, and read the first slate of the new ones."""
        self._known[rows], self._liked[rows] = self._ridge * np.eye(self._topics), 0.0
        self._rest[rows], self._slates[rows] = 0.0, 0.0
        self._read(told, rows)

    def read(self, told: Arrays) -> None:
        """Read a slate in all rows."""
        self._read(told, np.ones(len(self._rest), bool))

    def _read(self, told: Arrays, rows: NDArray[np.bool_]) -> None:
        shown, hit = self._vectors[told["slate"][rows]], told["clicks"][rows] > 0
        weight = np.where(hit, 1.0, self._seen) * (self._rest[rows] == 0)[:, None]
        self._known[rows] += (weight[..., None] * shown).transpose(0, 2, 1) @ shown
        self._liked[rows] += np.einsum("bk,bkt->bt", weight * hit, shown)
        self._fill[rows] = told["hist"][rows]
        full = (told["hist"][rows] >= 1).any(1)
        rest = np.maximum(self._rest[rows] - 1, 0)
        self._rest[rows] = np.where((rest == 0) & full, REST, rest)
        self._slates[rows] += 1
        self._got[rows] = hit.mean(1)

    def observe(self) -> NDArray[np.float32]:
        """(B, D) direction of the taste, minus the fill of topics, its length, rest, last clicks and slates so far."""
        taste = np.linalg.solve(self._known, self._liked[..., None])[..., 0]
        length = np.linalg.norm(taste, axis=1, keepdims=True)
        others = np.stack([length[:, 0] / 2, self._rest / REST, self._got, np.exp(-self._slates / 5)], 1)
        parts = [taste / np.maximum(length, 1e-9), -self._fill, others.clip(-1, 1)]
        return np.concatenate(parts, 1).astype(np.float32)

    def infos(self, told: Arrays) -> list[dict[str, Any]]:
        """Every place of the ranking that was clicked, and the topmost of them."""
        clicks = np.zeros((len(self._filled), self.action_space.k), bool)
        np.put_along_axis(clicks, self._filled, told["clicks"] > 0, 1)
        told_first = [{"clicked": int(row.argmax()) if row.any() else -1} for row in clicks]
        if not self._all_clicks:
            return told_first
        return [first | {"clicks": row} for first, row in zip(told_first, clicks, strict=True)]

    def to_world(self, slates: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, K) the first of a ranking that keep the rule, then others; SARDINE counts items from 0."""
        self._filled = first_by_rule(self._topic[slates], self._most)
        return np.take_along_axis(slates, self._filled, 1) - 1


def first_by_rule(topics: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    """(B, K) places of rankings that fill a slate, in order: those that keep the rule first.

    Args:
        topics: (B, R) of the items ranked, R at least K.
        most: of one topic; None for no rule.
    """
    if most is None:
        return np.tile(np.arange(K), (len(topics), 1))
    above = np.tril(topics[:, :, None] == topics[:, None, :], -1).sum(2)  # (B, R) items above it of the same topic
    return np.argsort(above >= most, axis=1, kind="stable")[:, :K]
