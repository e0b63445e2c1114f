"""What all learners need: checked settings, slates from scores, and an end with a reason where numbers are none."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor

from ..datasets.tokens import Ints
from ..errors import SlatewiseError
from .replay import state_of
from .scorers import SlateScorer


class DivergedError(SlatewiseError, ArithmeticError):
    """Training produced a number that is not finite."""


def check_finite(loss: Tensor, algorithm: Any) -> None:
    """Stop before a loss that is not finite reaches the weights.

    Raises:
        DivergedError: it is not finite; names the step and what to change.
    """
    if not torch.isfinite(loss):
        raise DivergedError(
            f"the loss became {loss.item()} after {algorithm.num_timesteps} slates; lower learning_rate "
            f"(now {algorithm.learning_rate}) or look for extreme rewards and states in the env"
        )


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """Settings of the scorer, which all learners share."""

    hidden: int = 128
    """Width of the hidden layers."""
    scale: float = 5.0
    """What `state . item` is multiplied by at first: how sharply what is untrained prefers the nearest items."""
    max_candidates: int = 2_000
    """Above this many items, only so many nearest the state are scored; see `SlateScorer`."""

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)


SCORER_LIMITS: dict[str, tuple[float, float]] = {
    "hidden": (1, math.inf),
    "scale": (1e-6, 1e3),
    "max_candidates": (1, math.inf),
    "learning_rate": (1e-9, 1),
}
"""Ranges of the settings of `ScorerConfig`, and of the learning rate that goes with them, for `check_settings`."""


RateSchedule = Literal["constant", "linear"]
"""How a learning rate goes on: as it is, or down to 0 along a line that ends with the training."""


def scheduled(rate: float, schedule: RateSchedule) -> float | Schedule:
    """A learning rate as stable-baselines3 takes it.

    Raises:
        ValueError: the schedule is none.
    """
    if schedule not in ("constant", "linear"):
        raise ValueError(f"schedule must be 'constant' or 'linear', got {schedule!r}")
    return rate if schedule == "constant" else LinearSchedule(rate, 0.0, 1.0)


def constructor_parameters(policy: Any) -> dict[str, Any]:
    """What a policy of stable-baselines3 with a scorer needs to be made again."""
    settings = policy.scorer.settings()
    return {
        "observation_space": policy.observation_space,
        "action_space": policy.action_space,
        "lr_schedule": policy._dummy_schedule,
        **{one.name: settings[one.name] for one in fields(ScorerConfig)},
    }


def check_settings(settings: Any, limits: Mapping[str, tuple[float, float]]) -> None:
    """Check that fields of a config lie in closed ranges.

    Raises:
        ValueError: one does not; names it, its value and its range.
    """
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value}")


def check_enough(config: Any, total_timesteps: int) -> None:
    """Check that a training is long enough to learn anything.

    Raises:
        ValueError: it ends before the learner takes its first step; names the setting that says when that is.
    """
    name = "clone_first" if getattr(config, "behaviour", "") == "estimated" else "learning_starts"
    unread = getattr(config, name, 0)
    if total_timesteps <= unread:
        raise ValueError(f"learning begins after {name}={unread} slates, and {total_timesteps} are all there are")


def put_items(algorithm: Any, item_vectors: ArrayLike | Tensor, available: ArrayLike | Tensor | None) -> None:
    """Give an algorithm its catalogue.

    Raises:
        ValueError: the vectors do not have one row for each item of the env's action space, and one for the padding.
    """
    rows, wanted = len(item_vectors), algorithm.scorer.n_items + 1  # pyright: ignore[reportArgumentType]
    if rows != wanted:
        raise ValueError(
            f"the env's slates hold items 0 to {wanted - 1}, so item_vectors needs {wanted} rows; got {rows}"
        )
    algorithm.scorer.set_items(item_vectors, available)


@torch.no_grad()
def predicted(scorer: SlateScorer, observation: Any, generator: torch.Generator | None = None) -> Ints:
    """Slates by a scorer: greedy, or, with a generator, drawn by Plackett-Luce on the scores.

    Args:
        scorer: (B, D) state -> (B, N + 1) scores.
        observation: (B, D) states, or the dictionary of the "history" observation; or one row of them.
        generator: of the draws.

    Returns:
        (B, K) int64, or (K,) for one row.
    """
    states = torch.as_tensor(state_of(observation), dtype=torch.float32, device=scorer.item_vectors.device)
    slates = scorer.slates(states.reshape(-1, scorer.dim), generator, exact=True)
    return slates.reshape(*states.shape[:-1], scorer.k).cpu().numpy()
