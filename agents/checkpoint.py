"""What is watched and kept while an agent trains: its learning curve, and checkpoints to resume from."""

import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from stable_baselines3.common.callbacks import BaseCallback

from ..errors import ArtefactError
from .validation import BestKept

COLUMNS = ("timesteps", "reward", "ctr", "slates", "seconds")


class Curve(BaseCallback):
    """Learning curve: means over each stretch of training of what the exploring policy earns.

    Args:
        every: slates shown between rows.

    Attributes:
        rows: `timesteps` so far; of the episodes ended since the row above, `reward` and `slates` of a shopper (nan
            where none ended); `ctr`, clicks per slate; `seconds` of training so far.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        self._fresh()

    def _fresh(self) -> None:
        self._ended: list[tuple[float, int]] = []
        self._clicks = self._shown = 0

    def _on_training_start(self) -> None:
        self._began, self._before = time.monotonic(), self.seconds
        self._returns = np.zeros(self.training_env.num_envs)
        self._lengths = np.zeros(self.training_env.num_envs, np.int64)

    def _on_step(self) -> bool:
        self._returns += self.locals["rewards"]
        self._lengths += 1
        self._clicks += sum(info.get("clicked", -1) >= 0 for info in self.locals["infos"])
        self._shown += len(self._returns)
        ended = np.flatnonzero(self.locals["dones"])
        self._ended += zip(self._returns[ended].tolist(), self._lengths[ended].tolist(), strict=True)
        self._returns[ended], self._lengths[ended] = 0.0, 0
        self.seconds = self._before + time.monotonic() - self._began
        if self._shown >= self.every:
            self._close_row()
        return True

    def _on_training_end(self) -> None:
        if self._shown:
            self._close_row()

    def _close_row(self) -> None:
        reward, slates = np.mean(self._ended, axis=0).tolist() if self._ended else (float("nan"), float("nan"))
        row = (self.num_timesteps, reward, self._clicks / self._shown, slates, self.seconds)
        self.rows.append({name: round(float(value), 4) for name, value in zip(COLUMNS, row, strict=True)})
        self._fresh()

    def write(self, path: Path) -> None:
        """Write the rows as CSV."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


class Checkpoints(BaseCallback):
    """Saves a learner between rollouts, and tells how far it is.

    Args:
        path: the file, overwritten in one step.
        curve: saved with it.
        every: slates between checkpoints.
        told: called with the slates shown so far.
        best: saved with it, also after each of its valuations; called before this one.
    """

    def __init__(
        self,
        path: Path,
        curve: Curve,
        every: int,
        told: Callable[[int], None] | None,
        best: BestKept | None = None,
    ) -> None:
        super().__init__()
        self.path, self.curve, self.every, self.told, self.best = path, curve, every, told, best

    def _on_training_start(self) -> None:
        self._last, self._valued = self.num_timesteps, self._valuations()

    def _on_rollout_start(self) -> None:
        # Between rollouts all that was shown has been learnt from: weights and counters belong together.
        if self.model.num_timesteps - self._last >= self.every or self._valuations() > self._valued:
            save(self.model, self.curve, self.path, self.best)
            self._last, self._valued = self.model.num_timesteps, self._valuations()
        if self.told is not None:
            self.told(self.model.num_timesteps)

    def _valuations(self) -> int:
        return len(self.best.rows) if self.best is not None else 0

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self.told is not None:
            self.told(self.num_timesteps)


_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")


def save(agent: Any, curve: Curve, path: Path, best: BestKept | None = None) -> None:
    """Write weights, optimiser state, counters, learning curve and best version into one file, replaced in one step."""
    tensors = {f"policy.{name}": part.cpu() for name, part in agent.policy.state_dict().items()}
    for number, state in agent.policy.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(part).cpu() for name, part in state.items()}
    counters = {name: getattr(agent, name) for name in _COUNTERS}
    counters |= {"ready": getattr(agent, "_ready", True), "rows": curve.rows, "seconds": curve.seconds}
    if best is not None:
        tensors |= {f"best.{name}": part for name, part in best.weights.items()}
        counters["valuations"] = best.rows
    fresh = path.with_name(path.name + ".new")
    save_file(
        {name: part.contiguous().clone() for name, part in tensors.items()}, fresh, {"counters": json.dumps(counters)}
    )
    os.replace(fresh, path)


def restore(agent: Any, curve: Curve, path: Path, best: BestKept | None = None) -> None:
    """Put a learner, its curve and its best version back to where `save` left them.

    Raises:
        ArtefactError: the file cannot be read, or belongs to another learner.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            counters = json.loads(file.metadata()["counters"])
        agent.policy.load_state_dict(_under("policy.", tensors))
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise ArtefactError(f"{path} cannot be resumed from ({error}); delete it to train this seed anew") from error
    state: dict[int, dict[str, Any]] = {}
    for name, part in _under("optimizer.", tensors).items():
        number, field = name.split(".", 1)
        state.setdefault(int(number), {})[field] = part
    groups = agent.policy.optimizer.state_dict()["param_groups"]
    agent.policy.optimizer.load_state_dict({"state": state, "param_groups": groups})
    for name in _COUNTERS:
        setattr(agent, name, counters[name])
    if hasattr(agent, "_ready"):
        agent._ready = counters["ready"]
    curve.rows, curve.seconds = counters["rows"], counters["seconds"]
    if best is not None:
        best.rows, best.weights = counters.get("valuations", []), _under("best.", tensors)


def _under(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}
