"""Pictures of an evaluation; each takes plain tables and returns a matplotlib `Figure`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import EvidenceError
from .drawing import INK, MARKERS, PAPER, SERIES, SOFT, STYLES, WIDTH, as_png, by_place, canvas, key
from .metrics import ALL_METRICS
from .outcomes import Outcomes
from .words import heading, how_much, is_settled, number, rows_of

_STRETCHES = 30  # points of a learning curve


def _scaled(metric: str) -> tuple[float, str]:
    """What values are multiplied by, and the axis label."""
    one = ALL_METRICS[metric]
    return (100.0, f"{one.label}, %") if one.unit == "share" else (1.0, one.label)


def policy_values(summary: pd.DataFrame, metric: str = "reward", *, currency: str = "") -> Figure:
    """Each policy's metric, a dot with its interval, a marker a simulator; policies by value in the first simulator.

    Args:
        summary: of `summarise`.
        metric: a name out of `METRICS`.
        currency: named where the metric counts money.
    """
    table = summary[summary["metric"] == metric]
    if not len(table):
        raise EvidenceError(f"the summary has no metric {metric!r}; it has {list(summary['metric'].unique())}")
    simulators = list(dict.fromkeys(table["simulator"]))
    order = table[table["simulator"] == simulators[0]].sort_values("mean")["policy"].tolist()
    order = [name for name in dict.fromkeys(table["policy"]) if name not in order] + order
    figure, (axis,) = canvas(WIDTH, 0.75 + 0.36 * len(order) + 0.25 * (len(simulators) > 1))
    times, label = _scaled(metric)
    for number_, simulator in enumerate(simulators):
        part = table[table["simulator"] == simulator].set_index("policy").reindex(order)
        shift = (number_ - (len(simulators) - 1) / 2) * -0.24
        _dots(axis, part, np.arange(len(order)) + shift, times, number_, simulator)
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(heading(metric, currency) if times == 1 else label)
    if len(simulators) > 1:
        key(axis, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(simulators), borderaxespad=0.2)
    return figure


def _dots(axis: Axes, part: pd.DataFrame, at: Any, times: float, series: int, label: str) -> None:
    mean, low, high = (part[name].to_numpy(dtype=float) * times for name in ("mean", "low", "high"))
    colour = SERIES[series % len(SERIES)]
    axis.hlines(at, low, high, color=colour, linewidth=2.2, alpha=0.55)
    axis.plot(
        mean,
        at,
        linestyle="none",
        marker=MARKERS[series % len(MARKERS)],
        color=colour,
        markersize=7,
        markeredgecolor=PAPER,
        label=label,
    )


def paired_differences(
    comparisons: pd.DataFrame, reference: str | None = None, *, simulator: str | None = None, level: float = 0.95
) -> Figure:
    """Policies against references on the same shoppers; filled where the difference is beyond chance.

    Args:
        comparisons: of `compare_all`, all of one metric.
        reference: draw only what was held against this one; all pairs by default.
        simulator: may be left out where there is only one.
        level: of the intervals.

    Raises:
        EvidenceError: nothing was compared with the reference.
    """
    table = comparisons if simulator is None else comparisons[comparisons["simulator"] == simulator]
    known = list(table["reference"].unique())
    table = table if reference is None else table[table["reference"] == reference]
    if not len(table):
        raise EvidenceError(f"nothing was compared with {reference!r}; references are {known}")
    several = table["reference"].nunique() > 1
    # From the bottom up: references in their order, and against each the best policy on top.
    rank = {name: place for place, name in enumerate(reversed(known))}
    table = table.assign(rank=table["reference"].map(rank)).sort_values(["rank", "difference"]).reset_index(drop=True)
    shares = bool(np.isfinite(table["share"]).all())
    names = ["share", "share_low", "share_high"] if shares else ["difference", "low", "high"]
    mean, low, high = (table[name].to_numpy(dtype=float) * (100 if shares else 1) for name in names)
    figure, (axis,) = canvas(WIDTH, 0.8 + 0.32 * len(table))
    axis.axvline(0, color=SOFT, linewidth=1.2)
    right = max(float(high.max()), 0.0)
    for at, row in enumerate(rows_of(table)):
        settled = is_settled(row, level)
        colour = SERIES[2] if settled and row["difference"] > 0 else SERIES[1] if settled else SERIES[7]
        axis.hlines(at, low[at], high[at], color=colour, linewidth=2.2, alpha=0.55)
        fill = colour if settled else PAPER
        dot = {"markersize": 7, "markerfacecolor": fill, "markeredgecolor": colour, "markeredgewidth": 1.5}
        axis.plot(mean[at], at, marker="o", **dot)
        text = how_much(row, signed=True)
        beside = {"xytext": (10, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(text, (right, at), fontsize=8.5, color=SOFT, **beside)
    labels = table["policy"] + " against " + table["reference"] if several else table["policy"]
    axis.set_yticks(range(len(table)), labels)
    axis.set_ylim(-0.6, len(table) - 0.4)
    axis.grid(axis="y", visible=False)
    label = ALL_METRICS[str(table["metric"].iloc[0])].label
    than = "the reference" if several else known[0] if reference is None else reference
    axis.set_xlabel(f"{label}: {'% more than' if shares else 'more than'} {than}")
    return figure


def learning_curves(curves: pd.DataFrame, *, label: str = "Reward a session") -> Figure:
    """What policies earned while they learnt: the mean over trainings, and a band from the worst to the best.

    Each point is the mean over a thirtieth of the training; single rows of a curve rest on a few sessions each.

    Args:
        curves: columns `policy`, `training_seed`, `steps` (slates shown), `value`.
        label: of the value.

    Raises:
        EvidenceError: a column is missing, or there is no row.
    """
    missing = {"policy", "training_seed", "steps", "value"} - set(curves.columns)
    if missing or not len(curves):
        raise EvidenceError(f"learning curves lack {sorted(missing) or 'rows'}; record them while training")
    figure, (axis,) = canvas(WIDTH, 3.3)
    for number_, (policy, part) in enumerate(curves.groupby("policy", sort=False)):
        colour, style = SERIES[number_ % len(SERIES)], STYLES[number_ % len(STYLES)]
        stretch = max(float(part["steps"].max()) / _STRETCHES, 1.0)
        part = part.assign(steps=np.ceil(part["steps"] / stretch) * stretch)
        runs = part.pivot_table(index="steps", columns="training_seed", values="value", aggfunc="mean").sort_index()
        runs = runs.interpolate(method="index", limit_area="inside")
        steps = runs.index.to_numpy(dtype=float)
        if runs.shape[1] > 1:
            axis.fill_between(steps, runs.min(axis=1), runs.max(axis=1), color=colour, alpha=0.15, linewidth=0)
        axis.plot(steps, runs.mean(axis=1), color=colour, linestyle=style, linewidth=2, label=str(policy))
    axis.set_xlabel("Slates shown in training")
    axis.set_ylabel(label)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    key(axis, loc="best")
    return figure


def funnel(summary_of: pd.DataFrame) -> Figure:
    """From slates to purchases: a panel a stage, a bar a policy, each stage on its own scale.

    Args:
        summary_of: columns `policy`, `slates`, `clicks`, `carts`, `purchases`, a session each; see `funnel_table`.
    """
    stages = [("slates", "Slates"), ("clicks", "Clicks"), ("carts", "Carts"), ("purchases", "Purchases")]
    table = summary_of.iloc[::-1]
    figure, axes = canvas(WIDTH, 0.7 + 0.3 * len(table), columns=4, sharey=True)
    for number_, ((name, title), axis) in enumerate(zip(stages, axes, strict=True)):
        values = table[name].to_numpy(dtype=float)
        bars = axis.barh(range(len(table)), values, color=SERIES[number_], alpha=0.85, height=0.62)
        top = max(float(values.max()), 1e-12)
        places = max(0, 2 - math.floor(math.log10(top)) - 1)
        axis.bar_label(
            bars, [number(value, min(places + 1, 4)) for value in values], padding=3, fontsize=8.5, color=INK
        )
        axis.set_xlim(0, top * 1.38)
        axis.set_title(title, loc="left", color=INK, fontsize=10)
        axis.set_xticks([])
        axis.grid(visible=False)
        axis.spines["bottom"].set_visible(False)
    axes[0].set_yticks(range(len(table)), table["policy"])
    return figure


def funnel_table(outcomes: Outcomes, simulator: str) -> pd.DataFrame:
    """Slates, clicks, carts and purchases a session of each policy, over shoppers and training seeds."""
    stages = ["slates", "clicks", "carts", "purchases"]
    return outcomes.within(simulator).groupby("policy", sort=False)[stages].mean().reset_index()


def position_curve(places: pd.DataFrame, policies: Sequence[str] | None = None) -> Figure:
    """How often each place is looked at and clicked, over the times it was filled.

    Args:
        places: `Outcomes.places` of one simulator.
        policies: those drawn; all, up to eight, by default.
    """
    names = list(policies or dict.fromkeys(places["policy"]))[: len(SERIES)]
    figure, axes = canvas(WIDTH, 3.1, columns=2)
    for number_, policy in enumerate(names):
        sums = places[places["policy"] == policy].groupby("place")[["shown", "examined", "clicked"]].sum()
        shown = np.maximum(sums["shown"].to_numpy(dtype=float), 1)
        for axis, column in zip(axes, ("examined", "clicked"), strict=True):
            axis.plot(
                sums.index.to_numpy() + 1,
                100 * sums[column].to_numpy(dtype=float) / shown,
                color=SERIES[number_],
                linestyle=STYLES[number_],
                marker=MARKERS[number_],
                markersize=4.5,
                linewidth=1.6,
                label=policy,
            )
    for axis, title in zip(axes, ("Looked at, %", "Clicked, %"), strict=True):
        axis.set_title(title, loc="left", color=INK, fontsize=10)
        by_place(axis)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9, labelcolor=INK)
    return figure


def two_simulators(summary: pd.DataFrame, trained: str, other: str, metric: str = "reward") -> Figure:
    """Each policy's value in the simulator that trained it against its value elsewhere; the line is where they agree.

    Args:
        summary: of `summarise`, with both simulators.
        trained: the simulator across, `other`: the one up.
        other: the simulator up, for instance the truth.
        metric: a name out of `METRICS`.
    """
    table = summary[summary["metric"] == metric]
    sides = {name: table[table["simulator"] == name].set_index("policy") for name in (trained, other)}
    names = [name for name in sides[trained].index if name in sides[other].index]
    if not names:
        raise EvidenceError(f"no policy was judged in both {trained!r} and {other!r}")
    times, label = _scaled(metric)
    figure, (axis,) = canvas(5.8, 3.7)
    x, y = (sides[side].loc[names, ["mean", "low", "high"]].to_numpy(dtype=float) * times for side in (trained, other))
    low, high = min(x[:, 1].min(), y[:, 1].min()), max(x[:, 2].max(), y[:, 2].max())
    edge = 0.06 * (high - low or 1)
    axis.plot([low - edge, high + edge], [low - edge, high + edge], color=SOFT, linewidth=1, linestyle="--")
    axis.set_xlim(low - edge, high + edge)
    axis.set_ylim(low - edge, high + edge)
    for number_, policy in enumerate(names):
        colour = SERIES[number_ % len(SERIES)]
        axis.hlines(y[number_, 0], *x[number_, 1:], color=colour, linewidth=1.6, alpha=0.6)
        axis.vlines(x[number_, 0], *y[number_, 1:], color=colour, linewidth=1.6, alpha=0.6)
        marker = MARKERS[number_ % len(MARKERS)]
        axis.plot(
            x[number_, 0], y[number_, 0], marker=marker, markersize=7, color=colour, markeredgecolor=PAPER, label=policy
        )
    axis.set_xlabel(f"{label}, judged by “{trained}”")
    axis.set_ylabel(f"{label}, judged by “{other}”")
    axis.set_box_aspect(1)
    key(axis, loc="center left", bbox_to_anchor=(1.03, 0.5))
    return figure


def calibration(table: pd.DataFrame) -> Figure:
    """What each part of a fitted shopper foretold against what happened, on data held out; dots grow with the count.

    Args:
        table: one row a group: `part`, `count`, `predicted` and `observed` in [0, 1], `low` and `high` of the latter.

    Raises:
        EvidenceError: there is no row.
    """
    if not len(table):
        raise EvidenceError("there are no groups of a calibration to draw; judge the shopper on held-out sessions")
    parts = list(table.groupby("part", sort=False))
    columns = min(len(parts), 3)
    rows = math.ceil(len(parts) / columns)
    figure, axes = canvas(WIDTH, 0.3 + 2.5 * rows, columns=columns, rows=rows)
    for axis in axes[len(parts) :]:
        axis.set_visible(False)
    names = ("predicted", "observed", "low", "high")
    for number_, (axis, (part, groups)) in enumerate(zip(axes, parts, strict=False)):
        predicted, observed, low, high = (100 * groups[name].to_numpy(dtype=float) for name in names)
        count = groups["count"].to_numpy(dtype=float)
        top = 1.1 * max(float(predicted.max()), float(observed.max()), 1e-9)
        axis.plot([0, top], [0, top], color=SOFT, linewidth=1, linestyle="--")
        axis.vlines(predicted, low, high, color=SERIES[0], linewidth=1.6, alpha=0.45)
        axis.scatter(predicted, observed, s=10 + 60 * count / count.max(), color=SERIES[0], edgecolor=PAPER, zorder=3)
        axis.set_xlim(0, top)
        axis.set_ylim(0, top)
        axis.set_title(str(part).capitalize(), loc="left", color=INK, fontsize=10)
        axis.set_xlabel("Foretold, %")
        if number_ % columns == 0:
            axis.set_ylabel("Happened, %")
    return figure


def headline_figure(
    path: Path,
    summary: pd.DataFrame,
    *,
    metric: str = "reward",
    simulator: str | None = None,
) -> None:
    """The picture of a README: every policy's metric with its interval, in one simulator or all.

    Args:
        path: of the PNG.
        summary: of `summarise`.
        metric: a name out of `METRICS`.
        simulator: draw this one only.
    """
    chosen = summary if simulator is None else summary[summary["simulator"] == simulator]
    figure = policy_values(chosen, metric)
    counted = int(chosen["shoppers"].iloc[0])
    title = f"{ALL_METRICS[metric].label}, {counted:,} shoppers whom every policy met; lines are 95 % intervals"
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    as_png(figure, Path(path))
