"""What both learners need: checked settings, and an end with a reason when numbers stop being numbers."""

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import SlatewiseError


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


def check_settings(settings: Any, limits: dict[str, tuple[float, float]]) -> None:
    """Check that fields of a config lie in closed ranges.

    Raises:
        ValueError: one does not; names it, its value and its range.
    """
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value}")


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
