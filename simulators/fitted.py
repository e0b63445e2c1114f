"""The fitted shopper: who arrives, looks, chooses, buys and leaves as the shoppers of a log did.

Shapes: B shoppers, K slots, N items, F item features, D width of a state, M members of an ensemble.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..datasets.log import ShopLog
from ..encoders.state import StateEncoder
from ..errors import EvidenceError
from .arrivals import Arrivals
from .choice_scores import ChoiceScores
from .drawn import Drawn
from .examination import look_and_choose
from .features import item_features, outside_features
from .following import FollowedState
from .foretold import Foretold
from .funnel import outcome_codes
from .leaving import leaving_features, mean_match
from .members import Expected, Parts, expected
from .observed import Observed
from .randomness import uniform
from .replay import Progress
from .returning import features_of_state
from .shopper import Response, TokenBatch
from .shopper_model import ShopperModel
from .trail import Trail, trail_of

_LUCK, _RETURN = 2, 5  # streams of random numbers; 1, 3, 4, 6 and 16 are others'
_CELLS = 1_000_000  # shoppers x items scored at once by `choice_scores`


@dataclass(slots=True)
class FittedState(FollowedState):
    """A fitted shopper between slates.

    Attributes:
        memory: of the shopper's own encoder; `memory.state` is (B, D).
    """

    memory: Any

    def belongings(self) -> Tensor:
        """(B, 0) int64: nothing is remembered from one visit to the next."""
        return torch.zeros((len(self.seed), 0), dtype=torch.int64, device=self.seed.device)


class FittedShopper(Drawn):
    """Implements `Shopper`; made by `fit`, read by `load_shopper`.

    Args:
        model: what was learnt.
        encoder: the shopper's own; its device is where the shoppers live.
        report: figures of the fit, see `fit`.
        drawn: whether each shopper who arrives is of a member of the ensemble, drawn by its seed, so that what is
            simulated is as uncertain as the fit; otherwise all are as fitted on the whole log.
    """

    def __init__(
        self,
        model: ShopperModel,
        encoder: StateEncoder,
        report: Mapping[str, Any] | None = None,
        *,
        drawn: bool = False,
    ) -> None:
        if encoder.n_items != len(model.prices) - 1:
            raise EvidenceError(
                f"the shopper was fitted on {len(model.prices) - 1} items and its encoder knows {encoder.n_items}; "
                "load it with the encoder it was fitted with"
            )
        super().__init__(model, encoder.item_vectors.device, drawn)
        self.model = model.to(self.device)
        self.encoder = encoder
        self.report = dict(report or {})
        self.n_items = encoder.n_items

    @property
    def prices(self) -> Tensor:
        """(N + 1,) float32 price by dense index; entry 0 is 0."""
        return self.model.prices

    def member(self, number: int) -> "FittedShopper":
        """The shopper as one member of the ensemble has it; it shares the encoder.

        Raises:
            IndexError: there is no such member.
        """
        return FittedShopper(self.model.member(number), self.encoder)

    def ensemble(self) -> "FittedShopper":
        """The shopper whose arrivals are each of a member; it shares the encoder.

        Raises:
            EvidenceError: no ensemble was fitted.
        """
        return FittedShopper(self.model, self.encoder, self.report, drawn=True)

    def looked(self, k: int) -> Tensor:
        """(k,) chance that each place of a slate is looked at while nothing is clicked."""
        return self.model.own.choice.looked(k)

    def reset(self, seeds: Tensor) -> FittedState:
        """Shoppers who arrive as one of the log's sessions did, each drawn by its seed.

        Args:
            seeds: (B,) int64.
        """
        seeds = seeds.to(self.device)
        drawn, who = self.model.arrivals.drawn(seeds), self.whose(seeds)
        rows = self._parts(who).arrivals
        return self.arrive(seeds, self.model.arrivals.rows(rows[drawn] if who is None else rows[who, drawn]))

    @torch.no_grad()
    def arrive(self, seeds: Tensor, came: Arrivals) -> FittedState:
        """Shoppers who arrive having done what is given, (B,) of both; as `reset` where that is drawn by seed."""
        seeds, came, who = seeds.to(self.device), came.to(self.device), self.whose(seeds)
        tokens = came.tokens
        trail, memory = Trail.start(len(seeds), self.device), self.encoder.start(len(seeds))
        for place in range(int(tokens.lengths.max()) if len(seeds) else 0):
            item, event = tokens.items[:, place], tokens.events[:, place]
            memory = self.encoder.step(memory, item, event, tokens.gaps[:, place])
            trail.after_token(item, event, self.model.facts.price_in_category)
        return FittedState(
            seed=seeds.clone(),
            step=torch.zeros_like(seeds),
            gap=came.gap,
            arrival=tokens,
            trail=trail,
            memory=memory,
            pace=self._parts(who).dwell.arrived(seeds, tokens, came.gap, who),
            member=who,
        )

    def scaled(self, state: Tensor, trail: Trail, items: Tensor) -> Tensor:
        """(B, K, F) scaled features of items, (B, K) or (K,), for shoppers with encoder states (B, D) and trails."""
        model = self.model
        how = (model.facts, model.scaling.bend, model.scaling.half_lives)
        return model.scaling(item_features(state, trail, items, self.encoder.item_vectors, *how))

    def outside(self, trail: Trail, size: Tensor) -> Tensor:
        """(B, O) features of clicking nothing for shoppers with these trails, on slates of (B,) items."""
        return self.model.scaling.outside(outside_features(trail, size))

    @torch.no_grad()
    def respond(self, state: FittedState, slate: Tensor) -> tuple[Response, FittedState]:
        """What shoppers do with their slates, and their states afterwards (the one passed in is used up).

        Args:
            state: B shoppers.
            slate: (B, K) int64 dense indices, best place first, no repeats; 0 leaves a slot empty.
        """
        rows, who = torch.arange(len(slate), device=self.device), state.member
        parts = self._parts(who)
        scaled = self.scaled(state.memory.state, state.trail, slate)
        luck = uniform(state.seed, state.step, _LUCK, 7)
        utility = parts.choice.utility(scaled, slate, who)
        nothing = parts.choice.nothing(self.outside(state.trail, (slate > 0).sum(1)), who)
        drawn = partial(uniform, state.seed, state.step)
        looking = parts.choice.form, utility, nothing, parts.choice.logits(who)
        examined, clicked = look_and_choose(*looking, luck[:, 0], drawn)
        examined, hit = examined & (slate > 0), clicked >= 0
        item = slate[rows, clicked]
        chosen = scaled[rows, clicked], item, utility[rows, clicked]
        carted = hit & (luck[:, 1] < parts.cart.chance(*chosen, who))
        purchased = carted & (luck[:, 2] < parts.purchase.chance(*chosen, who))
        outcome = outcome_codes(clicked, carted, purchased)
        dwell = parts.dwell.drawn(outcome, state.pace, luck[:, [3, 6]], who, state.step == 0)
        quantity, buys = torch.zeros_like(item), torch.nonzero(purchased).squeeze(1)
        quantity[buys] = parts.quantities.drawn(item[buys], luck[buys, 5], None if who is None else who[buys])
        revenue = self.prices[item] * quantity
        response = Response(examined, clicked, carted, purchased, torch.zeros_like(hit), dwell, revenue, quantity)
        waited = state.gap
        token = state.moved_on(slate, response, self.model.facts.price_in_category, self.model.facts.draw)
        state.memory = self.encoder.step(state.memory, *token, waited)
        trail, last = state.trail, state.trail.clicked[:, 0]
        features = leaving_features(trail.slates, trail.idle, last, outcome, mean_match(scaled, slate))
        left = luck[:, 4] < parts.leaving.chance(features, last, who)
        return replace(response, left=left), state

    @torch.no_grad()
    def expect(self, state: FittedState, slate: Tensor) -> Expected:
        """What the ensemble's members expect of slates, (M, B) each: how far they differ is what the log leaves open.

        Without an ensemble, the one row of the shopper itself. The state is left as it is.

        Args:
            state: B shoppers.
            slate: (B, K) int64 dense indices, best place first, no repeats; 0 leaves a slot empty.
        """
        parts = self.model.members or Parts.stacked([self.model.own])
        scaled = self.scaled(state.memory.state, state.trail, slate)
        outside = self.outside(state.trail, (slate > 0).sum(1))
        return expected(parts, scaled, outside, slate, self.model.prices)

    @property
    def comes_again(self) -> bool:
        """Whether shoppers come again by themselves: they do."""
        return True

    def return_chances(self, state: FittedState) -> Tensor:
        """(B,) chance that each shopper comes again, ever, after a visit that ended like this."""
        return self._parts(state.member).returning.within(features_of_state(state), math.inf, state.member)

    def returns(self, state: FittedState) -> tuple[Tensor, Tensor]:
        """Whether the shoppers come again after this visit (B,) bool, and after how many days (B,) float32, > 0.

        Their seeds number the visit (`visit_seed`): who has come more often comes again more, or less, as the log says.
        """
        luck = uniform(state.seed, 0, _RETURN, 2)
        days = self._parts(state.member).returning.days(features_of_state(state), luck[:, 1], state.member)
        return luck[:, 0] < self.return_chances(state), days

    def _parts(self, who: Tensor | None) -> Parts:
        """What decides: of all members where it is told `who` is of which, otherwise the shopper's own."""
        parts = self.model.own if who is None else self.model.members
        assert parts is not None
        return parts

    @torch.no_grad()
    def choice_scores(self, tokens: TokenBatch, slates: Tensor | None = None) -> ChoiceScores:
        """What shoppers with these histories would make of every item: the basis of myopic recommenders.

        Costs B x N features.

        Args:
            tokens: B histories.
            slates: (B, T, K) int64 the slate that each token answers, zeros where it answers none; then the scores are
                those of the simulation, as far as the histories reach back, for a slate of K items. Without them a
                slate counts as the one item its token holds, and what else it held does not count as shown before.
        """
        tokens = TokenBatch(
            *(part.to(self.device) for part in (tokens.items, tokens.events, tokens.gaps, tokens.lengths))
        )
        state = self.encoder.encode(tokens.items, tokens.events, tokens.gaps, tokens.lengths)
        answered = None if slates is None else slates.to(self.device)
        trail = trail_of(tokens, answered, self.model.facts.price_in_category, self.model.facts.draw)
        own, every = self.model.own, torch.arange(self.n_items + 1, device=self.device)
        size = (len(state), self.n_items + 1)
        utility, cart, purchase = (torch.empty(size, device=self.device) for _ in range(3))
        for rows in torch.arange(len(state), device=self.device).split(max(1, _CELLS // self.n_items)):
            scaled = self.scaled(state[rows], trail.rows(rows), every)
            utility[rows] = own.choice.utility(scaled, every)
            cart[rows] = own.cart.chance(scaled, every, utility[rows])
            purchase[rows] = cart[rows] * own.purchase.chance(scaled, every, utility[rows])
        utility[:, 0], cart[:, 0], purchase[:, 0] = -math.inf, 0.0, 0.0
        slots = torch.tensor(self.model.scaling.slots.usual if slates is None else slates.shape[2], device=self.device)
        nothing = own.choice.nothing(self.outside(trail, slots.expand(len(state))))
        return ChoiceScores(utility, nothing, cart, purchase, own.quantities.mean)

    def foretell(self, log: ShopLog, *, seed: int = 0, progress: Progress | None = None) -> Foretold:
        """What this shopper foretells of a log it was not fitted on.

        Args:
            log: of the same catalogue.
            seed: draws the alternatives where choices are next views.
            progress: told of steps.

        Raises:
            EvidenceError: the log holds nothing to judge by, or is of another catalogue.
        """
        cpu = self.model.to(torch.device("cpu"))
        return Observed.by(self, log, seed=seed, progress=progress).foretold(cpu)
