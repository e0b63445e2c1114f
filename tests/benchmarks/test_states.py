"""The states compared keep the promises of encoders, and their maps and bands are what they say."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from slatewise.datasets.schema import Event
from slatewise.encoders import MeanEncoder, RecallEncoder
from slatewise.evaluation.diary import Diary
from slatewise.testing import check_encoder

Load = Callable[[str], ModuleType]


@pytest.fixture
def vectors() -> torch.Tensor:
    """Thirty items."""
    table = normalize(torch.randn(31, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    table[0] = 0
    return table


def test_every_state_is_an_encoder(vectors: torch.Tensor, benchmark_module: Load) -> None:
    states = benchmark_module("state_encoders")
    for encoder in states.raw_states(MeanEncoder(vectors), seed=0).values():
        check_encoder(encoder)
        check_encoder(states.AlignedEncoder(encoder, vectors, torch.randn(encoder.dim, 16)))


def test_the_last_item_is_the_one_touched_and_not_the_one_passed_over(
    vectors: torch.Tensor, benchmark_module: Load
) -> None:
    encoder = benchmark_module("state_encoders").LastItemEncoder(vectors)
    memory, none = encoder.start(1), torch.zeros(1)
    for item, event in ((3, Event.VIEW), (7, Event.CLICK), (9, Event.IMPRESSION)):
        memory = encoder.step(memory, torch.tensor([item]), torch.tensor([int(event)]), none)
    torch.testing.assert_close(memory.state, vectors[[7]])


def test_aligned_states_rank_by_the_map_and_keep_the_state(vectors: torch.Tensor, benchmark_module: Load) -> None:
    inner, matrix = RecallEncoder(MeanEncoder(vectors)), torch.randn(88, 16)
    encoder = benchmark_module("state_encoders").AlignedEncoder(inner, vectors, matrix)
    token = torch.tensor([[5]]), torch.tensor([[int(Event.CLICK)]]), torch.zeros(1, 1), torch.tensor([1])
    state, raw = encoder.encode(*token), inner.encode(*token)
    torch.testing.assert_close(state[:, 16:] * 2**0.5, raw)
    wanted = (normalize(raw @ matrix, dim=1) @ vectors[1:].T).argsort(descending=True)
    torch.testing.assert_close(encoder.scores(state)[:, 1:].argsort(descending=True), wanted)


def test_ridge_finds_the_map_that_made_the_data(benchmark_module: Load) -> None:
    rng = torch.Generator().manual_seed(1)
    x, matrix = torch.randn(500, 4, generator=rng), torch.randn(4, 3, generator=rng)
    found = benchmark_module("state_encoders").ridge(x, x @ matrix)
    torch.testing.assert_close(found, matrix, atol=0.01, rtol=0.01)


def test_bands_count_the_slates_of_each_visit(benchmark_module: Load) -> None:
    states = benchmark_module("states")
    diary = Diary(2)
    for turn in range(10):  # shopper 1 leaves after four slates
        who = np.array([0, 1]) if turn < 4 else np.array([0])
        rows = len(who)
        diary.who.append(who)
        diary.slate.append(np.ones((rows, 1), np.int64))
        diary.examined.append(np.ones((rows, 1), bool))
        diary.clicked.append(np.zeros(rows, np.int64))
        for column in (diary.carted, diary.purchased):
            column.append(np.zeros(rows, bool))
        for column in (diary.revenue, diary.reward):
            column.append(np.full(rows, float(turn)))
    bands = states.banded(diary)
    slates = {name: np.bincount(np.concatenate(part.who), minlength=2).tolist() for name, part in bands.items()}
    assert slates == dict(zip(states.BANDS, [[3, 3], [5, 1], [2, 0]], strict=True))
    assert sum(np.concatenate(part.reward).sum() for part in bands.values()) == 45 + 6


def test_a_replay_is_filled_and_takes_what_its_arrays_say(benchmark_module: Load) -> None:
    replay = benchmark_module("scale_replay")
    decisions = 200 * replay.ROWS
    ours = replay.filled("200 candidates", 10, decisions)
    assert ours["decisions"] == decisions
    row = 4 * (64 + 201)  # the newest states that follow are kept apart, one a row of the environment
    assert ours["arrays"] == decisions * (row + 4 * 10 + 2 + 4 + 1 + 1) + replay.ROWS * row
    assert replay.stock("200 candidates", 10, decisions) > 2 * ours["arrays"]  # each state twice, candidates as int64
