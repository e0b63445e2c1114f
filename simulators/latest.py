"""Which of a log's sessions are the latest: what a fit is judged by, or stopped by, comes after what it learns from."""

import numpy as np
from numpy.typing import NDArray

from ..datasets.log import ShopLog


def latest(log: ShopLog, share: float, counts: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """Whether each session, by its start, is among the latest.

    Args:
        log: the sessions.
        share: of all that the latest hold, in [0, 1]; a session belongs to them where its middle does.
        counts: (sessions,) what each holds, for instance slates; by default each counts once.

    Returns:
        (sessions,) bool.
    """
    order = np.argsort(log.sessions["start"].to_numpy(), kind="stable")
    held = np.ones(len(order), np.int64) if counts is None else counts[order]
    late = np.zeros(len(order), np.bool_)
    late[order] = held.cumsum() - held / 2 > held.sum() * (1 - share)
    return late
