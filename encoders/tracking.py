"""Where a training tells its figures: files of the artefact, TensorBoard, or a tracker of the caller's own.

A tracker is whatever has `log(values, step=...)`: a run of Weights & Biases and the trackers of accelerate as they are,
stable-baselines3's logger and MLflow through the adapters here. Files are written by stable-baselines3's own formats,
so that a pretraining and an agent's training are read by the same tools.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from stable_baselines3.common.logger import KVWriter, Logger

FORMATS = ("csv", "json", "tensorboard")
"""Kinds of files that figures can be written to."""
_STEP = "step"  # the column that says where in the training a row stands; TensorBoard has an axis for it


class Tracker(Protocol):
    """What a training tells its figures to."""

    def log(self, values: dict[str, float], /, *, step: int) -> object:
        """Take figures by name, as they stand after `step` optimizer steps; steps never fall within a start."""
        ...


class _Mlflow(Protocol):
    def log_metrics(self, metrics: dict[str, float], /, *, step: int) -> object: ...


class _ToLogger:
    def __init__(self, logger: "Logger") -> None:
        self._logger = logger

    def log(self, values: dict[str, float], /, *, step: int) -> None:
        for name, value in values.items():
            self._logger.record(name, value)
        self._logger.record(_STEP, step, exclude="tensorboard")
        self._logger.dump(step)


class _ToMlflow:
    def __init__(self, run: _Mlflow) -> None:
        self._run = run

    def log(self, values: dict[str, float], /, *, step: int) -> None:
        # MLflow takes neither "@" nor other signs that metrics such as recall@20 have.
        self._run.log_metrics({name.replace("@", "_at_"): value for name, value in values.items()}, step=step)


class _ToAll:
    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def log(self, values: dict[str, float], /, *, step: int) -> None:
        for tracker in self._trackers:
            tracker.log(dict(values), step=step)


def sb3_tracker(logger: "Logger") -> Tracker:
    """A tracker that writes to a logger of stable-baselines3, as `configure(folder, ["csv", "tensorboard"])` gives.

    Every call is one row; a column `step` says where it stands, as the logger's own files keep no step.
    """
    return _ToLogger(logger)


def mlflow_tracker(run: _Mlflow) -> Tracker:
    """A tracker that writes to MLflow: the module itself, or whatever has its `log_metrics`."""
    return _ToMlflow(run)


def check_formats(formats: Sequence[str]) -> None:
    """See that figures can be written so.

    Raises:
        ValueError: a format is none of `FORMATS`.
        ModuleNotFoundError: TensorBoard is asked for and not installed.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"figures cannot be written as {name!r}; choose from {', '.join(FORMATS)}")
    if "tensorboard" in formats and find_spec("tensorboard") is None:
        raise ModuleNotFoundError(
            'TensorBoard is not installed; pip install "slatewise[tensorboard]"', name="tensorboard"
        )


@contextmanager
def tracking(folder: Path, formats: Sequence[str] = (), tracker: Tracker | None = None) -> Iterator[Tracker | None]:
    """What a training tells its figures to: files in a folder, and the caller's own tracker; None if there is neither.

    A training that goes on from a checkpoint repeats figures that it had told before the kill: rows from the step on
    that it begins with are dropped from the files there, and the rows before are kept. Files are closed at the end of
    the block.

    Args:
        folder: for `progress.csv`, `progress.json` (one object a line) and TensorBoard's files; made when needed.
        formats: of `FORMATS`.
        tracker: told as well.
    """
    check_formats(formats)
    files = _Files(folder, formats) if formats else None
    trackers = [one for one in (files, tracker) if one is not None]
    try:
        yield (_ToAll(trackers) if len(trackers) > 1 else trackers[0]) if trackers else None
    finally:
        if files is not None:
            files.close()


class _Files:
    """Figures in files; opened when the first ones come, for only then it is known where a training begins."""

    def __init__(self, folder: Path, formats: Sequence[str]) -> None:
        self._folder, self._formats = folder, tuple(dict.fromkeys(formats))
        self._logger: Logger | None = None

    def log(self, values: dict[str, float], /, *, step: int) -> None:
        if self._logger is None:
            self._logger = self._opened(step)
        _ToLogger(self._logger).log(values, step=step)

    def close(self) -> None:
        if self._logger is not None:
            self._logger.close()

    def _opened(self, step: int) -> "Logger":
        from stable_baselines3.common.logger import Logger, make_output_format

        writers = []
        for name in self._formats:
            # stable-baselines3 empties a file that it opens.
            kept = [row for row in _rows(self._folder / f"progress.{name}") if row[_STEP] < step]
            writers.append(make_output_format(name, str(self._folder)))
            _rewrite(writers[-1], kept)
        return Logger(str(self._folder), writers)


def _rewrite(writer: "KVWriter", rows: Iterable[Mapping[str, float]]) -> None:
    for row in rows:
        writer.write(dict(row), dict.fromkeys(row, ()), int(row[_STEP]))


def _rows(path: Path) -> list[dict[str, float]]:
    """The rows of a file of figures; those that a kill left half written are passed over."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        raw: Iterable[Mapping[str, Any]] = csv.DictReader(file) if path.suffix == ".csv" else map(_object, file)
        return [row for row in map(_figures, raw) if _STEP in row]


def _object(line: str) -> Mapping[str, Any]:
    try:
        return json.loads(line)
    except ValueError:
        return {}


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The cells that hold numbers; the step as a whole one."""
    try:
        found = {name: float(value) for name, value in row.items() if value not in (None, "")}
    except (TypeError, ValueError):
        return {}
    return {name: int(value) if name == _STEP else value for name, value in found.items()}
