"""What a shop knows of a shopper beside the history: where the visit stands, and the visits before it.

Shapes: B rows (shoppers).
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..datasets.known_shop import YEAR

Floats = NDArray[np.float32]
CONTEXT = ("slates", "idle", "gap", "visits", "days", "days_away", "bought", "season_cos", "season_sin")
"""Columns of a context: the share of `max_slates` shown; slates since the last click, of ten; log seconds since the
last token, of a year's; the shares of `max_visits` and of `max_days` used up; log days since the last visit, of a
year's; slates that sold something, of ten; and the day of the year on a circle, where the shopper lives by a calendar.
The first seven lie in [0, 1], what comes to more counts as 1; the last two in [-1, 1]."""
_FEW = 10.0  # slates
_YEAR_SECONDS = YEAR * 24 * 3600


def context(
    slates: Floats,
    idle: NDArray[np.int64],
    gap: Floats,
    horizon: NDArray[np.float64],
    days_away: NDArray[np.float64],
    bought: NDArray[np.int64],
    day: Floats | None,
) -> Floats:
    """(B, 9) float32 in [-1, 1], columns as `CONTEXT`.

    Args:
        slates: (B,) share of the limit that was shown.
        idle: (B,) slates since the last click, or since the shopper came.
        gap: (B,) seconds since the last token.
        horizon: (B, 2) shares of the limits of visits and of days that are used up.
        days_away: (B,) days since the last visit, 0 on the first.
        bought: (B,) slates that sold something.
        day: (B,) days from `DAY_ZERO`, where the shopper lives by a calendar.
    """
    turn = np.zeros_like(slates) if day is None else 2 * math.pi / YEAR * day
    season = np.zeros((len(slates), 2)) if day is None else np.stack([np.cos(turn), np.sin(turn)], 1)
    counted = [slates, idle / _FEW, np.log1p(gap) / math.log1p(_YEAR_SECONDS), *horizon.T]
    counted += [np.log1p(days_away) / math.log1p(YEAR), bought / _FEW]
    return np.concatenate([np.clip(np.stack(counted, 1), 0.0, 1.0), season], 1).astype(np.float32)
