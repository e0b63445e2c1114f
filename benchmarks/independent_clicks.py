"""The usual open simulator's shopper: each item of a slate is clicked or not by itself, by a chance from a click model.

KuaiSim (Zhao et al., NeurIPS 2023, arXiv 2309.12645) and others like it have no choice: a model trained slot by slot
says how likely each item is clicked, and the clicks of a slate are drawn one by one. Here that model is as good as can
be had from the same log: a logistic regression with effects of items and, where clicks suffice, boosted trees on top,
over the place, the slate's size, and all the columns that the boosted family counts of items and of the session; the
latest sessions say how many trees help. What is left of the difference is the way of clicking, not the knowledge.

Shapes: B shoppers, S occasions, K slots, P columns, R slots that hold an item.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.datasets import ShopLog
from slatewise.simulators import BoostedShopper, FitConfig, Foretold, Response, TreeConfig
from slatewise.simulators.boosted_choice import BoostedChoice
from slatewise.simulators.boosted_fit import LATE
from slatewise.simulators.boosted_hazards import Hazard, fit_hazard
from slatewise.simulators.boosted_looks import Looks
from slatewise.simulators.boosted_model import BoostedModel, BoostedParts
from slatewise.simulators.choice import NEVER, next_view_log_chance
from slatewise.simulators.choice_evidence import ALL_CLICKED
from slatewise.simulators.features import Slots
from slatewise.simulators.foretold import FITTED
from slatewise.simulators.funnel import OUTCOMES, outcome_codes
from slatewise.simulators.ground import Ground
from slatewise.simulators.hand_features import (
    ITEM_COLUMNS,
    LEAVING_COLUMNS,
    SHOPPER_COLUMNS,
    item_columns,
    learn_tables,
    shopper_columns,
)
from slatewise.simulators.latest import latest
from slatewise.simulators.learn import arrivals
from slatewise.simulators.observed import After, judged_by, shopper_numbers
from slatewise.simulators.pauses import SHORTEST, Pauses
from slatewise.simulators.pauses_fit import SILENT_SPREAD
from slatewise.simulators.priors import Priors
from slatewise.simulators.randomness import uniform
from slatewise.simulators.replay import Progress

_CLICKS, _ORDER, _LUCK = 31, 32, 33  # streams of random numbers
_LOCAL = ("place", "log of the place", "size")
COLUMNS = (*_LOCAL, *ITEM_COLUMNS, *SHOPPER_COLUMNS)
"""What the click model reads: the place from 0, log(1 + place), the items on the slate, and the boosted family's."""
PLACE_AND_ITEM = (*_LOCAL, "popularity", "liked")
"""What one reads that knows nothing of the session: place, size, how often the item is shown and clicked."""
_NODES, _SHARES = np.polynomial.legendre.leggauss(16)


class IndependentClicks(BoostedShopper):
    """Implements `Shopper` and foretells; of several clicks on a slate the first one counts, drawn by chance.

    Carts, purchases and leaving have one chance each for all; time on a slate is log-normal by what came of it. With
    next views, where no slate was logged, exactly one of the alternatives is clicked.

    Args:
        log: to learn from, all of it.
        columns: which of `COLUMNS` the click model reads.
        config: which slates or next views are learnt from, and the priors.
    """

    def __init__(self, log: ShopLog, columns: Sequence[str] = COLUMNS, config: FitConfig | None = None) -> None:
        config = config or FitConfig(held_out=0)
        rng, n = np.random.default_rng(config.seed), log.catalogue.n_items
        ground = Ground.of(log, config, log, rng)
        log, occasions = ground.log, ground.occasions
        self._columns = [COLUMNS.index(name) for name in columns]
        looks = Looks.across_folds(log, occasions, np.ones(len(log)), np.ones(len(log), np.bool_), config.seed)
        items, filled = torch.from_numpy(occasions.items), occasions.items > 0
        hit = (occasions.clicked[:, None] == np.arange(items.shape[1]))[filled]
        late = np.broadcast_to(latest(log, LATE)[occasions.session][:, None], filled.shape)[filled]
        x, item = self._rows(looks.items, looks.shoppers, items, ground.from_slates), occasions.items[filled]
        self._click = fit_hazard(x, hit, np.ones(len(x)), item, late, n, TreeConfig(), own_sd=config.own_sd)
        rate = float((occasions.clicked >= 0).mean())
        self._shift = _shift(self._logits(x, item), filled, rate) if ground.from_slates and rate < ALL_CLICKED else 0.0
        slates, known = log.slates, ground.click_rate_known
        self._leave = float(slates.last.mean()) if known else 1 / config.priors.slates_per_session
        super().__init__(_model(ground, self._leave, config, rng))

    def _rows(self, items: Tensor, shoppers: Tensor, slate: Tensor, placed: bool) -> NDArray[np.float32]:
        """(R, P) columns of filled slots, given those of items (B, K, F) and shoppers (B, Q)."""
        k = slate.shape[1]
        place = torch.arange(k, dtype=torch.float32).expand(len(slate), k)
        size = (slate > 0).sum(1, keepdim=True).expand(-1, k).float()
        local = torch.stack([place, place.log1p(), size], -1) * float(placed)
        whole = torch.cat([local, items, shoppers[:, None].expand(-1, k, -1)], -1)[slate > 0]
        return np.ascontiguousarray(whole[:, self._columns].numpy())

    def _logits(self, x: NDArray[np.float32], item: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R,) log odds of a click."""
        chance = self._click.chance(x, item).astype(np.float64).clip(1e-9, 1 - 1e-7)
        return np.log(chance) - np.log1p(-chance)

    def logits(self, items: Tensor, shoppers: Tensor, slate: Tensor) -> Tensor:
        """(B, K) log odds that each slot is clicked, `NEVER` of empty ones; arguments as columns of a `Looks`."""
        x = self._rows(items, shoppers, slate, self.model.from_slates)
        found = torch.full(slate.shape, NEVER, dtype=torch.float64)
        found[slate > 0] = torch.from_numpy(self._logits(x, slate[slate > 0].numpy()) + self._shift)
        return found

    @torch.no_grad()
    def respond(self, state: Any, slate: Tensor) -> tuple[Response, Any]:
        """As of `Shopper`."""
        trail, rows = state.trail, torch.arange(len(slate))
        items, shoppers, filled = item_columns(trail, slate, self.model.own.tables), shopper_columns(trail), slate > 0
        chance = torch.sigmoid(self.logits(items, shoppers, slate))
        clicks = (uniform(state.seed, state.step, _CLICKS, slate.shape[1]) < chance) & filled
        when = uniform(state.seed, state.step, _ORDER, slate.shape[1])
        hit, place = clicks.any(1), when.masked_fill(~clicks, 2.0).argmin(1)
        luck = uniform(state.seed, state.step, _LUCK, 4)
        item = slate[rows, place]
        carted, purchased = self._bought(
            self.model.own, torch.cat([items[rows, place], shoppers], 1), item, hit, luck[:, :2]
        )
        outcome = outcome_codes(torch.where(hit, place, -1), carted, purchased)
        dwell = self.model.own.dwell.drawn(outcome, torch.zeros(len(slate)), luck[:, [2, 2]])  # no pace, nothing aside
        left = luck[:, 3] < self._leave
        revenue = torch.where(purchased, self.prices[item], 0.0)
        clicked, quantity = torch.where(hit, place, -1), purchased.long()
        response = Response(filled, clicked, carted, purchased, left, dwell, revenue, quantity)
        taken, events = response.tokens(slate)
        trail.after_slate(slate)
        trail.after_token(taken, events, self.model.own.tables.price_in_category)
        state.step, state.gap = state.step + 1, dwell.clone()
        return response, state

    def foretell(self, log: ShopLog, *, seed: int = 0, progress: Progress | None = None) -> Foretold:
        """As of `Foretells`."""
        slates, occasions = judged_by(log, self.n_items, self.model.from_slates, seed)
        looks = Looks.at(log, occasions, self.model.own.tables, progress)
        items, clicked = torch.from_numpy(occasions.items), torch.from_numpy(occasions.clicked)
        logits = self.logits(looks.items, looks.shoppers, items)
        offered = (occasions.session, shopper_numbers(log)[occasions.session], items, clicked)
        if slates is None:
            assert occasions.correction is not None
            correction = torch.from_numpy(occasions.correction)
            utility = torch.where(items > 0, logits - correction, NEVER)  # they were learnt among alternatives so drawn
            choices = {FITTED: (next_view_log_chance(utility, correction), utility)}
            return Foretold(*offered, choices, correction=correction)
        chances = first_click_chances(torch.sigmoid(logits)).clamp(min=1e-300).log()
        done = chances.gather(1, torch.where(clicked >= 0, clicked, items.shape[1])[:, None])[:, 0]
        hit, columns = (clicked >= 0).double(), looks.chosen()
        cart, purchase = (
            torch.from_numpy(step.chance(columns, np.zeros(len(columns), np.int64))) * hit
            for step in (self.model.own.cart, self.model.own.purchase)
        )
        return Foretold(*offered, {FITTED: (done, chances[:, :-1])}, slates, cart, purchase)


def first_click_chances(chance: Tensor) -> Tensor:
    """(S, K + 1) chances that each slot has the first click of its slate, and that none is clicked.

    Slots are clicked independently, each with its own of the chances (S, K), in an order drawn by chance. With the time
    of a click even in [0, 1], slot j comes first with chance p_j times the integral of prod_{i != j} (1 - t p_i); the
    polynomial is integrated by 16 Gauss-Legendre nodes, exactly for up to 33 slots.
    """
    chance = chance.double()
    found = torch.zeros_like(chance)
    for node, share in zip((_NODES + 1) / 2, _SHARES / 2, strict=True):
        left = torch.log1p(-node * chance)
        found += float(share) * (left.sum(1, keepdim=True) - left).exp()
    return torch.cat([found * chance, torch.log1p(-chance.clamp(max=1 - 1e-12)).sum(1, keepdim=True).exp()], 1)


def _log_normal(after: After, priors: Priors, least: int = 20) -> Pauses:
    """Time on a slate log-normal by outcome, each pause by itself; an outcome of few pauses is drawn to all."""
    known = np.isfinite(after.seconds) & (after.seconds > 0)
    log, what = np.log(np.maximum(after.seconds[known], SHORTEST)), after.outcome[known]
    if len(log) < least:
        return Pauses.constant(priors.seconds_per_slate, SILENT_SPREAD)
    count = np.bincount(what, minlength=len(OUTCOMES)) + least
    means = (np.bincount(what, log, minlength=len(OUTCOMES)) + least * log.mean()) / count
    squares = np.bincount(what, (log - means[what]) ** 2, minlength=len(OUTCOMES)) + least * log.var()
    alike = Pauses.constant(1.0, 1.0)
    mean, spread = (torch.from_numpy(one).float() for one in (means, np.sqrt(squares / count)))
    return Pauses(mean, spread, alike.pace, alike.aside)


def _shift(logits: NDArray[np.float64], filled: NDArray[np.bool_], rate: float) -> float:
    """What must be added to all log odds for as many slates to be clicked as were: a click is the first of several."""
    row, low, high = np.nonzero(filled)[0], -10.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        none = np.exp(np.bincount(row, -np.logaddexp(0, logits + middle), minlength=len(filled)))
        low, high = (low, middle) if 1 - none.mean() > rate else (middle, high)
    return (low + high) / 2


def _model(ground: Ground, leave: float, config: FitConfig, rng: np.random.Generator) -> BoostedModel:
    """All but the clicks: rates counted in the log, or the priors; `leave` is the chance to leave after a slate."""
    log, occasions, priors = ground.log, ground.occasions, config.priors
    after = After.of_slates(log.slates) if ground.from_slates else After.of_views(log, occasions)
    columns, n = len(ITEM_COLUMNS) + len(SHOPPER_COLUMNS), log.catalogue.n_items
    passed = [int((after.outcome >= depth).sum()) for depth in (1, 2, 3)]
    rates = [
        done / tried if done >= config.min_events else (done + config.min_events * prior) / (tried + config.min_events)
        for tried, done, prior in zip(passed, passed[1:], (priors.cart_rate, priors.purchase_rate), strict=False)
    ]
    came, _ = arrivals(log, config.max_arrivals, rng, priors.arrival_views)
    own = BoostedParts(
        tables=learn_tables(log, occasions, np.ones(len(log)), np.ones(len(log), np.bool_)),
        choice=BoostedChoice(None, (), 0.0, torch.full((1,), 10.0, dtype=torch.float64)),
        cart=Hazard.constant(rates[0], columns, n),
        purchase=Hazard.constant(rates[1], columns, n),
        dwell=_log_normal(after, priors),
        leaving=Hazard.constant(leave, len(LEAVING_COLUMNS), n),
        arrivals=torch.arange(len(came.gap)),
    )
    return BoostedModel(
        own=own,
        leaving_known=False,
        usual_size=Slots.of(torch.from_numpy(occasions.items > 0)).usual,
        arrivals=came,
        prices=torch.from_numpy(log.catalogue.prices),
        from_slates=ground.from_slates,
    )
