"""The last slate as a picture: titles and prices, and how far the shopper went with each item, from a look to a buy.

Drawn with Pillow, a few milliseconds a picture, so that a batch or a video can be drawn too. Shapes: K slots.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalogue import Catalogue
from .batch import ShopBatch
from .render import ending

Picture = NDArray[np.uint8]

WIDTH = 720
HEAD, ROW, FOOT = 80, 48, 32  # all multiples of 16, which video encoders want
_INK, _SOFT, _FAINT, _LINE, _PAPER = "#1c2128", "#5d6672", "#8a929c", "#d5dae1", "#fefefe"
_STAGES = (("looked", "#5d6672"), ("clicked", "#0b63c4"), ("cart", "#bf5508"), ("bought", "#0b7f50"))
_TINTS = ("#fefefe", "#eaf2fb", "#fbf0e6", "#e7f4ed")  # of the row, by how far the shopper went
_STAGE_AT = (512, 568, 620, 676)  # middles of the columns of dots
_TITLE_AT, _TITLE_WIDE, _PRICE_AT = 52, 336, 472  # the price ends at its place
_DOT = 7  # radius


@dataclass(frozen=True, slots=True)
class _Line:
    """What a row of the picture says.

    Attributes:
        title: of the item. about: category and brand. price: in the shop's currency, or empty.
        stage: 0 not looked at, 1 looked at, 2 clicked, 3 in the cart, 4 bought; -1 for an empty slot.
    """

    title: str
    about: str
    price: str
    stage: int


def picture_shape(k: int) -> tuple[int, int, int]:
    """Height, width and channels of the picture of a slate of `k` slots."""
    return HEAD + ROW * k + FOOT, WIDTH, 3


def slate_picture(batch: ShopBatch, row: int, catalogue: Catalogue | None = None) -> Picture:
    """The last slate of one shopper; before the first, what the shopper did before coming.

    Args:
        batch: the shoppers, who have arrived.
        row: which of them.
        catalogue: titles, categories and prices; without it items are numbers, at the shopper's prices.

    Returns:
        `picture_shape(k)` uint8, red, green and blue.
    """
    from PIL import Image, ImageDraw

    height, width, _ = picture_shape(batch.k)
    page = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(page)
    turn, shown = batch.last, int(batch.slates[row])
    just_came = turn is None or not shown
    _head(pen, batch, row, just_came)
    lines = _arrival_lines(batch, row, catalogue) if just_came else _slate_lines(batch, row, catalogue)
    for slot, line in enumerate(lines):
        _row(page, pen, HEAD + slot * ROW, "" if just_came else str(slot + 1), line, dots=not just_came)
    _foot(pen, height, "" if just_came else _summary(batch, row))
    return np.array(page)


def _slate_lines(batch: ShopBatch, row: int, catalogue: Catalogue | None) -> list[_Line]:
    assert batch.last is not None
    response, slate = batch.last.response, batch.last.slate[row].tolist()
    clicked, examined = int(response.clicked[row]), response.examined[row].tolist()
    depth = 4 if response.purchased[row] else 3 if response.carted[row] else 2
    stages = [depth if slot == clicked else int(examined[slot]) for slot in range(len(slate))]
    return [_line(batch, item, stage, catalogue) for item, stage in zip(slate, stages, strict=True)]


def _arrival_lines(batch: ShopBatch, row: int, catalogue: Catalogue | None) -> list[_Line]:
    """The last items that the shopper touched before coming, as many as there is room for."""
    came = batch.here.state.arrival
    items = came.items[row, : int(came.lengths[row])].tolist()
    return [_line(batch, item, 1, catalogue) for item in items[-batch.k :]]


def _line(batch: ShopBatch, item: int, stage: int, catalogue: Catalogue | None) -> _Line:
    if item == 0:
        return _Line("empty slot", "", "", -1)
    if catalogue is None:
        return _Line(f"item {item}", "", f"{float(batch.shopper.prices[item]):,.2f}", stage)
    one = catalogue.frame.iloc[item - 1]
    price = float(catalogue.known_prices[item])
    labels = [str(one[name]) for name in ("category", "brand") if isinstance(one[name], str) and one[name]]
    title = str(one["text"] or one["item_id"])
    return _Line(title, " · ".join(labels), "" if np.isnan(price) else f"{price:,.2f}", stage)


def _summary(batch: ShopBatch, row: int) -> str:
    assert batch.last is not None
    response = batch.last.response
    parts = [f"{float(response.dwell[row]):.0f} s on this slate", f"reward {batch.last.rewards[row]:g}"]
    if response.purchased[row]:
        parts.append(f"bought {int(response.quantity[row])} for {float(response.revenue[row]):,.2f}")
    return "   ·   ".join(parts)


def _head(pen: Any, batch: ShopBatch, row: int, just_came: bool) -> None:
    shown, most = int(batch.slates[row]), batch.max_slates
    name = f"shopper {int(batch.shopper_seeds[row])}"
    pen.text((16, 14), "Just arrived" if just_came else f"Slate {shown} of at most {most}", _INK, _font(17, bold=True))
    pen.text((16, 38), name, _SOFT, _font(11))
    if just_came:
        pen.text((16, 60), "did this before coming:" if _came_with(batch, row) else "nothing known", _SOFT, _font(11))
    else:
        assert batch.last is not None
        end = ending(batch.last, row)
        over = end != "stays"
        pen.text((WIDTH - 16, 16), end, _INK if over else _SOFT, _font(13, bold=over), anchor="ra")
        for (label, colour), middle in zip(_STAGES, _STAGE_AT, strict=True):
            pen.text((middle, 60), label, colour, _font(11), anchor="ma")
        pen.text((_PRICE_AT, 60), "price", _SOFT, _font(11), anchor="ra")
    pen.rectangle((0, 0, WIDTH, 3), _LINE)
    if shown:
        pen.rectangle((0, 0, round(WIDTH * min(shown / most, 1.0)), 3), _STAGES[1][1])


def _came_with(batch: ShopBatch, row: int) -> bool:
    return int(batch.here.state.arrival.lengths[row]) > 0


def _row(page: Any, pen: Any, top: int, number: str, line: _Line, *, dots: bool) -> None:
    pen.rectangle((0, top, WIDTH, top + ROW - 1), _TINTS[max(line.stage - 1, 0)])
    pen.line((16, top, WIDTH - 16, top), _LINE)
    seen = line.stage > 0
    middle = top + ROW // 2
    pen.text((28, middle), number, _SOFT if seen else _FAINT, _font(13), anchor="mm")
    font = _font_for(line.title, 14)
    title = _cut(line.title, font, _TITLE_WIDE)
    above = middle - 9 if line.about else middle
    pen.text((_TITLE_AT, above), title, _INK if seen else _FAINT, font, anchor="lm")
    small = _font_for(line.about, 11)
    pen.text((_TITLE_AT, middle + 11), _cut(line.about, small, _TITLE_WIDE), _SOFT if seen else _FAINT, small, "lm")
    pen.text((_PRICE_AT, middle), line.price, _INK if seen else _FAINT, _font(13), anchor="rm")
    if not dots or line.stage < 0:
        return
    for stage, ((_, colour), at) in enumerate(zip(_STAGES, _STAGE_AT, strict=True), start=1):
        reached = line.stage >= stage
        if stage < len(_STAGES):
            passed = line.stage > stage
            ends = (at + _DOT + 3, middle, _STAGE_AT[stage] - _DOT - 3, middle)
            pen.line(ends, _STAGES[stage][1] if passed else _LINE, 2 if passed else 1)
        page.paste(colour if reached else _LINE, (at - _DOT, middle - _DOT), _dot(reached))


def _foot(pen: Any, height: int, words: str) -> None:
    pen.line((16, height - FOOT, WIDTH - 16, height - FOOT), _LINE)
    pen.text((16, height - FOOT // 2), words, _SOFT, _font(12), anchor="lm")


@cache
def _dot(full: bool) -> Any:
    """A disc, or a ring, as a mask with smooth edges."""
    from PIL import Image, ImageDraw

    fine = 8
    size = 2 * _DOT * fine
    mask = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(mask)
    pen.ellipse((0, 0, size - 1, size - 1), 255)
    if not full:
        edge = round(1.5 * fine)
        pen.ellipse((edge, edge, size - 1 - edge, size - 1 - edge), 0)
    return mask.resize((2 * _DOT, 2 * _DOT), Image.Resampling.LANCZOS)


def _cut(text: str, font: Any, width: int) -> str:
    """The text, or as much of its beginning as fits, with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle] + "…") <= width else (low, middle - 1)
    return text[:low].rstrip() + "…"


@cache
def _font(size: int, *, bold: bool = False, path: str = "") -> Any:
    """The DejaVu Sans that matplotlib brings, or the font of a file."""
    from PIL import ImageFont

    return ImageFont.truetype(path or _dejavu(bold=bold), size)


def _font_for(text: str, size: int) -> Any:
    """A font that has the text's characters, Chinese say, if one is installed."""
    known = _characters(_dejavu(bold=False))
    foreign = next((one for one in text if ord(one) not in known), None)
    return _font(size, path="" if foreign is None else _font_with(foreign))


@cache
def _dejavu(*, bold: bool) -> str:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


@cache
def _characters(path: str) -> frozenset[int]:
    """Code points that a font has glyphs for; none where the file cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _font_with(character: str) -> str:
    """File of an installed font that has a character; empty where none has."""
    from matplotlib.font_manager import fontManager

    plain = [one for one in fontManager.ttflist if one.style == "normal" and "Last Resort" not in one.name]
    by_weight = sorted({(abs(_weight(one.weight) - 400), one.fname) for one in plain})
    return next((path for _, path in by_weight if ord(character) in _characters(path)), "")


def _weight(weight: int | str) -> int:
    return weight if isinstance(weight, int) else 400 if weight in ("normal", "regular") else 700
