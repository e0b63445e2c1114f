"""Fit examination and choice together, by maximum posterior likelihood, with standard errors.

Shapes: S slates, K slots, F item features, O outside features, H places with a hazard of their own, N items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from .choice import NEVER, ChoiceWeights, next_view_log_chance
from .examination import NODES, Examination, given_click
from .features import ITEM_FEATURES, OUTSIDE_FEATURES
from .logistic import ItemEffects, logit

SLATES_FOR_ERRORS = 20_000
SPREAD_ROUNDS = 4
LEAST_SPREAD = 0.02
CLICKS_FOR_A_HAZARD = 20
"""Clicks below a place that let its logit of looking be fitted apart from the places below it."""
_CELLS = 4_000_000  # numbers that the likelihood works out at once


@dataclass(frozen=True, slots=True)
class ChoiceData:
    """Slates, or sets of alternatives for a next view, as the likelihood reads them; float64.

    Attributes:
        features: (S, K, F) scaled. items: (S, K) int64, 0 in empty slots.
        outside: (S, O).
        clicked: (S,) int64 slot, -1 for none; of alternatives always 0.
        session: (S,) int64. weight: (S,) how often a row counts.
        correction: (S, K) for sampled alternatives, see `next_view_log_chance`; none for slates.
        given_click: whether the log keeps only slates that were clicked, see `given_click`; then chances are those
            given a click, and a slate without one says nothing.
    """

    features: Tensor
    items: Tensor
    outside: Tensor
    clicked: Tensor
    session: Tensor
    weight: Tensor
    correction: Tensor | None = None
    given_click: bool = False

    def rows(self, which: Tensor | slice) -> "ChoiceData":
        """Some of the rows."""
        parts = (self.features, self.items, self.outside, self.clicked, self.session, self.weight)
        features, items, outside, clicked, session, weight = (part[which] for part in parts)
        correction = None if self.correction is None else self.correction[which]
        return ChoiceData(features, items, outside, clicked, session, weight, correction, self.given_click)


@dataclass(frozen=True, slots=True)
class ChoicePrior:
    """What is believed before the log is read.

    Attributes:
        item_features: names of the item features that may have a weight.
        outside_features: names of the outside features that may have one.
        weight_sd: standard deviation of a weight.
        effects: prior of the items' effects; none for no effects.
        proceed: chance to look at the next place, in (0, 1), towards which places with few clicks are drawn; for the
            form `position` the chance to look at place j is drawn towards its j-th power.
        proceed_sd: standard deviation of its logit. step_sd: of the difference between neighbouring places.
        places: leading places that have a logit of their own; those with clicks enough below them when None.
        form: of examination.
        nothing: utility of clicking nothing, where it is not to be fitted, see `given_click`; then outside features
            have no weight.
    """

    item_features: Sequence[str] = ITEM_FEATURES
    outside_features: Sequence[str] = OUTSIDE_FEATURES
    weight_sd: float = 1.0
    effects: ItemEffects | None = None
    proceed: float = 0.85
    proceed_sd: float = 1.0
    step_sd: float = 0.5
    places: int | None = None
    form: Examination = "depth"
    nothing: float | None = None

    def logits(self, places: int) -> NDArray[np.float64]:
        """(places,) logits of looking towards which the leading places are drawn."""
        power = np.arange(1, places + 1) if self.form == "position" else 1
        chance = np.broadcast_to(np.maximum(self.proceed**power, 1e-6), places)
        return np.log(chance) - np.log1p(-chance)


@dataclass(frozen=True, slots=True)
class ChoiceFit:
    """Most likely parameters.

    Attributes:
        weights: the parameters.
        errors: standard errors of `item`, `outside` and `proceed`, by these names, given the effects.
        effects_sd: estimated standard deviations of what items of similar text share, and of what is an item's own.
        found: (P,) the parameters as differences from the prior's centre.
    """

    weights: ChoiceWeights
    errors: dict[str, NDArray[np.float64]]
    effects_sd: tuple[float, float]
    found: NDArray[np.float64]


def log_likelihood(weights: ChoiceWeights, data: ChoiceData) -> Tensor:
    """(S,) log chance of what each shopper did.

    All weights but the effects may have a row a slate, which gives the slates' own gradients.
    """
    utility = _utility(weights, data)
    if data.correction is not None:
        return next_view_log_chance(utility, data.correction)
    nothing = (data.outside * weights.outside).sum(1)
    if data.given_click:
        told = given_click(weights.log_chances(utility, nothing))
        return told.gather(1, data.clicked.clamp(min=0)[:, None]).squeeze(1) * (data.clicked >= 0)
    place = torch.where(data.clicked >= 0, data.clicked, utility.shape[1])
    return weights.log_chance(utility, nothing, place)


@torch.no_grad()
def choice_chances(weights: ChoiceWeights, data: ChoiceData) -> tuple[Tensor, Tensor]:
    """(S,) log chance of what was done, and (S, K) what slots rank by: log chance of a click, utility of next views.

    Both are given a click where the data are.
    """
    done, ranks = [], []
    for rows in _pieces(weights.form, data):
        part = data.rows(rows)
        utility = _utility(weights, part)
        done.append(log_likelihood(weights, part))
        if data.correction is None:
            chances = weights.log_chances(utility, (part.outside * weights.outside).sum(1))
            utility = given_click(chances) if part.given_click else chances[:, :-1]
        ranks.append(utility)
    return torch.cat(done), torch.cat(ranks)


def _utility(weights: ChoiceWeights, data: ChoiceData) -> Tensor:
    """(S, K) of the items; `NEVER` in empty slots."""
    k, item, effects = data.items.shape[1], weights.item, weights.effects
    own = item if item.dim() == 1 else item[:, :, None]
    utility = (data.features @ own).reshape(len(data.items), k)
    utility = utility + effects.index_select(0, data.items.reshape(-1)).reshape(-1, k)
    return utility.masked_fill(data.items == 0, NEVER)


def _pieces(form: Examination, data: ChoiceData) -> list[slice]:
    """Rows of the data that the likelihood is worked out for at once, so that an integral's nodes fit into memory."""
    n, k = data.items.shape
    size = max(1, _CELLS // (NODES * k)) if form == "position" else max(1, n)
    return [slice(begin, begin + size) for begin in range(0, max(1, n), size)]


class _Parameters:
    """All parameters as one vector, in units of their prior's standard deviation."""

    def __init__(self, data: ChoiceData, prior: ChoicePrior, n_items: int, places: int | None) -> None:
        self.prior, self.n_items = prior, n_items
        places = _places_with_evidence(data) if places is None else places
        # Of the log as it is, not as it is weighted: shoppers drawn with replacement may have no slate at all.
        rate = float((data.clicked >= 0).double().mean())
        shown = float((data.items > 0).sum(1).double().mean())
        width = 0 if prior.effects is None else prior.effects.vectors.shape[1]
        own = 0 if prior.effects is None else n_items + 1
        start = -logit(min(max(rate, 1e-4), 1 - 1e-4)) + np.log(max(shown, 1.0))
        start = start if prior.nothing is None else prior.nothing
        intercept = [start if name == "nothing" else 0.0 for name in OUTSIDE_FEATURES]
        wide = [10.0 if name == "nothing" else prior.weight_sd for name in OUTSIDE_FEATURES]
        self.sizes = [len(ITEM_FEATURES), len(OUTSIDE_FEATURES), places + 1, width, own]
        parts = [np.zeros(self.sizes[0]), np.array(intercept), prior.logits(places + 1)]
        spread = [np.full(self.sizes[0], prior.weight_sd), np.array(wide), np.full(places + 1, prior.proceed_sd)]
        if prior.effects is not None:
            spread += [np.full(width, prior.effects.alike), np.full(own, prior.effects.own)]
        self.centre = torch.from_numpy(np.concatenate([*parts, np.zeros(width + own)]))
        self.spread = torch.from_numpy(np.concatenate(spread))
        used = [name in prior.item_features for name in ITEM_FEATURES]
        used += [name in prior.outside_features and prior.nothing is None for name in OUTSIDE_FEATURES]
        used += [prior.form != "cascade"] * (places + 1)
        self.used = torch.tensor(used + [True] * (len(self.centre) - len(used)), dtype=torch.float64)
        self.vectors = None if prior.effects is None else torch.from_numpy(prior.effects.vectors)
        self.effects_sd = (0.0, 0.0) if prior.effects is None else (prior.effects.alike, prior.effects.own)
        self.information = self._rough_information(data)
        self.curvature = (1 + self.information * self.spread.square()).numpy()

    def _rough_information(self, data: ChoiceData) -> Tensor:
        """(P,) about how much the data say of each parameter: the clicks that bear on it."""
        hits = float(((data.clicked >= 0) * data.weight).sum())
        parts = [torch.full((size,), hits, dtype=torch.float64) for size in self.sizes]
        parts[2] = parts[2] / 10
        if self.vectors is not None:
            shown = torch.zeros(self.n_items + 1, dtype=torch.float64)
            per_slot = (data.items > 0) * data.weight[:, None]
            shown.index_add_(0, data.items.reshape(-1), per_slot.reshape(-1))
            parts[4] = shown * (hits / max(float(shown.sum()), 1.0))
            parts[3] = parts[4] @ self.vectors.square()
        return torch.cat(parts)

    def spread_of_effects(self, found: NDArray[np.float64]) -> tuple[float, float] | None:
        """Standard deviations that the effects found speak for, what stays unknown of each added; none without any."""
        if self.vectors is None:
            return None
        seconds = torch.from_numpy(found).square() + 1 / (self.information + 1 / self.spread.square())
        _, _, _, alike, own = seconds.split(self.sizes)
        known = self.information.split(self.sizes)[4] > 0
        return tuple(max(float(part.mean().sqrt()), LEAST_SPREAD) for part in (alike, own[known]))  # pyright: ignore[reportReturnType]

    def weights(self, free: Tensor) -> ChoiceWeights:
        item, outside, proceed, alike, own = (self.centre + self.spread * self.used * free).split(self.sizes)
        effects = (
            torch.zeros(self.n_items + 1, dtype=torch.float64) if self.vectors is None else self.vectors @ alike + own
        )
        effects = torch.cat([torch.zeros(1, dtype=torch.float64), effects[1:]])
        return ChoiceWeights(item, outside, proceed, effects, self.prior.form)

    def penalty(self, free: Tensor, proceed: Tensor) -> Tensor:
        """Minus the log prior. Of the logits of looking the last is drawn to the prior, each other to its neighbour."""
        head = self.sizes[0] + self.sizes[1]
        places = self.sizes[2]
        loose = torch.cat([free[:head], free[head + places - 1 :]])
        away = proceed - self.centre[head : head + places]
        return 0.5 * (loose.square().sum() + ((away[1:] - away[:-1]) / self.prior.step_sd).square().sum())


def _places_with_evidence(data: ChoiceData) -> int:
    """Leading places below which enough clicks fell for a logit of their own."""
    if data.correction is not None:
        return 0
    hit = data.clicked >= 0
    clicks = torch.bincount(data.clicked[hit], data.weight[hit], minlength=data.items.shape[1])
    below = clicks.sum() - clicks.cumsum(0)
    return int((below >= CLICKS_FOR_A_HAZARD).sum())


def settled(prior: ChoicePrior, fit: ChoiceFit) -> ChoicePrior:
    """The prior with what a fit found of how far items differ and at how many places shoppers stop."""
    assert prior.effects is not None
    alike, own = fit.effects_sd
    effects = replace(prior.effects, alike=alike, own=own)
    return replace(prior, effects=effects, places=len(fit.weights.proceed) - 1)


def fit_choice(
    data: ChoiceData,
    prior: ChoicePrior,
    n_items: int,
    *,
    errors: bool = True,
    start: ChoiceFit | None = None,
    rounds: int = SPREAD_ROUNDS,
) -> ChoiceFit:
    """Most likely parameters of examination and choice.

    How far items may differ beyond their features is estimated too: the spread of the effects' prior is set to that of
    the effects found, their uncertainty included, and the fit taken up again (an approximate EM, as in Gelman et al.,
    "Bayesian Data Analysis", 3rd edition, section 13.6).

    Args:
        data: slates or alternatives.
        prior: what is believed before.
        n_items: N.
        errors: whether to compute standard errors.
        start: a fit with other features switched on, or of other weights, to begin from.
        rounds: in which the spread of the effects is estimated, at most; 1 takes the prior's.
    """
    parameters = _Parameters(data, prior, n_items, prior.places)
    found = np.zeros(len(parameters.centre)) if start is None else start.found[: len(parameters.centre)]
    for left in reversed(range(rounds)):
        found = _most_likely(parameters, data, found)
        spread = parameters.spread_of_effects(found)
        if not left or prior.effects is None or spread is None or np.allclose(spread, parameters.effects_sd, rtol=0.15):
            break
        prior = replace(prior, effects=replace(prior.effects, alike=spread[0], own=spread[1]))
        parameters = _Parameters(data, prior, n_items, prior.places)
    with torch.no_grad():
        weights = parameters.weights(torch.from_numpy(found / parameters.spread.numpy()))
    return ChoiceFit(weights, _errors(parameters, weights, data) if errors else {}, parameters.effects_sd, found)


def _most_likely(parameters: _Parameters, data: ChoiceData, begin: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P,) parameters, as differences from the prior's centre."""
    spread = parameters.spread.numpy()
    unit = 1 / np.sqrt(parameters.curvature)  # evens out the curvature, which saves most of the steps
    pieces = [data.rows(rows) for rows in _pieces(parameters.prior.form, data)]

    def loss(steps: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        at = torch.from_numpy(steps * unit).requires_grad_()
        value = parameters.penalty(at, parameters.weights(at).proceed)
        value.backward()
        total = value.item()
        for part in pieces:
            value = -(log_likelihood(parameters.weights(at), part) * part.weight).sum()
            value.backward()
            total += value.item()
        assert at.grad is not None
        return total, at.grad.numpy() * unit

    options = {"maxiter": 300, "ftol": 1e-8, "maxcor": 20}
    best = minimize(loss, begin / spread / unit, jac=True, method="L-BFGS-B", options=options)
    return best.x * unit * spread


def _curvature(of: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """(P, P) second derivatives."""
    found = torch.autograd.functional.hessian(of, at)
    assert isinstance(found, Tensor)
    return found


def _errors(parameters: _Parameters, weights: ChoiceWeights, data: ChoiceData) -> dict[str, NDArray[np.float64]]:
    """Standard errors that allow for the slates of one session being alike, and never below the posterior's own.

    Source: the sandwich with clusters, Liang and Zeger, "Longitudinal data analysis using generalized linear models",
    Biometrika 1986.
    """
    if len(data.items) > SLATES_FOR_ERRORS:  # every n-th slate, and the curvature scaled up again
        part = data.rows(torch.linspace(0, len(data.items) - 1, SLATES_FOR_ERRORS).long())
        part = replace(part, weight=part.weight * (data.weight.sum() / part.weight.sum()))
    else:
        part = data
    sizes = parameters.sizes[:3]
    theta = torch.cat([weights.item, weights.outside, weights.proceed])

    def chance(at: Tensor, of: ChoiceData) -> Tensor:
        item, outside, proceed = at.split(sizes, dim=-1)
        return log_likelihood(ChoiceWeights(item, outside, proceed, weights.effects, weights.form), of)

    def prior(at: Tensor) -> Tensor:
        free = (at - parameters.centre[: len(at)]) / parameters.spread[: len(at)]
        return parameters.penalty(free, at[-sizes[2] :])

    curvature = _curvature(prior, theta)
    for rows in _pieces(weights.form, part):
        piece = part.rows(rows)
        curvature -= _curvature(lambda at, of=piece: (chance(at, of) * of.weight).sum(), theta)
    slopes = []
    for rows in _pieces(weights.form, data):
        piece = data.rows(rows)
        each = theta.expand(len(piece.items), -1).clone().requires_grad_()
        slopes.append(torch.autograd.grad(chance(each, piece).sum(), each)[0])
    number = torch.unique(data.session, return_inverse=True)[1]
    by_session = torch.zeros(int(number.max()) + 1, len(theta), dtype=torch.float64)
    by_session.index_add_(0, number, torch.cat(slopes) * data.weight[:, None])
    used = parameters.used[: len(theta)] > 0
    bread = torch.linalg.inv(curvature[used][:, used])
    cover = bread @ (by_session[:, used].T @ by_session[:, used]) @ bread
    found = torch.zeros(len(theta), dtype=torch.float64)
    found[used] = torch.maximum(cover.diagonal(), bread.diagonal()).sqrt()
    names = ("item", "outside", "proceed")
    return {name: part.numpy() for name, part in zip(names, found.split(sizes), strict=True)}
