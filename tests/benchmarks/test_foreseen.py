"""What the studies of the session encoder ask, how they rank, and their intervals."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from slatewise.datasets import Event, Tokens
from slatewise.encoders import MeanEncoder

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def foreseen() -> ModuleType:
    """`benchmarks/foreseen.py`, which is a script's neighbour and no part of the package."""
    spec = importlib.util.spec_from_file_location("benchmark_foreseen", BENCHMARKS / "foreseen.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def three_sessions() -> Tokens:
    """Sessions 3 1 2, 2, and 4 1, whose middle token of the first is an ignored slate."""
    events = [Event.VIEW, Event.IMPRESSION, Event.CLICK, Event.VIEW, Event.VIEW, Event.CART]
    gaps = np.array([0, 5, 9, 0, 0, 3], np.float32)
    return Tokens(np.array([3, 1, 2, 2, 4, 1]), np.array(events, np.int64), gaps, np.array([0, 3, 4, 6]))


def test_every_choice_after_a_token_is_asked_for_and_what_the_shop_showed_is_not(foreseen: ModuleType) -> None:
    asked = foreseen.Questions.of(three_sessions())
    assert asked.token.tolist() == [2, 5]
    assert asked.session.tolist() == [0, 2]
    assert asked.item.tolist() == [2, 1]


def test_scores_before_a_question_are_those_of_the_history_up_to_it(foreseen: ModuleType) -> None:
    tokens = three_sessions()
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    encoder = MeanEncoder(vectors)
    asked = foreseen.Questions.of(tokens)
    history = tokens.histories(asked.session, upto=asked.token - tokens.offsets[asked.session])
    parts = (history.items, history.events, history.gaps, history.lengths)
    expected = encoder.scores(encoder.encode(*(torch.from_numpy(part) for part in parts))).numpy()
    scores_of = foreseen.scores_before(encoder, tokens, asked)
    assert np.allclose(scores_of(slice(0, 2)), expected, atol=1e-6)
    assert np.allclose(scores_of(slice(1, 2)), expected[1:], atol=1e-6)


def test_ranks_count_from_one_and_equals_stand_before_the_answer(foreseen: ModuleType) -> None:
    scores = np.array([[9, 1, 4, 3], [9, 2, 2, 1], [9, 0, 0, 5]], np.float32)  # column 0 is no item
    found = foreseen.ranks(lambda part: scores[part], np.array([3, 1, 3]), n_items=3)
    assert found.tolist() == [2, 2, 1]
    assert foreseen.recall(found, k=1).tolist() == [0, 0, 1]
    assert foreseen.reciprocal(found, k=2).tolist() == [0.5, 0.5, 1]


def test_intervals_resample_whole_sessions(foreseen: ModuleType) -> None:
    session, once = np.array([0, 0, 0, 1]), np.zeros(4, np.int64)
    mean, (low, high) = foreseen.mean_interval(np.array([1.0, 1.0, 1.0, 0.0]), session, once)
    assert mean == 0.75
    assert (low, high) == (0.0, 1.0)  # drawn twice: the long session, the short one, or both
    same, (low, high) = foreseen.mean_interval(np.full(4, 0.3), session, once)
    assert (same, low, high) == pytest.approx((0.3, 0.3, 0.3))
    with pytest.raises(ValueError, match="no question"):
        foreseen.mean_interval(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


def test_intervals_know_that_trainings_differ(foreseen: ModuleType) -> None:
    session, training = np.tile(np.arange(50), 2), np.repeat([0, 1], 50)
    mean, (low, high) = foreseen.mean_interval(np.repeat([0.2, 0.6], 50), session, training)
    assert mean == pytest.approx(0.4)
    assert (low, high) == pytest.approx((0.2, 0.6))
