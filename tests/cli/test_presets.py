"""`train --preset` and `tune --preset`: what is trained with, what goes before it, and who has none."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from slatewise.agents import DQNConfig, PPOConfig, preset
from slatewise.cli.learners import changed

SHORT = ["--steps", 200]


def record(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())["slatewise_artefact"]


def test_train_takes_a_preset_whose_settings_are_told_and_recorded(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    wanted, out = preset("ppo", "large"), tmp_path / "ppo"
    assert wanted != PPOConfig()
    answer = command(*loop.words["train"], *SHORT, "--preset", "large", "--out", out)
    assert answer.code == 0, answer
    given = ", ".join(f"{name}={value}" for name, value in changed(wanted).items())
    assert f"preset large of ppo, where nothing else is given: {given}" in " ".join(answer.stdout.split())
    assert record(out)["settings"]["config"] == asdict(wanted)
    assert record(out)["facts"]["preset"] == "large"


def test_a_settings_file_goes_before_a_preset_and_what_is_set_before_both(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    wanted, out, file = preset("ppo", "large"), tmp_path / "ppo", tmp_path / "settings.json"
    taken = next(iter(changed(wanted)))
    settings = {taken: getattr(PPOConfig(), taken), "gamma": 0.5, "hidden": 16}
    file.write_text(json.dumps({"agent": "ppo", "settings": settings}))
    given = ["--preset", "large", "--settings", file, "--set", "gamma=0.7"]
    answer = command(*loop.words["train"], *SHORT, *given, "--out", out)
    assert answer.code == 0, answer
    assert record(out)["settings"]["config"] == asdict(replace(wanted, **{**settings, "gamma": 0.7}))


def test_auto_is_the_preset_of_the_catalogues_size_and_none_are_the_defaults(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    said = [*loop.words["train"], "--steps", 200, "--json"]
    small = [*said, "--agent", "dqn", "--set", "learning_starts=100"]
    answer = command(*small, "--preset", "auto", "--out", tmp_path / "auto")
    assert (answer.code, answer.json["preset"]) == (0, "small")  # of 60 items
    wanted = replace(preset("dqn", 60), learning_starts=100)
    assert wanted != DQNConfig(learning_starts=100)
    assert record(tmp_path / "auto")["settings"]["config"] == asdict(wanted)
    assert command(*said, "--out", tmp_path / "none").code == 0
    assert record(tmp_path / "none")["settings"]["config"] == asdict(PPOConfig())
    assert "preset" not in record(tmp_path / "none")["facts"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--preset", "huge"], "'huge' is not one of 'small', 'medium', 'large', 'auto'"),
        (["--preset", "large", "--set", "gama=1"], "ppo has no setting 'gama'"),
        (["--preset", "large", "--set", "gamma=2"], "gamma must be in [0, 1]"),
    ],
)
def test_what_no_preset_can_be_is_refused(
    loop: Any, command: Callable[..., Any], tmp_path: Path, given: list[str], says: str
) -> None:
    answer = command(*loop.words["train"], *given, "--out", tmp_path / "new", "--json")
    assert (answer.code, says in answer.json["message"]) == (2, True), answer
    assert not (tmp_path / "new").exists()


def test_learners_of_the_log_have_no_presets(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    words = ["train", loop / "log", "--encoder", loop / "encoder", "--agent", "bc", "--preset", "auto"]
    answer = command(*words, "--out", tmp_path / "new", "--json")
    assert (answer.code, "bc learns from the log alone, and has no presets" in answer.json["message"]) == (2, True)


def test_a_search_begins_from_a_preset_and_its_file_holds_what_was_not_searched(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    judge = tmp_path / "judge"
    assert command("fit", loop / "log", "--family", "boosted", "--members", 0, "--out", judge).code == 0
    sizes = ["--trials", 2, "--steps", 600, "--valuations", 1, "--judge-shoppers", 10, "--check-seeds", 1]
    words = ["tune", loop / "log", "--encoder", loop / "encoder", "--shopper", loop / "shopper", "--judge", judge]
    words = [*words, *sizes, "--check-shoppers", 10, "-k", 4, "--set", "n_epochs=2"]
    answer = command(*words, "--preset", "large", "--out", tmp_path / "tuned", "--json")
    assert (answer.code, answer.json["preset"]) == (0, "large"), answer
    wanted = replace(preset("ppo", "large"), n_epochs=2)
    assert record(tmp_path / "tuned")["settings"]["config"] == asdict(wanted)
    found = json.loads((tmp_path / "tuned" / "settings.json").read_text())["settings"]
    space = record(tmp_path / "tuned")["settings"]["space"]
    fixed = {name: value for name, value in changed(wanted).items() if name not in space}
    assert fixed.keys() == {"n_epochs", "max_candidates"}
    assert {name: found[name] for name in fixed} == fixed
