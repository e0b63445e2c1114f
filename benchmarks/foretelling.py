"""How well models foretell what shoppers of a log did: figures, all with intervals over shoppers.

Shapes: S occasions (slates, or next views among alternatives), K slots, R rows, P shoppers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from slatewise.datasets import ShopLog
from slatewise.datasets.log import Slates
from slatewise.datasets.tokens import Ints
from slatewise.simulators import BoostedShopper, FittedShopper, Foretold
from slatewise.simulators.boosted_looks import Looks
from slatewise.simulators.choice import NEVER
from slatewise.simulators.foretold import FITTED
from slatewise.simulators.likelihood import bootstrap_mean, slates_won
from slatewise.simulators.observed import After, Observed, judged_by, outcomes
from slatewise.simulators.pauses import Pauses
from slatewise.simulators.visits import Visits

Doubles = NDArray[np.float64]
Choices = Mapping[str, tuple[Tensor, Tensor]]
RESAMPLES = 500


def given_a_click(seen: Foretold) -> Foretold:
    """The same, of slates that were clicked, and each model's chances given that: where a log keeps no others."""
    rows = torch.nonzero(seen.clicked >= 0).squeeze(1)
    at, items, clicked = rows.numpy(), seen.items[rows], seen.clicked[rows]
    choices = {}
    for name, (_, chances) in seen.choices.items():
        within = torch.log_softmax(chances[rows].masked_fill(items == 0, -torch.inf), 1)
        choices[name] = (within.gather(1, clicked[:, None])[:, 0], within)
    slates = None if seen.slates is None else _slates_of(seen.slates, at)
    return Foretold(seen.session[at], seen.shopper[at], items, clicked, choices, slates)


def _slates_of(slates: Slates, rows: Ints) -> Slates:
    names = ("session", "before", "items", "clicked", "carted", "purchased", "propensity", "last", "dwell")
    return Slates(**{name: getattr(slates, name)[rows] for name in names})


def model_table(seen: Foretold, choices: Choices, against: str, *, every_slot: bool, seed: int) -> list[dict[str, Any]]:
    """One row a model.

    Args:
        seen: what was offered and done.
        choices: by model, as in `Foretold.choices`.
        against: the model that gains are over.
        every_slot: whether chances of different slates can be held against each other; of next views they cannot.
        seed: of the resamples, the same shoppers for all models, so that differences are paired.

    Returns:
        Rows of `model`; `log_likelihood`, mean in nats; `gain` over `against`, `gain_interval`; `auc_within`, chance
        that the item clicked ranks above another of its slate, with `auc_within_interval`, `auc_within_more` than
        `against` and `auc_within_more_interval`; with `every_slot` the same of `auc_all`, among all slots.
    """
    owner = np.unique(seen.shopper, return_inverse=True)[1]
    base = choices[against]
    slots = _Slots.of(seen, owner, seed) if every_slot else None
    rows = []
    for name, (done, chances) in choices.items():
        gain = (done - base[0]).double().numpy()
        row: dict[str, Any] = {"model": name, "log_likelihood": float(done.mean()), "gain": float(gain.mean())}
        row["gain_interval"] = list(bootstrap_mean(gain, owner, RESAMPLES, seed)) if name != against else [0.0, 0.0]
        won, who = _won(chances, seen, owner)
        more = won - _won(base[1], seen, owner)[0]
        for figure, values in (("auc_within", won), ("auc_within_more", more)):
            interval = bootstrap_mean(values, who, RESAMPLES, seed)
            row |= {figure: float(values.mean()), f"{figure}_interval": list(interval)}
        if slots is not None:
            row |= slots.figures(chances, base[1])
        rows.append(row)
    return rows


def _won(chances: Tensor, seen: Foretold, owner: Ints) -> tuple[Doubles, Ints]:
    """Share of the other items of its slate that each item clicked ranks above, ties half; and whose slate it was."""
    rows, won = slates_won(chances, seen)
    return won.numpy(), np.unique(owner[rows.numpy()], return_inverse=True)[1]


class _Slots:
    """The slots of all slates, and how often each counts in every resample of shoppers."""

    def __init__(self, there: NDArray[np.bool_], hit: NDArray[np.bool_], owner: Ints, seed: int) -> None:
        self.there, self.hit, self.owner = there, hit, owner
        shoppers = int(owner.max()) + 1
        rng = np.random.default_rng(seed)
        self.times = rng.multinomial(shoppers, np.full(shoppers, 1 / shoppers), size=RESAMPLES)

    @classmethod
    def of(cls, seen: Foretold, owner: Ints, seed: int) -> "_Slots":
        items, clicked = seen.items.numpy(), seen.clicked.numpy()
        there = items > 0
        hit = clicked[:, None] == np.arange(items.shape[1])
        return cls(there, hit[there], np.broadcast_to(owner[:, None], there.shape)[there], seed)

    def auc(self, chances: Tensor) -> Doubles:
        """(1 + RESAMPLES,) chance that a slot clicked ranks above one that was not; the log as it is first."""
        rank = np.unique(chances.numpy()[self.there], return_inverse=True)[1]
        size, found = int(rank.max()) + 1, []
        for times in (np.ones(self.times.shape[1]), *self.times):
            weight = times[self.owner]
            yes, no = (np.bincount(rank[rows], weight[rows], size) for rows in (self.hit, ~self.hit))
            found.append((yes * (no.cumsum() - no / 2)).sum() / max(yes.sum() * no.sum(), 1e-12))
        return np.array(found)

    def figures(self, chances: Tensor, base: Tensor) -> dict[str, Any]:
        """`auc_all` of a model and what it has more than another."""
        mine = self.auc(chances)
        row: dict[str, Any] = {}
        for figure, values in (("auc_all", mine), ("auc_all_more", mine - self.auc(base))):
            row |= {figure: float(values[0]), f"{figure}_interval": np.quantile(values[1:], (0.025, 0.975)).tolist()}
        return row


def next_views_as_slates(shopper: FittedShopper | BoostedShopper, log: ShopLog, seed: int) -> Foretold:
    """Next views of a log as if their alternatives had been shown, with the funnel that the shopper foretells of them.

    So that what judges slates judges them too: the chances are those of each alternative to be the one viewed, and a
    view counts as the click. Time is to the session's next token.
    """
    if isinstance(shopper, FittedShopper):
        at = Observed.by(shopper, log, seed=seed)
        seen, occasions = at.foretold(shopper.model), at.occasions
        features, item, own = at.data.features[:, 0].float(), at.data.items[:, 0], shopper.model.own
        utility = own.choice.utility(features, item)
        cart, purchase = (step.chance(features, item, utility) for step in (own.cart, own.purchase))
    else:
        seen = shopper.foretell(log, seed=seed)
        _, occasions = judged_by(log, shopper.n_items, False, seed)
        looks = Looks.at(log, occasions, shopper.model.own.tables)
        columns, item, own = looks.chosen(), occasions.items[:, 0], shopper.model.own
        cart, purchase = (torch.from_numpy(step.chance(columns, item)) for step in (own.cart, own.purchase))
    after, n = After.of_views(log, occasions), len(occasions)
    slates = Slates(
        session=occasions.session,
        before=occasions.before,
        items=occasions.items,
        clicked=occasions.clicked,
        carted=after.outcome >= 2,
        purchased=after.outcome >= 3,
        propensity=np.full(occasions.items.shape, np.nan),
        last=np.zeros(n, np.bool_),
        dwell=after.seconds.astype(np.float32),
    )
    assert seen.correction is not None
    done, utility = seen.choices[FITTED]
    score = (utility + seen.correction).masked_fill(seen.items == 0, NEVER)
    score[:, 0] += torch.log1p((seen.items == 0).sum(1))  # empty slots are the item viewed, sampled again
    chances = {FITTED: (done, torch.log_softmax(score, 1))}
    return replace(seen, choices=chances, slates=slates, cart=cart, purchase=purchase, correction=None)


def funnel_gains(seen: Foretold, early: Ints, seed: int) -> list[dict[str, Any]]:
    """Carts given clicks (or views), and purchases given carts, against one chance for all.

    Args:
        seen: with slates, carts and purchases.
        early: outcomes of the sessions learnt from, codes of `funnel.OUTCOMES`; the rival's chance is counted in them.
        seed: of the resamples.
    """
    assert seen.slates is not None
    rows, outcome = [], outcomes(seen.slates).numpy()
    for step, chance, depth in (("cart", seen.cart, 2), ("purchase", seen.purchase, 3)):
        reached = np.flatnonzero(outcome >= depth - 1)
        tried, passed = (early >= depth - 1).sum(), (early >= depth).sum()
        if chance is None or not len(reached) or not passed:
            continue
        constant = (passed + 0.5) / (tried + 1.0)
        happened, told = outcome[reached] >= depth, chance.numpy()[reached].astype(np.float64).clip(1e-9, 1 - 1e-9)
        gain = np.where(happened, np.log(told / constant), np.log((1 - told) / (1 - constant)))
        rows.append({"step": step, "tried": len(reached), "happened": int(happened.sum()), "gain": float(gain.mean())})
        rows[-1] |= {"gain_interval": _interval(gain, seen.shopper[reached], seed), "constant": float(constant)}
        rows[-1] |= {"observed": float(happened.mean()), "foretold": float(told.mean())}
        rows[-1]["observed_interval"] = _interval(happened.astype(np.float64), seen.shopper[reached], seed)
    return rows


def dwell_gains(dwell: Pauses, early: After, later: After, session: Ints, shopper: Ints, seed: int) -> dict[str, Any]:
    """Time spent by what came of it and by the session's earlier pauses, against one log-normal for all.

    Args:
        dwell: as fitted.
        early: what the rival learns from.
        later: what both are judged by.
        session: (S,) of `later`; the occasions of a session are in order of time.
        shopper: (S,) of `later`.
        seed: of the resamples.

    Returns:
        `gain`, nats a pause, with its interval; and `within_80`, the share of pauses between the foretold 10 % and 90 %
        quantiles, with its interval: 0.8 where the spread is right.
    """
    known = np.flatnonzero(np.isfinite(later.seconds) & (later.seconds > 0))
    known = known[np.argsort(session[known], kind="stable")]
    then = np.log(np.maximum(early.seconds[np.isfinite(early.seconds) & (early.seconds > 0)], 0.5))
    if not len(known) or not len(then):
        return {}
    log = np.log(np.maximum(later.seconds[known], 0.5))
    pauses = (torch.from_numpy(one[known]) for one in (session, later.seconds, later.outcome, later.first))
    told, below = (one.numpy() for one in dwell.foretold(*pauses))
    gain = told - norm.logpdf(log, then.mean(), then.std())
    inside = ((below > 0.1) & (below < 0.9)).astype(np.float64)
    found: dict[str, Any] = {"pauses": len(log)}
    for name, values in (("gain", gain), ("within_80", inside)):
        found |= {name: float(values.mean()), f"{name}_interval": _interval(values, shopper[known], seed)}
    return found


def _interval(values: Doubles, shopper: Ints, seed: int) -> list[float]:
    return list(bootstrap_mean(values, np.unique(shopper, return_inverse=True)[1], RESAMPLES, seed))


def rates(visits: Sequence[Visits], seed: int) -> list[dict[str, Any]]:
    """Clicks a slate, carts a click, purchases a cart, purchases a slate of sessions, with intervals over shoppers.

    Args:
        visits: one or more runs of the same sessions, whose slates are counted together.
        seed: of the resamples.
    """
    who = np.concatenate([run.shopper[run.session] for run in visits])
    hit = np.concatenate([run.clicked >= 0 for run in visits])
    carted = hit & np.concatenate([run.carted for run in visits])
    purchased = hit & np.concatenate([run.purchased for run in visits])
    everything = np.ones(len(who), np.bool_)
    steps: tuple[tuple[str, NDArray[np.bool_], NDArray[np.bool_]], ...] = (
        ("clicks a slate", everything, hit),
        ("carts a click", hit, carted),
        ("purchases a cart", carted, purchased),
        ("purchases a slate", everything, purchased),
    )
    found = []
    for name, tried, passed in steps:
        values = passed[tried].astype(np.float64)
        interval = _interval(values, who[tried], seed) if len(values) else [float("nan")] * 2
        found.append({"step": name, "tried": len(values), "happened": int(values.sum())})
        found[-1] |= {"rate": float(values.mean()) if len(values) else float("nan"), "interval": interval}
    return found


def place_curve(seen: Foretold, choices: Choices, seed: int) -> list[dict[str, Any]]:
    """Click rate by place: a row a place from 1: `slates`, `observed`, `interval`, `foretold` by each model."""
    owner, items, clicked = seen.shopper, seen.items.numpy(), seen.clicked.numpy()
    rows = []
    for place in range(items.shape[1]):
        there = np.flatnonzero(items[:, place] > 0)
        if len(there):
            hit = (clicked[there] == place).astype(np.float64)
            row: dict[str, Any] = {"place": place + 1, "slates": len(there), "observed": float(hit.mean())}
            row["interval"] = _interval(hit, owner[there], seed)
            row["foretold"] = {name: float(each[1][there, place].exp().mean()) for name, each in choices.items()}
            rows.append(row)
    return rows
