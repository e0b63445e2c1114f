"""TensorBoard logs of trainings, written by stable-baselines3's own logger."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

_NEVER = 10**9
_EPISODES = 100  # between two rows of a learner off policy; one on policy writes a row a rollout


def tensorboard_logger(folder: str | Path, seed: int) -> Logger:
    """A logger into `FOLDER/seed-S`; a resumed training adds to what is there.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """
    if find_spec("tensorboard") is None:  # what stable-baselines3 would raise names no package
        raise ModuleNotFoundError("tensorboard is not installed", name="tensorboard")
    return configure(str(Path(folder) / f"seed-{seed}"), ["tensorboard"])


def log_to(agent: BaseAlgorithm, folder: str | Path | None, seed: int) -> None:
    """Let a learner write TensorBoard logs into a folder; None changes nothing."""
    if folder is not None:
        agent.set_logger(tensorboard_logger(folder, seed))


def log_interval(agent: Any) -> int:
    """`log_interval` of a learner's `learn`: rollouts or episodes between rows, and never where nobody reads them."""
    if not getattr(agent, "_custom_logger", False):
        return _NEVER
    return _EPISODES if isinstance(agent, OffPolicyAlgorithm) else 1
