import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slatewise.datasets.artefact import read_config
from slatewise.datasets.log import ShopLog
from slatewise.encoders.budget import Budget
from slatewise.encoders.pretrain import PretrainConfig, pretrain


def _work(seconds: float) -> None:
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass


def test_without_a_limit_all_steps_are_taken():
    budget = Budget(1_000, None)
    for _ in range(100):
        budget.step_taken()
    assert budget.steps == 1_000
    assert not budget.over


def test_the_first_steps_tell_how_many_fit():
    budget = Budget(1_000_000, seconds=3.0)
    for _ in range(30):
        _work(0.002)
        budget.step_taken()
    # 85 % of 3 seconds at 2 milliseconds a step, or a little more
    assert 300 <= budget.steps <= 3.0 * 0.85 / 0.002
    assert not budget.over


def test_a_run_that_is_resumed_remembers_what_it_spent_and_how_many_steps_it_planned():
    budget = Budget(70, seconds=100.0, spent=99.0)
    for _ in range(60):
        budget.step_taken()
    assert budget.steps == 70
    assert budget.over


def test_training_ends_within_its_limit_and_gives_a_trained_encoder(
    small_log: ShopLog, item_text: np.ndarray, tmp_path: Path
) -> None:
    config = PretrainConfig(width=16, layers=1, heads=2, feed_forward=16, epochs=10_000, patience=10_000, cpu_seconds=4)
    encoder = pretrain(small_log, tmp_path / "encoder", config=config, text=item_text)
    facts = read_config(tmp_path / "encoder", "encoder")["slatewise_artefact"]["facts"]
    assert encoder.config.trained
    assert facts["cpu_seconds"] <= 4.5
    assert 1 <= facts["epochs"] < 10_000
    with pytest.raises(ValueError, match="cpu_seconds must be positive"):
        replace(config, cpu_seconds=0)
