"""A fitted shopper's parameters as a table that a person can read."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .choice_fit import ChoiceFit
from .examination import Examination
from .features import ITEM_FEATURES, OUTSIDE_FEATURES, SCALED, Scaling
from .funnel import FUNNEL_WEIGHTS
from .funnel_fit import StageFit
from .leaving import LEAVING_FEATURES
from .logistic import LogisticFit
from .quantities import QUANTITY_FEATURES
from .quantities_fit import QuantityFit
from .returning import RETURN_FEATURES
from .returning_fit import ReturnFit


def parameter_table(
    choice: ChoiceFit, funnel: dict[str, StageFit], leaving: LogisticFit | None, scaling: Scaling, from_slates: bool
) -> list[dict[str, Any]]:
    """One row a parameter that was learnt.

    Returns:
        Rows of `part`; `name`; `value` in logits per `unit`; `error`, its standard error; `low` and `high`, its 95 %
        interval.
    """
    units = [
        f"sd ({float(one):.3g})" if name in SCALED else "1"
        for name, one in zip(ITEM_FEATURES, scaling.scale, strict=True)
    ]
    unit_of: dict[str, str] = dict(zip(ITEM_FEATURES, units, strict=True))
    rows = _rows("choice", ITEM_FEATURES, choice.weights.item.numpy(), choice.errors["item"], unit_of)
    unknown = np.full(2, np.nan)
    rows += _rows("choice", ("sd_of_alike_items", "sd_of_own_effect"), np.array(choice.effects_sd), unknown, {})
    if from_slates:
        if choice.errors["outside"].any():  # else all of them were assumed
            rows += _rows("choice", OUTSIDE_FEATURES, choice.weights.outside.numpy(), choice.errors["outside"], {})
        proceed = choice.weights.proceed.numpy()
        names = looking_names(choice.weights.form, len(proceed))
        rows += _rows("examination", names, proceed[: len(names)], choice.errors["proceed"][: len(names)], {})
    for step, fit in funnel.items():
        rows += _rows(step, FUNNEL_WEIGHTS, fit.weights, fit.errors, unit_of)
    if leaving is not None:
        rows += _rows("leaving", LEAVING_FEATURES, leaving.weights, leaving.errors, {})
    return rows


def return_rows(fit: ReturnFit | None) -> list[dict[str, Any]]:
    """Rows as of `parameter_table` of coming again, in logits, and of the wait, in log days; none where assumed."""
    if fit is None:
        return []
    n = len(RETURN_FEATURES)
    named = ("coming again", RETURN_FEATURES), ("days until then", (*RETURN_FEATURES, "log_spread"))
    parts = zip(named, (slice(0, n), slice(n, None)), strict=True)
    return [row for (part, names), at in parts for row in _rows(part, names, fit.theta[at], fit.errors[at], {})]


def quantity_rows(fit: QuantityFit | None) -> list[dict[str, Any]]:
    """Rows as of `parameter_table` of quantities, in logs; none where they were not fitted."""
    return [] if fit is None else _rows("quantity", (*QUANTITY_FEATURES, "log_spread"), fit.theta, fit.errors, {})


def looking_names(form: Examination, count: int) -> list[str]:
    """Names of the logits of looking, of which the last holds for all further places; a cascade has none."""
    if form == "cascade":
        return []
    words = "look_at" if form == "position" else "look_on_from"
    return [f"{words}_{place}" for place in range(1, count)] + [f"{words}_{count}_on"]


def _rows(
    part: str, names: Any, values: NDArray[np.float64], errors: NDArray[np.float64], units: dict[str, str]
) -> list[dict[str, Any]]:
    return [
        {
            "part": part,
            "name": name,
            "unit": units.get(name, "1"),
            "value": float(value),
            "error": _known(error),
            "low": _known(value - 1.96 * error),
            "high": _known(value + 1.96 * error),
        }
        for name, value, error in zip(names, values, errors, strict=True)
    ]


def _known(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as plain JSON values; what is not a number becomes null."""
    rows = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(map(str, rows.columns), row, strict=True)) for row in rows.itertuples(index=False, name=None)]
