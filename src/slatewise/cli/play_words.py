"""What a game tells of a slate: who was there, what was shown, what came of it, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from ..datasets.catalogue import Catalogue
from ..simulators import KnownTruthShopper, Reasons
from .play_shop import PlayShop

_REASONS = 3  # summands of a utility that are named
_DEEDS = ("", "looked at", "clicked", "carted", "bought")
_STYLES = ("dim", "", "bold blue", "bold yellow", "bold green")


@dataclass(frozen=True)
class Shown:
    """One slate, and what came of it.

    Attributes:
        number: which of the shopper's slates it was, from 1.
        items: (k,) dense indices as the shopper saw them, 0 in empty slots.
        told: what the shopper would make of it; None where it cannot tell.
        best: chance of a click of the best slate known; None where nobody knows.
        info: what `ShopEnv.step` said. reward: it paid.
        examined: (k,) whether each slot was looked at.
        end: "left", "time is up" or "".
        patience_out: whether the shopper left because its patience was over; None where it cannot tell.
    """

    number: int
    items: list[int]
    told: Reasons | None
    best: float | None
    info: dict[str, Any]
    reward: float
    examined: list[bool]
    end: str
    patience_out: bool | None

    @property
    def stage(self) -> int:
        """How far the shopper went with the item clicked, an index of `_DEEDS`; 0 without a click."""
        if self.info["clicked"] < 0:
            return 0
        return 4 if self.info["purchased"] else 3 if self.info["carted"] else 2

    def plain(self, catalogue: Catalogue) -> dict[str, Any]:
        """As JSON has it: the shop's own item ids, and the chances and reasons of each slot."""
        slots: list[dict[str, Any]] = []
        for slot, item in enumerate(self.items):
            one: dict[str, Any] = {"item_id": str(catalogue.item_ids[item]) or None, "looked_at": self.examined[slot]}
            if self.told is not None and item:
                for name in ("utility", "looked", "click", "cart", "purchase"):
                    one[name] = float(getattr(self.told, name)[0, slot])
                one["parts"] = {name: float(part[0, slot]) for name, part in self.told.parts.items()}
            slots.append(one)
        told = {} if self.told is None else {"nothing": float(self.told.nothing[0]), "best_click_chance": self.best}
        names = ("shopper_seed", "clicked", "carted", "purchased", "quantity", "revenue", "dwell")
        figures = {name: self.info[name] for name in names}
        return {"slate": self.number, "slots": slots, **told, **figures, "reward": self.reward, "end": self.end or None}


def title_of(catalogue: Catalogue, item: int) -> str:
    """What an item is called, safe to print."""
    if item == 0:
        return "(empty)"
    one = catalogue.frame.iloc[item - 1]
    return escape(str(one["text"] or one["item_id"]))


def category_of(catalogue: Catalogue, item: int) -> str:
    """The item's category, or nothing."""
    name = catalogue.frame["category"].iloc[item - 1] if item else ""
    return escape(name) if isinstance(name, str) else ""


def price_of(catalogue: Catalogue, item: int) -> str:
    """The item's price, or nothing where it is not known."""
    price = float(catalogue.known_prices[item])
    return f"{price:,.2f}" if item and np.isfinite(price) else ""


def arrival_lines(shop: PlayShop, number: int) -> list[str]:
    """Who has come, what it did before, and, where that is known, what it wants."""
    state = shop.env.batch.here.state
    came = state.arrival.items[0, : int(state.arrival.lengths[0])].tolist()
    before = "; ".join(title_of(shop.catalogue, item) for item in came)
    lines = [
        f"[bold]Shopper {number}[/] has come, "
        + (f"having looked at: {before}" if came else "of whom nothing is known")
    ]
    shopper = shop.env.batch.shopper
    if isinstance(shopper, KnownTruthShopper):
        lines.append(f"[dim]hidden from policies: wants {_wants(shopper, state)}[/]")
    return lines


def _wants(shopper: KnownTruthShopper, state: Any) -> str:
    """The two categories that a known-truth shopper likes most, and what price means to it."""
    names = {}
    for item, category in enumerate(shopper.shop.category.tolist()):
        names[category] = category_of(shopper.shop.catalogue, item) if item else names.get(category, "")
    best = state.liking[0].topk(min(2, state.liking.shape[1]))
    liked = ", ".join(
        f"{names.get(place, place)} ({value:+.1f})"
        for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )
    return f"{liked}; a price one standard deviation up costs {-float(state.weights[0, -1]):.1f} logits"


def slate_table(shop: PlayShop, shown: Shown) -> Table:
    """The slate, a row a slot: what was shown, how likely a click was and for what, and what the shopper did."""
    told = shown.told
    table = Table(title=f"Slate {shown.number}", title_justify="left", expand=False)
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold", ratio=3)
    table.add_column("price", justify="right")
    if told is not None:
        table.add_column("liked", justify="right")
        table.add_column("click", justify="right")
    if told is not None and told.parts:
        table.add_column("liked for, in logits", overflow="fold", ratio=3)
    table.add_column("did", min_width=9)
    for slot, item in enumerate(shown.items):
        stage = shown.stage if slot == shown.info["clicked"] else int(shown.examined[slot])
        cells = [str(slot + 1), title_of(shop.catalogue, item), price_of(shop.catalogue, item)]
        if told is not None:
            there = item > 0
            cells += [f"{float(told.utility[0, slot]):.1f}" if there else ""]
            cells += [_percent(float(told.click[0, slot])) if there else ""]
        if told is not None and told.parts:
            cells.append(_why(told, slot) if item else "")
        table.add_row(*cells, _deed(shown, stage), style=_STYLES[stage])
    if told is not None:
        none = max(1.0 - float(told.click[0].sum()), 0.0)
        cells = ["", "(clicking nothing)", "", f"{float(told.nothing[0]):.1f}", _percent(none)]
        table.add_row(*cells, *([""] if told.parts else []), "" if shown.stage else "so it did", style="italic")
    return table


def _deed(shown: Shown, stage: int) -> str:
    if stage < 4:
        return _DEEDS[stage] or "not seen"
    count = int(shown.info["quantity"])
    return f"bought {count}" if count > 1 else "bought"


def _percent(chance: float) -> str:
    return f"{100 * chance:.1f} %" if chance < 0.0995 else f"{100 * chance:.0f} %"


def _why(told: Reasons, slot: int) -> str:
    """The largest summands of a utility."""
    parts = {name: float(part[0, slot]) for name, part in told.parts.items()}
    largest = sorted(parts, key=lambda name: -abs(parts[name]))[:_REASONS]
    return ", ".join(f"{name} {parts[name]:+.1f}" for name in largest if abs(parts[name]) >= 0.05)


def story(shop: PlayShop, shown: Shown) -> list[str]:
    """What happened, and why, in sentences."""
    looked, there = sum(shown.examined), sum(item > 0 for item in shown.items)
    lines = [f"It looked at {looked} of {there}{_choice(shop, shown)}."]
    if shown.told is not None:
        chance = float(shown.told.click[0].sum())
        best = "" if shown.best is None else f"; the best slate known for this shopper has {_percent(shown.best)}"
        lines.append(f"[dim]This slate had a chance of a click of {_percent(chance)}{best}.[/]")
    if shown.stage > 1 and shown.told is not None:
        slot = int(shown.info["clicked"])
        cart, buy = float(shown.told.cart[0, slot]), float(shown.told.purchase[0, slot])
        lines.append(
            f"[dim]Clicked, it is carted with {_percent(cart)}, and once carted bought with {_percent(buy)}.[/]"
        )
    if shown.end:
        why = " It was out of patience." if shown.patience_out else ""
        lines.append(f"[bold]{'The shopper left.' if shown.end == 'left' else 'Time is up.'}[/]{why}")
    return lines


def _choice(shop: PlayShop, shown: Shown) -> str:
    """What was chosen among what was looked at, and whether that was what it liked most."""
    slot = int(shown.info["clicked"])
    if slot < 0:
        if shown.told is None:
            return " and clicked nothing"
        seen = [float(shown.told.utility[0, one]) for one, yes in enumerate(shown.examined) if yes]
        under = not seen or max(seen) <= float(shown.told.nothing[0])
        return " and clicked nothing" + ("" if under else ", though it liked something more than that: luck")
    words = f" and {_DEEDS[shown.stage]} {slot + 1}, {title_of(shop.catalogue, shown.items[slot])}"
    if shown.told is None:
        return words
    liked = shown.told.utility[0].tolist()
    rivals = [one for one, yes in enumerate(shown.examined) if yes and liked[one] > liked[slot]]
    if rivals:
        return f"{words}, though it liked {_listed([one + 1 for one in rivals])} more: luck"
    if liked[slot] < float(shown.told.nothing[0]):
        return f"{words}, though it would rather have clicked nothing: luck"
    return f"{words}, which it liked most of these" if sum(shown.examined) > 1 else words


def _listed(numbers: Sequence[int]) -> str:
    words = [str(one) for one in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def shelf_table(catalogue: Catalogue, shelf: Sequence[int], chances: Sequence[float] | None = None) -> Table:
    """Items to choose from by number; with `chances`, that of a click on each, were it shown alone."""
    table = Table(title="Choose from", title_justify="left")
    for name, side in (("", "right"), ("item", "left"), ("category", "left"), ("price", "right")):
        table.add_column(name, justify=side, overflow="fold")  # pyright: ignore[reportArgumentType]
    if chances is not None:
        table.add_column("click, alone", justify="right")
    for number, item in enumerate(shelf, start=1):
        hint = [] if chances is None else [_percent(chances[number - 1])]
        cells = (title_of(catalogue, item), category_of(catalogue, item), price_of(catalogue, item))
        table.add_row(str(number), *cells, *hint)
    return table
