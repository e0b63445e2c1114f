"""How well the next item of held-out sessions is foreseen: full ranking, no sampled candidates, with intervals.

Shapes: B histories, N items, M predictions, S sessions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from ..datasets.tokens import Floats, History, Ints, Tokens
from ..errors import EvidenceError
from .neighbours import item_counts, item_similarities, neighbour_scores
from .state import StateEncoder

Scorer = Callable[[History], Floats]
"""Histories -> (B, N + 1) scores of all items; column 0 is not read."""


@dataclass(frozen=True, slots=True)
class NextItemMetrics:
    """Figures over all predictions of the held-out sessions.

    Attributes:
        recall: share of predictions whose item is among the first `k`. mrr: mean of 1 / rank, 0 beyond `k`.
        recall_interval, mrr_interval: (low, high), from resampling sessions.
        k: length of the list. predictions: how many were made. sessions: in how many sessions.
    """

    recall: float
    mrr: float
    recall_interval: tuple[float, float]
    mrr_interval: tuple[float, float]
    k: int
    predictions: int
    sessions: int


def rank_of(scores: Floats, target: Ints) -> Ints:
    """(B,) rank of the target among all items, best 1; items with an equal score stand before it."""
    rows = np.arange(len(target))
    own = scores[rows, target][:, None]
    return (scores[:, 1:] >= own).sum(1).astype(np.int64)


def next_item_ranks(scores_of: Scorer, tokens: Tokens, *, last: int = 100, batch_size: int = 256) -> tuple[Ints, Ints]:
    """Rank of every item that a shopper chose after at least one token.

    Tokens of ignored slates are read, and never foreseen: what the shop shows is no choice of the shopper's.

    Args:
        scores_of: the model.
        tokens: the held-out sessions.
        last: tokens of the history that the model is given.
        batch_size: histories a batch.

    Returns:
        (M,) ranks and (M,) session numbers.
    """
    session, place = tokens.choices()
    order = np.argsort(place, kind="stable")  # like lengths together: less padding
    session, place = session[order], place[order]
    target = tokens.items[tokens.offsets[session] + place]
    ranks = np.zeros(len(target), np.int64)
    for begin in range(0, len(target), batch_size):
        part = slice(begin, begin + batch_size)
        history = tokens.histories(session[part], upto=place[part], last=last)
        ranks[part] = rank_of(scores_of(history), target[part])
    return ranks, session.astype(np.int64)


def next_item_metrics(
    scores_of: Scorer,
    tokens: Tokens,
    *,
    k: int = 20,
    last: int = 100,
    resamples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> NextItemMetrics:
    """Recall and mean reciprocal rank among the first `k`, with intervals.

    Args:
        scores_of: the model.
        tokens: held-out sessions.
        k: length of the list that counts.
        last: tokens of the history that the model is given.
        resamples: bootstrap samples of whole sessions, for predictions within a session hang together.
        confidence: of the intervals, in (0, 1).
        seed: of the resampling.

    Raises:
        EvidenceError: no session has a choice after its first token.
    """
    ranks, session = next_item_ranks(scores_of, tokens, last=last)
    if not len(ranks):
        raise EvidenceError(f"none of {len(tokens)} held-out sessions has an item chosen after its first token")
    hit = ranks <= k
    _, group = np.unique(session, return_inverse=True)
    columns = (np.ones(len(ranks)), hit.astype(np.float64), hit / ranks)
    sums = np.stack([np.bincount(group, column).astype(np.float64) for column in columns])  # (3, S)
    drawn = _resampled(sums, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn[1:] / drawn[0], [tail, 1 - tail], axis=1)
    _, recall, mrr = sums.sum(1) / len(ranks)
    intervals = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return NextItemMetrics(float(recall), float(mrr), intervals[0], intervals[1], k, len(ranks), sums.shape[1])


def _resampled(sums: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, resamples) totals of `sums` over sessions drawn with replacement."""
    n = sums.shape[1]
    totals = [sums[:, rng.integers(0, n, n)].sum(1) for _ in range(resamples)]
    return np.stack(totals, axis=1)


def encoder_scorer(encoder: StateEncoder) -> Scorer:
    """Scores of a state encoder after whole histories."""

    def scores(history: History) -> Floats:
        device = encoder.item_vectors.device
        parts = (history.items, history.events, history.gaps, history.lengths)
        items, events, gaps, lengths = (torch.from_numpy(part).to(device) for part in parts)
        with torch.inference_mode():
            states = encoder.encode(items, events, gaps, lengths)
            return encoder.scores(states, items=items, events=events).cpu().numpy()

    return scores


def next_item_report(
    encoder: StateEncoder,
    train: ShopLog,
    test: ShopLog,
    *,
    k: int = 20,
    resamples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """An encoder beside popularity and item-kNN, all on the same predictions over the whole catalogue.

    Args:
        encoder: trained on `train`, or on the same sessions.
        train: what the rivals count on.
        test: later sessions of the same shop.
        k: length of the list that counts.
        resamples: bootstrap samples of whole sessions.
        confidence: of the intervals.
        seed: of the resampling; the same sessions are drawn for each model.

    Returns:
        One row a model and metric: `model`, `metric`, `value`, `low`, `high`, `predictions`, `sessions`.

    Raises:
        EvidenceError: `test` has nothing to foresee.
    """
    n_items = train.catalogue.n_items
    similar = item_similarities(train.tokens, n_items)
    counts = item_counts(train.tokens, n_items).astype(np.float32)
    # Where likeness is silent, popularity speaks: less than any likeness can differ by.
    fallback = (1e-6 * counts / max(float(counts.max()), 1.0)).astype(np.float32)
    scorers: dict[str, Scorer] = {
        "encoder": encoder_scorer(encoder),
        "item-kNN": lambda history: neighbour_scores(similar, history) + fallback,
        "popularity": lambda history: np.broadcast_to(counts, (len(history), n_items + 1)),
    }
    rows = []
    for name, scorer in scorers.items():
        found = next_item_metrics(scorer, test.tokens, k=k, resamples=resamples, confidence=confidence, seed=seed)
        for metric, value, (low, high) in (
            (f"recall@{k}", found.recall, found.recall_interval),
            (f"mrr@{k}", found.mrr, found.mrr_interval),
        ):
            rows.append((name, metric, value, low, high, found.predictions, found.sessions))
    return pd.DataFrame(rows, columns=["model", "metric", "value", "low", "high", "predictions", "sessions"])
