"""Some rows of what is kept of many shoppers."""

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.shopper import TokenBatch


def rows_of(part: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of a dataclass whose tensors and arrays have rows first; its other fields stay as they are.

    A part that has rows elsewhere says itself what its `rows(which)` are.
    """
    return _rows_of(part, rows, {})


def each_row(part: Any, count: int) -> list[Any]:
    """The `count` rows of a dataclass, each by itself: views of it, so that what changes one changes it.

    In half the time of `rows_of` for one row, all together.
    """
    if isinstance(part, Tensor):
        return list(part.split(1))
    if isinstance(part, np.ndarray):
        return [part[row : row + 1] for row in range(count)]
    if is_dataclass(part) and not isinstance(part, type):
        if callable(taken := getattr(part, "rows", None)) and not isinstance(part, TokenBatch):
            return [taken(torch.tensor([row])) for row in range(count)]
        columns = [each_row(getattr(part, name), count) for name in _names(type(part))]
        return [type(part)(*row) for row in zip(*columns, strict=True)]
    return [part] * count


def _rows_of(part: Any, rows: NDArray[np.int64], indices: dict[torch.device, Tensor]) -> Any:
    if isinstance(part, Tensor):
        if part.device not in indices:
            indices[part.device] = torch.from_numpy(rows).to(part.device)
        return part.index_select(0, indices[part.device])
    if isinstance(part, np.ndarray):
        return part[rows]
    if is_dataclass(part) and not isinstance(part, type):
        if callable(taken := getattr(part, "rows", None)):
            return taken(torch.from_numpy(rows))
        return type(part)(*(_rows_of(getattr(part, name), rows, indices) for name in _names(type(part))))
    return part


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a dataclass, in the order in which it takes them."""
    return tuple(one.name for one in fields(kind))
