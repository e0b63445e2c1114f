"""The known-truth shopper: how shoppers of a `KnownShop` look, click, buy, tire and leave, known exactly.

A shopper looks down the slate to a depth, compares what it saw with doing nothing (a multinomial logit), may put the
clicked item into the cart and buy it, grows tired of categories it is shown, and leaves when nothing useful comes.

Shapes: B shoppers, K slots, N items, C categories, D style dimensions, A arrival tokens, F remembered items, M bought.
Sources: those of `known_truth_chances`; sampling a choice by Gumbel noise, Gumbel 1954.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from ..datasets.known_shop import YEAR, KnownShop
from ..datasets.known_shop_words import AISLES
from ..datasets.schema import Event
from .known_truth_chances import depth_choice, logit
from .known_truth_luck import luck_of
from .known_truth_state import KnownTruthState, first_visit, visit_seed
from .randomness import gumbel, normal, uniform
from .shopper import Response, TokenBatch

__all__ = ["ARRIVAL", "KnownTruthShopper", "KnownTruthState", "Value", "depth_choice", "visit_seed"]

Value = Literal["click", "purchase", "revenue"]
"""What a slate can be worth: the chance of a click or of a purchase, or the revenue expected."""

ARRIVAL = 3
"""Most tokens that a shopper brings along."""
_CANDIDATES = 64  # items among which an arriving shopper browses; keeps a reset free of the catalogue's size
_TOGETHER = 256  # shoppers whose candidates are compared at once, so that what lies between stays in the cache
_FAMILIAR = 8  # slates back to which a clicked item is remembered
_OWNED = 6  # purchases back to which a shopper remembers what it bought
_DEEPER = (1.0, 1.5, 2.0)  # what goes with an item gains by its click, cart and purchase, in units of `complements`
_FEW = 256  # items up to which one call costs more than what it does
_APART = 1.1  # log-normal spread of the days until a shopper comes again
# Streams of random numbers; stream 5 is that of `known_truth_luck`.
_TASTE, _INTENT, _BROWSE, _PACE, _RETURN, _CLOCK = 1, 2, 3, 4, 6, 7
_DWELL_BASE, _DWELL_CLICK = 15.0, 2.5  # seconds on a slate, factor with a click


class KnownTruthShopper:
    """Implements `Shopper` for a `KnownShop`; see `KnownShopConfig` for the mechanisms and their strengths.

    Args:
        shop: the shop walked in.
        device: where the states live.
        day: days from `DAY_ZERO` on which shoppers come where `reset` is told none; by default any time of the year.
    """

    def __init__(self, shop: KnownShop, device: torch.device | str = "cpu", *, day: float | None = None) -> None:
        self.shop = shop
        self.config = shop.config
        self.device = torch.device(device)
        self.n_items = shop.n_items
        self.day = day
        self._prices = torch.as_tensor(shop.catalogue.prices, device=self.device)
        self._category = torch.as_tensor(shop.category, device=self.device)
        columns = (torch.as_tensor(column) for column in (shop.quality, shop.allure, shop.log_price))
        features = [torch.as_tensor(shop.style), *(column[:, None] for column in columns)]
        self._features = torch.cat(features, 1).to(self.device)  # (N + 1, D + 3)
        self._allure = self._features[:, -2].contiguous()
        self._letdown = self._allure.clamp(min=0) * shop.config.letdown
        self._share_logits = torch.as_tensor(shop.category_share, device=self.device).log()
        self._companions = torch.as_tensor(shop.companions, device=self.device)
        self._season_peak = torch.as_tensor(shop.season_peak, device=self.device)
        self._shelf_period = torch.as_tensor(shop.shelf_period, device=self.device)
        self._shelf_phase = torch.as_tensor(shop.shelf_phase, device=self.device)
        config = shop.config
        outside = math.log(config.outside_option) if config.outside_option else -math.inf
        # Numbers as tensors: where shoppers are few, torch takes longer to wrap a number than to reckon with it.
        numbers = outside, -math.inf, config.satiation / 3, config.satiation_kept, config.leave, _DWELL_BASE
        self._numbers = tuple(torch.tensor(number, device=self.device) for number in numbers)
        self._zero, self._one, self._none = (torch.tensor(number, device=self.device) for number in (0, 1, -1))
        # A middling match is what a clicked item of a popular slate has; above it carts and purchases are likelier.
        self._middling = config.quality + config.category_taste + 0.5 * config.intent + 0.5 * config.style_taste
        self._cart, self._purchase = logit(config.cart_rate), logit(config.purchase_rate)
        self._reaches: dict[int, Tensor] = {}

    @property
    def prices(self) -> Tensor:
        """(N + 1,) float32 price by dense index; entry 0 is 0."""
        return self._prices

    def reset(self, seeds: Tensor, day: Tensor | float | None = None, owned: Tensor | None = None) -> KnownTruthState:
        """Shoppers who arrive having viewed up to three items; see `visit_seed` for returning ones.

        Args:
            seeds: (B,) int64; any values.
            day: (B,) or one number: days from `DAY_ZERO` on which they come; by default `self.day`, or else a day of
                the year drawn by seed.
            owned: (B, M) int64 what they bought on earlier visits, from `state.belongings()`; by default nothing.
        """
        config = self.config
        seeds = seeds.to(self.device)
        rows = len(seeds)
        day = self._days(seeds, self.day if day is None else day)
        kept = _OWNED if config.owned else 0
        nothing = torch.zeros((rows, kept), dtype=torch.int64, device=self.device)
        owned = nothing.clone() if owned is None else owned.to(self.device).clone()
        liking, weights = self._taste(seeds, day)
        if config.owned:
            sated = torch.zeros_like(liking).scatter_reduce(1, self._category[owned], (owned > 0).float(), "amax")
            liking = liking - config.owned / 3 * sated
        state = KnownTruthState(
            seed=seeds.clone(),
            step=torch.zeros(rows, dtype=torch.int64, device=self.device),
            gap=torch.zeros(rows, device=self.device),
            arrival=TokenBatch(*(torch.zeros(0, device=self.device) for _ in range(4))),
            liking=liking,
            weights=weights,
            satiation=torch.zeros_like(liking),
            familiar=torch.zeros((rows, _FAMILIAR), dtype=torch.int64, device=self.device),
            weariness=torch.zeros((rows, _FAMILIAR), device=self.device),
            patience=torch.full((rows,), float(config.patience) or math.inf, device=self.device),
            day=day,
            gain=torch.zeros_like(liking),
            owned=owned,
            basket=nothing,
            pleasure=torch.full((rows,), -1, device=self.device),
        )
        state.arrival, state.gap = self._arrive(state)
        return state

    def _days(self, seeds: Tensor, day: Tensor | float | None) -> Tensor:
        """(B,) float32 the days on which these visits are."""
        if day is None:
            return YEAR * uniform(seeds, 0, _CLOCK, 1).squeeze(1)
        return torch.as_tensor(day, dtype=torch.float32, device=self.device).expand(len(seeds)).clone()

    def there(self, day: Tensor, items: Tensor | None = None) -> Tensor:
        """Whether items are on sale.

        Args:
            day: (B,) days from `DAY_ZERO`.
            items: (B, M) int64 dense indices; by default the whole catalogue.

        Returns:
            (B, M) bool, or (B, N + 1) with False for index 0.
        """
        asked = slice(None) if items is None else items
        period, phase = self._shelf_period[asked], self._shelf_phase[asked]
        there = (period == 0) | ((day[:, None] + phase) % period.clamp(min=1e-3) < 0.5 * period)
        if items is None:
            there[:, 0] = False
        return there

    @property
    def comes_again(self) -> bool:
        """Whether shoppers come again by themselves."""
        return self.config.come_back > 0

    def return_chances(self, state: KnownTruthState) -> Tensor:
        """(B,) exact chance that each shopper comes again after a visit that ended like this."""
        return torch.sigmoid(logit(self.config.come_back) + self.config.delight * state.pleasure)

    def returns(self, state: KnownTruthState) -> tuple[Tensor, Tensor]:
        """Whether the shoppers come again after this visit (B,) bool, and after how many days (B,) float32, > 0."""
        luck = uniform(state.seed, 0, _RETURN, 2)
        days = self.config.come_back_after * torch.exp(_APART * torch.special.ndtri(luck[:, 1]))
        return luck[:, 0] < self.return_chances(state), days

    def _taste(self, seeds: Tensor, day: Tensor) -> tuple[Tensor, Tensor]:
        """Liking of categories (B, C) and weights of attributes (B, D + 3) of visits on these days (B,)."""
        config, n = self.config, self.config.n_categories
        liking, lasting = self._lasting(seeds, day)
        wanted = self._wanted(seeds, liking)
        strength = torch.tensor([1.0, 0.7], device=self.device)[: min(2, n)].expand(len(seeds), -1)
        liking = liking - config.category_taste * self._share_logits.mean()
        liking = liking.scatter_add(1, wanted, config.intent * strength)
        thrift = config.price_sensitivity * torch.exp(0.5 * lasting[:, -1:] - 0.125)  # mean 1 over shoppers
        quality, allure = torch.full_like(thrift, config.quality), torch.full_like(thrift, config.allure)
        return liking, torch.cat([config.style_taste * lasting[:, n:-1], quality, allure, -thrift], 1)

    def _lasting(self, seeds: Tensor, day: Tensor) -> tuple[Tensor, Tensor]:
        """Liking of categories (B, C) on these days before a visit is about any, and lasting taste (B, C + D + 1)."""
        config, n = self.config, self.config.n_categories
        lasting = normal(first_visit(seeds), 0, _TASTE, n + config.style_width + 1)
        liking = config.category_taste * (self._share_logits + 0.7 * lasting[:, :n])
        if config.seasonality:
            liking = liking + config.seasonality * torch.cos(2 * math.pi / YEAR * (day[:, None] - self._season_peak))
        return liking, lasting

    def _wanted(self, seeds: Tensor, liking: Tensor) -> Tensor:
        """(B, 2) the categories that visits are about, drawn by how much they are liked, the second less wanted."""
        n = self.config.n_categories
        return (liking + gumbel(seeds, 0, _INTENT, n)).topk(min(2, n), dim=1).indices

    @property
    def queries(self) -> tuple[str, ...]:
        """What shoppers search for: names of categories, by number; number 0 is no search."""
        return "", *(name.lower() for name in list(AISLES)[: self.config.n_categories])

    def searched(self, state: KnownTruthState) -> Tensor:
        """(B,) int64 number in `queries` of what each shopper searches for: the category its visit is mostly about."""
        return 1 + self._wanted(state.seed, self._lasting(state.seed, state.day)[0])[:, 0]

    def _arrive(self, state: KnownTruthState) -> tuple[TokenBatch, Tensor]:
        """Views of one to three different items, chosen among a few that are there, and the gap since the last.

        A shopper who finds nothing there has no history, and no gap.
        """
        seeds, rows = state.seed, len(state.seed)
        width, wide = min(ARRIVAL, self.n_items), min(_CANDIDATES, self.n_items)
        # One candidate from each of equal stretches of the catalogue, so that all differ.
        edge = torch.arange(wide + 1, device=self.device) * self.n_items // wide
        draw = uniform(seeds, 0, _BROWSE, wide)
        candidates = 1 + edge[:-1] + (draw * edge.diff()).long()
        utility = torch.empty(rows, wide, device=self.device)
        for some in torch.arange(rows, device=self.device).split(_TOGETHER):
            asked = candidates[some]
            value = self._unwearied(state.liking[some], state.weights[some], asked, _at(self._category, asked))
            utility[some] = self._unowned(value, state.owned[some], asked)
        utility += gumbel(seeds, 1, _BROWSE, wide)
        choices = width
        if self.config.turnover:
            there = self.there(state.day, candidates)
            utility = utility.masked_fill(~there, -math.inf)
            choices = there.sum(1).clamp(max=width)
        items = candidates.gather(1, utility.topk(width, dim=1).indices)
        pace = uniform(seeds, 0, _PACE, 1).squeeze(1)
        lengths = (1 + (pace * width).long().clamp(max=width - 1)).clamp(max=choices)
        held = torch.arange(width, device=self.device) < lengths[:, None]
        waits = 20.0 * torch.exp(0.8 * normal(seeds, 1, _PACE, width + 1))
        gaps = waits[:, :width] * held
        gaps[:, 0] = 0.0
        events = torch.full((rows, width), int(Event.VIEW), device=self.device) * held
        return TokenBatch(items * held, events, gaps, lengths), waits[:, -1] * (lengths > 0)

    def utilities(self, state: KnownTruthState, items: Tensor | None = None) -> Tensor:
        """What items are worth to the shoppers right now, in logits.

        Args:
            state: B shoppers.
            items: (B, M) int64 dense indices; by default the whole catalogue, which costs B x N.

        Returns:
            (B, M) float32, or (B, N + 1) with -inf for index 0.
        """
        if items is None:
            value = state.weights @ self._features.T + self._appeal(state)[:, self._category]
            value = value.scatter_add(1, state.familiar, -state.weariness)
            value = value.scatter_add(
                1, state.owned, torch.full_like(state.owned, -self.config.owned, dtype=value.dtype)
            )
            value[:, 0] = -math.inf
            return value
        return self._worth(state, items, _at(self._category, items))

    def _worth(self, state: KnownTruthState, items: Tensor, category: Tensor) -> Tensor:
        """(B, M) float32 as `utilities`, of items of these categories."""
        value = self._unwearied(self._appeal(state), state.weights, items, category)
        if len(worn := state.weariness.nonzero()):  # of eight items remembered, most shoppers have clicked one or none
            rows, place = worn.unbind(1)
            again = items.index_select(0, rows) == state.familiar[rows, place].unsqueeze(1)
            value.index_add_(0, rows, again * state.weariness[rows, place].neg().unsqueeze(1))
        return self._unowned(value, state.owned, items)

    def _unwearied(self, appeal: Tensor, weights: Tensor, items: Tensor, category: Tensor) -> Tensor:
        """(B, M) utilities to shoppers who have clicked none of the items yet, by `_appeal` and `state.weights`."""
        features = torch.embedding(self._features, items)
        return torch.bmm(features, weights.unsqueeze(2)).squeeze(2).add_(appeal.gather(1, category))

    def _unowned(self, value: Tensor, owned: Tensor, items: Tensor) -> Tensor:
        """(B, M) utilities of items, less what those lose that the shoppers own."""
        if not self.config.owned:
            return value
        return value - self.config.owned * (items[:, :, None] == owned[:, None, :]).sum(2)

    def _appeal(self, state: KnownTruthState) -> Tensor:
        """(B, C) logits that each category has right now."""
        appeal = state.liking - state.satiation
        return appeal + state.gain if self.config.complements else appeal

    def click_chances(self, state: KnownTruthState, slate: Tensor) -> Tensor:
        """Exact chance that each slot of a slate is clicked, over how far the shopper looks and what it prefers.

        Args:
            state: B shoppers.
            slate: (B, K) int64 dense indices, no repeats; 0 leaves a slot empty.

        Returns:
            (B, K) float32; rows sum to the chance of a click.
        """
        reach = self.looked(slate.shape[1])
        return depth_choice(self.utilities(state, slate), slate > 0, reach, self.config.outside_option)

    def looked(self, k: int) -> Tensor:
        """(K,) chance that each place is looked at."""
        if k not in self._reaches:
            places = torch.arange(k, dtype=torch.float32, device=self.device)
            self._reaches[k] = (1 - self.config.position_decay) ** places
        return self._reaches[k]

    def stops(self, k: int) -> Tensor:
        """(k,) float64 exact chance that each place is the last one looked at; sums to 1."""
        reach = (1 - self.config.position_decay) ** torch.arange(k + 1, dtype=torch.float64)
        reach[k] = 0.0
        return reach[:-1] - reach[1:]

    def funnel_chances(self, state: KnownTruthState, items: Tensor) -> tuple[Tensor, Tensor]:
        """Exact chances of a cart given a click and of a purchase given a cart, each (B, M), for items (B, M)."""
        return self._funnel(self.utilities(state, items), self._allure[items])

    def _funnel(self, utility: Tensor, allure: Tensor) -> tuple[Tensor, Tensor]:
        """As `funnel_chances`: allure draws the click and does not sell."""
        better = self.config.match * (utility - self.config.allure * allure - self._middling)
        return torch.sigmoid(self._cart + better), torch.sigmoid(self._purchase + 0.5 * better)

    def oracle_slates(
        self,
        state: KnownTruthState,
        k: int,
        *,
        value: Value = "click",
        available: Tensor | None = None,
    ) -> Tensor:
        """(B, k) the slates of a recommender that knows the shoppers, and looks no further than this slate.

        Args:
            state: B shoppers.
            k: slots; at most N.
            value: rank by utility, which earns the most clicks a slate can; or by the odds of a click times the chance
                of a purchase, or times the expected revenue (good orders, not the best sets).
            available: (N + 1,) bool, items that may be shown; all by default.
        """
        if value not in ("click", "purchase", "revenue"):
            raise ValueError(f"value must be 'click', 'purchase' or 'revenue', got {value!r}")
        utility = self.utilities(state)
        score = utility
        if value != "click":
            cart, purchase = self._funnel(utility, self._allure)
            score = utility + cart.log() + purchase.log()
            if value == "revenue":
                score = score + self._prices.clamp(min=1e-6).log()
        if available is not None:
            score = score.masked_fill(~available.to(self.device), -math.inf)
        score[:, 0] = -math.inf
        best = score.topk(k, dim=1)
        return best.indices * torch.isfinite(best.values)

    def respond(self, state: KnownTruthState, slate: Tensor) -> tuple[Response, KnownTruthState]:
        """What shoppers do with their slates, and their states afterwards (the one passed in is used up).

        Args:
            state: B shoppers.
            slate: (B, K) int64 dense indices, best place first, no repeats; 0 leaves a slot empty.
        """
        outside, never, ignored, kept, leave, base = self._numbers
        k, category = slate.shape[1], _at(self._category, slate)
        luck = luck_of(state.seed, state.step, self.looked(k))
        utility, filled = self._worth(state, slate, category), slate.bool()
        examined = luck.looks & filled
        best, place = torch.where(examined, utility - luck.haste, never).max(1)
        found = best > outside - luck.idle
        carted, revenue, cost, dwell = torch.zeros_like(found), torch.zeros_like(best), examined * ignored, luck.dwell
        purchased, quantity, leaves = carted, torch.zeros_like(place), leave
        state.patience = state.patience - self._one
        if len(rows := found.nonzero().squeeze(1)):  # what follows a click is worked out for those alone who clicked
            slot = place[rows]
            item = slate[rows, slot]
            cart, purchase = self._funnel(utility[rows, slot], self._allure[item])
            into_cart = luck.cart[rows] < cart
            bought = into_cart & (luck.purchase[rows] < purchase)
            purchased, leaves = carted.clone(), torch.full_like(best, self.config.leave)
            carted[rows], purchased[rows], quantity[rows] = into_cart, bought, bought.long()
            revenue[rows] = self._prices[item] * bought
            cost[rows, slot] = self.config.satiation
            dwell[rows] *= _DWELL_CLICK
            leaves[rows[bought]] = self.config.leave_bought
            self._remember(state, rows, item, into_cart, bought)
        state.satiation.mul_(kept).scatter_add_(1, category, cost)
        dwell *= base
        state.gap = torch.where(filled.any(1), dwell, state.gap + dwell)  # an empty slate leaves no token
        state.step = state.step + self._one
        left = (luck.leave < leaves).logical_or_(state.patience <= self._zero)
        clicked = torch.where(found, place, self._none)
        return Response(examined, clicked, carted, purchased, left, dwell, revenue, quantity), state

    def _remember(self, state: KnownTruthState, rows: Tensor, item: Tensor, carted: Tensor, bought: Tensor) -> None:
        """What clicks leave behind in the shoppers: weariness, patience, and what else they like; changes the state.

        Args:
            state: of all shoppers.
            rows: (n,) int64 who clicked.
            item: (n,) int64 what they clicked.
            carted: (n,) bool, whether it went into the cart.
            bought: (n,) bool, whether it was bought.
        """
        config, slot = self.config, state.step[rows] % _FAMILIAR
        state.familiar[rows, slot] = item
        state.weariness[rows, slot] = config.familiarity * (1.0 + bought)
        state.patience[rows] = (float(config.patience) or math.inf) - self._letdown[item]
        state.pleasure[rows] = torch.maximum(state.pleasure[rows], bought.long())
        if config.complements:
            click, cart, purchase = (config.complements * level for level in _DEEPER)
            depth = torch.where(bought, purchase, torch.where(carted, cart, click))
            gain = depth[:, None] * self._companions[self._category[item]]
            state.gain[rows] = torch.maximum(state.gain[rows], gain)
        if config.owned:
            buyers, theirs = rows[bought], item[bought]
            state.basket[buyers] = torch.cat([theirs[:, None], state.basket[buyers, :-1]], 1)


def _at(column: Tensor, items: Tensor) -> Tensor:
    """(B, M) what a column (N + 1,) says of items (B, M)."""
    if items.numel() < _FEW:
        return column.take(items)
    return column.index_select(0, items.flatten()).view(items.shape)
