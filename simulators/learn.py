"""Learn the parts of a fitted shopper from a log, each with what it rests on.

Shapes: S slates, K slots, F item features, A arrivals, W tokens brought along, N items.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from ..encoders.state import StateEncoder
from .arrivals import Arrivals
from .choice import ChoiceWeights
from .choice_fit import ChoiceData, ChoiceFit, ChoicePrior, fit_choice, settled
from .draw import Draw
from .drift import HALF_LIVES, Drift, faded, find_drift
from .examination import Examination
from .features import ITEM_FEATURES, OUTSIDE_FEATURES, ItemFacts, Scaling, bent_popularity, item_facts
from .fitted import FittedShopper
from .form_choice import FormChoice, chosen_form
from .given_click import LEVELS, first_level, level_of_nothing, popular_slates
from .logistic import ItemEffects
from .observed import shopper_numbers
from .occasions import MATCH, POPULARITY, POPULARITY_BENT, Occasions, bent, views
from .popularity import shown_popularity, viewed_popularity, without_own_views
from .priors import Priors
from .replay import Progress, Replay
from .shopper import TokenBatch

ARRIVAL_WIDTH = 8
"""Most tokens that a shopper brings along; of longer histories the latest."""
BEND_AT = 0.9
"""Share of the log's slots that `match_high` leaves at 0."""
KNOTS_AT = (0.3, 0.8)
"""Shares of the log's slots that are less popular than `ItemFacts.knots`."""
Effects = Literal["none", "own", "alike and own"]
"""Effects of items: none; each item's own; or its own and what items of similar vectors share."""
RIVALS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Effects]] = {
    "position": ((), ("nothing", "nothing_by_size"), "none"),
    "position and popularity": (
        ("popularity", "popularity_low", "popularity_high"),
        ("nothing", "nothing_by_size"),
        "own",
    ),
    "all but the session state": (
        tuple(name for name in ITEM_FEATURES if name not in ("match", "match_high")),
        OUTSIDE_FEATURES,
        "alike and own",
    ),
}
"""Simpler choice models: their item features, their outside features, and their effects of items.

The last one lacks the match of an item with the encoder's state of the session; the encoder's item vectors it keeps,
for they tell which items are alike. "position and popularity" knows nothing of the encoder.
"""


@dataclass(frozen=True, slots=True)
class Strengths:
    """How strongly weights are drawn to 0: standard deviations of their priors.

    Attributes:
        weight: of a feature's weight. alike: of what similar items share. own: of what is an item's own.
    """

    weight: float
    alike: float
    own: float

    def effects(self, encoder: StateEncoder) -> ItemEffects:
        """The prior of items' effects for an encoder's item vectors."""
        return ItemEffects(encoder.item_vectors.detach().cpu().double().numpy(), self.alike, self.own)

    def of(self, kind: Effects, encoder: StateEncoder) -> ItemEffects | None:
        """The prior of some kind of effects; vectors of zeros share nothing."""
        whole = self.effects(encoder)
        if kind == "none":
            return None
        return replace(whole, vectors=np.zeros_like(whole.vectors)) if kind == "own" else whole


@dataclass(frozen=True, slots=True)
class LearnedChoice:
    """Examination and choice, and all that was needed to learn them.

    Attributes:
        fit: weights and errors. prior: what was believed before. rivals: simpler models by name.
        facts: of the items. scaling: of features. seen: the replay. data: what the likelihood read.
        drifts: how fast interests and saturation fade. form: of examination, and whence it comes.
    """

    fit: ChoiceFit
    prior: ChoicePrior
    rivals: dict[str, ChoiceWeights]
    facts: ItemFacts
    scaling: Scaling
    seen: Replay
    data: ChoiceData
    drifts: list[Drift]
    form: FormChoice


def learn_choice(
    log: ShopLog,
    occasions: Occasions,
    encoder: StateEncoder,
    priors: Priors,
    strengths: Strengths,
    examination: Examination | Literal["auto"] = "depth",
    progress: Progress | None = None,
) -> LearnedChoice:
    """Fit examination and choice, and their rivals, on occasions of a log.

    Args:
        log: the sessions.
        occasions: slates or next views of it.
        encoder: the shopper's.
        priors: of how far shoppers look.
        strengths: of the priors of weights.
        examination: form, or "auto", see `form_choice.chosen_form`.
        progress: told of steps.
    """
    n_items, session = log.catalogue.n_items, occasions.session
    facts = _facts(log, occasions)
    seen = occasions.replay(log, encoder, facts.to(encoder.item_vectors.device), 0.0, progress)
    filled = torch.from_numpy(occasions.items > 0)
    bend = float(np.quantile(seen.raw[..., MATCH][filled].numpy(), BEND_AT))
    bent(seen.raw, bend)
    if occasions.correction is not None:
        viewer, _, viewed = views(log)
        rest = without_own_views(session, occasions.items, viewer, viewed, n_items)
        seen.raw[..., POPULARITY] = torch.from_numpy(rest)
        seen.raw[..., POPULARITY_BENT] = torch.stack(bent_popularity(torch.from_numpy(rest), facts.knots), -1)
    scaling = Scaling.of(seen.raw, filled, bend)
    data = occasions.data(seen, scaling)
    full = ChoicePrior(weight_sd=strengths.weight, effects=strengths.effects(encoder), proceed=priors.position_decay)
    if occasions.given_click:
        full = replace(full, nothing=first_level(priors.click_rate, priors.position_decay, priors.slate_size))
    form = chosen_form(examination, log, data, full, n_items, progress)
    # Where all is assumed, each place of the assumed slate has the chance that the prior gives it.
    places = None if occasions.correction is None or form.form != "position" else priors.slate_size - 1
    full = replace(full, form=form.form, places=places)
    if progress:
        progress(0, 1 + len(RIVALS), "fitting examination and choice")
    fit, rivals = fit_choice(data, full, n_items), {}
    if occasions.given_click:
        best = popular_slates(occasions, facts.popularity, priors.slate_size)
        popular = best.data(best.replay(log, encoder, facts.to(encoder.item_vectors.device), bend), scaling)
        full, fit = _at_click_rate(full, fit, data, popular, priors.click_rate)
    who = shopper_numbers(log)[session]
    drifts: list[Drift] = []
    for kind in HALF_LIVES:
        ground = log, occasions, facts, seen, scaling, who, full, fit
        drifts.append(find_drift(kind, *ground, priors, progress))
        if math.isfinite(drifts[-1].half_life):
            half_lives = replace(scaling.half_lives, **{kind: drifts[-1].half_life})
            faded(seen, log, occasions, facts, half_lives)
            scaling = Scaling.of(seen.raw, filled, bend, half_lives)
            data = occasions.data(seen, scaling)
            fit = fit_choice(data, full, n_items, start=fit)
    for number, (name, (items, outside, effects)) in enumerate(RIVALS.items(), start=1):
        if progress:
            progress(number, 1 + len(RIVALS), f"fitting a rival: {name}")
        prior = strengths.of(effects, encoder)
        less = replace(full, item_features=items, outside_features=outside, effects=prior)
        rivals[name] = fit_choice(data, less, n_items, errors=False, start=fit).weights
    return LearnedChoice(fit, full, rivals, facts, scaling, seen, data, drifts, form)


def _at_click_rate(
    prior: ChoicePrior, fit: ChoiceFit, data: ChoiceData, popular: ChoiceData, rate: float
) -> tuple[ChoicePrior, ChoiceFit]:
    """The prior with the utility of clicking nothing at which `popular` slates are clicked at a rate, and its fit."""
    nobody = torch.zeros(len(popular.items), dtype=torch.float64)
    for left in reversed(range(LEVELS - 1)):
        found = fit.weights
        utility = found.utility(popular.features, popular.items)
        prior = replace(prior, nothing=level_of_nothing(utility, nobody, found.proceed, rate, found.form))
        fit = fit_choice(data, prior, len(found.effects) - 1, errors=not left, start=fit)
    return prior, fit


def learn_again(
    learned: LearnedChoice, weight: NDArray[np.float64], without: frozenset[str] = frozenset()
) -> ChoiceFit:
    """Examination and choice as occasions tell that count otherwise; without standard errors.

    What the first fit found out of how far items differ, and at how many places shoppers may stop, is kept.

    Args:
        learned: the first fit.
        weight: (S,) how often each occasion counts.
        without: names of features that have no weight.
    """
    fit, data = learned.fit, replace(learned.data, weight=torch.from_numpy(weight))
    n_items = len(fit.weights.effects) - 1
    prior = settled(learned.prior, fit)
    items, outside = (
        tuple(one for one in names if one not in without) for names in (prior.item_features, prior.outside_features)
    )
    prior = replace(prior, item_features=items, outside_features=outside)
    return fit_choice(data, prior, n_items, errors=False, start=fit, rounds=1)


def _facts(log: ShopLog, occasions: Occasions) -> ItemFacts:
    """Of the items of a log, and of its slots."""
    popularity = _popularity(log, occasions)
    knots = np.quantile(popularity[occasions.items[occasions.items > 0]], KNOTS_AT).tolist()
    draw = Draw.of(occasions.items, occasions.clicked, log.catalogue.n_items) if occasions.correction is None else None
    return item_facts(log.catalogue, popularity, (knots[0], knots[1]), draw)


def _popularity(log: ShopLog, occasions: Occasions) -> NDArray[np.float32]:
    n_items = log.catalogue.n_items
    if occasions.correction is None:
        return shown_popularity(occasions.items, occasions.clicked, n_items)
    return viewed_popularity(views(log)[2], n_items)


def arrivals(log: ShopLog, most: int, rng: np.random.Generator, views_kept: int) -> tuple[Arrivals, Ints]:
    """What shoppers had done before their first slate, and the (A,) sessions in which they had.

    Args:
        log: the sessions.
        most: arrivals kept; drawn at random where there are more.
        rng: draws them.
        views_kept: in a log without slates, tokens at most that count as done before the first slate.
    """
    slates, tokens = log.slates, log.tokens
    if len(slates):
        session, first = np.unique(slates.session, return_index=True)
        upto = slates.before[first]
    else:
        session = np.flatnonzero(tokens.lengths > 0)
        upto = np.minimum(views_kept, tokens.lengths[session] - 1)
    kept = np.arange(len(session))
    if len(kept) > most:
        kept = np.sort(rng.choice(kept, most, replace=False))
    session, upto = session[kept], upto[kept]
    history = tokens.histories(session, upto=upto, last=ARRIVAL_WIDTH)
    gaps = history.gaps.copy()
    gaps[:, 0] = 0
    following = np.minimum(tokens.offsets[session] + upto, len(tokens.items) - 1)
    inside = (upto > 0) & (upto < tokens.lengths[session])
    gap = np.where(inside, tokens.gaps[following], 0).astype(np.float32)
    items, events, waits = (_padded(part) for part in (history.items, history.events, gaps))
    came = Arrivals(TokenBatch(items, events, waits, torch.from_numpy(history.lengths)), torch.from_numpy(gap))
    return came, session


def _padded(part: NDArray[np.int64] | NDArray[np.float32]) -> torch.Tensor:
    """(A, ARRIVAL_WIDTH) as a tensor, zeros after the end."""
    return torch.from_numpy(np.pad(part, ((0, 0), (0, ARRIVAL_WIDTH - part.shape[1]))))


@torch.no_grad()
def nothing_for_click_rate(shopper: FittedShopper, rate: float, k: int, shoppers: int = 512) -> float:
    """Utility of clicking nothing at which a first slate of the most popular items is clicked at a given rate.

    Args:
        shopper: fitted but for that.
        rate: wanted, in (0, 1).
        k: slots of the slate.
        shoppers: arrivals that the rate is taken over.
    """
    choice = shopper.model.own.choice
    state = shopper.reset(torch.arange(shoppers))
    best = shopper.model.facts.popularity[1:].topk(min(k, shopper.n_items)).indices + 1
    slate = best.expand(shoppers, -1)
    utility = choice.utility(shopper.scaled(state.memory.state, state.trail, slate), slate).double()
    outside = shopper.outside(state.trail, (slate > 0).sum(1))
    rest = (outside @ choice.with_nothing(0.0).outside).double()
    return level_of_nothing(utility, rest, choice.proceed.double(), rate, choice.form)
