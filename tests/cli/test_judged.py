"""Agents stopped by other shoppers than their teachers: what is kept, said, shipped, and judged by whom."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

SIZES = ["--steps", 3000, "--judge-every", 1000, "--judge-shoppers", 30, "--patience", 2, "--seeds", 2]


@pytest.fixture(scope="module")
def judge(loop: Any, command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shoppers of the second family."""
    out = tmp_path_factory.mktemp("judge") / "boosted"
    assert command("fit", loop / "log", "--family", "boosted", "--members", 2, "--out", out).code == 0
    return out


@pytest.fixture(scope="module")
def judged(loop: Any, command: Callable[..., Any], judge: Path) -> tuple[Path, Any, list[object]]:
    """An agent of two trainings that a judge valued, what the command answered, and its words."""
    out = judge.with_name("ppo")
    words = [*loop.words["train"], "--out", out, *SIZES, "--judge", judge]
    answer = command(*words, "--json", "--tensorboard", judge.with_name("runs"))
    assert answer.code == 0, answer
    return out, answer, words


def test_each_training_keeps_the_version_that_the_judge_values_highest(
    judged: tuple[Path, Any, list[object]], judge: Path
) -> None:
    out, answer, _ = judged
    learning = answer.json["learning"]
    assert list(learning) == ["0", "1"]
    for seed, found in learning.items():
        rows = pd.read_csv(out / f"seed-{seed}" / "valuations.csv")
        assert rows["timesteps"].iloc[0] == 0
        best = int(rows["value"].to_numpy().argmax())
        assert found["value"] == pytest.approx(rows["value"].iloc[best])
        assert found["best_at"] == rows["timesteps"].iloc[best]
        assert 0 < found["value_error"] < found["value"]
    record = json.loads((out / "config.json").read_text())["slatewise_artefact"]
    theirs = json.loads((judge / "config.json").read_text())["slatewise_artefact"]["id"]
    assert record["inputs"]["judge"] == theirs
    assert record["facts"]["judge"] == str(judge)
    assert record["settings"]["judge_shoppers"] == 30


def test_tensorboard_logs_lie_by_agent_and_seed(judged: tuple[Path, Any, list[object]], judge: Path) -> None:
    for seed in (0, 1):
        assert list((judge.with_name("runs") / "ppo" / f"seed-{seed}").glob("events.out.tfevents.*"))


def test_people_are_told_who_stopped_an_agent_and_what_that_means(
    judged: tuple[Path, Any, list[object]], command: Callable[..., Any], judge: Path
) -> None:
    said = " ".join(command(*judged[2]).stdout.split())  # finished: read back
    assert f"by shoppers of {judge}" in said
    assert "no independent judge of this agent any more" in said


def test_the_training_that_the_judge_values_highest_is_exported(
    loop: Any, command: Callable[..., Any], judged: tuple[Path, Any, list[object]], tmp_path: Path
) -> None:
    out, answer, _ = judged
    words = ["export", out, "--log", loop / "log", "--encoder", loop / "encoder", "--out", tmp_path / "bundle"]
    assert command(*words, "--histories", 20).code == 0
    training = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["training"]
    learning = answer.json["learning"]
    assert str(training["seed"]) == max(learning, key=lambda one: learning[one]["value"])


def test_a_judge_that_chose_is_named_and_another_one_decides(
    loop: Any, command: Callable[..., Any], judged: tuple[Path, Any, list[object]], judge: Path, tmp_path: Path
) -> None:
    third = tmp_path / "third"
    assert command("fit", loop / "log", "--family", "boosted", "--members", 2, "--seed", 5, "--out", third).code == 0
    words = ["evaluate", loop / "log", "--encoder", loop / "encoder", "--shopper", loop / "shopper"]
    words += ["--agent", judged[0], "--shoppers", 20, "--judge", f"chose={judge}"]
    alone = command(*words, "--out", tmp_path / "alone", "--json")
    assert (alone.code, alone.json["judged_by"]) == (0, "chose")
    assert "shoppers of 'chose' chose its version or its settings" in " ".join(alone.stderr.split())
    assert "chose among versions or settings of ppo" in (tmp_path / "alone" / "report.html").read_text()
    both = command(*words, "--judge", f"third={third}", "--out", tmp_path / "both")
    assert both.code == 0
    assert "In the chose (it chose an agent's version or settings)" in both.stdout
    record = json.loads((tmp_path / "both" / "config.json").read_text())["slatewise_artefact"]
    assert (record["facts"]["primary"], record["settings"]["chosen_in"]) == ("third", {"ppo": ["chose"]})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--judge", "{shopper}"], "is what --shopper names"),
        (["--patience", 3], "go with --judge; name a judge"),
        (["--agent", "bc", "--judge", "{shopper}"], "leave --shopper, --doubt and --judge out"),
        (["--judge", "{encoder}"], "holds 'encoder', not 'shopper'"),
    ],
)
def test_judges_that_cannot_be_are_refused(
    loop: Any, command: Callable[..., Any], more: list[object], says: str, tmp_path: Path
) -> None:
    places = {"shopper": loop / "shopper", "encoder": loop / "encoder"}
    more = [one.format(**places) if isinstance(one, str) else one for one in more]
    answer = command(*loop.words["train"], "--out", tmp_path / "new", *more, "--json")
    assert answer.code in (2, 4)
    assert says in answer.json["message"]
    assert not (tmp_path / "new").exists()
