"""Fit a shopper on a log: how shoppers look, choose, buy and leave, what the log told, and what had to be assumed."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from ..datasets.log import ShopLog
from ..encoders.state import StateEncoder
from .choice_evidence import choice_evidence
from .clicked import Clicked, clicked_beside
from .encoder_overlap import shared_sessions
from .ensemble import drawn_shoppers, left_out, parts_of, resampled
from .examination import FORMS, Examination
from .fit_judged import judged_after
from .fitted import FittedShopper
from .ground import Ground
from .learn import LearnedChoice, Strengths, arrivals, learn_again, learn_choice, nothing_for_click_rate
from .learn_after import Rest
from .members import Parts
from .observed import After, shopper_numbers
from .price_slope import price_evidence
from .priors import Evidence, Priors
from .quantities_fit import Bought
from .replay import Progress
from .report import parameter_table, quantity_rows, return_rows
from .returning import Revisits
from .shopper_model import ShopperModel


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of a fit."""

    priors: Priors = field(default_factory=Priors)
    """What is assumed where the log is silent."""
    examination: Examination | Literal["auto"] = "depth"
    """How shoppers look over a slate, see `examination`; "auto" takes the form that foretells the latest tenth of the
    slates learnt from best. The boosted family knows "depth" only."""
    held_out: float = 0.2
    """Share of the sessions, the latest, kept aside to judge the fit by, in [0, 0.9]; the shopper never learns them."""
    seed: int = 0
    """Decides what is drawn where a log has more than is used."""
    members: int = 10
    """Members of the ensemble, fits of every weight on shoppers drawn with replacement from the log's; 0 for none."""
    left_out: float = 0.2
    """Chance of each feature of choice, but for the most needed, to be left out of a member, in [0, 0.9]; with 0 the
    ensemble knows the luck of the log alone. Of the Transformer family."""
    min_clicks: int = 50
    """Clicks on slates that let choices be learnt from slates."""
    min_views: int = 200
    """Next views that let choices be learnt from views, where slates say too little."""
    min_events: int = 20
    """Carts, purchases, or last slates that let their part be learnt; below, a prior gives it."""
    max_slots: int = 2_000_000
    """Slots of slates learnt from at most (slates times places), whole sessions drawn at random; bounds the memory."""
    max_arrivals: int = 20_000
    """Arrivals kept at most."""
    max_next_views: int = 50_000
    """Next views learnt from at most."""
    alternatives: int = 50
    """Items sampled beside each next view."""
    weight_sd: float = 1.0
    """Standard deviation of the prior of a feature's weight, in logits."""
    alike_sd: float = 0.5
    """Standard deviation of what items of similar text share beyond their features, in logits."""
    own_sd: float = 0.3
    """Standard deviation of what an item has of its own beyond that, in logits; choices estimate theirs from here."""

    def __post_init__(self) -> None:
        if self.examination not in ("auto", *FORMS):
            raise ValueError(f"examination must be one of {', '.join(FORMS)} or auto, got {self.examination!r}")
        if not 0 <= self.held_out <= 0.9:
            raise ValueError(f"held_out must be in [0, 0.9], got {self.held_out}")
        if not 0 <= self.left_out <= 0.9:
            raise ValueError(f"left_out must be in [0, 0.9], got {self.left_out}")
        if self.members < 0:
            raise ValueError(f"members must be at least 0, got {self.members}")
        for name in (
            "min_clicks",
            "min_views",
            "min_events",
            "max_slots",
            "max_arrivals",
            "max_next_views",
            "alternatives",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("weight_sd", "alike_sd", "own_sd"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def strengths(self) -> Strengths:
        """The priors of weights."""
        return Strengths(self.weight_sd, self.alike_sd, self.own_sd)


def fit_shopper(
    log: ShopLog,
    encoder: StateEncoder,
    *,
    config: FitConfig | None = None,
    later: ShopLog | None = None,
    others: ShopLog | None = None,
    progress: Progress | None = None,
) -> FittedShopper:
    """A shopper that follows sessions with an encoder; nothing is written.

    Args:
        log: of the shop.
        encoder: the shopper's own. One that learns should have learnt from other shoppers (`ShopLog.shopper_half`): it
            foretells sessions that it knows too well, and the shopper would believe it.
        config: settings.
        later: sessions to judge the fit by, of the same catalogue; then `config.held_out` keeps none of `log` aside.
        others: sessions of other shoppers of the same catalogue and time, from which carts and purchases after a click
            are learnt too; they are few, and what the encoder knows of its own shoppers hardly tells who buys. Such as
            the half of the shoppers that it learnt from. Where choices are next views they are not read.
        progress: told of (done, total, words).

    Returns:
        The shopper, with its `report` as of `fit_family.fit`.

    Raises:
        EvidenceError: the log holds too few clicks on slates and too few views.

    Warns:
        SharedSessionsWarning: the encoder learnt from these very sessions, as far as it tells.
    """
    config = config or FitConfig()
    rng = np.random.default_rng(config.seed)
    ground = Ground.of(log, config, later, rng)
    overlap = shared_sessions(ground.log, encoder)
    known = config.priors, config.strengths, config.examination
    learned = learn_choice(ground.log, ground.occasions, encoder, *known, progress)
    others = others if ground.from_slates else None
    shopper, evidence, parameters = _assembled(ground, encoder, learned, others, config, rng, progress)
    shopper.report = ground.report(shopper, [*evidence, *overlap], parameters, config.seed, progress)
    shopper.report["forms"] = learned.form.table
    if ground.held is not None:
        # Visits are counted from where the log begins that was learnt from.
        visits = Revisits.of(log if later is None else later, ground.held)
        fitted = {row["part"] for row in parameters}
        shopper.report |= judged_after(shopper.model, ground.held, visits, fitted)
    return shopper


def _assembled(
    ground: Ground,
    encoder: StateEncoder,
    learned: LearnedChoice,
    others: ShopLog | None,
    config: FitConfig,
    rng: np.random.Generator,
    progress: Progress | None,
) -> tuple[FittedShopper, list[Evidence], list[dict[str, Any]]]:
    """The shopper, what its parts rest on, and its parameters."""
    log, occasions, priors = ground.log, ground.occasions, config.priors
    came, session = arrivals(log, config.max_arrivals, rng, priors.arrival_views)
    after = After.of_slates(log.slates) if ground.from_slates else After.of_views(log, occasions)
    effects, known = config.strengths.effects(encoder), ground.click_rate_known
    clicked = Clicked.of(after, learned.data, shopper_numbers(log))
    if others is not None:
        others = ground.beside(others, config.max_slots, np.random.default_rng([config.seed, 4]))
        clicked = clicked_beside(clicked, log, others, encoder, learned, progress)
    bought = Bought.of(log)
    visits, least = ground.visits, config.min_events
    rest = Rest(log, learned, occasions, after, clicked, visits, bought, effects, priors, least, known)
    whole = rest.learn(np.ones(len(log) + (0 if others is None else len(others))), learned.fit.weights)
    model = ShopperModel(
        facts=learned.facts,
        scaling=learned.scaling,
        own=parts_of(learned.fit.weights, whole, np.ones(len(session))),
        arrivals=came,
        prices=torch.from_numpy(log.catalogue.prices),
        from_slates=ground.from_slates,
        rivals={name: weights.to(torch.device("cpu")) for name, weights in learned.rivals.items()},
    )
    members: list[Parts] = []
    for number, drawn in enumerate(resampled(log, config.members, config.seed)):
        if progress:
            progress(number, config.members, "fitting the ensemble")
        without = left_out(config.left_out, config.seed, number)
        choice = learn_again(learned, drawn[occasions.session], without).weights
        luck = np.random.default_rng([config.seed, 3, number])
        every = drawn if others is None else np.append(drawn, drawn_shoppers(others, luck))
        members.append(parts_of(choice, rest.learn(every, choice, whole, luck), drawn[session]))
    model = replace(model, members=Parts.stacked(members) if members else None)
    if not ground.click_rate_known:
        model = _with_click_rate(model, encoder, priors)
    shopper, fit = FittedShopper(model, encoder), learned.fit
    looking = choice_evidence(log, occasions, fit.weights.proceed, fit.errors["proceed"], priors, fit.weights.form)
    parameters = parameter_table(fit, whole.funnel.fits, whole.leaving.fit, learned.scaling, ground.from_slates)
    parameters += [*quantity_rows(whole.quantities.fit), *return_rows(whole.returning.fit)]
    fading = [drift.evidence(priors) for drift in learned.drifts]
    evidence = [learned.form.evidence, *looking, *price_evidence(shopper.model), *fading, *whole.evidence]
    return shopper, evidence, parameters


def _with_click_rate(model: ShopperModel, encoder: StateEncoder, priors: Priors) -> ShopperModel:
    """The model, and each of its members, with clicks as frequent as the prior has them."""
    if model.members is not None:
        alone = [_with_click_rate(model.member(number), encoder, priors).own for number in range(len(model.members))]
        model = replace(model, members=Parts.stacked(alone))
    nothing = nothing_for_click_rate(FittedShopper(model, encoder), priors.click_rate, priors.slate_size)
    return replace(model, own=replace(model.own, choice=model.own.choice.with_nothing(nothing)))
