"""Write down what simulated shoppers do under a logging policy: a `ShopLog` with exact propensities.

Shapes: B shoppers at a time, K slots, N items, S sessions, R slates, E events.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.catalogue import Catalogue
from ..datasets.log import ShopLog
from ..datasets.schema import EVENT_SCHEMA, Event
from ..datasets.tokens import Ints
from .known_truth import KnownTruthShopper, visit_seed
from .logging_policies import LoggingPolicy, PlackettLucePolicy, StickyPolicy
from .shopper import Shopper

Progress = Callable[[int, int, str], None]
_BATCH_ITEMS = 4_000_000  # shoppers at a time x items, which bounds the memory a sampling step takes
_VISIT_APART = 2 * 3600 * 10**6  # microseconds at least between the starts of one shopper's visits
_DAY = 24 * 3600 * 10**6


def collect_log(
    shopper: Shopper,
    catalogue: Catalogue,
    *,
    sessions: int,
    k: int = 8,
    seed: int = 0,
    policy: LoggingPolicy | None = None,
    temperature: float = 1.0,
    again: float = 0.0,
    max_slates: int = 50,
    visits: float = 1.6,
    share_organic: float = 0.0,
    start: datetime | str = "2026-01-05",
    days: int = 60,
    batch: int = 1024,
    progress: Progress | None = None,
) -> ShopLog:
    """The log that a shop would have kept had these shoppers come.

    What was done before the first slate is `view` events; each slate is its `impression`s with propensities, then what
    was done with the clicked item. A simulator does not say when within a slate's dwell the click fell, so a click has
    its slate's time, and cart and purchase lie within the dwell. So the log's tokens are the simulation's tokens.

    Args:
        shopper: who comes; a shopper who returns has the same number in the low bits of its seed (`visit_seed`).
        catalogue: the items shown.
        sessions: how many sessions, at least 1.
        k: slots of a slate.
        seed: decides who comes when, and the policy's luck.
        policy: shows the slates; by default a Plackett-Luce policy over what is popular in a known-truth shop, over
            all available items alike elsewhere.
        temperature: of the default policy; higher shows unpopular items more often, > 0.
        again: chance that the default policy shows the slate before once more, in [0, 1); see `StickyPolicy`.
        max_slates: a session ends after this many slates at the latest.
        visits: sessions a shopper on average, at least 1.
        share_organic: share of sessions in which the shopper finds its own way: what it was shown is not logged, and
            a click is a `view`.
        start: first day, UTC.
        days: the sessions start within this many days, more in the evening than at night.
        batch: shoppers simulated at a time; does not change the log.
        progress: told (sessions done, sessions, words).

    Raises:
        ValueError: a setting is out of range, or `policy` shows other than `k` slots.
    """
    if sessions < 1 or days < 1 or max_slates < 1 or batch < 1:
        raise ValueError(f"need 1 or more, got {sessions=}, {days=}, {max_slates=}, {batch=}")
    if not (visits >= 1 and 0 <= share_organic <= 1 and temperature > 0):
        asked = f"{visits=}, {share_organic=}, {temperature=}"
        raise ValueError(f"need visits >= 1, share_organic in [0, 1] and temperature > 0, got {asked}")
    if policy is None:
        policy = _default_policy(shopper, catalogue, k, temperature)
        policy = StickyPolicy(policy, again) if again else policy
    if policy.k != k:
        raise ValueError(f"the policy shows {policy.k} slots, k is {k}; make them equal")
    plan = _plan(sessions, visits, share_organic, pd.Timestamp(start), days, np.random.default_rng(seed))
    seeds = visit_seed(torch.as_tensor(plan.key), torch.as_tensor(plan.visit)).to(shopper.device)
    rows = max(1, min(batch, sessions, _BATCH_ITEMS // catalogue.n_items))
    arrivals, slates = _simulate(shopper, policy, seeds, max_slates, rows, progress)
    events = _events(plan, arrivals, slates, catalogue)
    facts = {
        "source": type(shopper).__name__,
        "policy": type(policy).__name__,
        "currency": "EUR",
        "length_biased": False,
    }
    return ShopLog(events, catalogue, {**facts, "k": k, "seed": seed, "share_organic": share_organic})


def _default_policy(shopper: Shopper, catalogue: Catalogue, k: int, temperature: float) -> PlackettLucePolicy:
    logits = torch.zeros(catalogue.n_items + 1, device=shopper.device)
    if isinstance(shopper, KnownTruthShopper):
        logits = torch.as_tensor(shopper.shop.popularity, device=shopper.device) / temperature
    missing = ~torch.as_tensor(catalogue.available, device=shopper.device)
    return PlackettLucePolicy(logits.masked_fill(missing, -math.inf), k)


@dataclass(frozen=True)
class _Plan:
    """Who comes when; (S,) arrays, in order of the sessions' start."""

    shopper: Ints
    visit: Ints
    key: Ints  # names the shopper in its seed
    start: Ints  # microseconds since 1970
    organic: NDArray[np.bool_]


def _plan(
    sessions: int, visits: float, share_organic: float, start: pd.Timestamp, days: int, rng: np.random.Generator
) -> _Plan:
    shopper = rng.integers(max(1, round(sessions / visits)), size=sessions)
    hours = np.arange(24)
    # Two humps, at noon and at eight in the evening, and hardly anyone at four in the morning.
    rhythm = 0.1 + np.exp(-(((hours - 20) / 3.0) ** 2)) + 0.6 * np.exp(-(((hours - 12) / 3.0) ** 2))
    hour = rng.choice(24, size=sessions, p=rhythm / rhythm.sum())
    at = (rng.integers(days, size=sessions) * 24 + hour) * (_DAY // 24) + rng.integers(_DAY // 24, size=sessions)
    order = np.lexsort((at, shopper))
    shopper, at = shopper[order], at[order]
    visit = np.asarray(pd.Series(shopper).groupby(shopper).cumcount(), dtype=np.int64)
    # Visits of one shopper are moved apart, so that none begins before the last one ended.
    apart = visit * _VISIT_APART
    at = pd.Series(at - apart).groupby(shopper).cummax().to_numpy(dtype=np.int64) + apart
    base = int(rng.integers(2**40))
    order = np.argsort(at, kind="stable")
    origin = int(start.tz_localize("UTC").timestamp() if start.tz is None else start.timestamp()) * 10**6
    organic = rng.random(sessions) < share_organic
    key = (base + shopper) % 2**40
    return _Plan(shopper[order], visit[order], key[order], origin + at[order], organic)


@dataclass(slots=True)
class _Arrivals:
    """What shoppers brought along; a row a session, arrays on the CPU."""

    session: Any
    items: Any
    events: Any
    gaps: Any
    lengths: Any


@dataclass(slots=True)
class _Shown:
    """Slates and what was done with them; a row a slate."""

    session: Any
    step: Any
    gap: Any
    slate: Any
    propensity: Any
    clicked: Any
    carted: Any
    purchased: Any
    dwell: Any


_Part = TypeVar("_Part", _Arrivals, _Shown)


def _joined(parts: list[_Part]) -> _Part:
    """The rows of all parts, in order of session and step, as NumPy arrays."""
    kind = type(parts[0])
    columns = {one.name: torch.cat([getattr(part, one.name) for part in parts]).cpu().numpy() for one in fields(kind)}
    step = columns.get("step", columns["session"])
    order = np.lexsort((step, columns["session"]))
    return kind(**{name: column[order] for name, column in columns.items()})


@torch.no_grad()
def _simulate(
    shopper: Shopper, policy: LoggingPolicy, seeds: Tensor, max_slates: int, rows: int, progress: Progress | None
) -> tuple[_Arrivals, _Shown]:
    """Run all sessions, `rows` at a time; who leaves makes room for who comes next."""
    total, device = len(seeds), seeds.device
    session = torch.arange(rows, device=device)
    state = shopper.reset(seeds[:rows])
    step = torch.zeros(rows, dtype=torch.int64, device=device)
    here = torch.ones(rows, dtype=torch.bool, device=device)
    arrivals, shown, next_one, done = [_arrivals(session, state)], [], rows, 0
    while bool(here.any()):
        slate, propensity = policy.sample(seeds[session], step)
        gap = state.gap.clone()
        response, state = shopper.respond(state, slate)
        columns = (session, step, gap, slate, propensity, response.clicked, response.carted, response.purchased)
        shown.append(_Shown(*(column[here] for column in (*columns, response.dwell))))
        step = step + 1
        gone = torch.nonzero(here & (response.left | (step >= max_slates))).squeeze(1)
        come = gone[: total - next_one]
        if len(come):
            session = session.clone()
            session[come] = torch.arange(next_one, next_one + len(come), device=device)
            step[come] = 0
            fresh = shopper.reset(seeds[session[come]])
            arrivals.append(_arrivals(session[come], fresh))
            state.put(come, fresh)
        here[gone[len(come) :]] = False
        next_one, done = next_one + len(come), done + len(gone)
        if progress is not None:
            progress(done, total, "sessions simulated")
    return _joined(arrivals), _joined(shown)


def _arrivals(session: Tensor, state: Any) -> _Arrivals:
    brought = state.arrival
    return _Arrivals(*(one.clone() for one in (session, brought.items, brought.events, brought.gaps, brought.lengths)))


@dataclass(frozen=True)
class _Rows:
    """Columns of some events; every array (E,)."""

    session: Ints
    time: Ints  # microseconds since 1970
    item: Ints
    event: Ints  # codes of `Event`
    slate: Ints  # row in `_Shown`, -1 for none
    place: Ints
    propensity: NDArray[np.float64]


def _events(plan: _Plan, arrivals: _Arrivals, shown: _Shown, catalogue: Catalogue) -> pd.DataFrame:
    """The event frame, as a log that was written and read again would have it."""
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
            "quantity": pd.arrays.IntegerArray(np.ones(len(bought), np.int32), ~bought),
            "query": None,
        }
    )
    return pa.Table.from_pandas(frame, schema=EVENT_SCHEMA, preserve_index=False).to_pandas()


def _browsed(plan: _Plan, arrivals: _Arrivals) -> _Rows:
    """Events of what was done before the first slate; impressions among them name no slate, and are left out."""
    at = plan.start[:, None] + np.cumsum(_microseconds(arrivals.gaps), axis=1)
    held = np.arange(arrivals.items.shape[1]) < arrivals.lengths[:, None]
    row, place = np.nonzero(held & (arrivals.events > Event.IMPRESSION))
    nameless, no_chance = np.full(len(row), -1), np.full(len(row), np.nan)
    return _Rows(
        row, at[row, place], arrivals.items[row, place], arrivals.events[row, place], nameless, place, no_chance
    )


def _slate_rows(plan: _Plan, arrivals: _Arrivals, shown: _Shown) -> list[_Rows]:
    """Events of slates: impressions, clicks, carts and purchases; of organic sessions views, carts and purchases."""
    session = shown.session
    begun, pause = _slate_times(plan, arrivals, shown)
    organic = plan.organic[session]
    row, place = np.nonzero((shown.slate > 0) & ~organic[:, None])
    item = shown.slate[row, place]
    seen = np.full(len(row), int(Event.IMPRESSION))
    rows = [_Rows(session[row], begun[row], item, seen, row, place, shown.propensity[row, place])]
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
        rows.append(_Rows(session[row], time, taken[row], codes, slate, shown.clicked[row], no_chance))
    return rows


def _slate_times(plan: _Plan, arrivals: _Arrivals, shown: _Shown) -> tuple[Ints, Ints]:
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
