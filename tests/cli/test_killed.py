"""kill -9 in the middle of every long step: nothing half done is left to be read, and the same command finishes it."""

import csv
import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors import safe_open

from slatewise.agents.artefact import load_agents
from slatewise.datasets.log import ShopLog
from slatewise.encoders import load_encoder
from slatewise.evaluation import Outcomes
from slatewise.serving.bundle import Bundle
from slatewise.simulators.artefacts import load_shopper

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals"),
]
COPIES = 20


def kill_when(words: list[object], reached: Callable[[], bool]) -> None:
    """Run a command as a process of its own, and kill it the moment that it got so far."""
    with subprocess.Popen(
        [sys.executable, "-m", "slatewise", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while not reached():
            if process.poll() is not None:
                assert process.stderr is not None
                pytest.fail(f"it ended before it could be killed: {process.stderr.read().decode()}")
            time.sleep(0.001)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL


def hashes(folder: Path) -> dict[str, str]:
    """Path -> hash of every file in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def long_log(shop_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny shop's events with twenty times as many shoppers, so that reading them takes a while."""
    events = pl.read_parquet(shop_files / "events.parquet")
    names = ("shopper_id", "session_id", "slate_id")
    copies = [events.with_columns(pl.col(name) + f"-{number}" for name in names) for number in range(COPIES)]
    path = tmp_path_factory.mktemp("long") / "events.parquet"
    pl.concat(copies).write_parquet(path)
    return path


def test_a_killed_ingest_leaves_no_log_and_finishes_when_run_again(
    command: Callable[..., Any], long_log: Path, tmp_path: Path
) -> None:
    out, partial = tmp_path / "log", tmp_path / "log.partial"
    words: list[object] = ["ingest", long_log, "--source", "events", "--out", out]
    kill_when(words, (partial / "rows").exists)
    assert not out.exists()
    answer = command("pretrain", out, "--out", tmp_path / "encoder", "--json")
    assert answer.code == 4
    assert f"{partial} is unfinished, run its step again to resume it" in answer.json["message"]
    assert command(*words).code == 0
    assert not partial.exists()
    assert len(ShopLog.load(out).events) == pl.scan_parquet(long_log).select(pl.len()).collect().item()


def test_a_killed_step_that_was_forced_leaves_the_old_artefact_whole(
    command: Callable[..., Any], shop_files: Path, long_log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "log"
    assert command("ingest", shop_files / "events.parquet", "--source", "events", "--out", out).code == 0
    before = hashes(out)
    words: list[object] = ["ingest", long_log, "--source", "events", "--out", out, "--force"]
    kill_when(words, (tmp_path / "log.partial" / "rows").exists)
    assert hashes(out) == before
    assert len(ShopLog.load(out)) == 400
    assert command(*words).code == 0
    assert len(ShopLog.load(out)) == 400 * COPIES


def test_a_killed_pretraining_goes_on_from_its_last_epoch_and_ends_with_the_same_weights(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "encoder"
    words = [*loop.words["pretrain"], "--out", out, "--epochs", 5]
    kept = tmp_path / "encoder.partial" / "checkpoints" / "progress.json"
    kill_when(words, kept.exists)
    assert not out.exists()
    progress = json.loads(kept.read_text())
    assert 1 <= len(progress["epochs"]) < 5
    kept.write_text(json.dumps({**progress, "seconds": 1e6}))  # by which it shows that this was read
    resumed = command(*words, "--json")
    assert resumed.code == 0
    assert resumed.json["seconds"] > 1e6
    assert load_encoder(out).n_items == 60
    whole = command(*loop.words["pretrain"], "--out", tmp_path / "whole", "--epochs", 5, "--json")
    assert whole.json["epochs"] == resumed.json["epochs"]
    assert hashes(tmp_path / "whole")["model.safetensors"] == hashes(out)["model.safetensors"]


def test_a_killed_fit_leaves_no_shopper_and_finishes_when_run_again(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    words = [*loop.words["fit"], "--out", tmp_path / "shopper"]
    kill_when(words, (tmp_path / "shopper.partial").exists)
    assert not (tmp_path / "shopper").exists()
    assert command(*words).code == 0
    assert load_shopper(tmp_path / "shopper").n_items == 60
    weights = "shopper.safetensors"
    assert hashes(tmp_path / "shopper")[weights] == hashes(loop / "shopper")[weights]


def test_a_killed_training_goes_on_from_its_checkpoint(loop: Any, command: Callable[..., Any], tmp_path: Path) -> None:
    words = [*loop.words["train"], "--out", tmp_path / "ppo", "--steps", 30_000]
    checkpoint = tmp_path / "ppo.partial" / "seed-0" / "checkpoint.safetensors"
    kill_when(words, checkpoint.exists)
    assert not (tmp_path / "ppo").exists()
    with safe_open(checkpoint, "pt") as file:
        counters = json.loads(file.metadata()["counters"])
    assert 20_000 <= counters["num_timesteps"] < 30_000
    assert command(*words).code == 0
    with (tmp_path / "ppo" / "seed-0" / "curve.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    # The rows before the kill were taken over: their seconds are those of the run that was killed.
    before = len(counters["rows"])
    assert [row["seconds"] for row in rows[:before]] == [row["seconds"] for row in counters["rows"]]
    assert (len(rows) > before, rows[-1]["timesteps"] >= 30_000) == (True, True)
    assert [policy.k for policy in load_agents(tmp_path / "ppo")] == [4]


def test_a_killed_search_keeps_its_trials_and_ends_as_it_would_have(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    optuna = pytest.importorskip("optuna")
    judge = tmp_path / "judge"
    assert command("fit", loop / "log", "--encoder", loop / "encoder", "--out", judge, "--members", 0).code == 0
    parts = [loop / "log", "--encoder", loop / "encoder", "--shopper", loop / "shopper", "--judge", judge, "-k", 4]
    sizes = ["--trials", 3, "--steps", 2048, "--judge-shoppers", 20, "--check-seeds", 1, "--check-shoppers", 20]
    study = tmp_path / "tuned.partial" / "study.db"

    def in_the_third() -> bool:
        if not study.is_file():
            return False
        with closing(sqlite3.connect(f"file:{study}?mode=ro", uri=True)) as file, suppress(sqlite3.Error):
            return file.execute("SELECT count(*) FROM trial_values").fetchone()[0] >= 2
        return False

    kill_when(["tune", *parts, *sizes, "--out", tmp_path / "tuned"], in_the_third)
    assert not (tmp_path / "tuned").exists()
    assert command("tune", *parts, *sizes, "--out", tmp_path / "tuned").code == 0
    assert command("tune", *parts, *sizes, "--out", tmp_path / "whole").code == 0
    tables = [pl.read_csv(tmp_path / name / "trials.csv").drop("seconds") for name in ("tuned", "whole")]
    assert tables[0].equals(tables[1])
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'tuned' / 'study.db'}")
    states = [trial.state.name for trial in optuna.load_study(study_name="slatewise", storage=storage).trials]
    storage.remove_session()
    storage.engine.dispose()
    assert set(states) <= {"COMPLETE", "PRUNED", "FAIL"}  # what the kill cut off failed, and nothing still runs
    assert len(states) - states.count("FAIL") == 3


def test_a_killed_evaluation_keeps_the_policies_that_were_judged(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    words = [*loop.words["evaluate"], "--out", tmp_path / "evaluation", "--shoppers", 300]
    judged = tmp_path / "evaluation.partial" / "judged"
    kill_when(words, lambda: len(list(judged.glob("*/outcomes.parquet"))) >= 2)
    assert not (tmp_path / "evaluation").exists()
    kept = next(judged.glob("*random*"))
    outcomes = Outcomes.load(kept)
    outcomes.frame["reward"] = 1e6  # by which it shows that this was read, and not judged again
    outcomes.save(kept)
    answer = command(*words, "--json")
    assert answer.code == 0
    means = {row["policy"]: row["mean"] for row in answer.json["summary"] if row["metric"] == "reward"}
    assert means["random"] == 1e6
    assert all(mean < 100 for name, mean in means.items() if name != "random")
    assert (tmp_path / "evaluation" / "report.html").stat().st_size > 10_000


def test_a_killed_export_leaves_no_bundle_and_finishes_when_run_again(
    loop: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    words = [*loop.words["export"], "--out", tmp_path / "bundle"]
    kill_when(words, (tmp_path / "bundle.partial").exists)
    assert not (tmp_path / "bundle").exists()
    answer = command("serve", tmp_path / "bundle", "--store", tmp_path / "events.db", "--json")
    assert (answer.code, answer.json["error"]) == (4, "ArtefactError")
    assert command(*words).code == 0
    assert Bundle.load(tmp_path / "bundle").catalogue.n_items == 60
