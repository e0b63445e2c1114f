"""`pretrain` and `grow`: every setting reachable, figures written, what transfers, and clear words where it cannot."""

import csv
import json
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer

from slatewise.cli.commands import app
from slatewise.datasets.artefact import read_config
from slatewise.datasets.catalogue import Catalogue
from slatewise.encoders import load_encoder
from slatewise.encoders.lora import FineTuneConfig
from slatewise.encoders.settings import PretrainConfig, passes_for, width_for
from slatewise.encoders.transfer import items_of

SMALL = ["--epochs", 1, "--width", 16, "--layers", 1, "--heads", 2, "--quiet", "--json"]


def record(folder: Path, kind: str = "encoder") -> dict[str, Any]:
    return read_config(folder, kind)["slatewise_artefact"]


def test_the_defaults_that_help_shows_are_those_of_the_settings() -> None:
    commands: Any = typer.main.get_command(app)
    shown = {one.name: one.show_default for one in commands.commands["pretrain"].params}
    named = [one for one in fields(PretrainConfig) if one.name in shown]
    assert len(named) >= 10
    for one in named:
        default: Any = one.default
        told = ",".join(default) if isinstance(default, tuple) else str(default)
        if one.name == "width":
            told = f"{width_for(2_000)}, or {width_for(2_001)} beyond 2,000 items"
        if one.name == "epochs":
            told = f"{passes_for(1)}, or {passes_for(10**7)} in a large log"
        assert shown[one.name] == told, one.name
    assert shown["lora_steps"] == str(FineTuneConfig().steps)


def test_help_is_grouped_and_shows_how_to_transfer(command: Callable[..., Any]) -> None:
    said = command("pretrain", "--help").stdout
    titles = ["What it learns from", "What it is made of", "How it is trained", "What it begins with", "Where figures"]
    places = [said.index(title) for title in titles]
    assert places == sorted(places)
    assert "--warm-start work/encoder" in said


def test_settings_come_from_options_then_a_file_or_an_encoder(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"width": 24, "temperature": 0.2, "parts": ["text", "event"]}))
    words = ["pretrain", loop / "log", "--config", tmp_path / "settings.json", *SMALL]
    assert command(*words, "--out", tmp_path / "first").code == 0
    found = record(tmp_path / "first")["settings"]
    assert (found["width"], found["temperature"], found["parts"]) == (16, 0.2, ["text", "event"])
    again = ["pretrain", loop / "log", "--config", tmp_path / "first", "--quiet", "--json"]
    assert command(*again, "--out", tmp_path / "second").code == 0
    assert record(tmp_path / "second")["settings"] == found
    assert "recall@20" in (tmp_path / "first" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--parts", "text,colour"], "parts are some of text, id"),
        (["--log-to", "csv,xml"], "figures cannot be written as 'xml'; choose from csv, json, tensorboard"),
        (["--config", "SETTINGS"], "sets 'depth'; there are width, layers"),
        (["--config", "NOTES"], "holds no settings"),
        (["--lora-steps", 5], "--lora-steps is for --lora"),
    ],
)
def test_what_no_pretraining_takes_is_wrong_usage(
    loop: Any, command: Callable[..., Any], tmp_path: Path, words: list[object], says: str
) -> None:
    (tmp_path / "SETTINGS").write_text('{"depth": 3}')
    (tmp_path / "NOTES").write_text("width 3")
    words = [tmp_path / str(word) if str(word).isupper() else word for word in words]
    answer = command("pretrain", loop / "log", *words, *SMALL, "--out", tmp_path / "new")
    assert (answer.code, answer.error, answer.json["error"]) == (2, None, "UsageError")
    assert says in answer.json["message"]
    assert not list(tmp_path.glob("new*"))


def test_figures_are_kept_with_the_encoder(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    answer = command("pretrain", loop / "log", *SMALL, "--log-to", "csv,json", "--out", tmp_path / "new")
    assert answer.code == 0, answer.stdout
    with (tmp_path / "new" / "logs" / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(float(row["step"]) > 0 for row in rows)


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="TensorBoard is installed")
def test_without_tensorboard_the_extra_is_named(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    answer = command("pretrain", loop / "log", *SMALL, "--log-to", "tensorboard", "--out", tmp_path / "new")
    assert (answer.code, answer.json["exit_code"]) == (5, 5)
    assert 'pip install "slatewise[tensorboard]"' in answer.json["message"]
    assert not list(tmp_path.iterdir())


def test_an_encoder_begins_with_another(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    words = ["pretrain", loop / "log", "--epochs", 1, "--warm-start", loop / "encoder", "--quiet", "--json"]
    answer = command(*words, "--shoppers", "all", "--out", tmp_path / "new")
    assert answer.code == 0, answer.stdout
    assert answer.json["warm_start"]["from"] == "encoder"
    assert answer.json["warm_start"]["items"] > 40
    assert record(tmp_path / "new")["inputs"]["warm_start"] == record(loop / "encoder")["id"]
    answer = command(*words, "--width", 16, "--out", tmp_path / "other")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    assert "can begin only an encoder of its own shape" in answer.json["message"]
    answer = command("pretrain", loop / "log", "--warm-start", loop / "log", "--out", tmp_path / "other", "--json")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    assert "give a folder that `slatewise pretrain` wrote" in answer.json["message"]
    assert [one.name for one in tmp_path.iterdir()] == ["new"]


def test_the_text_model_is_fine_tuned_first(
    loop: Any, command: Callable[..., Any], tmp_path: Path, tiny_text_model: Path
) -> None:
    pytest.importorskip("peft", reason='needs pip install "slatewise[lora]"')
    words = ["pretrain", loop / "log", "--text-model", tiny_text_model, "--lora", "--lora-steps", 3, *SMALL]
    answer = command(*words, "--out", tmp_path / "new")
    assert answer.code == 0, answer.stdout
    tuned = record(tmp_path / "new-text", "text_model")
    assert (tuned["settings"]["steps"], tuned["inputs"]) == (3, record(tmp_path / "new")["inputs"])
    assert answer.json["text_model"]["base"] == str(tiny_text_model)
    again = command(
        "pretrain", loop / "log", "--text-model", tmp_path / "new-text", *SMALL, "--out", tmp_path / "again"
    )
    assert again.json["text_model"]["fingerprint"] == answer.json["text_model"]["fingerprint"]


@pytest.fixture(scope="module")
def grown_log(
    loop: Any, command: Callable[..., Any], shop_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The log once more, with a catalogue in another order that has one item more."""
    folder = tmp_path_factory.mktemp("grown")
    frame = Catalogue.load(shop_files / "catalogue.parquet").frame
    fresh = frame.iloc[[0]].assign(item_id="brand-new")
    pd.concat([fresh, frame.iloc[::-1]]).to_parquet(folder / "catalogue.parquet")
    words = [shop_files / "events.parquet", "--source", "events", "--catalogue", folder / "catalogue.parquet"]
    assert command("ingest", *words, "--out", folder / "log", "--quiet").code == 0
    return folder / "log"


def test_an_encoder_grows_to_a_changed_catalogue(
    loop: Any, command: Callable[..., Any], grown_log: Path, tmp_path: Path
) -> None:
    words = ["grow", grown_log, "--encoder", loop / "encoder", "--out", tmp_path / "grown", "--json", "--quiet"]
    answer = command(*words)
    assert answer.code == 0, answer.stdout
    assert [answer.json[f"items_{what}"] for what in ("kept", "new", "gone")] == [60, 1, 0]
    before, after = load_encoder(loop / "encoder"), load_encoder(tmp_path / "grown")
    place = items_of(tmp_path / "grown").index_of(items_of(loop / "encoder").item_ids[1:])
    assert place.tolist() != np.arange(1, 61).tolist()
    assert torch.allclose(after.item_vectors[place], before.item_vectors[1:], atol=1e-6)
    assert command(*words).code == 0  # read back
    # What belongs to the old catalogue is told from what belongs to the new one.
    fit = ["fit", grown_log, "--encoder", loop / "encoder", "--out", tmp_path / "shopper", "--json"]
    assert "knows other items than" in command(*fit).json["message"]
    fit[3] = tmp_path / "grown"
    assert command(*fit).code == 0


def test_growing_with_another_text_model_is_refused(
    loop: Any, command: Callable[..., Any], grown_log: Path, tmp_path: Path, tiny_text_model: Path
) -> None:
    words = ["grow", grown_log, "--encoder", loop / "encoder", "--text-model", tiny_text_model]
    answer = command(*words, "--out", tmp_path / "grown", "--json")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    assert "sentence-transformers/all-MiniLM-L6-v2" in answer.json["message"]
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def tiny_text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that has learnt nothing."""
    from transformers import BertConfig, BertModel, BertTokenizer

    from slatewise.encoders.quiet import quiet_transformers

    folder = tmp_path_factory.mktemp("models") / "bert"
    folder.mkdir()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters), "."]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        BertModel(config).save_pretrained(folder)
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder
