"""Figures as people read them: rounded to what the interval supports, and comparisons as plain sentences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .metrics import ALL_METRICS, Metric

HEADLINE = ("reward", "revenue", "ctr", "conversion", "slates")
"""Metrics of the table on a terminal."""
EARNED = ("reward", "revenue")


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table, each by its columns' names."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def decimals(low: float, high: float, value: float) -> int:
    """Decimals that an interval's half-width supports, or the value where there is no interval.

    A half-width is shown with two digits where it begins with 1 or 2 (0.13, 2.5), and with one otherwise (0.04, 8).
    """
    half = (high - low) / 2
    scale = half if math.isfinite(half) and half > 0 else abs(value)
    return min(max(math.ceil(math.log10(3) - math.log10(scale)), 0), 4) if scale > 0 else 0


def number(value: float, places: int) -> str:
    """A figure with a true minus sign and thousands set apart; a dash for none."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.{places}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text.replace(",", "")) else text.lstrip("-")


def interval(mean: float, low: float, high: float, metric: Metric, places: int | None = None) -> str:
    """`"3.10 [2.90, 3.30]"`; shares in percent; without brackets where there is no interval.

    Args:
        mean: the figure, between `low` and `high`, which are nan where it has no interval.
        low: lower end.
        high: upper end.
        metric: what it measures.
        places: decimals; by default what the interval supports.
    """
    if metric.unit == "share":
        mean, low, high = 100 * mean, 100 * low, 100 * high
    unit = " %" if metric.unit == "share" else ""
    places = decimals(low, high, mean) if places is None else places
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{number(mean, places)}{unit}"
    return f"{number(mean, places)}{unit} [{number(low, places)}, {number(high, places)}]"


def as_rows(
    summary: pd.DataFrame, metrics: Sequence[str] = HEADLINE, *, currency: str = ""
) -> tuple[list[str], list[list[str]]]:
    """A summary as a table of text, one row a simulator and policy.

    Args:
        summary: of `summarise`.
        metrics: columns wanted; those that the summary lacks are left out.
        currency: named beside columns of money.

    Returns:
        Names of the columns, and the rows: policy first, the simulator second where there are several.
    """
    held = [name for name in metrics if name in set(summary["metric"])]
    several = summary["simulator"].nunique() > 1
    columns = ["policy", *(["simulator"] if several else []), *(heading(name, currency) for name in held)]
    places = {name: _column_decimals(summary[summary["metric"] == name], ALL_METRICS[name]) for name in held}
    rows = []
    for _, part in summary.groupby(["simulator", "policy"], sort=False):
        simulator, policy = part["simulator"].iloc[0], part["policy"].iloc[0]
        of = {row["metric"]: row for row in rows_of(part)}
        cells = []
        for name in held:
            mean, low, high = (float(of[name][side]) for side in ("mean", "low", "high"))
            cells.append(interval(mean, low, high, ALL_METRICS[name], places[name]))
        rows.append([str(policy), *([str(simulator)] if several else []), *cells])
    return columns, rows


def _column_decimals(table: pd.DataFrame, metric: Metric) -> int:
    """The same decimals down a column: what its middling interval supports, or else its smallest figure."""
    times = 100 if metric.unit == "share" else 1
    half = times * float(((table["high"] - table["low"]) / 2).median())
    means = table["mean"].abs()
    return decimals(-half, half, times * float(means[means > 0].min()) if (means > 0).any() else 0.0)


def heading(metric: str, currency: str = "") -> str:
    """A metric's label, with the currency where it counts money."""
    one = ALL_METRICS[metric]
    return f"{one.label} ({currency})" if currency and one.unit == "money" else one.label


def is_settled(comparison: Mapping[str, Any], level: float = 0.95) -> bool:
    """Whether a difference is beyond chance: its interval leaves out 0, and so does Holm's adjustment."""
    beyond = comparison["low"] > 0 or comparison["high"] < 0
    return bool(beyond and comparison["p_adjusted"] < 1 - level)


def how_much(comparison: Mapping[str, Any], *, signed: bool = False) -> str:
    """`"12 % [8, 16]"` of the reference's value, or the difference itself where a share makes no sense.

    Args:
        comparison: the fields of a `Comparison`.
        signed: keep the sign; otherwise a loss is told as a positive amount.
    """
    share = math.isfinite(comparison["share"])
    names = ("share", "share_low", "share_high") if share else ("difference", "low", "high")
    mean, low, high = (float(comparison[name]) * (100 if share else 1) for name in names)
    if mean < 0 and not signed:
        mean, low, high = -mean, -high, -low
    places = decimals(low, high, mean)
    plus = "+" if signed and mean > 0 and round(mean, places) else ""
    edges = f"[{number(low, places)}, {number(high, places)}]"
    return f"{plus}{number(mean, places)}{' %' if share else ''} {edges}"


def sentence(comparison: Mapping[str, Any], *, level: float = 0.95, family: int = 1) -> str:
    """A comparison in plain words.

    Args:
        comparison: the fields of a `Comparison`.
        level: of its interval.
        family: comparisons made together, over which its p-value was adjusted.
    """
    a, b, metric = comparison["policy"], comparison["reference"], ALL_METRICS[comparison["metric"]]
    label, amount, up = metric.label[0].lower() + metric.label[1:], how_much(comparison), comparison["difference"] > 0
    if comparison["low"] <= 0 <= comparison["high"]:
        if comparison["difference"] == comparison["low"] == comparison["high"]:
            return f"{a} and {b} did exactly the same for every shopper."
        return f"{a} is not distinguishable from {b}: {label} differs by {how_much(comparison, signed=True)}."
    if comparison["metric"] in EARNED:
        said = f"{a} earned {amount} {'more' if up else 'less'} {label} than {b}"
    else:
        said = f"{a} had a {label} {amount} {'higher' if up else 'lower'} than {b}"
    if not is_settled(comparison, level):
        p = number(comparison["p_adjusted"], 2)
        among = f" among {family} comparisons" if family > 1 else ""
        return f"{said}, which may still be chance{among} (adjusted p = {p})."
    return f"{said}."
