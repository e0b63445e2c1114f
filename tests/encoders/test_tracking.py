"""Figures of a training: in files that outlive a kill, and in whatever tracker a caller brings."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.logger import configure

from slatewise.encoders import tracking as module
from slatewise.encoders.tracking import mlflow_tracker, sb3_tracker, tracking


class Kept:
    """A run of Weights & Biases, as far as a tracker is concerned."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log(self, data: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, data))


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def json_rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "progress.json").read_text().splitlines()]


def test_figures_go_to_files_and_to_the_callers_tracker(tmp_path: Path) -> None:
    mine = Kept()
    with tracking(tmp_path / "logs", ["csv", "json"], mine) as tracker:
        assert tracker is not None
        assert not (tmp_path / "logs").exists()  # nothing is made before there is something to write
        tracker.log({"train/loss": 2.5}, step=10)
        tracker.log({"train/loss": 2.0, "validation/recall@20": 0.25}, step=20)
    assert mine.rows == [(10, {"train/loss": 2.5}), (20, {"train/loss": 2.0, "validation/recall@20": 0.25})]
    first, second = csv_rows(tmp_path / "logs")
    assert (first["step"], first["train/loss"], first["validation/recall@20"]) == ("10", "2.5", "")
    assert (second["step"], second["train/loss"], second["validation/recall@20"]) == ("20", "2.0", "0.25")
    assert json_rows(tmp_path / "logs") == [
        {"train/loss": 2.5, "step": 10},
        {"train/loss": 2.0, "validation/recall@20": 0.25, "step": 20},
    ]


def test_a_training_that_goes_on_keeps_the_rows_before_and_repeats_none(tmp_path: Path) -> None:
    with tracking(tmp_path, ["csv", "json"]) as tracker:
        assert tracker is not None
        for step in (10, 20, 30):
            tracker.log({"loss": 1 / step}, step=step)
    with (tmp_path / "progress.json").open("a") as file:
        file.write('{"loss": 0.0')  # a kill in the middle of a line
    with tracking(tmp_path, ["csv", "json"]) as tracker:
        assert tracker is not None
        tracker.log({"loss": 1 / 20, "more": 1.0}, step=20)
        tracker.log({"loss": 1 / 30, "more": 1.0}, step=30)
    assert [row["step"] for row in csv_rows(tmp_path)] == ["10", "20", "30"]
    assert [row["step"] for row in json_rows(tmp_path)] == [10, 20, 30]
    assert json_rows(tmp_path)[0] == {"loss": 0.1, "step": 10}


def test_without_files_or_tracker_there_is_nothing_to_tell(tmp_path: Path) -> None:
    with tracking(tmp_path / "logs") as tracker:
        assert tracker is None
    mine = Kept()
    with tracking(tmp_path / "logs", (), mine) as tracker:
        assert tracker is mine


def test_a_logger_of_stable_baselines3_and_mlflow_are_told_through_adapters(tmp_path: Path) -> None:
    logger = configure(str(tmp_path), ["csv"])
    sb3_tracker(logger).log({"loss": 0.5}, step=3)
    logger.close()
    assert csv_rows(tmp_path) == [{"loss": "0.5", "step": "3"}] or csv_rows(tmp_path) == [{"step": "3", "loss": "0.5"}]

    class Mlflow:
        told: tuple[Any, ...] = ()

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            self.told = (metrics, step)

    run = Mlflow()
    mlflow_tracker(run).log({"recall@20": 0.5}, step=3)
    assert run.told == ({"recall_at_20": 0.5}, 3)


def test_a_format_that_is_none_and_a_missing_tensorboard_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="'xml'; choose from csv, json, tensorboard"), tracking(tmp_path, ["xml"]):
        pass
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "slatewise\[tensorboard\]"') as caught:
        module.check_formats(["tensorboard"])
    assert caught.value.name == "tensorboard"


def test_tensorboard_gets_the_figures_where_it_is_installed(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((10, 20), (20, 30)):
        with tracking(tmp_path, ["tensorboard"]) as tracker:
            assert tracker is not None
            for step in steps:
                tracker.log({"loss": 1 / step}, step=step)
    read = reading.EventAccumulator(str(tmp_path))
    read.Reload()
    assert read.Tags()["scalars"] == ["loss"]
    assert sorted({event.step for event in read.Scalars("loss")}) == [10, 20, 30]


def test_trackers_load_no_stable_baselines3_before_files_are_written() -> None:
    code = "import sys, slatewise.encoders.tracking; sys.exit('stable_baselines3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
