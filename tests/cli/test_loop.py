"""The loop from the command line: every step in turn on a tiny shop, and back from the server to a log."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from slatewise.cli.console import Reporter
from slatewise.cli.inputs import half_not_learnt_from
from slatewise.cli.judging import BASELINES
from slatewise.cli.showing import show_evidence
from slatewise.datasets.log import ShopLog
from slatewise.encoders.learnt_from import SessionSketch

STEPS = ["ingest", "pretrain", "fit", "train", "evaluate", "export"]
FOLDERS = {"ingest": "log", "pretrain": "encoder", "fit": "shopper", "train": "ppo", "export": "bundle"}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_ends_with_one_json_object_and_a_finished_folder(loop: Any, step: str) -> None:
    answer, folder = loop.answers[step], loop / FOLDERS.get(step, "evaluation")
    assert answer.json["out"] == str(folder)
    assert (folder / "config.json").is_file()
    assert not folder.with_name(f"{folder.name}.partial").exists()
    assert "Traceback" not in answer.stderr


def test_what_the_steps_found_is_told(loop: Any, shop_files: Path) -> None:
    found = {step: answer.json for step, answer in loop.answers.items()}
    rows = len(pd.read_parquet(shop_files / "events.parquet"))
    assert found["ingest"]["rows"]["read"] == found["ingest"]["rows"]["kept"] == rows
    assert (found["ingest"]["sessions"], found["ingest"]["items"]) == (400, 60)
    assert {row["model"] for row in found["pretrain"]["next_item"]} == {"encoder", "item-kNN", "popularity"}
    assert found["pretrain"]["epochs"] == 2
    assert {row["source"] for row in found["fit"]["evidence"]} <= {"learned from the log", "assumed"}
    assert list(found["train"]["learning"]) == ["0"]
    judged = {row["policy"] for row in found["evaluate"]["summary"]}
    assert judged == {*BASELINES, "ppo"}
    assert Path(found["evaluate"]["report"]).is_file()
    parity = found["export"]["parity"]
    assert (parity["histories"], parity["different"], parity["equal"] + parity["tied"]) == (20, 0, 20)


def test_shoppers_are_fitted_on_the_half_that_their_encoder_did_not_learn_from(loop: Any) -> None:
    inputs = {
        name: json.loads((loop / name / "config.json").read_text())["slatewise_artefact"]["inputs"]["log"]
        for name in ("encoder", "shopper")
    }
    assert inputs["encoder"].endswith("/agent")
    assert inputs["shopper"].endswith("/simulator")
    log = ShopLog.load(loop / "log")
    assert half_not_learnt_from(loop / "log", loop / "encoder") == "simulator"
    sketch = SessionSketch.from_list(json.loads((loop / "encoder" / "config.json").read_text())["learnt_from"])
    assert sketch.shared(log.shopper_half(0))[0] > 0
    assert sketch.shared(log.shopper_half(1))[0] == 0


def test_shoppers_of_the_second_family_need_no_encoder_and_judge(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "boosted"
    words = ["fit", loop / "log", "--family", "boosted", "--out", out, "--json"]
    fitted = command(*words)
    assert (fitted.code, fitted.json["family"]) == (0, "boosted")
    assert {row["model"] for row in fitted.json["held_out"]} >= {"fitted", "position and popularity"}
    record = (out / "config.json").read_text()
    page = out / "realism.html"
    assert command(*words, "--report").json == {**fitted.json, "report": str(page)}
    assert "Told from real" in page.read_text(encoding="utf-8")
    assert (out / "config.json").read_text() == record
    assert command(*words).json == fitted.json
    assert [path.name for path in tmp_path.iterdir()] == ["boosted"]
    evaluate = [*loop.words["evaluate"], "--judge", f"second family={out}"]
    evaluate[evaluate.index("--out") + 1] = tmp_path / "evaluation"
    judged = command(*evaluate, "--json")
    assert judged.code == 0, judged
    assert {row["simulator"] for row in judged.json["summary"]} == {"fitted shopper", "second family"}


def test_the_form_of_examination_is_named_and_where_it_comes_from(
    loop: Any, command: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", loop / "log", "--encoder", loop / "encoder", "--members", 0, "--json"]
    found = {}
    for form in ("cascade", "auto"):
        answer = command(*words, "--examination", form, "--out", tmp_path / form)
        assert answer.code == 0, answer
        found[form] = answer.json["evidence"][0]
    assert found["cascade"]["quantity"] == "form of examination: cascade"
    assert (found["cascade"]["source"], found["cascade"]["evidence"]) == ("assumed", "asked for")
    assert re.search("later slates$|too few to choose a form by$", found["auto"]["evidence"])
    row = {"form": "dbn", "log_likelihood": -0.9244, "gain": 0.0064, "low": 0.0013, "high": 0.0142}
    show_evidence(Reporter(False, False), {"evidence": [found["cascade"]], "forms": [row]})
    shown = " ".join(capsys.readouterr().out.split())
    assert "form of examination: cascade" in shown
    assert "Forms of examination, on the latest slates learnt from" in shown
    assert "0.0013" in shown
    boosted = command("fit", loop / "log", "--family", "boosted", "--examination", "dbn", "--out", tmp_path / "no")
    assert boosted.code == 2
    assert "boosted shoppers look to a depth" in boosted.stderr


@pytest.mark.parametrize("step", STEPS)
def test_a_finished_step_given_again_is_kept(loop: Any, command: Callable[..., Any], step: str) -> None:
    folder = loop / FOLDERS.get(step, "evaluation")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = command(*loop.words[step], "--json")
    assert (again.code, again.json) == (0, loop.answers[step].json)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("step", "other", "named"),
    [
        ("ingest", ["--session-gap", 60], "session_gap=1800.0, now 60.0"),
        ("pretrain", ["--seed", 7], "seed=0, now 7"),
        ("fit", ["--held-out", 0.3], "log="),
        ("train", ["--steps", 999], "total_timesteps=1000, now 999"),
        ("evaluate", ["--shoppers", 21], "shoppers=20, now 21"),
        ("export", ["--histories", 19], "histories=20, now 19"),
    ],
)
def test_a_finished_folder_of_other_settings_is_refused_and_says_what_differs(
    loop: Any, command: Callable[..., Any], step: str, other: list[object], named: str
) -> None:
    answer = command(*loop.words[step], *other, "--json")
    assert (answer.code, answer.json["exit_code"], answer.json["error"]) == (4, 4, "ArtefactError")
    assert f"was built with {named}" in answer.json["message"]
    assert answer.json["message"].endswith("choose another --out or pass --force to build it anew")


def test_an_encoder_is_not_judged_on_sessions_it_learnt_from(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    answer = command(*loop.words["evaluate"], "--out", tmp_path / "evaluation", "--held-out", 0.4, "--json")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    assert "learnt from sessions among the latest 40%" in answer.json["message"]
    assert "pass --held-out 0.2 or less" in answer.json["message"]


def test_force_builds_anew_over_a_finished_folder(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    words = [*loop.words["ingest"][:-1], tmp_path / "log"]
    assert command(*words).code == 0
    assert command(*words, "--session-gap", 60).code == 4
    assert command(*words, "--session-gap", 60, "--force").code == 0
    config = json.loads((tmp_path / "log" / "config.json").read_text())
    assert config["slatewise_artefact"]["settings"]["session_gap"] == 60


def test_the_same_seed_gives_the_same_agent_and_another_seed_another(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    weights = {}
    for name, seed in (("one", 0), ("two", 0), ("other", 5)):
        words = [*loop.words["train"], "--out", tmp_path / name, "--steps", 400, "--seed", seed]
        assert command(*words).code == 0
        weights[name] = (tmp_path / name / f"seed-{seed}" / "policy.safetensors").read_bytes()
    assert weights["one"] == weights["two"] != weights["other"]


def test_the_same_seed_gives_the_same_verdict(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    again = command(*loop.words["evaluate"], "--out", tmp_path / "evaluation", "--json")
    first = loop.answers["evaluate"].json
    assert (again.json["summary"], again.json["comparisons"]) == (first["summary"], first["comparisons"])


def test_people_get_tables_on_stdout_and_quiet_keeps_stderr_empty(loop: Any, command: Callable[..., Any]) -> None:
    answer = command(*loop.words["evaluate"], "--quiet")
    assert answer.code == 0
    assert "mean [95 % interval]" in answer.stdout
    assert f"report: {loop / 'evaluation' / 'report.html'}" in answer.stdout
    assert answer.stderr == ""


@contextmanager
def serving(bundle: Path, store: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """`slatewise serve` as a process of its own, and what it said when it was ready."""
    words = [sys.executable, "-m", "slatewise", "serve", bundle, "--store", store, "--port", "0", "--json"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([str(word) for word in words], **pipes) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_what_a_server_showed_and_heard_comes_back_as_a_log_with_nothing_lost(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    store, shown, sent = tmp_path / "events.db", set(), []
    with (
        serving(loop / "bundle", store) as (process, said),
        httpx.Client(base_url=said["address"], timeout=60, trust_env=False) as client,
    ):
        for number in range(6):
            shopper = f"shopper-{number % 3}"
            slate = client.post("/v1/recommend", json={"shopper_id": shopper}).raise_for_status().json()
            shown |= {(shopper, place["item_id"], slate["slate_id"], place["position"]) for place in slate["items"]}
            item, events = slate["items"][number % 4]["item_id"], ["click", "cart", "purchase"][: 1 + number % 3]
            body = [
                {"event_id": f"{number}-{event}", "slate_id": slate["slate_id"], "item_id": item, "event": event}
                for event in events
            ]
            body.append({"event_id": f"{number}-view", "shopper_id": shopper, "item_id": item, "event": "view"})
            assert client.post("/v1/events", json={"events": body}).json()["accepted"] == len(body)
            assert client.post("/v1/events", json={"events": body}).json()["duplicates"] == len(body)
            sent += [(shopper, item, slate["slate_id"], event) for event in events] + [(shopper, item, None, "view")]
        process.terminate()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""

    catalogue = ["--catalogue", loop / "bundle" / "catalogue.parquet"]
    answer = command("ingest", store, "--source", "store", *catalogue, "--out", tmp_path / "log", "--json")
    assert answer.code == 0
    assert answer.json["rows"]["kept"] == answer.json["rows"]["read"] == len(shown) + len(sent) == 24 + 18
    log = ShopLog.load(tmp_path / "log")
    impressions = log.events[log.events["event"] == "impression"]
    assert set(impressions[["shopper_id", "item_id", "slate_id", "position"]].itertuples(index=False)) == shown
    assert (impressions["propensity"] == 1).all()  # the best slate, shown for sure
    done = log.events[log.events["event"] != "impression"]
    kept = done[["shopper_id", "item_id", "slate_id", "event"]].astype(object).where(lambda cell: cell.notna(), None)
    # Each as often as it was sent: a shopper may be shown, and view, an item twice.
    assert Counter(kept.itertuples(index=False, name=None)) == Counter(sent)
    assert (len(log.slates), (log.slates.clicked >= 0).sum(), log.slates.purchased.sum()) == (6, 6, 2)

    # The new log numbers the items as the first one did, so that the loop goes on with it.
    words = [tmp_path / "log" if word == loop / "log" else word for word in loop.words["train"]]
    assert command(*words, "--out", tmp_path / "next", "--steps", 200).code == 0


def test_a_server_says_where_it_listens_and_what_to_call(loop: Any, tmp_path: Path) -> None:
    words = ["serve", loop / "bundle", "--store", tmp_path / "events.db", "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-m", "slatewise", *map(str, words)], **pipes) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.kill()
    assert lines[0].startswith(f"{loop / 'bundle'} is served at http://127.0.0.1:")
    assert '/v1/recommend -d \'{"shopper_id": "ann"}\'' in lines[1]
    assert '/v1/events -d \'{"events": [{' in lines[2]
    assert lines[3].startswith(f"read back: slatewise ingest {tmp_path / 'events.db'} --source store")
