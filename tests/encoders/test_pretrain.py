"""Pretraining: it learns a known pattern, and a killed run ends where an uninterrupted one does."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from slatewise.datasets.artefact import read_config
from slatewise.datasets.log import ShopLog
from slatewise.encoders.loading import load_encoder
from slatewise.encoders.next_item import encoder_scorer, next_item_metrics
from slatewise.encoders.pretrain import PretrainConfig, pretrain
from slatewise.encoders.quiet import quiet_transformers
from slatewise.encoders.session import ShopSessionModel
from slatewise.encoders.settings import passes_for, temperature_for
from slatewise.errors import ArtefactError, EvidenceError, NotTrainedError

TINY = PretrainConfig(width=16, layers=1, heads=2, feed_forward=16, window=8, epochs=3, batch_tokens=192)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same_weights(a: ShopSessionModel, b: ShopSessionModel) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Killed(BaseException):
    pass


def test_pretraining_learns_the_walk_through_a_ring_and_says_so(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    train, test = small_log.split_at(0.8)
    config = PretrainConfig(width=32, epochs=40, patience=10, batch_tokens=192, dropout=0.1, learning_rate=5e-3)
    said: list[tuple[int, int, str]] = []
    encoder = pretrain(train, tmp_path / "encoder", config=config, text=item_text, progress=lambda *s: said.append(s))
    assert not encoder.training
    found = next_item_metrics(encoder_scorer(encoder), test.tokens, k=1)
    assert found.recall > 0.6  # the best possible is 0.9; always naming the most popular item gives under 0.1
    assert said[-1][0] <= said[-1][1]
    history = test.tokens.histories(np.flatnonzero(test.tokens.lengths == 4))
    with torch.no_grad():
        told = encoder(*(torch.from_numpy(part) for part in (history.items, history.events, history.gaps)))
    until = told.gap_logits[:, 1:4].argmax(-1)  # a step takes 20 seconds: at least 2 ** 4, not 2 ** 5
    assert (until == 5).float().mean() > 0.9
    facts = read_config(tmp_path / "encoder", "encoder")["slatewise_artefact"]["facts"]
    assert facts["sessions"] + facts["validation_sessions"] == len(train)
    assert facts["validation_loss"] < np.log(24) * 0.7
    assert facts["items_seen"] == 24
    names = ["README.md", "catalogue.parquet", "config.json", "model.safetensors"]
    assert sorted(one.name for one in (tmp_path / "encoder").iterdir()) == names
    with quiet_transformers():
        auto = AutoModel.from_pretrained(tmp_path / "encoder")
    assert same_weights(auto, encoder)
    assert same_weights(load_encoder(tmp_path / "encoder"), encoder)
    assert encoder.config.item_temperature == temperature_for(24) == 0.1
    assert encoder.config.trained


def test_scores_are_set_right_by_the_sessions_held_out(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    config = replace(TINY, epochs=4)
    fitted = pretrain(small_log, tmp_path / "fitted", config=config, text=item_text)
    plain = pretrain(small_log, tmp_path / "plain", config=replace(config, calibrate=False), text=item_text)
    assert torch.equal(fitted.item_vectors, plain.item_vectors)  # nothing else depends on it
    assert plain.calibration.sharpness == 1
    assert not plain.calibration.back.any()
    assert not plain.calibration.items.any()
    assert fitted.calibration.sharpness != 1
    latest = small_log.tokens.part(np.arange(len(small_log) - 40, len(small_log)))
    place = latest.lengths - 1
    history = latest.histories(np.arange(40), upto=place)
    parts = (history.items, history.events, history.gaps, history.lengths)
    items, events, gaps, lengths = (torch.from_numpy(part) for part in parts)
    targets = torch.from_numpy(latest.items[latest.offsets[:-1] + place])
    losses = [
        F.cross_entropy(
            encoder.scores(encoder.encode(items, events, gaps, lengths), items=items, events=events), targets
        )
        for encoder in (fitted, plain)
    ]
    assert losses[0] < losses[1]


def test_of_two_items_never_seen_each_lies_nearer_the_items_that_it_reads_like(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    config = PretrainConfig(width=32, epochs=10, batch_tokens=192, learning_rate=5e-3)
    vectors = pretrain(small_log, tmp_path / "encoder", config=config, text=item_text).item_vectors
    near_first, near_last = (group @ (vectors[25] - vectors[26]) for group in (vectors[1:7], vectors[19:25]))
    assert near_first.mean() > 0.2
    assert near_last.mean() < -0.2


def test_the_same_seed_gives_the_same_weights_and_a_killed_run_goes_on(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    whole = pretrain(small_log, tmp_path / "whole", config=TINY, text=item_text)

    def kill(done: int, total: int, words: str) -> None:
        if done > total // 2:
            raise Killed

    state = torch.random.get_rng_state()
    with pytest.raises(Killed):
        pretrain(small_log, tmp_path / "killed", config=TINY, text=item_text, progress=kill)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is left alone
    with pytest.raises(NotTrainedError, match="did not finish"):
        load_encoder(tmp_path / "killed")
    for load in (load_encoder, ShopSessionModel.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(NotTrainedError, match="is not trained"):
            load(tmp_path / "killed.partial")
    saved = json.loads((tmp_path / "killed.partial" / "checkpoints" / "progress.json").read_text())
    assert len(saved["epochs"]) == 1
    torch.manual_seed(123)  # what else happens in the process does not matter
    resumed = pretrain(small_log, tmp_path / "killed", config=TINY, text=item_text)
    assert same_weights(whole, resumed)
    first, second = (read_config(tmp_path / name, "encoder")["slatewise_artefact"] for name in ("whole", "killed"))
    assert first["id"] == second["id"]
    for facts in (first["facts"], second["facts"]):
        del facts["seconds"], facts["cpu_seconds"]
    assert first["facts"] == second["facts"]


def test_a_catalogue_too_large_for_the_full_softmax_is_sampled(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    train, test = small_log.split_at(0.8)
    config = PretrainConfig(
        width=32,
        epochs=12,
        patience=12,
        batch_tokens=192,
        learning_rate=1e-2,
        full_softmax_up_to=5,
        negatives=8,
        rival_dropout=0.0,
    )
    encoder = pretrain(train, tmp_path / "encoder", config=config, text=item_text)
    assert next_item_metrics(encoder_scorer(encoder), test.tokens, k=1).recall > 0.5


def test_a_finished_encoder_is_read_back_and_not_overwritten_unasked(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    first = pretrain(small_log, tmp_path / "encoder", config=TINY, text=item_text)
    steps: list[tuple[int, int, str]] = []
    again = pretrain(small_log, tmp_path / "encoder", config=TINY, text=item_text, progress=lambda *s: steps.append(s))
    assert not steps
    assert same_weights(first, again)
    other = replace(TINY, seed=1)
    with pytest.raises(ArtefactError, match="seed=0, now 1"):
        pretrain(small_log, tmp_path / "encoder", config=other, text=item_text)
    fresh = pretrain(small_log, tmp_path / "encoder", config=other, text=item_text, force=True)
    assert not same_weights(first, fresh)


def test_items_without_any_text_learn_from_their_sessions_alone(small_log: ShopLog, tmp_path: Path) -> None:
    train, test = small_log.split_at(0.8)
    config = PretrainConfig(width=32, epochs=12, patience=12, batch_tokens=192, learning_rate=1e-2, dropout=0.1)
    encoder = pretrain(train, tmp_path / "encoder", config=config, text=np.zeros((26, 0), np.float32))
    assert next_item_metrics(encoder_scorer(encoder), test.tokens, k=1).recall > 0.5


def test_a_log_too_small_and_settings_out_of_range_are_refused(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(EvidenceError, match="20 sessions"):
        pretrain(small_log.part(np.arange(5)), tmp_path / "encoder", text=item_text)
    with pytest.raises(ValueError, match="multiple of heads"):
        PretrainConfig(width=30, heads=4)
    with pytest.raises(ValueError, match="dropout"):
        PretrainConfig(dropout=1.0)
    assert not (tmp_path / "encoder.partial").exists()


def test_many_items_are_told_apart_at_a_colder_temperature() -> None:
    assert temperature_for(43_027) == pytest.approx(1 / (2**0.5 * np.log(43_026)))
    assert temperature_for(1) == temperature_for(500) == 0.1
    assert PretrainConfig(temperature=0.05).model(n_seen=9).item_temperature == 0.05
    with pytest.raises(ValueError, match="must be positive"):
        PretrainConfig(temperature=0.0)


def test_a_large_log_is_passed_over_less_often() -> None:
    assert [passes_for(tokens) for tokens in (0, 250_000, 500_000, 10**6)] == [12, 12, 10, 5]


def test_a_shop_of_many_items_has_wider_states_unless_told_otherwise() -> None:
    assert PretrainConfig().model(n_seen=2_000).width == 64
    wide = PretrainConfig().model(n_seen=5_001)
    assert (wide.width, wide.feed_forward) == (128, 256)
    told = PretrainConfig(width=32, feed_forward=48).model(n_seen=5_001)
    assert (told.width, told.feed_forward) == (32, 48)
    wrong: list[dict[str, Any]] = [{"half_life": 0.0}, {"refresh": 1.5}, {"first_weight": -0.1}, {"id_rate": 0.0}]
    for one in wrong:
        with pytest.raises(ValueError, match=next(iter(one))):
            PretrainConfig(**one)
