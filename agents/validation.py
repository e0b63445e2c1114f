"""Training watched by shoppers that it does not learn from: the best version is kept, and without gains it ends.

stable-baselines3's own `EvalCallback` plays whole episodes of an env, and its verdict depends on who happened to come.
Here every version meets the same shoppers with the same luck, which a function handed in serves.

Shapes: n shoppers.

Source: early stopping with patience, Prechelt, "Early stopping - but when?", 1998.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from ..datasets.tokens import Ints
from .learning import predicted
from .scorers import SlateScorer

Value = Callable[[Any], ArrayLike]
"""A policy with `k` and `predict` -> (n,) what each validation shopper brought; the same shoppers every time."""
COLUMNS = ("timesteps", "value", "error")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """When and by whom a training is valued, and when it has learnt enough."""

    value: Value
    """Values a policy; `evaluation.Valuer` does by simulated shoppers."""
    every: int = 10_000
    """Slates shown between two valuations, at least 1; PPO is valued between two of its rollouts."""
    patience: int | None = 5
    """Valuations in a row without a gain after which training stops; None trains to the end."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"slates between valuations must be at least 1, got every={self.every}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 valuation, got {self.patience}")

    def settings(self) -> dict[str, Any]:
        """Plain values of what decides a training; who the shoppers are is the caller's to tell."""
        return {"every": self.every, "patience": self.patience}


class BestKept(BaseCallback):
    """Values a learner as it trains, keeps the weights of its best version, and stops it.

    The untrained version is valued first: its slates are the encoder's, and a training that never beats them is told by
    `best_at` 0.

    Args:
        validation: when, by whom, and how long without a gain.
        heard: called after each valuation, with this callback; what it raises ends the training.

    Attributes:
        rows: `timesteps` shown, `value` a shopper, and the standard `error` of that mean.
        weights: of the best version; empty before the first valuation.
    """

    def __init__(self, validation: Validation, heard: Callable[["BestKept"], None] | None = None) -> None:
        super().__init__()
        self.validation, self._heard = validation, heard
        self.rows: list[dict[str, float]] = []
        self.weights: dict[str, Tensor] = {}

    @property
    def best(self) -> dict[str, float]:
        """The row of the best version, the earliest of equals.

        Raises:
            ValueError: nothing was valued yet.
        """
        return max(self.rows, key=lambda row: row["value"])

    @property
    def stopped(self) -> bool:
        """Whether the latest valuations brought no gain for as long as patience lasts."""
        if self.validation.patience is None or not self.rows:
            return False
        return len(self.rows) - 1 - self.rows.index(self.best) >= self.validation.patience

    def facts(self) -> dict[str, float]:
        """What the valuations found: `value` of the version kept, its `error`, `best_at` slates; and `stopped_at`."""
        best = self.best
        found = {"value": best["value"], "value_error": best["error"], "best_at": best["timesteps"]}
        return found | ({"stopped_at": self.rows[-1]["timesteps"]} if self.stopped else {})

    def _on_rollout_start(self) -> None:
        # Between rollouts all that was shown has been learnt from: the version valued is the one that is kept.
        if not self.rows or self.model.num_timesteps - self.rows[-1]["timesteps"] >= self.validation.every:
            self._value()

    def _on_step(self) -> bool:
        return not self.stopped

    def _on_training_end(self) -> None:
        if not self.stopped and self.model.num_timesteps > self.rows[-1]["timesteps"]:
            self._value()

    def _value(self) -> None:
        scorer: SlateScorer = self.model.scorer  # pyright: ignore[reportAttributeAccessIssue]
        brought = np.asarray(self.validation.value(_Greedy(scorer)), dtype=np.float64)
        error = brought.std(ddof=1) / np.sqrt(len(brought)) if len(brought) > 1 else np.nan
        mean = float(brought.mean())
        row: dict[str, float] = {"timesteps": self.model.num_timesteps, "value": mean, "error": float(error)}
        if not self.rows or row["value"] > self.best["value"]:
            self.weights = weights_of(scorer)
        self.rows.append(row)
        for name in ("value", "error"):
            self.logger.record(f"validation/{name}", row[name])
        self.logger.dump(self.model.num_timesteps)
        if self._heard is not None:
            self._heard(self)

    def write(self, path: Path) -> None:
        """Write the rows as CSV."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


def weights_of(scorer: SlateScorer) -> dict[str, Tensor]:
    """A copy of a scorer's weights on the CPU; items, which all versions share, are left out."""
    items = ("item_vectors", "available")
    return {name: part.detach().cpu().clone() for name, part in scorer.state_dict().items() if name not in items}


class _Greedy:
    """The greedy policy of a scorer that is still learning."""

    def __init__(self, scorer: SlateScorer) -> None:
        self._scorer, self.k = scorer, scorer.k

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Ints, None]:
        """(B, k) int64 greedy slates, and None."""
        del state, episode_start, deterministic
        return predicted(self._scorer, observation), None
