"""Checkpoints of a training run: weights and optimizer in safetensors, counters in JSON, whole after any kill."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..datasets.artefact import write_json


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epochs: figures of each finished epoch, in order.
        best: number of the epoch with the best validation figure, -1 before the first.
        seconds: spent in training so far, over all starts.
        cpu_seconds: of processor time in these.
        steps: of the whole run, as planned when it began; 0 before the first epoch.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best: int = -1
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    steps: int = 0

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Add the time that is spent meanwhile."""
        seconds, cpu_seconds = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - seconds
        self.cpu_seconds += time.process_time() - cpu_seconds


class Checkpoints:
    """The checkpoints in a folder: the latest epoch's and the best one's.

    The counters name the files they belong to and are replaced in one step after the files are written, so a kill at
    any moment leaves a pair that fits.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder/checkpoints`; made when the first checkpoint is saved."""
        self.folder = folder / "checkpoints"

    def save(self, progress: Progress, model: nn.Module, optimizer: Optimizer) -> None:
        """Keep the state after the last epoch in `progress`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for place, values in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{place}.{name}": value for name, value in values.items()}
        fresh = self.folder / "new.safetensors"
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, fresh)
        fresh.replace(self._file(len(progress.epochs) - 1))
        write_json(self.folder / "progress.json", asdict(progress))
        kept = {self._file(progress.best), self._file(len(progress.epochs) - 1)}
        for old in set(self.folder.glob("epoch-*.safetensors")) - kept:
            old.unlink()

    def resume(self, model: nn.Module, optimizer: Optimizer) -> Progress:
        """Put model and optimizer back to the latest checkpoint, and tell where that is."""
        path = self.folder / "progress.json"
        if not path.is_file():
            return Progress()
        progress = Progress(**json.loads(path.read_text(encoding="utf-8")))
        tensors = load_file(self._file(len(progress.epochs) - 1))
        model.load_state_dict(_under(tensors, "model."))
        state: dict[int, dict[str, Any]] = {}
        for name, value in _under(tensors, "optimizer.").items():
            place, key = name.split(".", 1)
            state.setdefault(int(place), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return progress

    def load_best(self, progress: Progress, model: nn.Module) -> None:
        """Put the model to the best epoch's weights."""
        model.load_state_dict(_under(load_file(self._file(progress.best)), "model."))

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}.safetensors"


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
