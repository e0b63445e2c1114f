"""The last slate as a person sees it: what was shown, looked at, clicked and bought, as text or as a picture."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from ..datasets.catalogue import Catalogue
from .batch import ShopBatch, Turn

RENDER_MODES = ["ansi", "rgb_array"]
_TITLE_WIDTH = 48


def checked_mode(render_mode: str | None, known: Sequence[str] = RENDER_MODES) -> str | None:
    """The render mode of an env.

    Raises:
        ValueError: the env knows no such mode.
    """
    if render_mode is not None and render_mode not in known:
        raise ValueError(f"render_mode must be None or one of {', '.join(known)}, got {render_mode!r}")
    return render_mode


def rendered(batch: ShopBatch, render_mode: str | None, catalogue: Catalogue | None = None) -> list[Any] | None:
    """The last slate of each row: text under `"ansi"`, (height, 720, 3) uint8 under `"rgb_array"`; None without a mode.

    Raises:
        gymnasium.error.ResetNeeded: no shopper has arrived yet.
    """
    if render_mode is None:
        return None
    if not batch.started:
        raise gym.error.ResetNeeded("call reset() before render(): no shopper has arrived yet")
    if render_mode == "ansi":
        return [slate_text(batch, row, catalogue) for row in range(batch.rows)]
    from .picture import slate_picture

    return [slate_picture(batch, row, catalogue) for row in range(batch.rows)]


def slate_text(batch: ShopBatch, row: int, catalogue: Catalogue | None = None) -> str:
    """The last slate of one shopper, a line a slot; before the first slate, a line saying so.

    Args:
        batch: the shoppers.
        row: which of them.
        catalogue: titles for the items; without it they are numbers.
    """
    head = f"shopper {batch.shopper_seeds[row]}, slate {batch.slates[row]}"
    turn = batch.last
    if turn is None or not batch.slates[row]:
        return f"{head}: has just arrived"
    clicked = int(turn.response.clicked[row])
    lines = []
    for slot, item in enumerate(turn.slate[row].tolist()):
        seen = "looked at" if turn.response.examined[row, slot] else ""
        lines.append(
            f"  {slot + 1}. {_title(item, catalogue):<{_TITLE_WIDTH}} {_deed(batch, row) if slot == clicked else seen}"
        )
    spent = f"{float(turn.response.dwell[row]):.0f} s, reward {turn.rewards[row]:g}, {ending(turn, row)}"
    return "\n".join([f"{head}: {spent}", *(line.rstrip() for line in lines)])


def ending(turn: Turn, row: int) -> str:
    """What one shopper did after a slate: "stays" where it ended neither the visit nor the episode."""
    if turn.terminated[row]:
        return "left"
    if turn.truncated[row]:
        return "time is up"
    if "returned" in turn.figures and turn.figures["returned"][row]:
        return f"left, again after {turn.figures['days_away'][row]:.1f} days"
    return "stays"


def _title(item: int, catalogue: Catalogue | None) -> str:
    if item == 0:
        return "(empty)"
    if catalogue is None:
        return f"item {item}"
    title = str(catalogue.frame["text"].iloc[item - 1]) or str(catalogue.item_ids[item])
    return title if len(title) <= _TITLE_WIDTH else f"{title[: _TITLE_WIDTH - 1]}…"


def _deed(batch: ShopBatch, row: int) -> str:
    assert batch.last is not None
    response = batch.last.response
    if response.purchased[row]:
        number = int(response.quantity[row])
        return f"bought {f'{number} ' if number > 1 else ''}for {float(response.revenue[row]):.2f}"
    return "put into the cart" if response.carted[row] else "clicked"
