"""Learn what a boosted shopper knows and does, on all shoppers of a log, and again for each member of an ensemble.

Members are grown on shoppers drawn with replacement. Of choices they have as many trees as the later sessions of the
fit on all shoppers bear, these counting as often as they were drawn: that fit's own number is luck, half or twice what
other sessions would say, and members that shared it would differ by less, or by more, than fits on other shoppers do.
Of what follows a choice they have as many trees as the fit. What they know of the items is counted on their shoppers,
but for which items share sessions.

Shapes: S occasions, A arrivals.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.tokens import Ints
from .boosted_choice import BoostedChoice, Stopping, fit_boosted_choice
from .boosted_hazards import Hazard, fit_hazard
from .boosted_looks import Looks
from .boosted_model import BoostedParts
from .ensemble import rows_drawn
from .gaps import lengths_untold
from .ground import Ground
from .hand_features import CHOICE_COLUMNS, LEAVING_COLUMNS, learn_tables
from .learn_after import FUNNEL_STEPS, StepCount, session_length
from .observed import After
from .pauses_fit import learn_pauses
from .priors import Evidence
from .replay import Progress

if TYPE_CHECKING:
    from .boosted_fit import BoostedConfig


@dataclass(frozen=True, slots=True)
class LearnedParts:
    """What was learnt, what that rests on, and whether the log told when shoppers leave."""

    parts: BoostedParts
    evidence: list[Evidence]
    leaving_known: bool


@dataclass(frozen=True, slots=True)
class Learner:
    """What parts are learnt from, however often sessions count.

    Attributes:
        ground: sessions and their choices. after: what came of these.
        late: (sessions,) the latest, which say how many trees help.
        arrived: (A,) sessions of the arrivals.
        config: settings.
    """

    ground: Ground
    after: After
    late: NDArray[np.bool_]
    arrived: Ints
    config: "BoostedConfig"

    def looks(self, weight: NDArray[np.float64], progress: Progress | None = None) -> Looks:
        """What the occasions looked like, by tables of other shoppers, of sessions that count (sessions,) times."""
        every = np.ones(len(self.ground.log), np.bool_)
        return Looks.across_folds(self.ground.log, self.ground.occasions, weight, every, self.config.seed, progress)

    def parts(
        self,
        looks: Looks,
        choice: BoostedChoice,
        weight: NDArray[np.float64],
        start: BoostedParts | None = None,
    ) -> LearnedParts:
        """All parts, given examination and choice; `start` tells how many trees to grow, where it is given."""
        log, occasions, config = self.ground.log, self.ground.occasions, self.config
        often = weight[occasions.session]
        stages, evidence = self._funnel(looks, often, start)
        leaving, leaves, known = self._leaving(looks, often, start)
        after, told = self.after, (config.priors, config.min_events)
        pauses = after.seconds, after.outcome, occasions.session
        dwell = learn_pauses(*pauses, often, *told, first=after.first)
        parts = BoostedParts(
            tables=learn_tables(log, occasions, weight, np.ones(len(log), np.bool_)),
            choice=choice,
            cart=stages["cart"],
            purchase=stages["purchase"],
            dwell=dwell.pauses,
            leaving=leaving,
            arrivals=torch.from_numpy(rows_drawn(weight[self.arrived])),
        )
        return LearnedParts(parts, [*evidence, leaves, *dwell.evidence], known)

    def again(self, weight: NDArray[np.float64], start: BoostedParts, stopping: Stopping) -> BoostedParts:
        """The parts of a member, each session counting (sessions,) times.

        Args:
            weight: 0 for shoppers that were not drawn; where none of those who chose was, all count once.
            start: the fit on all shoppers.
            stopping: what its later slates say of how many trees to grow; where they say nothing, as many as it has.
        """
        session = self.ground.occasions.session
        weight = weight if weight[session].any() else np.ones(len(weight))
        looks, trees, rounds = self.looks(weight), start.choice.trees, stopping.rounds(weight)
        offers = looks.offers(weight[session])
        choice = fit_boosted_choice(
            offers,
            None,
            offers,
            CHOICE_COLUMNS,
            position_decay=self.config.priors.position_decay,
            config=self.config.trees,
            rounds=(0 if trees is None else len(trees)) if rounds is None else rounds,
            level=start.choice.nothing if offers.given_click else None,
        )
        return self.parts(looks, choice, weight, start).parts

    def _funnel(
        self, looks: Looks, often: NDArray[np.float64], start: BoostedParts | None
    ) -> tuple[dict[str, Hazard], list[Evidence]]:
        """Carts given clicks, and purchases given carts."""
        config, n_items, known = self.config, self.ground.log.catalogue.n_items, self.ground.click_rate_known
        took = np.flatnonzero((self.after.outcome >= 1) & (often > 0))
        columns, item, outcome = looks.chosen()[took], self.after.item[took], self.after.outcome[took]
        late, weight = self.late[self.ground.occasions.session][took], often[took]
        begun = {} if start is None else {"cart": start.cart, "purchase": start.purchase}
        stages, evidence = {}, []
        for step in FUNNEL_STEPS:
            counted = StepCount.of(step, outcome, weight, config.priors, config.min_events, known)
            there = counted.reached
            evidence.append(counted.evidence)
            if counted.rate is None:
                rows = (columns[there], counted.passed, weight[there], item[there], late[there])
                stages[step] = fit_hazard(*rows, n_items, config.trees, own_sd=config.own_sd, start=begun.get(step))
            else:
                stages[step] = Hazard.constant(counted.rate, columns.shape[1], n_items)
        return stages, evidence

    def _leaving(
        self, looks: Looks, often: NDArray[np.float64], start: BoostedParts | None
    ) -> tuple[Hazard, Evidence, bool]:
        """The hazard of leaving, what it rests on, and whether the log told it."""
        log, config, priors = self.ground.log, self.config, self.config.priors
        slates, n_items = log.slates, log.catalogue.n_items
        ends = int(slates.last.sum())
        why = lengths_untold(log, self.ground.from_slates, self.ground.click_rate_known)
        if why is None and min(ends, len(slates) - ends) < config.min_events:
            why = f"{ends} last slates of {len(slates)}"
        if why is not None:
            assumed = Evidence.assumed("mean slates a session", why, "slates_per_session", priors)
            return Hazard.constant(1 / priors.slates_per_session, len(LEAVING_COLUMNS), n_items), assumed, False
        columns, item = looks.leaving(self.after.outcome, self.after.item)
        kept, late = often > 0, self.late[self.ground.occasions.session]
        rows = (columns[kept], slates.last[kept], often[kept], item[kept], late[kept])
        begin = None if start is None else start.leaving
        hazard = fit_hazard(*rows, n_items, config.trees, own_sd=config.own_sd, start=begin)
        return hazard, session_length(slates), True
