"""Packing: every session once and whole, little padding, what comes next by hand, and the states of reading alone."""

import numpy as np
import pytest
import torch

from slatewise.datasets.tokens import Tokens
from slatewise.encoders.batches import PackedBatch, drawn_by_age, layouts, packed_batch
from slatewise.encoders.session import ShopSessionConfig, ShopSessionModel

SHOWN, VIEW, CART, BUY = 1, 2, 4, 5


def some_tokens(lengths: list[int], seed: int = 0) -> Tokens:
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    n = int(offsets[-1])
    gaps = rng.gamma(0.5, 200, n).astype(np.float32)
    gaps[offsets[:-1][np.diff(offsets) > 0]] = 0
    return Tokens(rng.integers(1, 41, n), rng.integers(1, 7, n), gaps, offsets)


def test_every_session_is_packed_once_and_nothing_overlaps() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 70, 500)
    found = layouts(lengths, pack=16, size=128, rng=rng)
    assert sorted(np.concatenate([one.sessions for one in found]).tolist()) == np.flatnonzero(lengths).tolist()
    for one in found:
        rows, width = one.shape
        assert width % 16 == 0
        assert rows * width <= 128
        used = np.zeros(one.shape, int)
        for session, row, begin in zip(one.sessions, one.row, one.begin, strict=True):
            assert begin + lengths[session] + 1 <= width
            used[row, begin : begin + lengths[session] + 1] += 1
        assert used.max() == 1


def test_little_of_a_batch_is_padding() -> None:
    rng = np.random.default_rng(0)
    lengths = np.maximum(np.round(rng.lognormal(1.38, 0.66, 5_000)), 1).astype(int)  # mean 5, 99th percentile 18
    places = sum(one.shape[0] * one.shape[1] for one in layouts(lengths, pack=32, size=512, rng=rng))
    assert (lengths + 1).sum() > 0.98 * places


def test_the_same_generator_gives_the_same_batches_and_none_the_order_of_the_sessions() -> None:
    lengths = np.random.default_rng(1).integers(1, 20, 300)

    def sessions(seed: int | None) -> list[int]:
        rng = None if seed is None else np.random.default_rng(seed)
        return [int(one) for layout in layouts(lengths, pack=32, size=256, rng=rng) for one in layout.sessions]

    assert sessions(3) == sessions(3) != sessions(4)
    assert sessions(None) == sessions(None)


def test_what_follows_a_token_is_told_within_its_session_alone() -> None:
    tokens = Tokens(
        np.array([1, 2, 3, 4, 5, 6, 7]),
        np.array([VIEW, BUY, SHOWN, VIEW, VIEW, CART, BUY]),
        np.array([0, 5, 2, 0, 0, 1, 8], np.float32),
        np.array([0, 3, 4, 7]),
    )
    (layout,) = layouts(np.minimum(tokens.lengths, 2), pack=7, size=64, rng=None)
    batch = packed_batch(tokens, layout, max_tokens=2)
    order = np.argsort(layout.row * 100 + layout.begin)
    assert layout.sessions[order].tolist() == [2, 0, 1]  # longest first; of two as long the last read
    assert batch.items.tolist() == [[0, 5, 6, 0, 1, 2, 0], [0, 4, 0, 0, 0, 0, 0]]
    assert batch.session.tolist() == [[1, 1, 1, 2, 2, 2, 0], [1, 1, 0, 0, 0, 0, 0]]
    assert batch.place.tolist() == [[0, 1, 2, 0, 1, 2, 0], [0, 1, 0, 0, 0, 0, 0]]
    assert batch.next_items.tolist() == [[5, 6, 0, 1, 2, 0, 0], [4, 0, 0, 0, 0, 0, 0]]
    assert batch.next_gaps.tolist() == [[0, 1, 0, 0, 5, 0, 0], [0] * 7]
    no, yes = False, True
    assert batch.chosen.tolist() == [[yes, yes, no, yes, yes, no, no], [yes, no, no, no, no, no, no]]
    assert batch.ends.tolist() == [[no, no, yes, no, no, yes, no], [no, yes, no, no, no, no, no]]
    # The two long sessions were cut, so that their end is not known; nor is it asked before a first token.
    assert batch.knows_end.tolist() == [[no, yes, no, no, yes, no, no], [no, yes, no, no, no, no, no]]
    assert batch.buys.tolist() == [[no, no, no, yes, yes, no, no], [no] * 7]


@pytest.fixture(scope="module")
def model() -> ShopSessionModel:
    rng = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ShopSessionConfig(width=32, window=6)
        text = rng.normal(size=(40, 16)).astype(np.float32)
        model = ShopSessionModel.for_items(config, text, np.arange(41, dtype=np.float32), np.ones(41, bool))
        for weight in model.parameters():
            weight.data.normal_(std=0.3)
    return model.eval()


@torch.no_grad()
def test_packed_sessions_have_the_states_that_they_have_alone(model: ShopSessionModel) -> None:
    tokens = some_tokens([1, 9, 3, 17, 2, 6, 30, 4, 1, 12])
    apart = tokens.histories(np.arange(len(tokens)))
    alone = model(*(torch.from_numpy(part) for part in (apart.items, apart.events, apart.gaps)))
    seen = 0
    for layout in layouts(tokens.lengths, pack=16, size=64, rng=np.random.default_rng(0)):
        batch: PackedBatch = packed_batch(tokens, layout, max_tokens=200)
        packed = model.read_packed(batch)
        for session, row, begin in zip(layout.sessions, layout.row, layout.begin, strict=True):
            length = int(tokens.lengths[session]) + 1
            for name in ("states", "event_logits", "end_logits", "purchase_logits", "gap_logits"):
                wanted, got = alone[name][session, :length], packed[name][row, begin : begin + length]
                assert torch.allclose(got, wanted, atol=1e-5), name
            seen += length
    assert seen == len(tokens.items) + len(tokens)


def test_what_was_chosen_before_and_after_a_place_is_of_its_session_alone() -> None:
    tokens = Tokens(
        np.array([1, 2, 1, 3, 4, 5, 4]),
        np.array([VIEW, BUY, VIEW, SHOWN, VIEW, CART, BUY]),
        np.zeros(7, np.float32),
        np.array([0, 4, 7]),
    )
    (layout,) = layouts(tokens.lengths, pack=9, size=64, rng=None)
    batch = packed_batch(tokens, layout, max_tokens=9)
    assert batch.items.tolist() == [[0, 1, 2, 1, 3, 0, 4, 5, 4]]
    assert batch.length.tolist() == [[4] * 5 + [3] * 4]
    source, before, after = batch.choices(torch.tensor([2, 5, 8]))
    items = batch.items.flatten()[source]
    assert [row[mask].tolist() for row, mask in zip(items, before, strict=True)] == [[1, 2], [], [4, 5, 4]]
    assert [row[mask].tolist() for row, mask in zip(items, after, strict=True)] == [[1], [4, 5, 4], []]
    assert batch.often().tolist() == [[0, 2, 1, 2, 0, 0, 2, 1, 2]]  # item 3 was shown, and not chosen


def test_recent_sessions_are_drawn_more_often_by_their_age() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([np.bincount(drawn_by_age(1_000, 0.25, rng), minlength=1_000) for _ in range(400)])
    assert (drawn.sum(1) == 1_000).all()
    often = drawn.mean(0).reshape(4, 250).mean(1)  # by quarter: each twice as often as the one before
    assert often == pytest.approx(np.array([1, 2, 4, 8]) * 4 / 15, rel=0.02)
    spread = drawn.max(0) - drawn.min(0)
    assert spread.max() <= 1  # as often as expected, rounded up or down
    assert drawn_by_age(5, None, rng).tolist() == [0, 1, 2, 3, 4]


def test_a_session_that_is_drawn_twice_is_packed_twice() -> None:
    lengths = np.array([3, 0, 2])
    found = layouts(lengths, pack=8, size=64, rng=None, sessions=np.array([0, 1, 2, 2]))
    assert sorted(np.concatenate([one.sessions for one in found]).tolist()) == [0, 2, 2]
