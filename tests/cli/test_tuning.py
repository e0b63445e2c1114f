"""`slatewise tune` on a tiny shop: what it writes, what it says of luck, and a kill between."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slatewise.agents import load_agents
from slatewise.cli import tuning

optuna = pytest.importorskip("optuna")

SIZES = ["--trials", 3, "--steps", 1024, "--valuations", 2, "--judge-shoppers", 30, "--check-seeds", 2]
SIZES = [*SIZES, "--check-shoppers", 40, "-k", 4, "--seed", 2]


@pytest.fixture(scope="module")
def judge(loop: Any, command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shoppers of the second family."""
    out = tmp_path_factory.mktemp("judge") / "boosted"
    assert command("fit", loop / "log", "--family", "boosted", "--members", 2, "--out", out).code == 0
    return out


def words(loop: Any, judge: Path, out: Path, *more: object) -> list[object]:
    parts = ["--encoder", loop / "encoder", "--shopper", loop / "shopper", "--judge", judge]
    return ["tune", loop / "log", *parts, "--out", out, *SIZES, *more]


@pytest.fixture(scope="module")
def tuned(loop: Any, command: Callable[..., Any], judge: Path) -> tuple[Path, Any]:
    """A search whose third trial is the best, and its answer."""
    out = judge.with_name("tuned")
    answer = command(*words(loop, judge, out, "--set", "n_epochs=2", "--json"))
    assert answer.code == 0, answer
    return out, answer


def trials_of(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_trials_are_kept_and_the_best_settings_are_a_file(tuned: tuple[Path, Any]) -> None:
    out, answer = tuned
    rows = trials_of(out)
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["learning_rate"]) == 3e-4
    best = max(rows, key=lambda row: float(row["value"]))
    assert answer.json["best_trial"] == int(best["trial"])
    settings = json.loads((out / "settings.json").read_text())
    assert settings["agent"] == "ppo"
    assert settings["settings"]["n_epochs"] == 2  # given, and so not searched
    assert "n_epochs" not in rows[0]
    assert settings["settings"]["learning_rate"] == float(best["learning_rate"])
    storage = optuna.storages.RDBStorage(f"sqlite:///{out / 'study.db'}")
    assert len(optuna.load_study(study_name="slatewise", storage=storage).trials) == 3
    storage.remove_session()
    storage.engine.dispose()


def test_the_best_is_held_against_the_defaults_on_fresh_shoppers(tuned: tuple[Path, Any]) -> None:
    out, answer = tuned
    best = answer.json["best_trial"]
    assert best > 0, "the seed of this test finds no better settings; choose another"
    check = answer.json["check"]
    assert (check["policy"], check["reference"], check["shoppers"]) == (f"trial-{best}", "defaults", 40)
    assert check["seeds"] == check["reference_seeds"] == 2
    assert check["low"] <= check["difference"] <= check["high"]
    for name in ("defaults", f"trial-{best}"):
        assert [one.seed for one in load_agents(out / name)] == [100_002, 100_003]


def test_people_see_the_trials_and_are_told_of_luck(
    loop: Any, command: Callable[..., Any], judge: Path, tuned: tuple[Path, Any]
) -> None:
    said = " ".join(command(*words(loop, judge, tuned[0], "--set", "n_epochs=2")).stdout.split())
    assert "The best of 3 trials; 0 is the defaults" in said
    assert "which flatters the best of many" in said
    assert f"--settings {tuned[0] / 'settings.json'}" in said


def test_settings_of_a_search_are_trained_with_and_evaluate_knows_who_chose_them(
    loop: Any, command: Callable[..., Any], judge: Path, tuned: tuple[Path, Any], tmp_path: Path
) -> None:
    file = tuned[0] / "settings.json"
    train = [*loop.words["train"], "--settings", file, "--set", "gamma=0.7", "--out", tmp_path / "agent"]
    assert command(*train).code == 0
    config = json.loads((tmp_path / "agent" / "config.json").read_text())["slatewise_artefact"]["settings"]["config"]
    wanted = {**json.loads(file.read_text())["settings"], "gamma": 0.7}
    assert {name: config[name] for name in wanted} == wanted
    words = ["evaluate", loop / "log", "--encoder", loop / "encoder", "--shopper", loop / "shopper", "--shoppers", 20]
    words += ["--agent", tmp_path / "agent", "--judge", f"chose={judge}", "--out", tmp_path / "judged"]
    assert "shoppers of 'chose' chose its version or its settings" in " ".join(command(*words).stderr.split())
    toml = tmp_path / "hand.toml"
    toml.write_text('agent = "dqn"\n[settings]\ngamma = 0.5\n')
    answer = command(*train, "--settings", toml, "--out", tmp_path / "other", "--json")
    assert (answer.code, "is of 'dqn', and --agent is 'ppo'" in answer.json["message"]) == (2, True)
    toml.write_text("gamma = 0.5\n")
    answer = command(*train, "--settings", toml, "--out", tmp_path / "other", "--json")
    assert (answer.code, "it holds ['gamma']" in answer.json["message"]) == (2, True)


def test_a_killed_search_goes_on_as_it_would_have_and_a_finished_one_takes_more_trials(
    loop: Any,
    command: Callable[..., Any],
    judge: Path,
    tuned: tuple[Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "tuned"
    said = words(loop, judge, out, "--set", "n_epochs=2", "--json")

    class KilledError(Exception):
        """Stands for a kill."""

    def killed(*_: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_held_against_defaults", killed)
        answer = command(*said)
        assert isinstance(answer.error, KilledError)
    assert not out.exists()
    resumed = command(*said)
    assert trials_of(out) == trials_of(tuned[0])
    assert resumed.json["check"] == tuned[1].json["check"]
    assert command(*said).json == resumed.json  # finished: read back
    more = command(*said, "--trials", 4)
    assert (more.code, more.json["tried"]) == (0, 4)
    assert trials_of(out)[:3] == trials_of(tuned[0])


def test_without_optuna_the_extra_is_named(
    loop: Any, command: Callable[..., Any], judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    answer = command(*words(loop, judge, tmp_path / "new", "--json"))
    assert (answer.code, answer.json["message"]) == (5, 'optuna is not installed; pip install "slatewise[tune]"')


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--set", "gama=1"], "ppo has no setting 'gama'"),
        (["--agent", "dqn"], "learning begins after learning_starts=2000 slates"),
        (["--minutes", 0], "minutes must be above 0"),
        (["--judge", "{shopper}"], "is what --shopper names"),
    ],
)
def test_searches_that_cannot_be_are_refused(
    loop: Any, command: Callable[..., Any], judge: Path, more: list[object], says: str, tmp_path: Path
) -> None:
    more = [one.format(shopper=loop / "shopper") if isinstance(one, str) else one for one in more]
    answer = command(*words(loop, judge, tmp_path / "new", *more, "--json"))
    assert (answer.code, says in answer.json["message"]) == (2, True), answer
    assert not (tmp_path / "new").exists()
