"""Pictures of a realism report; each takes plain tables and returns a matplotlib `Figure`."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import INK, MARKERS, PAPER, SERIES, SOFT, STYLES, WIDTH, by_place, canvas, key

_REAL, _SIMULATED = SERIES[0], SERIES[1]
_NEAREST = 0.1  # of the floor; what is nearer is drawn there, for the axis is of logarithms


def distances(table: pd.DataFrame) -> Figure:
    """Each measure's distance in units of its floor, on an axis of logarithms; filled where beyond chance.

    Args:
        table: of `distance_table`; of each measure its first statistic is drawn.
    """
    shown = table.drop_duplicates("measure").iloc[::-1]
    shown = shown[shown["floor"] > 0]
    figure, (axis,) = canvas(WIDTH, 0.9 + 0.3 * len(shown))
    scale = np.asarray(shown["floor"], dtype=float)
    columns = ("floor_low", "floor_high", "low", "high", "distance")
    near, far, low, high, middle = (
        np.maximum(np.asarray(shown[name], dtype=float) / scale, _NEAREST) for name in columns
    )
    axis.axvline(1, color=SOFT, linewidth=1, linestyle="--")
    for at, apart in enumerate(shown["apart"]):
        colour = _SIMULATED if apart else SERIES[7]
        axis.hlines(at, near[at], far[at], color=_REAL, linewidth=9, alpha=0.18)
        axis.hlines(at, low[at], high[at], color=colour, linewidth=2.2, alpha=0.55)
        fill = colour if apart else PAPER
        dot = {"markersize": 7, "markerfacecolor": fill, "markeredgecolor": colour, "markeredgewidth": 1.5}
        axis.plot(middle[at], at, marker="o", **dot)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(lambda *_: "")
    axis.set_yticks(range(len(shown)), shown["measure"])
    axis.set_ylim(-0.6, len(shown) - 0.4)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("Distance from real sessions, in units of real sessions’ distance from each other")
    return figure


def shapes(table: pd.DataFrame) -> Figure:
    """Distributions of real and simulated values, a panel a measure.

    Args:
        table: `Realism.shapes`.
    """
    parts = list(table.groupby("measure", sort=False))
    columns = min(len(parts), 3)
    rows = math.ceil(len(parts) / columns)
    figure, axes = canvas(WIDTH, 0.5 + 2.1 * rows, columns=columns, rows=rows)
    for axis in axes[len(parts) :]:
        axis.set_visible(False)
    for axis, (measure, bars) in zip(axes, parts, strict=False):
        edges = np.append(bars["start"].to_numpy(dtype=float), float(bars["end"].iloc[-1]))
        for name, colour, style in (("real", _REAL, STYLES[0]), ("simulated", _SIMULATED, STYLES[1])):
            share = 100 * bars[name].to_numpy(dtype=float)
            axis.stairs(share, edges, color=colour, linewidth=1.8, linestyle=style, label=name)
        axis.set_title(str(measure).capitalize(), loc="left", color=INK, fontsize=9.5)
        axis.set_xlabel(str(bars["unit"].iloc[0]))
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=bool(np.allclose(np.diff(edges), 1))))
    for axis in axes[::columns]:
        axis.set_ylabel("Share, %")
    _legend(figure, axes[0])
    return figure


def places(table: pd.DataFrame) -> Figure:
    """How often each place of the slate is clicked, by real and by simulated shoppers, with bands of their intervals.

    Args:
        table: `Realism.places`.
    """
    figure, (axis,) = canvas(WIDTH, 3.0)
    at = table["place"].to_numpy(dtype=float)
    for number, (name, colour) in enumerate((("real", _REAL), ("simulated", _SIMULATED))):
        middle, low, high = (100 * table[name + end].to_numpy(dtype=float) for end in ("", "_low", "_high"))
        axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        line = {"color": colour, "linestyle": STYLES[number], "marker": MARKERS[number]}
        axis.plot(at, middle, markersize=4.5, linewidth=1.8, label=name, **line)
    by_place(axis)
    axis.set_ylabel("Clicked, %")
    key(axis, loc="best")
    return figure


def classifier(table: pd.DataFrame) -> Figure:
    """The AUC at which real sessions are told from simulated and from real ones, with intervals.

    Args:
        table: of `TwoSample`.
    """
    figure, (axis,) = canvas(WIDTH, 1.5)
    axis.axvline(0.5, color=SOFT, linewidth=1, linestyle="--")
    rows = list(reversed(table.to_dict("records")))
    for at, row in enumerate(rows):
        colour = _SIMULATED if row["against"] == "simulated" else _REAL
        axis.hlines(at, row["low"], row["high"], color=colour, linewidth=2.2, alpha=0.55)
        axis.plot(row["auc"], at, marker=MARKERS[at], markersize=7, color=colour, markeredgecolor=PAPER)
    axis.set_yticks(range(len(rows)), [f"real from {row['against']}" for row in rows])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlim(min(0.4, *(row["low"] for row in rows)) - 0.01, max(0.7, *(row["high"] for row in rows)) + 0.01)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("AUC: 0.5 where nothing can be told, 1 where every session can")
    return figure


def _legend(figure: Figure, axis: Axes) -> None:
    """One legend for all panels."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9, labelcolor=INK)
