"""Next-item figures and the rivals' arithmetic, on numbers worked out by hand."""

import numpy as np
import pytest

from slatewise.datasets.log import ShopLog
from slatewise.datasets.tokens import History, Tokens
from slatewise.encoders import MeanEncoder
from slatewise.encoders.neighbours import item_counts, item_similarities, neighbour_scores
from slatewise.encoders.next_item import next_item_metrics, next_item_ranks, next_item_report, rank_of
from slatewise.errors import EvidenceError

VIEW, IMPRESSION = 2, 1


def tokens_of(*sessions: list[int], ignored: tuple[int, ...] = ()) -> Tokens:
    items = np.array([item for session in sessions for item in session], dtype=np.int64)
    events = np.where(np.isin(np.arange(len(items)), ignored), IMPRESSION, VIEW).astype(np.int64)
    offsets = np.cumsum([0, *(len(session) for session in sessions)]).astype(np.int64)
    return Tokens(items, events, np.zeros(len(items), np.float32), offsets)


def test_items_are_alike_when_they_share_sessions_for_their_number() -> None:
    similar = item_similarities(tokens_of([1, 2, 2], [1, 2], [1, 3]), 4, damping=2.0).toarray()
    assert similar[1, 2] == pytest.approx(2 / (np.sqrt(3 * 2) + 2))
    assert similar[1, 3] == pytest.approx(1 / (np.sqrt(3 * 1) + 2))
    assert similar[2, 3] == 0
    assert not similar.diagonal().any()
    assert np.array_equal(similar, similar.T)
    nearest = item_similarities(tokens_of([1, 2], [1, 2], [1, 3]), 4, neighbours=1, damping=0.0)
    assert nearest[[1], :].indices.tolist() == [2]


def test_ignored_slates_are_no_choice() -> None:
    tokens = tokens_of([1, 2, 3], ignored=(1,))
    similar = item_similarities(tokens, 3, damping=0.0).toarray()
    assert similar[1, 3] == pytest.approx(1.0)
    assert not similar[2].any()
    assert item_counts(tokens, 3).tolist() == [0, 1, 0, 1]
    _, session = next_item_ranks(lambda h: np.zeros((len(h), 4), np.float32), tokens)
    assert len(session) == 1  # item 3 alone is foreseen


def test_recent_items_weigh_more_in_the_neighbours_scores() -> None:
    similar = item_similarities(tokens_of([1, 2], [3, 4]), 4, damping=0.0)
    history = History(np.array([[1, 3]]), np.array([[VIEW, VIEW]]), np.zeros((1, 2), np.float32), np.array([2]))
    assert neighbour_scores(similar, history, decay=0.5)[0].tolist() == [0, 0, 0.5, 0, 1]


def test_ranks_count_equal_scores_against_the_target() -> None:
    scores = np.array([[9, 1, 3, 2, 3], [9, 0, 0, 0, 0]], dtype=np.float32)
    assert rank_of(scores, np.array([3, 2])).tolist() == [3, 4]


def test_metrics_by_hand_and_their_intervals_hold_them() -> None:
    tokens = tokens_of([1, 2], [1, 3, 2], [4])
    by_index = np.array([0, 1, 4, 3, 2], dtype=np.float32)  # item 2 ranks first, then 3, 4, 1

    found = next_item_metrics(lambda h: np.tile(by_index, (len(h), 1)), tokens, k=1)
    assert (found.recall, found.mrr) == pytest.approx((2 / 3, 2 / 3))
    found = next_item_metrics(lambda h: np.tile(by_index, (len(h), 1)), tokens, k=2)
    assert (found.recall, found.mrr) == pytest.approx((1.0, (1 + 0.5 + 1) / 3))
    assert found.mrr_interval[0] <= found.mrr <= found.mrr_interval[1]
    assert (found.predictions, found.sessions) == (3, 2)
    with pytest.raises(EvidenceError, match="after its first"):
        next_item_metrics(lambda h: np.zeros((len(h), 5), np.float32), tokens_of([1], [2]))


def test_intervals_cover_a_known_rate_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sessions = [[1, *rng.choice([2, 3], size=rng.integers(1, 6), p=[0.3, 0.7]).tolist()] for _ in range(80)]
        only_two = np.array([0, 0, 1, 0], dtype=np.float32)
        found = next_item_metrics(
            lambda h, s=only_two: np.tile(s, (len(h), 1)), tokens_of(*sessions), k=1, resamples=300
        )
        low, high = found.recall_interval
        covered += low <= 0.3 <= high
    assert covered >= 51  # 95 % of 60 is 57; fewer than 51 would happen once in a hundred


def test_the_report_sets_the_encoder_beside_its_rivals(small_log: ShopLog) -> None:
    train, test = small_log.split_at(0.8)
    report = next_item_report(MeanEncoder.from_catalogue(small_log.catalogue), train, test, k=5, resamples=50)
    assert report["model"].unique().tolist() == ["encoder", "item-kNN", "popularity"]
    assert (report["low"] <= report["value"]).all()
    assert (report["value"] <= report["high"]).all()
    assert report["predictions"].nunique() == 1
    recall = report[report["metric"] == "recall@5"].set_index("model")["value"]
    assert recall["item-kNN"] > recall["popularity"] + 0.3  # shoppers stay within a group of six items
