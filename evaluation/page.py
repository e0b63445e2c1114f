"""What every page of the package shares: its frame, how it is written, and tables and pictures on it.

Everything that reaches a page is plain data, and every text of it is escaped.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from .drawing import as_svg
from .words import decimals, number, rows_of

_FIGURES = ("mean", "value", "gain")  # columns that `low` and `high` may belong to


def render_page(template: str, **told: Any) -> str:
    """A template of this folder as text; it is told when it was written too."""
    environment = Environment(
        loader=PackageLoader("slatewise.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    written = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")
    return environment.get_template(template).render(written=written, **told)


def write_page(path: Path, text: str) -> Path:
    """Write a page so that a kill leaves the old one or the new one; returns its path."""
    path = Path(path)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return path


def inline(drawn: Mapping[str, tuple[Figure, str]]) -> dict[str, Markup]:
    """Pictures and their titles by name, as inline SVG for a page."""
    return {name: Markup(as_svg(figure, name, title)) for name, (figure, title) in drawn.items()}


def as_table(frame: pd.DataFrame | None) -> dict[str, Any] | None:
    """A table as it comes, as text; a figure and its `low` and `high` become one column."""
    if frame is None or not len(frame):
        return None
    figure = next((name for name in _FIGURES if name in frame.columns and "low" in frame.columns), None)
    names = [str(name) for name in frame.columns if figure is None or name not in ("low", "high")]
    # Figures of one kind are rounded alike, so that a reader can run down the column.
    kinds = frame["metric"] if "metric" in frame.columns else pd.Series("", index=frame.index)
    places = {}
    for kind, part in frame.groupby(kinds, sort=False) if figure else ():
        half = ((part["high"].astype(float) - part["low"].astype(float)) / 2).replace(0, math.nan).median()
        places[kind] = decimals(-half, half, float(part[figure].abs().max()))
    rows = []
    for kind, row in zip(kinds, rows_of(frame), strict=True):
        cells = {name: _cell(row[name]) for name in names}
        if figure is not None:
            cells[figure] = _span(row, figure, places[kind])
        rows.append(list(cells.values()))
    return {"columns": [name.replace("_", " ") for name in names], "rows": rows}


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else number(value, decimals(math.nan, math.nan, value) + 2)


def _span(row: Mapping[str, Any], figure: str, places: int) -> str:
    """A figure with its interval, or a dash for what is nothing by definition (a model's gain over itself)."""
    value, low, high = (float(row[name]) for name in (figure, "low", "high"))
    if value == low == high == 0:
        return "–"
    edges = f" [{number(low, places)}, {number(high, places)}]" if math.isfinite(low) and math.isfinite(high) else ""
    return number(value, places) + edges
