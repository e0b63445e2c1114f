"""Policies as unlike as a shop's could be, good and bad, to see whether a simulator tells them apart as the truth does.

Each fills slates from history observations, as the package's own policies do. Shapes: B shoppers, K slots, H tokens,
N items.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slatewise.agents import ItemKNNPolicy, MyopicPolicy, NextItemPolicy, PopularPolicy, RandomPolicy
from slatewise.datasets import ShopLog
from slatewise.datasets.schema import Event
from slatewise.encoders import StateEncoder
from slatewise.encoders.neighbours import item_counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scores = Callable[[dict[str, Ints]], Floats]
"""History -> (B, N + 1) scores, or one row for all."""


class Shelf:
    """Slates of the highest scores.

    Args:
        scores: of a history.
        k: slots.
    """

    def __init__(self, scores: Scores, k: int) -> None:
        self.scores, self.k = scores, k

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Ints, None]:
        """(B, K) slates, best place first."""
        del state, episode_start, deterministic
        history = {name: np.asarray(observation[name]) for name in ("items", "events", "lengths", "slates")}
        rows = len(history["items"])
        history["slates"] = history["slates"].reshape(rows, -1, self.k)
        found = self.scores(history)
        scores = np.broadcast_to(found, (rows, found.shape[-1])).copy()
        scores[:, 0] = -np.inf
        return np.argsort(-scores, axis=1, kind="stable")[:, : self.k].astype(np.int64), None


def shown(history: dict[str, Ints]) -> Ints:
    """(B,) slates that each shopper has seen so far."""
    return (history["slates"] > 0).any(2).sum(1)


def pages(order: Ints, k: int) -> Scores:
    """The first k items of an order on the first slate, the next k on the second, and so on; then from the start."""
    place = np.empty(len(order) + 1, np.int64)
    place[0], place[order] = -1, np.arange(len(order))

    def scores(history: dict[str, Ints]) -> Floats:
        first = shown(history)[:, None] * k
        return -((place - first) % len(order)).astype(np.float64)

    return scores


def spread_out(popularity: Floats, category: Ints) -> Scores:
    """The most popular item of each category, the categories by that; then the second of each, and so on."""
    order = np.argsort(-popularity[1:], kind="stable") + 1
    turn = np.zeros(len(popularity), np.int64)
    seen: dict[int, int] = {}
    for item in order.tolist():
        turn[item] = seen.get(int(category[item]), 0)
        seen[int(category[item])] = int(turn[item]) + 1
    return lambda _: (popularity / (popularity.max() + 1) - turn)[None]


def of_the_last_category(popularity: Floats, category: Ints) -> Scores:
    """The most popular items of the category touched last that the shopper has not been shown; then the others."""

    def scores(history: dict[str, Ints]) -> Floats:
        rows = np.arange(len(history["items"]))
        place = np.arange(history["items"].shape[1])
        touched = (place < history["lengths"].reshape(-1, 1)) & (history["events"] != Event.IMPRESSION)
        last = history["items"][rows, len(place) - 1 - touched[:, ::-1].argmax(1)] * touched.any(1)
        same = (category == category[last][:, None]) & (last > 0)[:, None]
        found = popularity / (popularity.max() + 1) + same
        np.put_along_axis(found, history["slates"].reshape(len(rows), -1), -1.0, axis=1)
        return found

    return scores


def touched_again(popularity: Floats) -> Scores:
    """What the shopper has touched, once more, the latest first; then what is popular."""

    def scores(history: dict[str, Ints]) -> Floats:
        found = np.tile(popularity / (popularity.max() + 1), (len(history["items"]), 1))
        for place in range(history["items"].shape[1]):
            item = history["items"][:, place] * (history["events"][:, place] != Event.IMPRESSION)
            found[np.arange(len(item)), item] = 1.0 + place
        return found

    return scores


def varied(log: ShopLog, encoder: StateEncoder, shopper: Any, k: int, seed: int) -> dict[str, Any]:
    """Fourteen policies that learn nothing by reinforcement, by name.

    Args:
        log: what the shop knows.
        encoder: of the observations.
        shopper: fitted, for the myopic two.
        k: slots.
        seed: of what is random.
    """
    n, available = log.catalogue.n_items, log.catalogue.available
    counts = item_counts(log.tokens, n).astype(np.float64)
    category = np.append(0, np.unique(log.catalogue.frame["category"].to_numpy(), return_inverse=True)[1] + 1)
    price = log.catalogue.prices.astype(np.float64)
    popular = np.argsort(-counts[1:], kind="stable") + 1
    hidden = np.where(available, 0.0, -np.inf)
    shelves: dict[str, Scores] = {
        "unpopular": lambda _: (hidden - counts)[None],
        "popular, best last": lambda _: (hidden + np.isin(np.arange(n + 1), popular[:k]) * (1e9 - counts))[None],
        "cheapest": lambda _: (hidden - price)[None],
        "dearest": lambda _: (hidden + price)[None],
        "popular, diverse": spread_out(counts, category),
        "popular, page by page": pages(popular, k),
        "unpopular, page by page": pages(popular[::-1].copy(), k),
        "of the last category": of_the_last_category(counts, category),
        "touched again": touched_again(counts),
    }
    return {
        "random": RandomPolicy(available, k, seed=seed),
        "popular": PopularPolicy(counts, k, available),
        "item-kNN": ItemKNNPolicy.from_tokens(log.tokens, n, k, available),
        "next item": NextItemPolicy(encoder.item_vectors, k, available),
        "myopic click": MyopicPolicy(shopper, k, "click", available),
        "myopic purchase": MyopicPolicy(shopper, k, "purchase", available),
        **{name: Shelf(scores, k) for name, scores in shelves.items()},
    }
