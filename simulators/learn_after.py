"""Learn what follows a choice: carts and purchases, time spent, and leaving; each with what it rests on.

Shapes: S slates, F item features, Q leaving features, N items.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.log import ShopLog, Slates
from .choice import ChoiceWeights
from .choice_fit import ChoiceData
from .clicked import Clicked
from .funnel import Stage
from .funnel_fit import StageFit, columns, fit_stage
from .gaps import lengths_untold
from .learn import LearnedChoice
from .leaving import LEAVING_FEATURES, STEPS, Leaving, constant_leaving, leaving_from
from .logistic import ItemEffects, LogisticFit, fit_logistic, logit
from .observed import After, leaving_rows
from .occasions import Occasions
from .pauses_fit import LearnedPauses, learn_pauses
from .priors import LEARNED, Evidence, Priors
from .quantities_fit import Bought, LearnedQuantities, learn_quantities
from .replay import Replay
from .returning import Revisits
from .returning_fit import LearnedReturning, learn_returning, returns_untold

FUNNEL_STEPS = {"cart": 2, "purchase": 3}
"""Steps after a click, in order -> code of `funnel.OUTCOMES` of who passed."""
ALL_PASSED = 0.98
"""Share of clicks that pass a step above which a log is taken to hold only those that did."""


@dataclass(frozen=True, slots=True)
class LearnedFunnel:
    """The steps after a click, their fits (none where there was too little), and what they rest on."""

    cart: Stage
    purchase: Stage
    fits: dict[str, StageFit]
    evidence: list[Evidence]


def learn_funnel(
    clicked: Clicked,
    choice: ChoiceWeights,
    weight: NDArray[np.float64],
    effects: ItemEffects,
    priors: Priors,
    least: int,
    clicks_known: bool,
    start: "LearnedFunnel | None" = None,
    luck: np.random.Generator | None = None,
) -> LearnedFunnel:
    """Fit carts given clicks, and purchases given carts; see `StepCount.of` and `funnel_fit.fit_stage`.

    A purchase counts as a cart, whether or not the shop logged one.

    Args:
        clicked: the clicks.
        choice: tells why they were made.
        weight: (C,) how often each counts.
        effects: widest prior of items' effects.
        priors: for what is not told.
        least: events that make a step learnt.
        clicks_known: whether the log tells what was not clicked.
        start: a fit of the same clicks, weighted otherwise, to begin from.
        luck: draws the priors' means, for a member of an ensemble.
    """
    x = columns(clicked.features, clicked.utility(choice))
    stages, fits, evidence = {}, {}, []
    for step in FUNNEL_STEPS:
        counted = StepCount.of(step, clicked.outcome, weight, priors, least, clicks_known)
        there = counted.reached
        evidence.append(counted.evidence)
        if counted.rate is None:
            begin = start.fits.get(step) if start else None
            rows = x[there], clicked.item[there], counted.passed, weight[there], clicked.shopper[there]
            fits[step] = fit_stage(*rows, effects=effects, before=fits.get("cart"), start=begin, luck=luck)
            stages[step] = fits[step].stage
        else:
            stages[step] = Stage.constant(counted.rate, len(effects.vectors) - 1)
    return LearnedFunnel(stages["cart"], stages["purchase"], fits, evidence)


@dataclass(frozen=True, slots=True)
class StepCount:
    """Who got as far as a step of the funnel, and who passed it.

    Attributes:
        reached: (C,) of the clicks, which got so far. passed: (R,) of these, which passed.
        rate: the chance for all, where there is too little to learn from; otherwise none.
        evidence: what the step rests on.
    """

    reached: NDArray[np.bool_]
    passed: NDArray[np.bool_]
    rate: float | None
    evidence: Evidence

    @classmethod
    def of(
        cls,
        step: str,
        outcome: NDArray[np.int64],
        weight: NDArray[np.float64],
        priors: Priors,
        least: int,
        clicks_known: bool = True,
    ) -> "StepCount":
        """Count a step.

        With fewer than `least` events a step has one chance for all, which counts the prior as if it had been seen
        `least` times; without any event it is the prior. With fewer than `least` times without an event, but not of
        events, it counts the prior once: that nearly all pass is well told.

        Args:
            step: of `FUNNEL_STEPS`.
            outcome: (C,) codes of `funnel.OUTCOMES` of clicks.
            weight: (C,) how often each counts.
            priors: for a step without events.
            least: events, and times without one, that let a step be learnt.
            clicks_known: whether the log tells what was not clicked; one that does not, and in which nearly every click
                passed, may hold nothing else, and the step is the prior.
        """
        depth = FUNNEL_STEPS[step]
        reached = outcome >= depth - 1
        passed, w = outcome[reached] >= depth, weight[reached]
        got, tries = float(w @ passed), float(w.sum())
        words = "chance of a cart given a click" if depth == 2 else "chance of a purchase given a cart"
        count = f"{passed.sum()} {step}s of {reached.sum()} {'clicks' if depth == 2 else 'carts'}"
        if got >= least and tries - got >= least:
            return cls(reached, passed, None, Evidence.rate(words, int(passed.sum()), int(reached.sum()), count))
        prior = priors.cart_rate if depth == 2 else priors.purchase_rate
        if not clicks_known and passed.sum() > ALL_PASSED * len(outcome):
            assumed = Evidence.assumed(words, f"{count}, and no other clicks", f"{step}_rate", priors)
            return cls(reached, passed, prior, assumed)
        # Of shoppers drawn with replacement none may have passed where some of the log did: that is evidence too.
        times = least if got < least else 1
        rate = (got + times * prior) / (tries + times) if passed.any() else prior
        drawn = Evidence.drawn(words, count, f"{step}_rate", priors, rate, int(passed.sum()), int(reached.sum()))
        return cls(reached, passed, rate, drawn)


@dataclass(frozen=True, slots=True)
class LearnedLeaving:
    """The hazard of leaving, its fit (none where assumed), and what it rests on."""

    leaving: Leaving
    fit: LogisticFit | None
    evidence: Evidence


def assumed_leaving(n_items: int, priors: Priors, why: str) -> LearnedLeaving:
    """A constant hazard with the prior's mean number of slates; `why` says why the log tells nothing."""
    evidence = Evidence.assumed("mean slates a session", why, "slates_per_session", priors)
    return LearnedLeaving(constant_leaving(1 / priors.slates_per_session, n_items), None, evidence)


def learn_leaving(
    slates: Slates,
    seen: Replay,
    data: ChoiceData,
    weight: NDArray[np.float64],
    effects: ItemEffects,
    priors: Priors,
    least: int,
    start: LearnedLeaving | None = None,
) -> LearnedLeaving:
    """Fit the hazard of leaving; with fewer than `least` slates that were, or were not, a session's last: assume it."""
    n_items, last = len(effects.vectors) - 1, slates.last
    ends = int(last.sum())
    if min(ends, len(last) - ends) < least:
        return assumed_leaving(n_items, priors, f"{ends} last slates of {len(last)}")
    features, taken = leaving_rows(slates, seen, data)
    centre, spread = np.zeros(len(LEAVING_FEATURES)), np.ones(len(LEAVING_FEATURES))
    spread[STEPS] = 2.0  # who bears so many slates and no more leaves all at once
    # The log's own rate, however its slates are weighted: of shoppers drawn with replacement all, or none, may leave.
    centre[0], spread[0] = logit(ends / len(last)), 3.0
    fit = fit_logistic(
        features.double().numpy(),
        last,
        weight,
        taken.numpy(),
        centre=centre,
        spread=spread,
        prior=effects,
        start=start and start.fit,
    )
    return LearnedLeaving(leaving_from(fit), fit, session_length(slates))


def session_length(slates: Slates) -> Evidence:
    """What the hazard of leaving rests on, where it was learnt."""
    length = np.bincount(np.unique(slates.session, return_inverse=True)[1])
    margin = 1.96 * float(length.std()) / np.sqrt(len(length))
    mean = float(length.mean())
    return Evidence("mean slates a session", LEARNED, f"{len(length)} sessions", mean, mean - margin, mean + margin)


@dataclass(frozen=True, slots=True)
class LearnedRest:
    """All that follows a choice."""

    funnel: LearnedFunnel
    leaving: LearnedLeaving
    dwell: LearnedPauses
    returning: LearnedReturning
    quantities: LearnedQuantities
    evidence: list[Evidence]


@dataclass(frozen=True, slots=True)
class Rest:
    """What all that follows a choice is learnt from, however often sessions count.

    Attributes:
        log: the sessions. learned: their choices. occasions: when these were. after: what came of them.
        clicked: their clicks, and after them those of the encoder's own shoppers, where carts and purchases are learnt
            from these too; their sessions are numbered on from those of `log`.
        visits: whether and when the shoppers of these sessions came again.
        bought: the purchases whose quantity is known.
        effects: prior of items' effects. priors: for what is not told. least: events that make a part learnt.
        clicks_known: whether the log tells what was not clicked.
    """

    log: ShopLog
    learned: LearnedChoice
    occasions: Occasions
    after: After
    clicked: Clicked
    visits: Revisits
    bought: Bought
    effects: ItemEffects
    priors: Priors
    least: int
    clicks_known: bool

    def learn(
        self,
        weight: NDArray[np.float64],
        choice: ChoiceWeights,
        start: LearnedRest | None = None,
        luck: np.random.Generator | None = None,
    ) -> LearnedRest:
        """Fit it, each session counting (sessions,) times.

        Args:
            weight: (sessions,), and on from there of those whose clicks alone count.
            choice: fitted with these weights.
            start: a fit of other weights to begin from.
            luck: for a member of an ensemble, draws what the log does not tell.
        """
        whole, weight = weight, weight[: len(self.log)]
        often, from_slates = weight[self.occasions.session], self.occasions.correction is None
        common = often, self.effects, self.priors, self.least
        begin, clicks = start and start.funnel, whole[self.clicked.session]
        funnel = learn_funnel(self.clicked, choice, clicks, *common[1:], self.clicks_known, begin, luck)
        why = lengths_untold(self.log, from_slates, self.clicks_known)
        if why is None:
            seen, data, before = self.learned.seen, self.learned.data, start and start.leaving
            leaving = learn_leaving(self.log.slates, seen, data, *common, start=before)
        else:
            leaving = assumed_leaving(self.log.catalogue.n_items, self.priors, why)
        pauses = self.after.seconds, self.after.outcome, self.occasions.session
        begin = start and start.dwell
        dwell = learn_pauses(*pauses, often, self.priors, self.least, begin, self.after.first)
        again = learn_returning(
            self.visits, weight, self.priors, self.least, returns_untold(self.log), start and start.returning
        )
        facts, earlier = self.learned.facts, start and start.quantities
        units = learn_quantities(self.bought, weight, facts, self.priors, self.least, earlier)
        evidence = [*funnel.evidence, units.evidence, leaving.evidence, *dwell.evidence, *again.evidence]
        return LearnedRest(funnel, leaving, dwell, again, units, evidence)
