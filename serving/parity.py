"""Whether a bundle shows the slates that the trained policy shows.

Shapes: B histories, N items, K places.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..datasets.log import ShopLog
from ..datasets.tokens import Floats, History, Ints
from ..encoders.state import StateEncoder
from ..errors import EvidenceError
from .runtime import Runtime

_AT_ONCE = 128  # histories that torch works out together

Predict = Callable[[Floats], Ints]
"""(B, D) states -> (B, K) slates, as the trained policy shows them."""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Served slates beside the trained policy's.

    Attributes:
        histories: how many were compared.
        equal: of these, the same items in the same order.
        tied: differ only in places whose items score alike, so that rounding decides.
        different: differ otherwise; 0 for a bundle that is what was trained.
        held_out: whether the histories come from sessions later than all that was trained on.
        max_abs_difference: largest difference of scores, among the items of slates.
        first_difference: what was served and trained, for the first history of `different`.
    """

    histories: int
    equal: int
    tied: int
    different: int
    held_out: bool
    max_abs_difference: float
    first_difference: dict[str, Any] | None = None

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def held_out_histories(log: ShopLog, histories: int, *, last: int, seed: int = 0) -> tuple[History, bool]:
    """Beginnings of sessions of the log's last tenth by time, some of them empty; whole log where that is too small.

    Returns:
        The histories, and whether they are held out.
    """
    try:
        part, held_out = log.split_at(0.8, 0.1)[-1], True
    except EvidenceError:
        part, held_out = log, False
    rng = np.random.default_rng(seed)
    sessions = rng.integers(0, len(part), histories)
    upto = rng.integers(0, part.tokens.lengths[sessions] + 1)
    return part.tokens.histories(sessions, upto, last=last), held_out


def compare(
    runtime: Runtime,
    encoder: StateEncoder,
    scores: Callable[[Floats], Floats],
    predict: Predict,
    histories: History,
    *,
    held_out: bool,
) -> ParityReport:
    """Serve each history alone, as the server does, and compare with the trained policy's slate.

    Args:
        runtime: of the bundle.
        encoder: the trained one.
        scores: (B, D) states -> (B, N + 1) scores of the trained policy.
        predict: the trained policy.
        histories: B of them.
        held_out: as `ParityReport.held_out`.
    """
    equal = tied = different = 0
    worst, first = 0.0, None
    for row, (wanted, slate) in enumerate(_trained(encoder, scores, predict, histories)):
        found = runtime.scores(_row(histories, row))[0]
        served, trained = runtime.best(found, runtime.bundle.k), slate[slate > 0]
        places = np.union1d(served, trained)
        worst = max(worst, float(np.abs(found[places] - wanted[places]).max(initial=0.0)))
        if np.array_equal(served, trained):
            equal += 1
        elif len(served) == len(trained) and np.abs(wanted[served] - wanted[trained]).max() <= _tie(wanted, places):
            tied += 1
        else:
            different += 1
            first = first or {"row": row, "served": served.tolist(), "trained": trained.tolist()}
    return ParityReport(len(histories), equal, tied, different, held_out, worst, first)


def _trained(
    encoder: StateEncoder, scores: Callable[[Floats], Floats], predict: Predict, histories: History
) -> Iterator[tuple[Floats, Ints]]:
    """Scores and slate of each history, as torch works them out, many at a time."""
    for start in range(0, len(histories), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        columns = (histories.items[part], histories.events[part], histories.gaps[part], histories.lengths[part])
        with torch.no_grad():
            states = encoder.encode(*(torch.from_numpy(column) for column in columns)).numpy()
        yield from zip(scores(states), predict(states), strict=True)


def _tie(scores: Floats, places: Ints) -> float:
    """Scores nearer than this are told apart by rounding alone: 64 units in the last place of the largest."""
    return float(64 * np.finfo(np.float32).eps * max(1.0, np.abs(scores[places]).max()))


def _row(histories: History, row: int) -> History:
    """One history without the padding that longer ones gave it."""
    width, one = max(int(histories.lengths[row]), 1), slice(row, row + 1)
    items, events, gaps = histories.items[one, :width], histories.events[one, :width], histories.gaps[one, :width]
    return History(items, events, gaps, histories.lengths[one])
