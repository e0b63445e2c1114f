"""Fit a shopper on a log: how shoppers look, choose, buy and leave, what the log told, and what had to be assumed."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from ..encoders.state import StateEncoder
from ..errors import EvidenceError
from .choice_evidence import all_clicked, choice_evidence
from .ensemble import drawn_shoppers, member_parts, resampled
from .examination import FORMS, Examination
from .fit_judged import judged, judged_after
from .fitted import FittedShopper, ShopperModel
from .foretold import Foretells
from .gaps import gaps
from .learn import LearnedChoice, Strengths, arrivals, learn_again, learn_choice, nothing_for_click_rate
from .learn_after import Rest
from .members import Parts
from .observed import After
from .occasions import Occasions, following_views, next_views
from .priors import Evidence, Priors, evidence_table
from .quantities_fit import Bought
from .replay import Progress
from .report import parameter_table, quantity_rows, records, return_rows
from .returning import Revisits


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
    resample: int | None = None
    """Seed that draws the log's shoppers with replacement first; none takes all once."""
    members: int = 10
    """Members of the ensemble, fits of every weight on shoppers drawn with replacement from the log's; 0 for none. The
    boosted family has no ensemble."""
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
    progress: Progress | None = None,
) -> FittedShopper:
    """A shopper that follows sessions with an encoder; nothing is written.

    Args:
        log: of the shop.
        encoder: the shopper's own.
        config: settings.
        later: sessions to judge the fit by, of the same catalogue; then `config.held_out` keeps none of `log` aside.
        progress: told of (done, total, words).

    Returns:
        The shopper, with its `report` as of `fit_family.fit`.

    Raises:
        EvidenceError: the log holds too few clicks on slates and too few views.
    """
    config = config or FitConfig()
    rng = np.random.default_rng(config.seed)
    ground = Ground.of(log, config, later, rng)
    train, occasions, weight = ground.log, ground.occasions, ground.weight
    known = weight, config.priors, config.strengths, config.examination
    learned = learn_choice(train, occasions, encoder, *known, progress)
    shopper, evidence, parameters = _assembled(ground, encoder, learned, config, rng, progress)
    shopper.report = ground.report(shopper, evidence, parameters, config.seed, progress)
    shopper.report["forms"] = learned.form.table
    if ground.held is not None:
        # Visits are counted from where the log begins that was learnt from.
        visits = Revisits.of(log if later is None else later, ground.held)
        fitted = {row["part"] for row in parameters}
        shopper.report |= judged_after(shopper.model, ground.held, visits, fitted)
    return shopper


@dataclass(frozen=True, slots=True)
class Ground:
    """What a fit rests on, whatever kind of shopper is fitted.

    Attributes:
        log: the sessions to learn from. held: those to judge by, if any.
        occasions: slates or next views of `log`.
        weight: (sessions,) how often each session counts.
        visits: whether and when the shoppers of these sessions came again.
    """

    log: ShopLog
    held: ShopLog | None
    occasions: Occasions
    weight: NDArray[np.float64]
    visits: Revisits

    @classmethod
    def of(cls, log: ShopLog, config: FitConfig, later: ShopLog | None, rng: np.random.Generator) -> "Ground":
        """The ground of a fit; `later` sessions judge in place of the latest of `log`, and `rng` draws what is used.

        Raises:
            EvidenceError: the log holds too few clicks on slates and too few views.
        """
        train, held = _split(log, config.held_out) if later is None else (log, later)
        from_slates = _enough(train, config, 0 if held is None or later is not None else len(held))
        whole = train
        train = _capped(train, config.max_slots, rng) if from_slates else train
        weight = _session_weights(train, config.resample)
        if from_slates:
            occasions = Occasions.of_slates(train.slates)
        else:
            occasions = next_views(train, alternatives=config.alternatives, most=config.max_next_views, rng=rng)
        if not weight[occasions.session].any():
            raise EvidenceError(
                f"the shoppers drawn by resample={config.resample} made none of the {len(occasions)} choices that the "
                "log tells of; take another seed, or none"
            )
        return cls(train, held, occasions, weight, Revisits.of(whole, train))

    @property
    def from_slates(self) -> bool:
        """Whether choices are learnt from slates; otherwise from next views."""
        return self.occasions.correction is None

    @property
    def click_rate_known(self) -> bool:
        """Whether the log tells how often a slate is not clicked."""
        return self.from_slates and not all_clicked(self.log)

    def report(
        self,
        shopper: Foretells,
        evidence: list[Evidence],
        parameters: list[dict[str, Any]],
        seed: int,
        progress: Progress | None,
    ) -> dict[str, Any]:
        """Figures of a fit, see `fit_family.fit`."""
        found: dict[str, Any] = {
            "counts": _counts(self.log, self.from_slates, len(self.occasions)),
            "evidence": records(evidence_table([*evidence, *gaps(self.log, self.from_slates)])),
            "parameters": parameters,
        }
        return found if self.held is None else found | judged(shopper, self.held, seed, progress)


def _split(log: ShopLog, share: float) -> tuple[ShopLog, ShopLog | None]:
    """Sessions to learn from and, by start, the latest `share` of them; none where that leaves no session."""
    order = np.argsort(log.sessions["start"].to_numpy(), kind="stable")
    kept = len(order) - round(share * len(order))
    if kept < 1 or kept == len(order):
        return log, None
    return log.part(np.sort(order[:kept])), log.part(np.sort(order[kept:]))


def _enough(log: ShopLog, config: FitConfig, aside: int) -> bool:
    """Whether choices can be learnt from slates; otherwise from next views. `aside` is how many sessions are kept so.

    Raises:
        EvidenceError: from neither.
    """
    clicks = int((log.slates.clicked >= 0).sum())
    if clicks >= config.min_clicks:
        return True
    following = int(following_views(log).sum())
    if following >= config.min_views:
        return False
    advice = "ingest a longer log"
    if log.clicks_elsewhere:
        advice = (
            f"{log.clicks_elsewhere} more clicks are on what their slates did not show: check slate_id and item_id, "
            f"or {advice}"
        )
    elif not clicks and len(log.slates):
        advice = f"log clicks with the slate_id of what was shown, or {advice}"
    if aside:
        advice += f"; {aside} more sessions are kept aside by held_out={config.held_out}"
    raise EvidenceError(
        f"{len(log)} sessions hold {clicks} clicks on {len(log.slates)} slates, and {following} views that follow "
        f"another, but {config.min_clicks} such clicks or {config.min_views} such views are needed; {advice}"
    )


def _capped(log: ShopLog, most: int, rng: np.random.Generator) -> ShopLog:
    """Sessions drawn at random so that their slates hold about `most` slots at most."""
    share = most / max(log.slates.items.size, 1)
    return log if share >= 1 else log.part(rng.random(len(log)) < share)


def _session_weights(log: ShopLog, resample: int | None) -> NDArray[np.float64]:
    """(sessions,) how often each session counts: once, or as often as its shopper was drawn."""
    return np.ones(len(log)) if resample is None else drawn_shoppers(log, np.random.default_rng(resample))


def _assembled(
    ground: "Ground",
    encoder: StateEncoder,
    learned: LearnedChoice,
    config: FitConfig,
    rng: np.random.Generator,
    progress: Progress | None,
) -> tuple[FittedShopper, list[Evidence], list[dict[str, Any]]]:
    """The shopper, what its parts rest on, and its parameters."""
    log, occasions, priors = ground.log, ground.occasions, config.priors
    came, session = arrivals(log, ground.weight, config.max_arrivals, rng, priors.arrival_views)
    after = After.of_slates(log.slates) if ground.from_slates else After.of_views(log, occasions)
    effects, known = config.strengths.effects(encoder), ground.click_rate_known
    rest = Rest(
        log, learned, occasions, after, ground.visits, Bought.of(log), effects, priors, config.min_events, known
    )
    whole = rest.learn(ground.weight)
    model = ShopperModel(
        facts=learned.facts,
        scaling=learned.scaling,
        choice=learned.fit.weights.to(torch.device("cpu")),
        cart=whole.funnel.cart,
        purchase=whole.funnel.purchase,
        dwell=torch.from_numpy(whole.dwell),
        leaving=whole.leaving.leaving,
        returning=whole.returning.returning,
        quantities=whole.quantities.quantities,
        arrivals=came,
        prices=torch.from_numpy(log.catalogue.prices),
        from_slates=ground.from_slates,
        rivals={name: weights.to(torch.device("cpu")) for name, weights in learned.rivals.items()},
    )
    members: list[Parts] = []
    for number, drawn in enumerate(resampled(log, config.members, config.seed)):
        if progress:
            progress(number, config.members, "fitting the ensemble")
        weight = ground.weight * drawn
        choice = learn_again(learned, weight[occasions.session]).weights
        members.append(member_parts(choice, rest.learn(weight, whole), drawn[session]))
    model = replace(model, members=Parts.stacked(members) if members else None)
    if not ground.click_rate_known:
        model = _with_click_rate(model, encoder, priors)
    shopper, fit = FittedShopper(model, encoder), learned.fit
    looking = choice_evidence(log, occasions, fit.weights.proceed, fit.errors["proceed"], priors, fit.weights.form)
    parameters = parameter_table(fit, whole.funnel.fits, whole.leaving.fit, learned.scaling, ground.from_slates)
    parameters += [*quantity_rows(whole.quantities.fit), *return_rows(whole.returning.fit)]
    return shopper, [learned.form.evidence, *looking, learned.drift.evidence(priors), *whole.evidence], parameters


def _with_click_rate(model: ShopperModel, encoder: StateEncoder, priors: Priors) -> ShopperModel:
    """The model, and each of its members, with clicks as frequent as the prior has them."""
    if model.members is not None:
        alone = [_with_click_rate(model.member(number), encoder, priors) for number in range(len(model.members))]
        choices = [one.choice for one in alone]
        members = [replace(model.members.member(number), choice=choice) for number, choice in enumerate(choices)]
        model = replace(model, members=Parts.stacked(members))
    nothing = nothing_for_click_rate(FittedShopper(model, encoder), priors.click_rate, priors.slate_size)
    return replace(model, choice=model.choice.with_nothing(nothing))


def _counts(log: ShopLog, from_slates: bool, occasions: int) -> dict[str, Any]:
    slates = log.slates
    hit = slates.clicked >= 0
    return {
        "sessions": len(log),
        "shoppers": int(log.sessions["shopper_id"].nunique()),
        "learned_from": "slates" if from_slates else "next views",
        "occasions": occasions,
        "slates": len(slates),
        "clicks": int(hit.sum()),
        "carts": int((hit & (slates.carted | slates.purchased)).sum()),
        "purchases": int((hit & slates.purchased).sum()),
    }
