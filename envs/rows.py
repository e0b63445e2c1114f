"""Some rows of what is kept of many shoppers."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def rows_of(part: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of a dataclass whose tensors and arrays have rows first; its other fields stay as they are.

    A part that has rows elsewhere says itself what its `rows(which)` are.
    """
    return _rows_of(part, rows, {})


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
        return replace(part, **{one.name: _rows_of(getattr(part, one.name), rows, indices) for one in fields(part)})
    return part
