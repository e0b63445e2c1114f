"""What is measured of sessions, real and simulated alike: lengths, pauses, and what was clicked where.

Shapes: S sessions, R slates, C clicks, N items, F features.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..datasets.catalogue import Catalogue
from ..datasets.tokens import Ints
from .distances import Doubles, Kind, Measure, Sample
from .visits import Visits


@dataclass(frozen=True, slots=True)
class Comparable:
    """What a log can be compared in.

    Attributes:
        slates: whether it shows slates; otherwise only next views.
        length: whether sessions are as long as shoppers made them; otherwise, sampled by length, neither length nor
            what a session comes to (clicks, purchases) says anything of shoppers.
        click_rate: whether slates without a click were kept.
    """

    slates: bool
    length: bool
    click_rate: bool


@dataclass(frozen=True)
class ItemColumns:
    """What is known of items, by dense index; entry 0 is nan or 0.

    Attributes:
        log_price: (N + 1,) log10 of the price, nan where unknown or not above 0.
        category: (N + 1,) number of the category.
        shown: (N + 1,) place in [0, 1] of the item by how often the log shows it, 1 for the most; nan if never.
    """

    log_price: Doubles
    category: Ints
    shown: Doubles

    @classmethod
    def of(cls, catalogue: Catalogue, offered: Ints) -> "ItemColumns":
        """Of a catalogue, where `offered` (R, K) was shown."""
        price = catalogue.known_prices.astype(np.float64)
        log_price = np.full(len(price), np.nan)
        log_price[price > 0] = np.log10(price[price > 0])
        category = np.concatenate([[0], 1 + pd.factorize(catalogue.frame["category"])[0]])
        times = np.bincount(offered[offered > 0], minlength=len(price))
        shown = np.full(len(price), np.nan)
        shown[times > 0] = (rankdata(times[times > 0]) - 0.5) / max((times > 0).sum(), 1)
        return cls(log_price, category.astype(np.int64), shown)


@dataclass(frozen=True)
class Clicks:
    """Clicks of sessions, in order.

    Attributes:
        row: (C,) the slate. session: (C,). place: (C,) slot. log_price: (C,) of the item.
        cheaper: (C,) share of the other items of the slate, whose price is known, that cost less; ties count half.
        shown: (C,) how often the item is shown, see `ItemColumns`. item: (C,). category: (C,).
        again: (C,) 1 where the category is that of the session's click before, else 0; nan for a session's first.
    """

    row: Ints
    session: Ints
    place: Ints
    item: Ints
    category: Ints
    log_price: Doubles
    cheaper: Doubles
    shown: Doubles
    again: Doubles

    @classmethod
    def of(cls, visits: Visits, columns: ItemColumns) -> "Clicks":
        """The clicks of visits."""
        row = np.flatnonzero(visits.clicked >= 0)
        session, place, slate = visits.session[row], visits.clicked[row], visits.items[row]
        item = slate[np.arange(len(row)), place]
        price, beside = columns.log_price[item], np.where(slate > 0, columns.log_price[slate], np.nan)
        below = (beside < price[:, None]).sum(1) + 0.5 * ((beside == price[:, None]).sum(1) - 1)
        others = np.isfinite(beside).sum(1) - 1
        known = np.isfinite(price) & (others > 0)
        cheaper = np.where(known, below / np.maximum(others, 1), np.nan)
        category = columns.category[item]
        again = np.append(np.nan, (category[1:] == category[:-1]).astype(np.float64))[: len(row)]
        again[np.append(True, session[1:] != session[:-1])[: len(row)]] = np.nan
        return cls(row, session, place, item, category, price, cheaper, columns.shown[item], again)

    def runs(self) -> tuple[Doubles, Ints]:
        """Lengths of runs of clicks in one category within a session, and their sessions."""
        first = np.flatnonzero(self.again != 1)
        return np.diff(np.append(first, len(self.again))).astype(np.float64), self.session[first]


def measures_of(real: Visits, simulated: Visits, columns: ItemColumns, can: Comparable) -> list[Measure]:
    """All that can be compared, in the order of the page; what nobody has a value of is left out."""
    ours, theirs = _samples(real, columns, can), _samples(simulated, columns, can)
    found = [Measure(name, kind, unit, ours[name][2], theirs[name][2]) for name, (kind, unit, _) in ours.items()]
    return [one for one in found if len(one.real.values) and len(one.simulated.values)]


def _samples(visits: Visits, columns: ItemColumns, can: Comparable) -> dict[str, tuple[Kind, str, Sample]]:
    """Values by the measure's name."""
    clicks, count = Clicks.of(visits, columns), len(visits.shopper)
    every = np.arange(count)
    hit = visits.clicked >= 0
    found: dict[str, tuple[Kind, str, Sample]] = {}

    def put(name: str, kind: Kind, unit: str, values: NDArray[np.number] | NDArray[np.bool_], session: Ints) -> None:
        known = np.isfinite(values.astype(np.float64))
        sample = Sample(values[known].astype(np.float64), visits.shopper[session[known]])
        found[name] = (kind, unit, sample)

    if can.slates and can.length and can.click_rate:
        put("slates of a session", "numbers", "slates", visits.lengths, every)
        put("clicks of a session", "numbers", "clicks", np.bincount(visits.session[hit], minlength=count), every)
    if can.slates:
        with np.errstate(divide="ignore"):
            seconds = np.log10(np.maximum(visits.dwell, 0.1))
        put("time on a slate", "numbers", "log10 of seconds", seconds, visits.session)
        put("places of clicks", "kinds", "", clicks.place, clicks.session)
        put("items clicked", "kinds", "", clicks.item, clicks.session)
        put("popularity of the item clicked", "numbers", "rank by times shown, 0 to 1", clicks.shown, clicks.session)
    put("categories chosen", "kinds", "", clicks.category, clicks.session)
    put("runs in a category", "numbers", "clicks" if can.slates else "views", *clicks.runs())
    put("same category as before", "rate", "", clicks.again, clicks.session)
    put("price of the item chosen", "numbers", "log10 of the price", clicks.log_price, clicks.session)
    if can.slates:
        put("price among those shown", "numbers", "share that costs less", clicks.cheaper, clicks.session)
        if can.click_rate:
            put("clicks a slate", "rate", "", hit, visits.session)
        put("carts a click", "rate", "", visits.carted[clicks.row], clicks.session)
        put("purchases a cart", "rate", "", visits.purchased[visits.carted], visits.session[visits.carted])
        if can.length and can.click_rate:
            bought = np.bincount(visits.session[visits.purchased], minlength=count) > 0
            put("sessions with a purchase", "rate", "", bought, every)
    return found


def session_features(visits: Visits, columns: ItemColumns, can: Comparable) -> tuple[list[str], Doubles]:
    """What a classifier is told of each session: names, and (S, F) values, nan where a session has none."""
    clicks, count = Clicks.of(visits, columns), len(visits.shopper)
    hit = visits.clicked >= 0
    lengths = visits.lengths

    def mean(values: NDArray[np.number] | NDArray[np.bool_], session: Ints) -> Doubles:
        known = np.isfinite(values.astype(np.float64))
        total = np.bincount(session[known], values[known].astype(np.float64), count)
        times = np.bincount(session[known], minlength=count)
        return np.where(times > 0, total / np.maximum(times, 1), np.nan)

    def spread(values: Doubles, session: Ints) -> Doubles:
        return np.sqrt(np.maximum(mean(values**2, session) - mean(values, session) ** 2, 0))

    first = np.cumsum(lengths) - lengths
    turn = np.arange(len(visits)) - first[visits.session]
    earliest, latest = np.full(count, np.nan), np.full(count, np.nan)
    latest[clicks.session] = (lengths[clicks.session] - 1 - turn[clicks.row]).astype(np.float64)
    earliest[clicks.session[::-1]] = turn[clicks.row[::-1]].astype(np.float64)
    several = pd.Series(clicks.category).groupby(clicks.session).nunique().reindex(range(count))
    found: dict[str, Doubles] = {}
    if can.slates and can.length and can.click_rate:
        found["slates"] = lengths.astype(np.float64)
        found["clicks"] = np.bincount(visits.session[hit], minlength=count).astype(np.float64)
        found["carts"] = np.bincount(visits.session[visits.carted], minlength=count).astype(np.float64)
        found["purchases"] = np.bincount(visits.session[visits.purchased], minlength=count).astype(np.float64)
        found["slates since the last click"] = latest
    if can.slates:
        with np.errstate(divide="ignore"):
            seconds = np.log10(np.maximum(visits.dwell, 0.1))
        if can.click_rate:
            found["clicks a slate"] = mean(hit, visits.session)
            found["slates before the first click"] = earliest
        found["carts a click"] = mean(visits.carted[clicks.row], clicks.session)
        found["log time on a slate, mean"] = mean(seconds, visits.session)
        found["log time on a slate, spread"] = spread(seconds, visits.session)
        found["place clicked, mean"] = mean(clicks.place, clicks.session)
        found["place clicked, spread"] = spread(clicks.place.astype(np.float64), clicks.session)
        found["popularity clicked"] = mean(clicks.shown, clicks.session)
        found["price among those shown"] = mean(clicks.cheaper, clicks.session)
    found["log price, mean"] = mean(clicks.log_price, clicks.session)
    found["log price, spread"] = spread(clicks.log_price, clicks.session)
    found["same category as before"] = mean(clicks.again, clicks.session)
    found["categories"] = np.asarray(several, dtype=np.float64)
    return list(found), np.column_stack(list(found.values()))
