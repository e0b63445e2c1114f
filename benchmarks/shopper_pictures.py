"""Pictures of the study of fitted shoppers; each takes plain rows and returns a matplotlib `Figure`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from slatewise.evaluation.drawing import INK, MARKERS, PAPER, SERIES, STYLES, WIDTH, by_place, canvas, key

REAL = "real shoppers"


def place_curves(rows: Sequence[Mapping[str, Any]], models: Sequence[str]) -> Figure:
    """How often each place was clicked, with its interval, and what models had foretold.

    Args:
        rows: of `foretelling.place_curve`, at least one.
        models: which of the models to draw.
    """
    figure, (axis,) = canvas(WIDTH, 3.4)
    at = np.array([row["place"] for row in rows])
    low, high = (100 * np.array([row["interval"][end] for row in rows]) for end in (0, 1))
    axis.vlines(at, low, high, color=INK, linewidth=2.2, alpha=0.35)
    axis.plot(at, [100 * row["observed"] for row in rows], "o", color=INK, markersize=5, label=f"{REAL}, later")
    for number, name in enumerate(models):
        foretold = [100 * row["foretold"][name] for row in rows]
        axis.plot(at, foretold, color=SERIES[number], linestyle=STYLES[number], linewidth=1.8, label=name)
    by_place(axis)
    axis.set_ylabel("Clicked, %")
    key(axis, loc="best")
    return figure


def funnel(real: Sequence[Mapping[str, Any]], others: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Rates of the funnel's steps, a panel a step: of real shoppers, and of others, each with its interval.

    Args:
        real: of `foretelling.rates`.
        others: by name, as `real`, of the same steps; what is only foretold has no interval.
    """
    figure, axes = canvas(
        WIDTH, 0.9 + 0.45 * (1 + len(others)) * -(-len(real) // 2), columns=2, rows=-(-len(real) // 2)
    )
    for axis in axes[len(real) :]:
        axis.set_visible(False)
    named = {REAL: real, **others}
    for number, (axis, step) in enumerate(zip(axes, real, strict=False)):
        for at, (name, rows) in enumerate(named.items()):
            row = next((one for one in rows if one["step"] == step["step"]), None)
            if row is None:
                continue
            colour = INK if name == REAL else SERIES[(at - 1) % len(SERIES)]
            if row.get("interval") is not None:
                axis.hlines(-at, *(100 * end for end in row["interval"]), color=colour, linewidth=2.2, alpha=0.5)
            dot = {"markersize": 7, "color": colour, "markeredgecolor": PAPER}
            axis.plot(100 * row["rate"], -at, marker=MARKERS[at % len(MARKERS)], **dot)
        axis.set_title(f"{step['step'].capitalize()}, {step['tried']:,} tried", loc="left", color=INK, fontsize=10)
        axis.set_yticks([-at for at in range(len(named))], list(named) if number % 2 == 0 else [""] * len(named))
        axis.set_ylim(-len(named) + 0.4, 0.6)
        axis.set_xlim(left=0)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("%")
    return figure
