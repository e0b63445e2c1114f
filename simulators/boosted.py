"""The boosted shopper: of another kind than the one with an encoder, so that it can judge what was taught by that.

What it makes of an item is a sum of gradient-boosted trees over columns counted by hand; it encodes nothing. How it
looks down a slate, and what it is told, is the same as for any shopper.

Shapes: B shoppers, K slots, N items, F item columns, Q shopper columns.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.log import ShopLog
from .arrivals import Arrivals
from .boosted_choice import BoostedChoice
from .boosted_looks import Looks
from .boosted_model import BoostedModel, BoostedParts
from .choice import NEVER
from .choice_scores import ChoiceScores
from .drawn import Drawn
from .examination import depth_log_chances, slate_log_chances
from .following import FollowedState
from .foretold import FITTED, Foretold
from .funnel import outcome_codes
from .hand_features import (
    alternatives,
    item_columns,
    leaving_columns,
    shopper_columns,
)
from .members import Expected, summed
from .observed import chosen_items, judged_by, outcomes, shopper_numbers
from .pauses import Pauses
from .randomness import gumbel, uniform
from .replay import Progress
from .shopper import Response, TokenBatch
from .trail import Trail, trail_of

_LUCK, _CHOICE = 2, 3  # streams of random numbers; 6 is that of `pauses`
_CELLS = 200_000  # shoppers x items scored at once by `choice_scores`


@dataclass(slots=True)
class BoostedState(FollowedState):
    """A boosted shopper between slates."""

    def rows(self, which: Tensor) -> "BoostedState":
        """A copy of some rows, (n,) int64."""
        parts = (self.seed[which], self.step[which], self.gap[which], self.arrival.rows(which), self.trail.rows(which))
        return BoostedState(*parts, self.pace[which], None if self.member is None else self.member[which])


class BoostedShopper(Drawn):
    """Implements `Shopper`; made by `fit(..., family="boosted")`, read by `load_shopper`.

    Args:
        model: what was learnt.
        report: figures of the fit, see `fit`.
        device: where states live; trees are asked on the CPU.
        drawn: whether each shopper who arrives is of a member of the ensemble, see `Drawn`.
    """

    def __init__(
        self,
        model: BoostedModel,
        report: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        *,
        drawn: bool = False,
    ) -> None:
        super().__init__(model, torch.device(device), drawn)
        self.model = model.to(self.device)
        self.report = dict(report or {})
        self.n_items = len(model.prices) - 1

    @property
    def prices(self) -> Tensor:
        """(N + 1,) float32 price by dense index; entry 0 is 0."""
        return self.model.prices

    def member(self, number: int) -> "BoostedShopper":
        """The shopper as one member of the ensemble has it.

        Raises:
            IndexError: there is no such member.
        """
        return BoostedShopper(self.model.member(number), device=self.device)

    def ensemble(self) -> "BoostedShopper":
        """The shopper whose arrivals are each of a member.

        Raises:
            EvidenceError: no ensemble was fitted.
        """
        return BoostedShopper(self.model, self.report, self.device, drawn=True)

    def looked(self, k: int) -> Tensor:
        """(k,) chance that each place of a slate is looked at; the first 1, then falling."""
        return self.model.own.choice.looked(k).to(self.device)

    def reset(self, seeds: Tensor) -> BoostedState:
        """Shoppers who arrive as one of the log's sessions did, each drawn by its seed.

        Args:
            seeds: (B,) int64.
        """
        seeds = seeds.to(self.device)
        drawn, who = self.model.arrivals.drawn(seeds), self.whose(seeds)
        if who is None:
            rows = self.model.own.arrivals[drawn]
        else:
            rows = torch.stack([member.arrivals for member in self.model.members])[who, drawn]
        return self.arrive(seeds, self.model.arrivals.rows(rows))

    def arrive(self, seeds: Tensor, came: Arrivals) -> BoostedState:
        """Shoppers who arrive having done what is given, (B,) of both; as `reset` where that is drawn by seed."""
        seeds, came = seeds.to(self.device), came.to(self.device)
        tokens, gap = came.tokens, came.gap
        trail = Trail.start(len(seeds), self.device)
        for place in range(int(tokens.lengths.max()) if len(seeds) else 0):
            trail.after_token(tokens.items[:, place], tokens.events[:, place], self.model.own.tables.price_in_category)
        who = self.whose(seeds)
        if who is None:
            pace = self.model.own.dwell.arrived(seeds, tokens, gap)
        else:
            pace = Pauses.stacked([member.dwell for member in self.model.members]).arrived(seeds, tokens, gap, who)
        step = torch.zeros_like(seeds)
        return BoostedState(seed=seeds.clone(), step=step, gap=gap, arrival=tokens, trail=trail, pace=pace, member=who)

    def utilities(
        self, choice: BoostedChoice, items: Tensor, shoppers: Tensor, filled: Tensor, size: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, K) utility of each filled slot, `NEVER` of empty ones, and (B,) of choosing nothing.

        Args:
            choice: of the shoppers.
            items: (B, K, F) columns.
            shoppers: (B, Q) columns.
            filled: (B, K) bool slots.
            size: (B,) items that nothing is chosen of; the filled slots by default.
        """
        from_slates = self.model.from_slates
        size = (filled.sum(1) if size is None else size) if from_slates else None
        scores = torch.from_numpy(choice.scores(alternatives(items, shoppers, filled, size))).to(self.device)
        count = int(filled.sum())
        utility = torch.full(filled.shape, NEVER, device=self.device).masked_scatter(filled, scores[:count])
        nothing = scores[count:] if from_slates else torch.zeros(len(filled), device=self.device)
        return utility, nothing + choice.nothing

    @torch.no_grad()
    def respond(self, state: BoostedState, slate: Tensor) -> tuple[Response, BoostedState]:
        """What shoppers do with their slates, and their states afterwards (the one passed in is used up).

        Args:
            state: B shoppers.
            slate: (B, K) int64 dense indices, best place first, no repeats; 0 leaves a slot empty.
        """
        if state.member is None or not len(slate):
            return self._answered(self.model.own, state, slate)
        groups = [torch.nonzero(state.member == number).squeeze(1) for number in range(self.members)]
        found = []
        for parts, rows in zip(self.model.members, groups, strict=True):
            response, after = self._answered(parts, state.rows(rows), slate[rows])
            state.put(rows, after)
            found.append(response)
        order = torch.cat(groups).argsort()
        columns = (torch.cat([getattr(response, one.name) for response in found])[order] for one in fields(Response))
        return Response(*columns), state

    def _answered(self, parts: BoostedParts, state: BoostedState, slate: Tensor) -> tuple[Response, BoostedState]:
        """`respond`, by the same parts for all."""
        rows, trail = torch.arange(len(slate), device=self.device), state.trail
        items, shoppers, filled = item_columns(trail, slate, parts.tables), shopper_columns(trail), slate > 0
        utility, nothing = self.utilities(parts.choice, items, shoppers, filled)
        luck = uniform(state.seed, state.step, _LUCK, 6)
        noise = gumbel(state.seed, state.step, _CHOICE, 1 + slate.shape[1])
        examined = (luck[:, :1] < parts.choice.looked(slate.shape[1]).to(self.device)) & filled
        best, place = torch.where(examined, utility + noise[:, 1:], -math.inf).max(1)
        hit = best > nothing + noise[:, 0]
        item = slate[rows, place]
        carted, purchased = self._bought(parts, torch.cat([items[rows, place], shoppers], 1), item, hit, luck[:, 1:3])
        clicked = torch.where(hit, place, -1)
        outcome = outcome_codes(clicked, carted, purchased)
        dwell = parts.dwell.drawn(outcome, state.pace, luck[:, [3, 5]], first=state.step == 0)
        revenue = torch.where(purchased, self.prices[item], 0.0)
        bought = purchased.long()
        response = Response(examined, clicked, carted, purchased, torch.zeros_like(hit), dwell, revenue, bought)
        state.moved_on(slate, response, parts.tables.price_in_category)
        after = leaving_columns(items, shoppers, filled, outcome)
        chance = parts.leaving.chance(after, trail.clicked[:, 0].cpu().numpy())
        left = luck[:, 4] < torch.from_numpy(chance).to(self.device)
        return replace(response, left=left), state

    @torch.no_grad()
    def expect(self, state: BoostedState, slate: Tensor) -> Expected:
        """What the ensemble's members expect of slates, see `FittedShopper.expect`; asks every member's trees."""
        every = [self._expected(parts, state, slate) for parts in self.model.members or (self.model.own,)]
        click, cart, purchase = (torch.stack(columns) for columns in zip(*every, strict=True))
        return summed(click, cart, purchase, self.prices[slate])

    def _expected(self, parts: BoostedParts, state: BoostedState, slate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, K) chances of a click at each place, of a cart given one, and of a purchase given that, by some parts."""
        items, shoppers, filled = (
            item_columns(state.trail, slate, parts.tables),
            shopper_columns(state.trail),
            slate > 0,
        )
        utility, nothing = self.utilities(parts.choice, items, shoppers, filled)
        depth = depth_log_chances(parts.choice.proceed.to(self.device), slate.shape[1])
        click = slate_log_chances(utility.double(), nothing.double(), depth)[:, :-1].exp().float() * filled
        owner = torch.nonzero(filled)[:, 0]
        columns, item = torch.cat([items[filled], shoppers[owner]], 1).cpu().numpy(), slate[filled].cpu().numpy()
        steps = (torch.from_numpy(step.chance(columns, item)).to(self.device) for step in (parts.cart, parts.purchase))
        cart, purchase = (torch.zeros_like(click).masked_scatter(filled, step) for step in steps)
        return click, cart, purchase

    def _bought(
        self, parts: BoostedParts, columns: Tensor, item: Tensor, hit: Tensor, luck: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B,) whether the item clicked went into the cart, and whether it was bought; asked of who clicked alone."""
        reached = hit
        passed = []
        for number, step in enumerate((parts.cart, parts.purchase)):
            there = torch.nonzero(reached).squeeze(1)
            chance = step.chance(columns[there].cpu().numpy(), item[there].cpu().numpy())
            reached = torch.zeros_like(hit)
            reached[there] = luck[there, number] < torch.from_numpy(chance).to(self.device)
            passed.append(reached)
        return passed[0], passed[1]

    @torch.no_grad()
    def choice_scores(self, tokens: TokenBatch, slates: Tensor | None = None) -> ChoiceScores:
        """What shoppers with these histories would make of every item: the basis of myopic recommenders.

        Asks the trees about B x N rows.

        Args:
            tokens: B histories.
            slates: (B, T, K) int64 the slate that each token answers, zeros where it answers none, see
                `FittedShopper.choice_scores`. Nothing is chosen of slates of K items, without them of the usual size.
        """
        parts = (tokens.items, tokens.events, tokens.gaps, tokens.lengths)
        tokens, own = TokenBatch(*(part.to(self.device) for part in parts)), self.model.own
        answered = None if slates is None else slates.to(self.device)
        trail = trail_of(tokens, answered, own.tables.price_in_category)
        every = torch.arange(self.n_items + 1, device=self.device)
        size = (len(tokens.lengths), self.n_items + 1)
        utility, cart, purchase = (torch.empty(size, device=self.device) for _ in range(3))
        outside = torch.empty(size[0], device=self.device)
        slots = torch.full(size[:1], self.model.usual_size if slates is None else slates.shape[2])
        for rows in torch.arange(size[0], device=self.device).split(max(1, _CELLS // self.n_items)):
            some = trail.rows(rows)
            items = item_columns(some, every.expand(len(rows), -1), own.tables)
            shoppers, filled = shopper_columns(some), torch.ones(len(rows), size[1], dtype=torch.bool)
            offered = items, shoppers, filled.to(self.device), slots[rows.cpu()]
            utility[rows], outside[rows] = self.utilities(own.choice, *offered)
            columns = torch.cat([items, shoppers[:, None].expand(-1, size[1], -1)], 2).flatten(0, 1).cpu().numpy()
            number = np.tile(every.cpu().numpy(), len(rows))
            steps = (own.cart.chance(columns, number), own.purchase.chance(columns, number))
            first, second = (torch.from_numpy(step).view(len(rows), -1).to(self.device) for step in steps)
            cart[rows], purchase[rows] = first, first * second
        utility[:, 0], cart[:, 0], purchase[:, 0] = -math.inf, 0.0, 0.0
        return ChoiceScores(utility, outside, cart, purchase)

    def foretell(self, log: ShopLog, *, seed: int = 0, progress: Progress | None = None) -> Foretold:
        """What this shopper foretells of a log it was not fitted on; as `FittedShopper.foretell`."""
        model = self.model.to(torch.device("cpu"))
        own = model.own
        slates, occasions = judged_by(log, self.n_items, model.from_slates, seed)
        looks = Looks.at(log, occasions, own.tables, progress)
        offers = looks.offers()
        choices = {name: one.chances(offers) for name, one in {FITTED: own.choice, **model.rivals}.items()}
        items, clicked = torch.from_numpy(occasions.items), torch.from_numpy(occasions.clicked)
        offered = (occasions.session, shopper_numbers(log)[occasions.session], items, clicked, choices)
        if slates is None:
            assert occasions.correction is not None
            return Foretold(*offered, correction=torch.from_numpy(occasions.correction))
        columns, item = looks.chosen(), chosen_items(slates).numpy()
        cart, purchase = (torch.from_numpy(step.chance(columns, item)) for step in (own.cart, own.purchase))
        leaving = None
        if model.leaving_known and not log.facts.get("length_biased") and not occasions.given_click:
            leaving = torch.from_numpy(own.leaving.chance(*looks.leaving(outcomes(slates).numpy(), item)))
        hit = clicked >= 0
        return Foretold(*offered, slates, cart * hit, purchase * hit, leaving)
