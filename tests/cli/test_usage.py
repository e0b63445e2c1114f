"""Help that teaches, wrong usage that is named, and exit codes that hold."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slatewise.agents.learning import DivergedError
from slatewise.cli import steps
from slatewise.datasets.readers import SOURCES

COMMANDS = ["ingest", "pretrain", "grow", "fit", "train", "tune", "evaluate", "export", "serve", "play", "demo"]


def words_of(text: str) -> str:
    """Text without the frames and line ends of a terminal."""
    return " ".join(text.translate(str.maketrans("│╭╮╰╯─", "      ")).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_reads_writes_and_assumes_with_an_example(
    command: Callable[..., Any], name: str
) -> None:
    answer = command(name, "--help")
    assert answer.code == 0
    said = words_of(answer.stdout)
    for words in ("Writes", f"slatewise {name}", *(() if name == "demo" else ("Reads", "Assumes"))):
        assert words in said


def test_help_of_ingest_names_every_source_and_how_columns_are_mapped(command: Callable[..., Any]) -> None:
    said = words_of(command("ingest", "--help").stdout)
    listed = command("ingest", "--list-sources")
    assert listed.code == 0
    for name, source in SOURCES.items():
        assert f"{name}: {source.summary}" in said
        assert source.summary in listed.stdout
    assert "store: the database of slatewise serve" in said
    assert "--map OURS=THEIRS" in said
    assert "--map item_id=sku" in said


@pytest.mark.parametrize("name", [*SOURCES, "store"])
def test_a_source_can_be_asked_for_all_there_is_to_say_of_it(command: Callable[..., Any], name: str) -> None:
    answer = command("ingest", "--about-source", name)
    assert answer.code == 0
    assert answer.stdout.startswith(f"{name}: ")
    assert len(answer.stdout.splitlines()) > 3


def test_the_version_is_told(command: Callable[..., Any]) -> None:
    assert command("--version").stdout.startswith("slatewise ")


WRONG = {
    "a command that is none": (["learn"], "No such command 'learn'"),
    "an option that is none": (["fit", "log", "--out", "new", "--bogus"], "No such option: --bogus"),
    "no --out": (["fit", "log"], "Missing option '--out'"),
    "a source that is none": (
        ["ingest", "a.csv", "--out", "new", "--source", "nosuch"],
        "'nosuch' is no source; choose one of events, table, ga360, eshop2008, rees46, retailrocket, store",
    ),
    "a unit of time that is none": (["ingest", "a.csv", "--out", "new", "--time-unit", "x"], "'x' is not one of"),
    "a zone that is none": (["ingest", "a.csv", "--out", "new", "--timezone", "Mars/X"], "'Mars/X' is unknown"),
    "an event that is none of ours": (
        ["ingest", "a.csv", "--out", "new", "--event", "wish=look"],
        "event 'look' is none of",
    ),
    "columns for a source that knows its own": (
        ["ingest", "a.csv", "--out", "new", "--source", "ga360", "--map", "item_id=sku"],
        "source 'ga360' knows its columns and takes no --map; use --source table",
    ),
    "a mapping without =": (["ingest", "a.csv", "--out", "new", "--map", "sku"], "--map takes OURS=THEIRS, got 'sku'"),
    "a column mapped twice": (
        ["ingest", "a.csv", "--out", "new", "--map", "item_id=a", "--map", "item_id=b"],
        "--map names 'item_id' twice: 'a' and 'b'",
    ),
    "a folder without a name": (["fit", "log", "--out", "."], "'.' names no new folder"),
    "a file as folder": (["fit", "log", "--out", __file__], "is a file"),
    "a share above one": (["fit", "log", "--out", "new", "--held-out", "2"], "Invalid value for '--held-out'"),
    "PATH without --source": (["demo", "."], "a real log needs both PATH and --source"),
    "--source without PATH": (["demo", "--source", "ga360"], "a real log needs both PATH and --source"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_usage_exits_with_two_and_one_sentence(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words, says = WRONG[kind]
    answer = command(*words, "--json")
    assert (answer.code, answer.error) == (2, None)
    assert says in words_of(answer.stderr)
    if kind != "a command that is none":
        assert (answer.json["error"], answer.json["exit_code"]) == ("UsageError", 2)
        assert says in answer.json["message"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("step", "wrong", "says"),
    [
        ("pretrain", ["--width", 7], "width must be an even multiple of heads"),
        ("fit", ["--click-rate", 3], "click_rate must be in (0, 1), got 3.0"),
        (
            "fit",
            ["--report", "--held-out", 0],
            "--report judges shoppers by sessions held out; pass --held-out above 0",
        ),
        ("fit", ["--family", "boosted"], "boosted shoppers have no encoder; leave --encoder and --text-model out"),
        ("train", ["--reward", "foo"], "no reward is named 'foo'; choose clicks_and_purchases, clicks,"),
        ("train", ["-k", 61], "a slate of 61 slots cannot be filled with the 60 items available"),
        ("evaluate", ["--reward", "foo"], "no reward is named 'foo'"),
        ("evaluate", ["-k", 3], "slates of [3, 4] slots are asked for; judge agents of one size at a time"),
        ("evaluate", ["--agent", "elsewhere/ppo"], "would both be called 'ppo'; rename the folder"),
        ("evaluate", ["--agent", "elsewhere/popular"], "would both be called 'popular'; rename the folder"),
        ("evaluate", ["--judge", "fitted shopper=x"], "is the name of what --shopper gives; choose another name"),
        ("export", ["--training", 9], "holds trainings with the seeds 0; got 9"),
    ],
)
def test_a_setting_that_no_step_takes_is_wrong_usage(
    loop: Any, command: Callable[..., Any], tmp_path: Path, step: str, wrong: list[object], says: str
) -> None:
    answer = command(*loop.words[step], *wrong, "--out", tmp_path / "new", "--json")
    assert (answer.code, answer.error, answer.json["error"]) == (2, None, "UsageError")
    assert says in answer.json["message"]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("step", "place", "given", "says"),
    [
        ("pretrain", "log", "nowhere", "there is no folder {given}; give a folder that `slatewise ingest` wrote"),
        (
            "pretrain",
            "log",
            "encoder",
            "{given} holds 'encoder', not 'log'; give a folder that `slatewise ingest` wrote",
        ),
        ("fit", "encoder", "log", "{given} holds 'log', not 'encoder'; give a folder that `slatewise pretrain` wrote"),
        ("train", "shopper", "ppo", "{given} holds 'agent', not 'shopper'; give a folder that `slatewise fit` wrote"),
        (
            "evaluate",
            "ppo",
            "bundle",
            "{given} holds 'bundle', not 'agent'; give a folder that `slatewise train` wrote",
        ),
        ("export", "ppo", "nowhere", "there is no folder {given}; give a folder that `slatewise train` wrote"),
    ],
)
def test_a_folder_that_is_missing_or_of_another_kind_is_refused_with_the_step_that_makes_one(
    loop: Any, command: Callable[..., Any], tmp_path: Path, step: str, place: str, given: str, says: str
) -> None:
    words = [loop / given if word == loop / place else word for word in loop.words[step]]
    answer = command(*words, "--out", tmp_path / "new", "--json")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    assert answer.json["message"] == says.format(given=loop / given)
    assert not (tmp_path / "new").exists()


def test_the_folder_one_stands_in_may_be_given(
    loop: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = command("pretrain", ".", "--out", "encoder", "--json")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    monkeypatch.chdir(loop / "log")
    words = [".", *loop.words["fit"][2:], "--out", tmp_path / "shopper"]
    assert command("fit", *words).code == 0


def test_a_folder_of_something_else_is_not_written_to_and_force_does_not_replace_it(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_text("keep me")
    words = [*loop.words["ingest"], "--out", tmp_path]
    assert "choose another --out" in command(*words, "--json").json["message"]
    answer = command(*words, "--force", "--json")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    # Nor does a step replace what it reads.
    assert command(*loop.words["pretrain"], "--out", loop / "log", "--force").code == 4
    assert (loop / "log" / "events.parquet").is_file()


def test_a_demo_does_not_write_over_folders_of_something_else(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "diary.txt").write_text("keep me")
    for force in ([], ["--force"]):
        answer = command("demo", "--quick", "--out", tmp_path, *force, "--json")
        assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
        assert "choose another --out" in answer.json["message"]
    assert (tmp_path / "log" / "diary.txt").read_text() == "keep me"


def test_no_text_model_is_exit_five(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    words = ["--text-model", tmp_path / "nowhere", "--out", tmp_path / "new"]
    answer = command(*loop.words["pretrain"], *words, "--json")
    assert (answer.code, answer.json["error"]) == (5, "ModelNotFoundError")


@pytest.mark.parametrize(
    ("error", "code", "told", "says"),
    [
        (DivergedError("the loss became nan"), 1, True, "the loss became nan"),
        (ModuleNotFoundError("No module named 'onnx'", name="onnx"), 5, True, 'pip install "slatewise[export]"'),
        (PermissionError(13, "Permission denied", "/work"), 1, True, "Permission denied: '/work'"),
        (OSError(28, "No space left on device"), 1, True, "No space left on device"),
        (KeyboardInterrupt(), 130, True, "interrupted; run the same command again to resume"),
        (ModuleNotFoundError("No module named 'of_ours'", name="of_ours"), 1, False, "No module named 'of_ours'"),
        (ValueError("shapes do not match"), 1, False, "shapes do not match"),
    ],
)
def test_what_a_user_can_act_on_is_one_line_and_a_defect_keeps_its_traceback(
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    told: bool,
    says: str,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(steps, "ingest_step", fails)
    answer = command("ingest", "log.csv", "--out", "log", "--json")
    assert (answer.code, answer.json["exit_code"]) == (code, code)
    assert says in answer.json["message"]
    assert answer.error is (None if told else error)
    assert answer.stderr.count("\n") == (1 if told else 0)


def test_figures_that_are_not_finite_are_null_in_json(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"rows": {}, "quarantined": {}, "ignored": {}, "items_without_text": 0, "sessions": 0, "shoppers": 0}
    facts |= {"items": 0, "rate": float("nan"), "rates": [float("inf"), 0.5]}
    monkeypatch.setattr(steps, "ingest_step", lambda *_, **__: facts)
    answer = command("ingest", "log.csv", "--out", "log", "--json")
    assert (answer.json["rate"], answer.json["rates"]) == (None, [None, 0.5])


def test_a_key_that_is_too_short_is_wrong_usage(
    loop: Any, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLATEWISE_API_KEY", "short")
    answer = command("serve", loop / "bundle", "--json")
    assert (answer.code, answer.json["error"]) == (2, "UsageError")
    assert answer.json["message"].startswith("Invalid value: SLATEWISE_API_KEY: ")
    assert "short" not in answer.json["message"]


def test_an_address_that_is_taken_is_named(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["--store", tmp_path / "events.db", "--port", port, "--json"]
        answer = command("serve", loop / "bundle", *words)
    assert (answer.code, answer.json["exit_code"], answer.json["error"]) == (1, 1, "SlatewiseError")
    assert f"cannot listen on 127.0.0.1:{port}" in answer.json["message"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_an_interrupt_ends_a_long_step_with_one_line_and_the_step_goes_on_later(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    words = [*loop.words["pretrain"], "--out", tmp_path / "encoder", "--epochs", 5]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-m", "slatewise", *map(str, words)], **pipes) as process:
        while not (tmp_path / "encoder.partial" / "checkpoints" / "progress.json").exists():
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    lines = err.splitlines()
    assert lines == ["pretraining the session encoder ...", "interrupted; run the same command again to resume"]
    assert not (tmp_path / "encoder").exists()
    assert command(*words).code == 0
