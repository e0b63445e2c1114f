"""The events of simulated sessions, as rows of an event log.

Shapes: K slots, S sessions, R slates, E events.
"""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ..datasets.catalogue import Catalogue
from ..datasets.schema import EVENT_SCHEMA, Event
from ..datasets.tokens import Ints
from .collect_plan import Plan
from .collect_run import Arrivals, Shown


@dataclass(frozen=True)
class _Rows:
    """Columns of some events; every array (E,)."""

    session: Ints
    time: Ints  # microseconds since 1970
    item: Ints
    event: Ints  # codes of `Event`
    slate: Ints  # row in `Shown`, -1 for none
    place: Ints
    propensity: NDArray[np.float64]
    quantity: Ints  # of what is bought; otherwise it means nothing


def write_events(plan: Plan, arrivals: Arrivals, shown: Shown, catalogue: Catalogue) -> pd.DataFrame:
    """The event frame, as a log that was written and read again would have it.

    Args:
        plan: who came when; S sessions in order of their start.
        arrivals: what was done before the first slates, a row a session.
        shown: the slates, in order of session and step.
        catalogue: names and prices of the items.
    """
    blocks = [_browsed(plan, arrivals), *_slate_rows(plan, arrivals, shown)]
    rows = _Rows(*(np.concatenate([getattr(block, one.name) for block in blocks]) for one in fields(_Rows)))
    order = np.lexsort((rows.place, rows.event, rows.slate, rows.time, rows.session))
    rows = _Rows(*(getattr(rows, one.name)[order] for one in fields(_Rows)))
    names = np.array([f"{one:07d}" for one in range(len(plan.start))], dtype=object)
    slate_names = names[shown.session] + np.array([f"-{step}" for step in shown.step], dtype=object)
    bought = rows.event == Event.PURCHASE
    placed = (rows.slate >= 0) & (rows.event <= Event.CLICK)
    price = np.concatenate([[np.nan], catalogue.frame["price"].to_numpy(dtype=np.float64)])
    frame = pd.DataFrame(
        {
            "shopper_id": np.array([f"s{one:06d}" for one in plan.shopper], dtype=object)[rows.session],
            "session_id": ("v" + names)[rows.session],
            "time": pd.to_datetime(rows.time, unit="us", utc=True),
            "item_id": catalogue.item_ids[rows.item],
            "event": np.array([one.label for one in Event], dtype=object)[rows.event],
            "slate_id": pd.Series(slate_names[rows.slate]).where(rows.slate >= 0, None),
            "position": pd.arrays.IntegerArray(rows.place.astype(np.int32), ~placed),
            "propensity": rows.propensity,
            "price": price[rows.item],
            "quantity": pd.arrays.IntegerArray(rows.quantity.astype(np.int32), ~bought),
            "query": None,
        }
    )
    return pa.Table.from_pandas(frame, schema=EVENT_SCHEMA, preserve_index=False).to_pandas()


def _browsed(plan: Plan, arrivals: Arrivals) -> _Rows:
    """Events of what was done before the first slate; impressions among them name no slate, and are left out."""
    at = plan.start[:, None] + np.cumsum(_microseconds(arrivals.gaps), axis=1)
    held = np.arange(arrivals.items.shape[1]) < arrivals.lengths[:, None]
    row, place = np.nonzero(held & (arrivals.events > Event.IMPRESSION))
    nameless, no_chance = np.full(len(row), -1), np.full(len(row), np.nan)
    what = arrivals.items[row, place], arrivals.events[row, place]
    return _Rows(row, at[row, place], *what, nameless, place, no_chance, np.ones_like(row))


def _slate_rows(plan: Plan, arrivals: Arrivals, shown: Shown) -> list[_Rows]:
    """Events of slates: impressions, clicks, carts and purchases; of organic sessions views, carts and purchases."""
    session = shown.session
    begun, pause = _slate_times(plan, arrivals, shown)
    organic = plan.organic[session]
    row, place = np.nonzero((shown.slate > 0) & ~organic[:, None])
    item = shown.slate[row, place]
    seen = np.full(len(row), int(Event.IMPRESSION))
    rows = [_Rows(session[row], begun[row], item, seen, row, place, shown.propensity[row, place], row)]
    taken = np.take_along_axis(shown.slate, np.maximum(shown.clicked, 0)[:, None], axis=1)[:, 0]
    steps = (
        (Event.CLICK, 0.0, (shown.clicked >= 0) & ~organic),
        (Event.VIEW, 0.0, (shown.clicked >= 0) & organic),
        (Event.CART, 0.4, shown.carted),
        (Event.PURCHASE, 0.8, shown.purchased),
    )
    for event, share, happened in steps:
        row = np.flatnonzero(happened)
        time = begun[row] + (share * pause[row]).astype(np.int64)
        codes, no_chance = np.full(len(row), int(event)), np.full(len(row), np.nan)
        slate = np.where(organic[row], -1, row)
        rows.append(
            _Rows(session[row], time, taken[row], codes, slate, shown.clicked[row], no_chance, shown.quantity[row])
        )
    return rows


def _slate_times(plan: Plan, arrivals: Arrivals, shown: Shown) -> tuple[Ints, Ints]:
    """When each slate was shown, and how long until the next one or the end; (R,) microseconds each."""
    gap = _microseconds(shown.gap)
    follows = shown.session[1:] == shown.session[:-1]
    # A gap counts from the last token, and an empty slate leaves none: the next gap holds the one before.
    empty = ~(shown.slate > 0).any(axis=1)
    gap[1:] -= np.where(follows & empty[:-1], _microseconds(shown.gap)[:-1], 0)
    total = np.cumsum(gap)
    first = np.flatnonzero(np.append(True, ~follows))[: len(gap)]
    run = np.diff(np.append(first, len(gap)))
    browsed = plan.start + _microseconds(arrivals.gaps).sum(axis=1)
    begun = browsed[shown.session] + total - np.repeat(total[first] - gap[first], run)
    pause = _microseconds(shown.dwell)
    pause[:-1] = np.where(follows, gap[1:], pause[:-1])
    return begun, pause


def _microseconds(seconds: NDArray[np.floating]) -> Ints:
    return np.round(seconds.astype(np.float64) * 1e6).astype(np.int64)
