"""`slatewise play` works at once, tells why shoppers click, and ends as a person or a pipe would have it."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slatewise.cli.commands import app
from slatewise.envs import ShopEnv
from slatewise.simulators import save_known_truth


def chosen(lines: str, *words: object) -> dict[str, Any]:
    """The JSON of a game in which a person, or a pipe, says these lines."""
    result = CliRunner().invoke(app, ["play", "--choose", "--json", *map(str, words)], input=lines)
    assert result.exit_code == 0, result
    return json.loads(result.stdout)


def test_it_works_without_any_folder_and_tells_the_chances_of_each_slot(command: Callable[..., Any]) -> None:
    answer = command("play", "--slates", 6, "--seed", 3, "--json")
    assert answer.code == 0, answer
    found = answer.json
    assert found["player"] == "next-item"
    assert found["totals"]["slates"] == len(found["slates"]) == 6
    for slate in found["slates"]:
        assert len(slate["slots"]) == 5
        chances = [slot["click"] for slot in slate["slots"]]
        assert 0 < sum(chances) < 1
        assert sum(chances) <= slate["best_click_chance"] + 1e-6
        for slot in slate["slots"]:
            assert sum(slot["parts"].values()) == pytest.approx(slot["utility"], abs=1e-3)
    totals = found["totals"]
    assert totals["reward"] == totals["clicks"] + 5 * totals["purchases"]
    assert totals["expected_clicks"] == pytest.approx(
        sum(slot["click"] for slate in found["slates"] for slot in slate["slots"])
    )


def test_the_same_seed_is_the_same_game_and_another_is_not(command: Callable[..., Any]) -> None:
    games = [command("play", "--policy", "random", "--slates", 8, "--seed", seed, "--json").json for seed in (5, 5, 6)]
    assert games[0] == games[1]
    assert games[0]["slates"] != games[2]["slates"]


def test_without_a_terminal_a_watched_game_ends_by_itself_and_tells_why(command: Callable[..., Any]) -> None:
    answer = command("play", "--seed", 1)
    assert answer.code == 0
    for words in ("Shopper 1 has come", "wants", "clicking nothing", "category +", "It looked at", "slates 10"):
        assert words in answer.stdout
    assert "Enter" not in answer.stdout + answer.stderr


def test_the_oracle_s_slates_are_the_best_known(command: Callable[..., Any]) -> None:
    found = command("play", "--policy", "oracle", "--slates", 5, "--json").json
    assert found["totals"]["expected_clicks"] == pytest.approx(found["totals"]["best_expected_clicks"])
    other = command("play", "--policy", "random", "--slates", 5, "--json").json
    assert other["totals"]["expected_clicks"] < 0.5 * found["totals"]["expected_clicks"]


def test_a_pipe_may_choose_the_slates(command: Callable[..., Any]) -> None:
    found = chosen("2 1\n\n9 99\nwhat\n1 2 3 4\n?\n3,2,1\n", "-k", 3)
    assert found["player"] == "you"
    slates = [[slot["item_id"] for slot in slate["slots"]] for slate in found["slates"]]
    assert len(slates) == 3
    assert slates[0][2] is None  # two numbers leave the third slot empty
    assert None not in slates[1]  # an empty line is the policy's slate
    again = chosen("1 2\n", "-k", 3)["slates"][0]["slots"]
    assert [slot["item_id"] for slot in again] == [slates[0][1], slates[0][0], None]
    watched = command("play", "-k", 3, "--slates", 1, "--json").json["slates"][0]["slots"]
    taken = chosen("\n", "-k", 3)["slates"][0]["slots"]
    assert [slot["item_id"] for slot in taken] == [slot["item_id"] for slot in watched]


def test_choosing_ends_with_q_or_after_the_slates_asked_for() -> None:
    assert chosen("1\nq\n1\n")["totals"]["slates"] == 1
    assert chosen("1\n1\n1\n", "--slates", 2)["totals"]["slates"] == 2


def test_what_cannot_be_read_is_told_and_asked_again() -> None:
    result = CliRunner().invoke(app, ["play", "--choose", "-k", "2"], input="0 1\n1 2 3\n1 2\n")
    assert "numbers from 1 to 8 are asked for, got '0 1'" in result.stderr
    assert "a slate has 2 slots, got 3 numbers" in result.stderr
    assert "slates 1," in result.stdout


def test_it_plays_in_what_the_loop_wrote(command: Callable[..., Any], loop: Any) -> None:
    parts = [loop / "log", "--encoder", loop / "encoder", "--shopper", loop / "shopper"]
    agent = command("play", *parts, "--agent", loop / "ppo", "--slates", 3, "--json").json
    assert agent["player"] == "ppo"
    slots = agent["slates"][0]["slots"]
    assert len(slots) == 4
    assert any("match" in slot["parts"] for slot in slots)
    for policy in ("popular", "myopic"):
        found = command("play", *parts, "--policy", policy, "--slates", 3, "--json").json
        assert found["player"] == policy
        assert found["totals"]["best_expected_clicks"] >= found["totals"]["expected_clicks"] - 1e-6


def test_it_plays_in_a_known_truth_shop_from_a_folder(command: Callable[..., Any], tmp_path: Path) -> None:
    shop: Any = ShopEnv().batch.shopper
    save_known_truth(shop.shop, tmp_path / "truth")
    words = ("--policy", "popular", "--slates", 4, "--json")
    assert command("play", "--shopper", tmp_path / "truth", *words).json == command("play", *words).json


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--slates", "0"], 2, "--slates"),
        (["-k", "500"], 2, "500 slots"),
        (["--policy", "myopic"], 2, "oracle"),
        (["--agent", "nowhere", "--policy", "random"], 2, "not both"),
        (["--agent", "nowhere"], 2, "--encoder"),
        (["somewhere"], 2, "--shopper"),
        (["--shopper", "nowhere"], 4, "no folder nowhere"),
        (["--reward", "fame"], 2, "fame"),
    ],
)
def test_wrong_usage_is_named(command: Callable[..., Any], words: list[str], code: int, said: str) -> None:
    answer = command("play", *words)
    assert answer.code == code
    assert said in answer.stderr


def test_a_fitted_shopper_needs_the_log_that_names_its_items(command: Callable[..., Any], loop: Any) -> None:
    answer = command("play", "--shopper", loop / "shopper")
    assert answer.code == 2
    assert "LOG" in answer.stderr


def test_a_person_at_a_terminal_is_asked_and_may_leave_by_ctrl_c() -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "slatewise", "play", "--seed", "2"]
    pipes: dict[str, Any] = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started: Any = subprocess.Popen(words, **pipes, env={**os.environ, "TERM": "dumb"})
    with started as game:
        try:
            assert game.stderr is not None
            said, end = "", time.monotonic() + 300
            for pressed in range(3):
                while said.count("Enter: the next slate") <= pressed and time.monotonic() < end:
                    if select.select([game.stderr], [], [], 1.0)[0]:
                        said += os.read(game.stderr.fileno(), 4096).decode()
                if pressed < 2:
                    os.write(ours, b"\n")
            game.send_signal(signal.SIGINT)
            out, _ = game.communicate(timeout=300)
        finally:
            game.kill()
    os.close(ours)
    os.close(theirs)
    assert game.returncode == 0
    assert b"slates 3," in out
