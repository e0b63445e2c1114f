"""Choice among what was looked at, with utilities that are sums of trees; examination is fitted along.

The model of a slate is the form `depth` of `examination`: a shopper looks at the first m places, and chooses among them
and nothing by a multinomial logit. Here a utility is the sum of gradient-boosted trees over hand-made columns, nothing
being one more alternative of the slate with columns of its own. Each tree is a Newton step: given the trees so far and
what was clicked, each depth that the shopper may have looked to has a chance, and averaged over these the slope of the
log likelihood is exact; for the curvature the depth is taken as known, which bounds it (the EM algorithm, Dempster,
Laird and Rubin, JRSS B 1977). In between, the chances to look on and the level of nothing are set to their likeliest
values.

Source of the boosting: Friedman, "Greedy function approximation", Annals of Statistics 2001.

Shapes: S slates (or sets of alternatives for a next view), K slots, R rows, H places with a chance of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from .choice import NEVER, next_view_log_chance
from .choice_fit import CLICKS_FOR_A_HAZARD
from .examination import depth_log_chances, given_click, slate_log_chances
from .hand_features import CHOICE_COLUMNS
from .logistic import logit
from .trees import Doubles, Floats, Later, TreeConfig, Trees, grow

LOOK_AGAIN = (5, 10, 20, 40, 80, 160, 320)
"""Trees after which examination is fitted again."""
SLATES_TO_LOOK_AT = 20_000
"""Slates at most that examination is fitted on in between."""
FALLING = ("dearer",)
"""Columns that never make an item more liked: being dearer than what the shopper went for."""
_PROCEED_SD, _STEP_SD = 1.0, 0.5  # of the chances to look on, as logits: the last one's, and from place to place


@dataclass(frozen=True, slots=True)
class Offers:
    """Slates, or sets of alternatives for a next view, as the likelihood reads them.

    Attributes:
        x: (R, P) columns: of the filled slots in order, then, of slates, of choosing nothing.
        items: (S, K) int64, 0 in empty slots. clicked: (S,) int64 slot, -1 for none; of alternatives always 0.
        weight: (S,) how often each counts.
        correction: (S, K) of sampled alternatives, see `choice.next_view_log_chance`; none for slates.
        given_click: as of `choice_fit.ChoiceData`.
    """

    x: Floats
    items: NDArray[np.int64]
    clicked: NDArray[np.int64]
    weight: Doubles
    correction: Doubles | None = None
    given_click: bool = False

    def laid_out(self, scores: NDArray[np.floating]) -> tuple[Doubles, Doubles]:
        """Scores (R,) as (S, K) of the slots, `NEVER` in empty ones, and (S,) of nothing, 0 without rows of it."""
        filled = self.items > 0
        utility = np.full(self.items.shape, NEVER)
        utility[filled] = scores[: filled.sum()]
        return utility, scores[filled.sum() :].astype(np.float64) if self.correction is None else np.zeros(len(filled))

    def in_rows(self, items: Doubles, nothing: Doubles) -> Doubles:
        """(R,) of the rows, given (S, K) of the slots and (S,) of nothing."""
        rows = items[self.items > 0]
        return np.concatenate([rows, nothing]) if self.correction is None else rows


@dataclass(frozen=True, slots=True)
class BoostedChoice:
    """Examination and choice.

    Attributes:
        trees: of utilities; none where all are alike.
        columns: numbers of the `CHOICE_COLUMNS` that the trees read, in order.
        nothing: utility of choosing nothing, beside what trees say.
        proceed: (H + 1,) float64 logit of looking at the next place, by place; the last holds for all further places.
    """

    trees: Trees | None
    columns: tuple[int, ...]
    nothing: float
    proceed: Tensor

    def scores(self, x: Floats) -> Floats:
        """(R,) utilities of rows of all `CHOICE_COLUMNS`."""
        if self.trees is None:
            return np.zeros(len(x), np.float32)
        return self.trees.scores(x if len(self.columns) == x.shape[1] else x[:, list(self.columns)])

    def looked(self, k: int) -> Tensor:
        """(k,) float32 chance that each place of a slate is looked at; the first 1, then falling."""
        depth = depth_log_chances(self.proceed, k).exp()
        return depth.flip(0).cumsum(0).flip(0).float()

    def chances(self, offers: Offers) -> tuple[Tensor, Tensor]:
        """(S,) log chance of what was done, and (S, K) what slots rank by: log chance of a click, utility of views.

        Both are given a click where the offers are.
        """
        utility, nothing = (torch.from_numpy(part) for part in offers.laid_out(self.scores(offers.x)))
        done = log_chances(utility, nothing + self.nothing, self.proceed, offers)
        if offers.correction is not None:
            return done, utility
        depth = depth_log_chances(self.proceed, utility.shape[1])
        chances = slate_log_chances(utility, nothing + self.nothing, depth)
        return done, given_click(chances) if offers.given_click else chances[:, :-1]


def log_chances(utility: Tensor, nothing: Tensor, proceed: Tensor, offers: Offers) -> Tensor:
    """(S,) log chance of what was done, given utilities (S, K) and (S,), and `proceed` as of `BoostedChoice`."""
    if offers.correction is not None:
        return next_view_log_chance(utility, torch.from_numpy(offers.correction))
    k = utility.shape[1]
    place = torch.from_numpy(np.where(offers.clicked >= 0, offers.clicked, k))
    chances = slate_log_chances(utility, nothing, depth_log_chances(proceed, k))
    if offers.given_click:  # of the others nothing is said
        chances = torch.cat([given_click(chances), torch.zeros_like(chances[:, :1])], 1)
    return chances.gather(1, place[:, None]).squeeze(1)


def slopes(utility: Doubles, nothing: Doubles, depth: Doubles, offers: Offers) -> tuple[Doubles, Doubles]:
    """First derivative of minus the log chances, and the bound of the second, by the rows' scores.

    Args:
        utility: (S, K) of the items.
        nothing: (S,) of choosing nothing.
        depth: (K,) chance of exactly the first 1, 2, ..., K places being looked at.
        offers: what was done.

    Returns:
        (R,) and (R,), weighted.
    """
    if offers.correction is not None:
        raw = utility + offers.correction
        e = np.exp(raw - raw.max(1, keepdims=True))
        once = e / e.sum(1, keepdims=True)
        twice, none, none_twice = once**2, np.zeros(len(once)), np.zeros(len(once))
    else:
        peak = np.maximum(utility.max(1), nothing)[:, None]
        e, e0 = np.exp(utility - peak), np.exp(nothing[:, None] - peak)
        total = np.maximum(e.cumsum(1) + e0, 1e-150)  # of nothing and the first m places; its square stays above 0
        reaches = np.arange(e.shape[1]) >= offers.clicked[:, None]
        posterior = depth / total * reaches
        posterior /= posterior.sum(1, keepdims=True)
        per, squared = posterior / total, posterior / total**2
        once = e * per[:, ::-1].cumsum(1)[:, ::-1]
        twice = e**2 * squared[:, ::-1].cumsum(1)[:, ::-1]
        none, none_twice = e0[:, 0] * per.sum(1), e0[:, 0] ** 2 * squared.sum(1)
        if offers.given_click:
            return _given_a_click(once, once - twice, e, e0, total, depth, offers)
    hit = np.flatnonzero(offers.clicked >= 0)
    first, second = once.copy(), once - twice
    first[hit, offers.clicked[hit]] -= 1
    often = offers.weight
    slope = offers.in_rows(first * often[:, None], (none - (offers.clicked < 0)) * often)
    bound = offers.in_rows(second * often[:, None], (none - none_twice) * often)
    return slope, np.maximum(bound, 1e-9)


def _given_a_click(
    once: Doubles, bound: Doubles, e: Doubles, e0: Doubles, total: Doubles, depth: Doubles, offers: Offers
) -> tuple[Doubles, Doubles]:
    """As `slopes`, given that there was a click: the log chance of one is taken off. Nothing keeps its level.

    The slope of that log chance by u_j is

        r_j = exp(u_j + u_0) sum over m >= j of P(m) / T_m^2 / P(click),   T_m = exp(u_0) + sum over j <= m of exp(u_j)

    and r_j - r_j^2 bounds its second derivative.

    Args:
        once: (S, K) chance of each place to be chosen at the depths that were possible.
        bound: (S, K) of the second derivative without that.
        e: (S, K) exponentials of the items' utilities.
        e0: (S, 1) of nothing's.
        total: (S, K) T_m.
        depth: (K,) P(m).
        offers: what was done.
    """
    click = (depth * e.cumsum(1) / total).sum(1, keepdims=True)
    deeper = (depth / total**2)[:, ::-1].cumsum(1)[:, ::-1]
    taken = e * e0 * deeper / np.maximum(click, 1e-150)
    first, second = once + taken, bound + taken - taken**2
    hit = offers.clicked >= 0
    first[np.flatnonzero(hit), offers.clicked[hit]] -= 1
    often, idle = (offers.weight * hit)[:, None], np.zeros(len(once))
    return offers.in_rows(first * often, idle), np.maximum(offers.in_rows(second * often, idle), 1e-9)


@dataclass(slots=True)
class _Growing:
    """A fit under way: examination at its most likely values, which are found again after some trees."""

    offers: Offers
    prior: float  # chance to look at the next place
    level: float | None = None  # of nothing, where it is not to be fitted
    nothing: float = 0.0
    proceed: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    trees: int = 0

    def __post_init__(self) -> None:
        clicks = self.offers.clicked
        below = np.array([self.offers.weight[clicks > place].sum() for place in range(self.offers.items.shape[1])])
        places = 0 if self.offers.correction is not None else int((below >= CLICKS_FOR_A_HAZARD).sum())
        self.proceed = torch.full((places + 1,), logit(self.prior), dtype=torch.float64)
        if self.offers.correction is None:
            rate = np.average(clicks >= 0, weights=self.offers.weight)
            self.nothing = -logit(min(max(float(rate), 1e-4), 1 - 1e-4)) + float(np.log(self.offers.items.shape[1]))
            self.nothing = self.nothing if self.level is None else self.level
        self.look_again(np.zeros(len(self.offers.x)), SLATES_TO_LOOK_AT)

    def slope(self, scores: Doubles) -> tuple[Doubles, Doubles]:
        """For `trees.grow`."""
        if self.trees in LOOK_AGAIN:
            self.look_again(scores, SLATES_TO_LOOK_AT)
        self.trees += 1
        utility, nothing = self.offers.laid_out(scores)
        depth = depth_log_chances(self.proceed, utility.shape[1]).exp().numpy()
        return slopes(utility, nothing + self.nothing, depth, self.offers)

    def losses(self, offers: Offers, scores: Doubles) -> Doubles:
        """(S,) losses of other offers."""
        utility, nothing = (torch.from_numpy(part) for part in offers.laid_out(scores))
        return -log_chances(utility, nothing + self.nothing, self.proceed, offers).numpy()

    def look_again(self, scores: NDArray[np.floating], most: int | None = None) -> None:
        """Set the chances to look on, and the level of nothing, to their most likely values given the scores."""
        if self.offers.correction is not None:
            return
        utility, nothing = (torch.from_numpy(part) for part in self.offers.laid_out(scores))
        weight, offers = torch.from_numpy(self.offers.weight), self.offers
        if most is not None and len(utility) > most:  # every n-th slate, and the weight scaled up again
            part = np.linspace(0, len(utility) - 1, most).astype(np.int64)
            utility, nothing, scale = utility[part], nothing[part], float(weight.sum() / weight[part].sum())
            weight, offers = weight[part] * scale, replace(offers, clicked=offers.clicked[part])

        def loss(at: Doubles) -> tuple[float, Doubles]:
            free = torch.from_numpy(at).requires_grad_()
            proceed = free[1:]
            done = log_chances(utility, nothing + free[0], proceed, offers)
            value = _penalty(proceed, self.prior) - (done * weight).sum()
            value.backward()
            assert free.grad is not None
            if self.level is not None:
                free.grad[0] = 0.0
            return value.item(), free.grad.numpy()

        begin = np.append(self.nothing, self.proceed.numpy())
        best = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 50, "ftol": 1e-8})
        self.nothing, self.proceed = float(best.x[0]), torch.from_numpy(best.x[1:].copy())


def fit_boosted_choice(
    early: Offers,
    late: Offers | None,
    whole: Offers,
    names: Sequence[str],
    *,
    position_decay: float,
    config: TreeConfig,
    rounds: int,
    level: float | None = None,
    told: list[Floats] | None = None,
) -> BoostedChoice:
    """Examination and choice, by maximum likelihood; as many trees as later sessions can bear.

    Args:
        early: what trees are first grown on.
        late: later sessions, which say how many trees to grow; none where they are too few.
        whole: all of them; so many trees are grown on it anew.
        names: those of `CHOICE_COLUMNS` that trees may read; without any, utilities are alike.
        position_decay: chance to look at the next place towards which places with few clicks are drawn.
        config: how trees grow.
        rounds: trees to grow where `late` is none.
        level: of nothing, where it is not to be fitted, see `given_click`.
        told: a list that is given the losses of `late`, (S,), with 0, 1, 2, ... trees, see `Stopping`.
    """
    columns = tuple(CHOICE_COLUMNS.index(name) for name in names)
    falling, trees = [names.index(name) for name in FALLING if name in names], None
    if columns and late is not None:
        first, listed = _Growing(early, position_decay, level), list(columns)
        later = Later(late.x[:, listed], lambda scores: first.losses(late, scores), late.weight)
        found = grow(early.x[:, listed], first.slope, config, rounds=config.rounds, later=later, falling=falling)
        rounds = 0 if found is None else len(found)
        if told is not None:
            told.extend(later.told)
    growing = _Growing(whole, position_decay, level)
    if columns and rounds:
        trees = grow(whole.x[:, list(columns)], growing.slope, config, rounds=rounds, falling=falling)
    choice = BoostedChoice(trees, columns, growing.nothing, growing.proceed)
    growing.look_again(choice.scores(whole.x))
    return replace(choice, nothing=growing.nothing, proceed=growing.proceed)


@dataclass(frozen=True, slots=True)
class Stopping:
    """What later slates lose with each number of trees: where they say to stop depends on how often each counts.

    Attributes:
        told: (S,) losses with 0, 1, 2, ... trees. session: (S,) whose slates they are.
    """

    told: Sequence[Floats]
    session: NDArray[np.int64]

    def rounds(self, weight: Doubles) -> int | None:
        """Trees to grow where sessions count (sessions,) times; none where no later slate counts."""
        often = weight[self.session]
        if not self.told or not often.any():
            return None
        return int(np.argmin([float(often @ losses) for losses in self.told]))


def examination_errors(choice: BoostedChoice, offers: Offers, position_decay: float) -> Doubles:
    """(H + 1,) standard errors of the logits of looking on, with the utilities taken as known; nan for next views."""
    if offers.correction is not None:
        return np.full(len(choice.proceed), np.nan)
    utility, nothing = (torch.from_numpy(part) for part in offers.laid_out(choice.scores(offers.x)))
    weight = torch.from_numpy(offers.weight)

    def loss(at: Tensor) -> Tensor:
        done = log_chances(utility, nothing + at[0], at[1:], offers)
        return _penalty(at[1:], position_decay) - (done * weight).sum()

    at = torch.cat([torch.tensor([choice.nothing], dtype=torch.float64), choice.proceed])
    curvature = torch.autograd.functional.hessian(loss, at)
    assert isinstance(curvature, Tensor)
    if offers.given_click:  # the level of nothing is set
        return torch.linalg.inv(curvature[1:, 1:]).diagonal().clamp(min=0).sqrt().numpy()
    curvature = curvature + 1e-6 * torch.eye(len(at), dtype=torch.float64)
    return torch.linalg.inv(curvature).diagonal().clamp(min=0).sqrt().numpy()[1:]


def _penalty(proceed: Tensor, position_decay: float) -> Tensor:
    """Minus the log prior: the last chance to look on is drawn to the prior, each other one to its neighbour."""
    away = ((proceed[-1] - logit(position_decay)) / _PROCEED_SD).square()
    return 0.5 * (away + ((proceed[1:] - proceed[:-1]) / _STEP_SD).square().sum())
