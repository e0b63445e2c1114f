"""What the pictures are drawn on: palette, plain axes, and the way into a page or a file.

matplotlib's objects alone are used: nothing global is touched, so that threads may draw at once. Colours are those of
the report's light theme; in a page, `as_svg` turns them into the page's own variables, so that a dark page recolours
them. Series differ by marker and line as well as by colour.
"""

import io
import re
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, SOFT, LINE, PAPER = "#1c2128", "#5d6672", "#d5dae1", "#fefefe"
SERIES = ("#0b63c4", "#bf5508", "#0b7f50", "#a0308a", "#0d7a88", "#b5302e", "#766800", "#56606e")
"""At least 4.5 to 1 against white; told apart with red-green blindness by lightness, and by marker."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
STYLES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 3)), (0, (2, 1)))
_NAMES = {
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    PAPER: "--paper",
    **{c: f"--s{i}" for i, c in enumerate(SERIES)},
}
WIDTH = 7.6  # inches, the report's column at 96 dots an inch


def canvas(width: float, height: float, columns: int = 1, rows: int = 1, **grid: Any) -> tuple[Figure, list[Axes]]:
    """A figure with plain axes, in the report's type and colours."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **grid).ravel().tolist()
    for axis in axes:
        _plain(axis)
    return figure, axes


def _plain(axis: Axes) -> None:
    axis.set_facecolor("none")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(LINE)
    axis.tick_params(colors=SOFT, labelcolor=INK, labelsize=9, length=0)
    axis.grid(color=LINE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.title.set_color(INK)
    axis.title.set_fontsize(10)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_color(SOFT)
        label.set_fontsize(9)


def key(axis: Axes, **where: Any) -> None:
    """A legend without a frame."""
    legend = axis.legend(frameon=False, fontsize=9, labelcolor=INK, **where)
    legend.set_in_layout(True)


def by_place(axis: Axes) -> None:
    """Axes of what happened at each place of a slate, as shares from 0."""
    axis.set_xlabel("Place on the slate")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylim(bottom=0)


def as_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an inline `<svg>` for a page: the page's colours, a title for readers, ids of its own.

    Args:
        figure: drawn by this module.
        name: unlike that of any other picture on the page; letters, digits and dashes.
        title: read aloud instead of the picture.
    """
    held = io.StringIO()
    FigureCanvasSVG(figure).print_svg(held, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = held.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text).replace("xlink:href", "href")
    width, height = (float(one) * 96 / 72 for one in re.findall(r'\b(?:width|height)="([\d.]+)pt"', text)[:2])
    text = re.sub(r'\swidth="[\d.]+pt"|\sheight="[\d.]+pt"', "", text, count=2)
    for colour, variable in _NAMES.items():
        text = text.replace(colour, f"var({variable})")
    safe = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    opening = f'<svg role="img" aria-label="{safe}" style="max-width:{width:.0f}px" data-height="{height:.0f}"'
    return re.sub(r"<svg\b", opening, text, count=1).strip()


def as_png(figure: Figure, path: Path, *, dots: int = 160) -> None:
    """Write the figure as PNG on white, for a README."""
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=dots, facecolor="#ffffff")
