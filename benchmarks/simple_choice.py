"""Simple models of what is clicked next, fitted on the same sessions: what a fitted shopper has to beat.

Shapes: S slates, K slots, N items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln
from torch import Tensor

from slatewise.datasets import ShopLog
from slatewise.datasets.tokens import Ints
from slatewise.simulators.choice import NEVER, next_view_log_chance
from slatewise.simulators.observed import shopper_numbers
from slatewise.simulators.occasions import Occasions, next_views, views
from slatewise.simulators.popularity import expected_clicks

Doubles = NDArray[np.float64]
FOLDS = 10
"""Folds of shoppers: what an item's clicks say of a slate is counted on the shoppers of the other folds."""
POPULAR, FOLLOWS, AGAIN = "popularity", "what follows the last item", "viewed before or following"
RECENT, HISTORY = 0.8, 50
"""How much an earlier view counts beside the one after it, and how many are counted at most."""
MOST_MIXED = 5_000
"""Next views at most that say how much to mix."""
_STRENGTHS = np.geomspace(0.3, 300, 25)  # clicks at the mean rate that an item is given, tried
_PLACE_SD, _WEIGHT_SD = 0.5, 2.0  # from place to place, and of the other weights, in logits


@dataclass(frozen=True)
class ItemRates:
    """How often items are clicked, for where they stood: log of clicks over expected clicks, by empirical Bayes.

    Clicks are Poisson about the expected clicks of the item's places times a rate of its own, the rates gamma about 1;
    how much these differ is the likeliest for the log (a negative binomial).

    Attributes:
        log_rate: (N + 1,), 0 where nothing is known. strength: expected clicks that count as much as the mean of all.
    """

    log_rate: Doubles
    strength: float

    @classmethod
    def of(cls, items: Ints, clicked: Ints, n_items: int) -> "ItemRates":
        """Of slates (S, K), clicked (S,) at a slot or not, -1."""
        hit = np.flatnonzero(clicked >= 0)
        clicks = np.bincount(items[hit, clicked[hit]], minlength=n_items + 1).astype(np.float64)
        expected = expected_clicks(items, clicked, n_items)
        c, e = clicks[expected > 0], expected[expected > 0]
        m = _STRENGTHS[:, None]
        likely = gammaln(c + m) - gammaln(m) + m * np.log(m / (m + e)) + c * np.log(e / (m + e))
        strength = float(_STRENGTHS[likely.sum(1).argmax()])
        rate = np.log((clicks + strength) / (expected + strength))
        rate[0] = 0
        return cls(rate, strength)


@dataclass(frozen=True)
class PlaceSizeItem:
    """Multinomial logit over a slate's items and clicking nothing: place, size of the slate, click rate of the item.

    Attributes:
        place: (K,) utility of each place. rate: weight of the item's log rate. nothing: (3,) of clicking nothing: for
            all, by log size, by its square. rates: of the items.
    """

    place: Tensor
    rate: Tensor
    nothing: Tensor
    rates: ItemRates

    @classmethod
    def fit(cls, log: ShopLog, k: int) -> "PlaceSizeItem":
        """Fit on a log's slates; `k` is the size of the largest slate that will be asked for."""
        slates, n = log.slates, log.catalogue.n_items
        k = max(k, slates.items.shape[1])
        shopper = shopper_numbers(log)
        fold = np.random.default_rng(0).integers(FOLDS, size=int(shopper.max()) + 1)[shopper[slates.session]]
        table = np.zeros(slates.items.shape)
        for one in np.unique(fold):  # no click helps to foretell itself
            mine = fold == one
            rates = ItemRates.of(slates.items[~mine], slates.clicked[~mine], n) if (~mine).any() else None
            table[mine] = 0.0 if rates is None else rates.log_rate[slates.items[mine]]
        told, clicked = torch.from_numpy(table), torch.from_numpy(slates.clicked)
        items = torch.from_numpy(slates.items)

        def loss(at: NDArray[np.float64]) -> tuple[float, Doubles]:
            free = torch.from_numpy(at).requires_grad_()
            place, rate, nothing = free.split([k, 1, 3])
            chances = _log_chances(items, place, rate, nothing, told)
            penalty = ((place[1:] - place[:-1]) / _PLACE_SD).square().sum() + place[0].square() / 100
            penalty = 0.5 * (penalty + (rate / _WEIGHT_SD).square().sum() + (nothing[1:] / _WEIGHT_SD).square().sum())
            value = penalty - _done(chances, clicked).sum()
            value.backward()
            assert free.grad is not None
            return value.item(), free.grad.numpy()

        best = minimize(loss, np.zeros(k + 4), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
        place, rate, nothing = torch.from_numpy(best).split([k, 1, 3])
        return cls(place, rate, nothing, ItemRates.of(slates.items, slates.clicked, n))

    def foretell(self, items: Tensor, clicked: Tensor) -> tuple[Tensor, Tensor]:
        """(S,) log chance of what was done, and (S, K) log chances of clicks, as in `Foretold.choices`."""
        told = torch.from_numpy(self.rates.log_rate)[items]
        chances = _log_chances(items, self.place, self.rate, self.nothing, told)
        return _done(chances, clicked), chances[:, :-1]


def _log_chances(items: Tensor, place: Tensor, rate: Tensor, nothing: Tensor, told: Tensor) -> Tensor:
    """(S, K + 1) log chances of a click at each slot, and of none."""
    utility = (place[: items.shape[1]] + rate * told).masked_fill(items == 0, NEVER)
    size = (items > 0).sum(1).double().clamp(min=1).log()
    rest = nothing[0] + nothing[1] * (size - 2.5) + nothing[2] * (size - 2.5).square()  # about a dozen
    return torch.log_softmax(torch.cat([utility, rest[:, None]], 1), 1)


def _done(chances: Tensor, clicked: Tensor) -> Tensor:
    place = torch.where(clicked >= 0, clicked, chances.shape[1] - 1)
    return chances.gather(1, place[:, None]).squeeze(1)


def next_view_models(log: ShopLog, later: ShopLog, occasions: Occasions) -> dict[str, tuple[Tensor, Tensor]]:
    """What simple models of the next view foretell of later sessions, in the form of `Foretold.choices`.

    "popularity" is each item's share of the views. "what follows the last item" counts what was viewed after the same
    item, drawn to popularity. "viewed before or following" is a mixture of that and of the session's earlier items,
    recent ones first: shoppers go back and forth. How far to draw, and how much of each to mix, is what is best for the
    latest tenth of what is learnt from.

    Args:
        log: to learn from.
        later: the sessions to foretell.
        occasions: next views of these among alternatives.
    """
    assert occasions.correction is not None
    n = log.catalogue.n_items
    _, _, viewed = views(log)
    popular = (np.bincount(viewed, minlength=n + 1) + 1.0) / (len(viewed) + n)
    before, after = _steps(log)
    cut = round(0.9 * len(before))
    strengths = np.geomspace(1, 1000, 13)
    part = (before[:cut], after[:cut], popular)
    tried = [np.log(_followed(*part, strength, before[cut:], after[cut:])).mean() for strength in strengths]
    strength = float(strengths[int(np.argmax(tried))])
    mixed = _shares(log, _latest_views(log), (*part, strength))
    follows, again = _shares(later, occasions, (before, after, popular, strength))
    found, items = {}, torch.from_numpy(occasions.items)
    chances = {POPULAR: popular[occasions.items], FOLLOWS: follows, AGAIN: _mixture(follows, again, _best_mix(*mixed))}
    for name, chance in chances.items():
        utility = torch.from_numpy(np.log(chance)).masked_fill(items == 0, NEVER)
        found[name] = (next_view_log_chance(utility, torch.from_numpy(occasions.correction)), utility)
    return found


def _latest_views(log: ShopLog) -> Occasions:
    """Next views of the latest tenth of the sessions."""
    start = log.sessions["start"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    found = next_views(log, alternatives=1, most=MOST_MIXED * 10, rng=np.random.default_rng(0))
    late = np.flatnonzero(start[found.session] >= np.quantile(start, 0.9))[:MOST_MIXED]
    return Occasions(found.session[late], found.before[late], found.items[late], found.clicked[late])


def _shares(log: ShopLog, occasions: Occasions, counted: tuple[Ints, Ints, Doubles, float]) -> tuple[Doubles, Doubles]:
    """(S, K) chances of items by what followed the last one, and their recent shares among the session's earlier ones.

    The share of earlier items, the last one left out, is 0 where there are none.
    """
    history = log.tokens.histories(occasions.session, upto=occasions.before, last=HISTORY)
    rows, last = np.arange(len(occasions)), history.lengths - 1
    asked = history.items[rows, last]
    k = occasions.items.shape[1]
    follows = _followed(*counted, np.repeat(asked, k), occasions.items.ravel()).reshape(-1, k)
    age = last[:, None] - np.arange(history.items.shape[1])
    weight = np.where((age > 0) & (history.items != asked[:, None]), RECENT ** np.maximum(age, 0), 0.0)
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-12)
    again = np.zeros(occasions.items.shape)
    for place in range(history.items.shape[1]):
        again += weight[:, [place]] * (history.items[:, [place]] == occasions.items)
    return follows, again


def _mixture(follows: Doubles, again: Doubles, mix: float) -> Doubles:
    """Chances (S, K) with a share `mix` of earlier items, where there are any."""
    return (1 - mix) * follows + mix * again


def _best_mix(follows: Doubles, again: Doubles) -> float:
    """The share of earlier items that makes what was viewed, in column 0, likeliest."""
    shares = np.linspace(0, 0.95, 20)
    return float(shares[int(np.argmax([np.log(_mixture(follows, again, mix)[:, 0]).mean() for mix in shares]))])


def _steps(log: ShopLog) -> tuple[Ints, Ints]:
    """(E,) items viewed, and the others viewed next."""
    session, _, item = views(log)
    there = np.flatnonzero((session[1:] == session[:-1]) & (item[1:] != item[:-1]))
    return item[there], item[there + 1]


def _followed(before: Ints, after: Ints, popular: Doubles, strength: float, asked: Ints, item: Ints) -> Doubles:
    """(Q,) chance that each `item` follows the one asked for, given what followed before."""
    size = len(popular)
    pairs, count = np.unique(before * size + after, return_counts=True)
    wanted = asked * size + item
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    held = np.where(pairs[at] == wanted, count[at], 0)
    total = np.bincount(before, minlength=size)[asked]
    return (held + strength * popular[item]) / (total + strength)
