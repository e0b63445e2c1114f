"""The model card: what hubs read of it, what people do, and that the snippet in it runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from slatewise.datasets.log import ShopLog
from slatewise.encoders.card import model_card
from slatewise.encoders.pretrain import PretrainConfig, pretrain

TINY = PretrainConfig(width=16, layers=1, heads=2, feed_forward=16, window=8, epochs=1)


def read(text: str) -> Any:
    """What a hub reads in a card's header."""
    return ModelCard(text).data


@pytest.fixture(scope="module")
def folder(small_log: ShopLog, item_text: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("card") / "my-encoder"
    pretrain(small_log, out, config=TINY, text=item_text)
    return out


def test_pretraining_leaves_a_card_that_hubs_can_read(folder: Path, small_log: ShopLog) -> None:
    text = (folder / "README.md").read_text()
    header = read(text)
    assert header.library_name == "transformers"
    assert "session-based-recommendation" in header.tags
    metrics = {one.metric_type: one.metric_value for one in header.eval_results}
    assert set(metrics) == {"recall@20", "mrr@20"}
    assert 0 <= metrics["mrr@20"] <= metrics["recall@20"] <= 1
    assert "| sessions learnt from | 360 |" in text
    assert "| first session | 2026-01-05 |" in text
    assert "| seed | 0 |" in text
    assert "chose when to stop and how to score and flatter it, before it learnt from them too: recall@20" in text
    assert re.search(r"\| transformers \| 5\.", text)


def test_the_snippet_in_the_card_runs(folder: Path) -> None:
    snippet = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert snippet is not None
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", snippet[1]],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(r"\['i\d+'( 'i\d+'){4}\]", run.stdout.strip())


def told(**more: Any) -> str:
    validation = {"recall@20": (0.25, 0.2, 0.3), "predictions": 90, "sessions": 40}
    facts = {"items": 3, "sessions": 12_345, "validation": validation}
    return model_card(
        "encoder", settings={"seed": 4}, facts=facts | more, inputs={"log": "abc/train(0.2)/agent"}, versions={}
    )


def test_a_card_names_the_text_model_its_licence_and_its_language() -> None:
    text = {"name": "/home/ann/models/shop-text", "base": "sentence-transformers/all-MiniLM-L6-v2"}
    card = told(text_model={**text, "license": "apache-2.0", "language": "en"})
    assert "read by shop-text, fine-tuned from sentence-transformers/all-MiniLM-L6-v2 (licence apache-2.0)" in card
    assert "which knows en" in card
    assert read(card).language == "en"
    assert "/home/ann" not in card
    assert "its licence is not known here" in told(text_model={"name": "org/model"})
    assert "Item texts were read" not in told()


def test_a_card_gives_intervals_and_puts_sessions_held_out_first() -> None:
    assert "On the latest 40 sessions" in told()
    assert "recall@20 0.250 [0.200, 0.300]" in told()
    row = {"model": "encoder", "metric": "recall@20", "value": 0.21, "low": 0.19, "high": 0.23}
    rows = [{**row, "predictions": 1_000, "sessions": 300}]
    card = model_card("encoder", settings={}, facts={"items": 9}, inputs={}, versions={}, held_out=rows)
    assert "| encoder | recall@20 | 0.210 [0.190, 0.230] | 1,000 | 300 |" in card
    result = read(card).eval_results[0]
    assert (result.metric_value, result.dataset_name) == (0.21, "sessions held out")
    assert read(model_card("e", settings={}, facts={}, inputs={}, versions={})).eval_results is None


def test_a_card_says_what_was_changed_without_training() -> None:
    card = told(items_kept=10, items_new=1_200, items_gone=3)
    assert "10 items were kept, 1,200 are new, 3 went" in card
