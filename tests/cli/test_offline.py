"""Agents trained on the log itself, and settings of learners, from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def words(loop: Any) -> list[object]:
    return ["train", loop / "log", "--encoder", loop / "encoder", "--trainings", 1, "-k", 4, "--json"]


@pytest.mark.parametrize("agent", ["bc", "reinforce"])
def test_an_agent_of_the_log_is_trained_judged_and_exported(
    loop: Any, command: Callable[..., Any], words: list[object], agent: str, tmp_path: Path
) -> None:
    folder = tmp_path / agent
    train = [*words, "--agent", agent, "--steps", 3_000, "--out", folder]
    trained = command(*train)
    assert trained.code == 0, trained
    assert trained.json["learning"]["0"]["later_log_likelihood"] < 0
    assert trained.json["slates"] >= trained.json["clicked"] > 0
    record = json.loads((folder / "config.json").read_text())["slatewise_artefact"]
    assert "shopper" not in record["inputs"]
    assert command(*train).json == trained.json
    parts = [loop / "log", "--encoder", loop / "encoder", "--shopper", loop / "shopper"]
    judged = command(
        "evaluate", *parts, "--agent", folder, "--out", tmp_path / "evaluation", "--shoppers", 20, "--json"
    )
    assert judged.code == 0, judged
    assert agent in {row["policy"] for row in judged.json["summary"]}
    assert "the log alone" in Path(judged.json["report"]).read_text(encoding="utf-8")
    out = tmp_path / "bundle"
    exported = command(
        "export",
        folder,
        "--log",
        loop / "log",
        "--encoder",
        loop / "encoder",
        "--out",
        out,
        "--histories",
        20,
        "--json",
    )
    assert exported.code == 0, exported
    assert exported.json["parity"]["different"] == 0


def test_settings_of_a_learner_are_set_by_name(
    loop: Any, command: Callable[..., Any], words: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "dqn"
    given = ["--set", "n_steps=3", "--set", "priority=0.6", "--set", "choice=shopper", "--set", "learning_starts=500"]
    train = [*words, "--shopper", loop / "shopper", "--agent", "dqn", "--steps", 1_500, "--out", out, *given]
    answer = command(*train)
    assert answer.code == 0, answer
    config = json.loads((out / "config.json").read_text())["slatewise_artefact"]["settings"]["config"]
    assert (config["n_steps"], config["priority"], config["choice"]) == (3, 0.6, "shopper")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--agent", "bc", "--shopper", "."], "leave --shopper, --doubt and --judge out"),
        (["--agent", "ppo"], "as --shopper"),
        (["--agent", "ppo", "--shopper", ".", "--held-out", 0.3], "leave --held-out out"),
        (["--agent", "bc", "--set", "gama=0.5"], "bc has no setting 'gama'"),
        (["--agent", "bc", "--set", "hidden=many"], "takes a whole number, got 'many'"),
        (["--agent", "reinforce", "--set", "top_k=yes"], "is true or false, got 'yes'"),
        (["--agent", "reinforce", "--set", "gamma=2"], "gamma must be in [0, 1]"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_begins(
    command: Callable[..., Any], words: list[object], given: list[object], said: str, tmp_path: Path
) -> None:
    answer = command(*[word for word in words if word != "--json"], *given, "--out", tmp_path / "agent")
    assert answer.code == 2
    assert said in " ".join(answer.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())
