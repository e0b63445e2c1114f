"""Write down what simulated shoppers do under a logging policy: a `ShopLog` with exact propensities.

Shapes: B shoppers at a time, K slots, N items, S sessions, R slates, E events.
"""

import math
from collections.abc import Callable
from datetime import datetime
from functools import partial

import numpy as np
import torch

from ..datasets.catalogue import Catalogue
from ..datasets.known_shop import DAY_ZERO
from ..datasets.log import ShopLog
from .collect_events import write_events
from .collect_plan import DAY, Plan, Timetable, microseconds, plan_visits
from .collect_run import Arrivals, Ended, Progress, Shown, renumbered, simulate
from .known_truth import KnownTruthShopper
from .logging_policies import LoggingPolicy, PlackettLucePolicy, StickyPolicy
from .shopper import ComesAgain, Shopper

_BATCH_ITEMS = 4_000_000  # shoppers at a time x items, which bounds the memory a sampling step takes
_VISITS = 1.6  # sessions a shopper, where shoppers do not come again by themselves


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
    visits: float | None = None,
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

    In a known-truth shop with the mechanisms on, shoppers know the date, only what is on sale is shown, what has gone
    by the end is marked as unavailable in the log's catalogue. Where shoppers come again by themselves (`ComesAgain`),
    the shop opens on the first day, each comes first on a day drawn at random, and again as its visits go, until the
    last day.

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
        visits: sessions a shopper on average, at least 1; how a visit went does not matter. By default 1.6, or shoppers
            come again by themselves where they do; not for known-truth shoppers who do.
        share_organic: share of sessions in which the shopper finds its own way: what it was shown is not logged, and
            a click is a `view`.
        start: first day, UTC.
        days: the sessions start within this many days, more in the evening than at night.
        batch: shoppers simulated at a time; does not change the log.
        progress: told (sessions done, sessions, words).

    Raises:
        ValueError: a setting is out of range, `policy` shows other than `k` slots, or `visits` is given for
            known-truth shoppers who come again by themselves.
    """
    if sessions < 1 or days < 1 or max_slates < 1 or batch < 1:
        raise ValueError(f"need 1 or more, got {sessions=}, {days=}, {max_slates=}, {batch=}")
    known = shopper if isinstance(shopper, KnownTruthShopper) else None
    by_themselves = isinstance(shopper, ComesAgain) and shopper.comes_again and (visits is None or known is not None)
    if by_themselves and visits is not None:
        raise ValueError(f"these shoppers come again by themselves (come_back > 0); leave out visits, got {visits=}")
    visits = _VISITS if visits is None else visits
    if not (visits >= 1 and 0 <= share_organic <= 1 and temperature > 0):
        asked = f"{visits=}, {share_organic=}, {temperature=}"
        raise ValueError(f"need visits >= 1, share_organic in [0, 1] and temperature > 0, got {asked}")
    if policy is None:
        policy = _default_policy(shopper, catalogue, k, temperature)
        policy = StickyPolicy(policy, again) if again else policy
    if policy.k != k:
        raise ValueError(f"the policy shows {policy.k} slots, k is {k}; make them equal")
    rows = max(1, min(batch, sessions, _BATCH_ITEMS // catalogue.n_items))
    rng, run = np.random.default_rng(seed), partial(simulate, shopper, policy, max_slates=max_slates)
    if by_themselves:
        timetable = Timetable(int(rng.integers(2**40)), start, days, share_organic)
        plan, arrivals, shown = _visits_in_turn(run, timetable, sessions, rows, progress)
    else:
        plan = plan_visits(sessions, visits, share_organic, start, days, rng)
        arrivals, shown, _ = run(plan, rows=rows, progress=progress)
    if known and known.config.turnover:
        last = (microseconds(start) - microseconds(DAY_ZERO)) / DAY + days
        there = catalogue.available & known.shop.there(last)
        catalogue = Catalogue(catalogue.frame.assign(available=there[1:]))
    events = write_events(plan, arrivals, shown, catalogue)
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


def _visits_in_turn(
    run: Callable[..., tuple[Arrivals, Shown, Ended | None]],
    timetable: Timetable,
    sessions: int,
    rows: int,
    progress: Progress | None,
) -> tuple[Plan, Arrivals, Shown]:
    """Sessions of shoppers who come again by themselves: all first visits, then all second ones, and so on.

    Shoppers are taken in order, block by block, until there are sessions enough; the last one's last visits may be left
    out. So the log depends neither on the size of the blocks nor on `rows`.
    """
    plans: list[Plan] = []
    parts: list[tuple[Arrivals, Shown]] = []
    shoppers = count = 0
    while count < sessions:
        block = math.ceil((sessions - count) / (count / shoppers if shoppers else _VISITS))
        plan, owned = timetable.first(np.arange(shoppers, shoppers + block)), None
        while len(plan):
            told = progress and partial(_told, progress, count, sessions)
            arrivals, shown, ended = run(plan, rows=min(rows, len(plan)), owned=owned, progress=told)
            assert ended is not None
            arrivals.session, shown.session = arrivals.session + count, shown.session + count
            plans.append(plan)
            parts.append((arrivals, shown))
            count += len(plan)
            plan, before = timetable.after(plan, ended.coming, ended.wait)
            owned = torch.as_tensor(ended.owned[before]) if ended.owned.shape[1] else None
        shoppers += block
    whole = Plan.joined(plans)
    kept = np.lexsort((whole.visit, whole.shopper))[:sessions]
    kept = kept[np.argsort(whole.start[kept], kind="stable")]
    number = np.full(len(whole), -1, np.int64)
    number[kept] = np.arange(sessions)
    came, were_shown = zip(*parts, strict=True)
    return whole.part(kept), renumbered(list(came), number), renumbered(list(were_shown), number)


def _told(progress: Progress, before: int, sessions: int, done: int, _: int, words: str) -> None:
    """Tell of the sessions done in all, where `before` were done earlier."""
    progress(min(before + done, sessions), sessions, words)
