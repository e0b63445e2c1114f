"""How a shopper looks over a slate and comes to click one item of it, or none: four forms, chances and draws.

With u_j the utility of the item in place j, u_0 that of clicking nothing, and `proceed` the logits of looking:

- `depth`: looks at places 1 to m, going on from place j to j + 1 with chance sigmoid(proceed_j), and then chooses among
  those m items and nothing by a multinomial logit. Craswell et al., "An experimental comparison of click position-bias
  models", WSDM 2008, for examination downwards; McFadden, "Conditional logit analysis of qualitative choice behavior",
  1974, for the choice.
- `position`: looks at each place by itself, with chance sigmoid(proceed_j), and then chooses among what was looked at
  and nothing by a multinomial logit. The position-based model (Richardson, Dominowska and Ragno, "Predicting clicks",
  WWW 2007; Craswell et al. 2008) for slates of one click at most; as a model of choice the alternative-specific
  consideration of Abaluck and Adams-Prassl, "What do consumers consider before they choose?", QJE 2021.
- `cascade`: looks at the items from the top, clicks each that it looks at with chance sigmoid(u_j - u_0), and goes on
  to the next as long as nothing was clicked; `proceed` has no say. Craswell et al. 2008.
- `dbn`: as the cascade, but goes on from an item that was not clicked with chance sigmoid(proceed_j) only. Chapelle and
  Zhang, "A dynamic Bayesian network click model for web search ranking", WWW 2009, where the chance to go on is
  "perseverance". Their satisfaction, which ends a search after a click, has no parameter here: with one click a slate
  at most, a click decides whether the shopper goes on to another slate, and `leaving` learns that by outcome.

Shapes: S slates, B shoppers, K slots, H places with a `proceed` of their own; Q nodes of an integral.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Examination = Literal["depth", "position", "cascade", "dbn"]
"""Forms of examination, see the module."""
FORMS: tuple[Examination, ...] = get_args(Examination)
NODES = 64
"""Of the integral over what else a shopper may have looked at, at most; about 20 where most slates are not clicked."""
_STEP = 0.4  # between nodes, at which log chances are exact to 1e-7; wider where that would take more than `NODES`
_LEFT, _RIGHT = -2.8, 3.6  # ends of the integral: what lies beyond weighs less than 1e-8
_ABSENT = 700.0  # utility below nothing's of what cannot be chosen
_CERTAIN = 6.4  # log of minus the log of a chance that is as good as 0, whose exponential's square is still finite
_CHOICE, _PLACES = 3, 16  # streams of random numbers


def by_place(proceed: Tensor, places: int) -> Tensor:
    """(..., places) logits of the leading places, given (..., H + 1) of which the last holds for the rest."""
    return proceed[..., torch.arange(places, device=proceed.device).clamp(max=proceed.shape[-1] - 1)]


def looked_chances(form: Examination, proceed: Tensor, k: int) -> Tensor:
    """(..., k) chance that each place is looked at by a shopper who clicks nothing above it; `proceed` is (..., H + 1).

    Of `depth` and `position` it is the chance whatever is clicked.
    """
    if form == "position":
        return torch.sigmoid(by_place(proceed, k))
    if form == "cascade":
        return torch.ones(*proceed.shape[:-1], k, dtype=proceed.dtype, device=proceed.device)
    going_on = torch.sigmoid(by_place(proceed, k - 1)).cumprod(-1)
    return torch.cat([torch.ones_like(proceed[..., :1]), going_on], -1)


def click_log_chances(form: Examination, utility: Tensor, nothing: Tensor, proceed: Tensor) -> Tensor:
    """Log chance of a click at each place, and of none.

    Args:
        form: of examination.
        utility: (S, K) of the items by place; `choice.NEVER` in empty slots.
        nothing: (S,) utility of clicking nothing.
        proceed: (H + 1,) or (S, H + 1) logits of looking, see the module.

    Returns:
        (S, K + 1), the last column for no click; the exponentials of a row sum to 1.
    """
    k = utility.shape[1]
    if form == "depth":
        return slate_log_chances(utility, nothing, depth_log_chances(proceed, k))
    over = utility - nothing[:, None]
    if form == "position":
        return _choice_among_places(over, by_place(proceed, k))
    passed = logsigmoid(-over)
    above = passed.cumsum(1)  # that nothing down to a place is clicked by who looks so far
    if form == "cascade":
        return torch.cat([logsigmoid(over) + above - passed, above[:, -1:]], 1)
    depth = depth_log_chances(proceed, k)
    reached = logsigmoid(by_place(proceed, k - 1)).cumsum(-1)
    reached = torch.cat([torch.zeros_like(proceed[..., :1]), reached], -1)
    return torch.cat([logsigmoid(over) + above - passed + reached, (depth + above).logsumexp(1, keepdim=True)], 1)


def given_click(log_chances: Tensor) -> Tensor:
    """(S, K) log chance of each place to be the one clicked, given that one is; of `click_log_chances`."""
    return torch.log_softmax(log_chances[:, :-1], 1)


def outcome_log_chance(form: Examination, utility: Tensor, nothing: Tensor, proceed: Tensor, place: Tensor) -> Tensor:
    """(S,) of what `click_log_chances` gives, the column `place` (S,) alone: K where nothing was clicked."""
    if form == "position":
        return _outcome_among_places(utility - nothing[:, None], by_place(proceed, utility.shape[1]), place)
    return click_log_chances(form, utility, nothing, proceed).gather(1, place[:, None]).squeeze(1)


def depth_log_chances(proceed: Tensor, k: int) -> Tensor:
    """(..., k) log chance that exactly the first 1, 2, ..., k places are looked at; `proceed` as in `by_place`."""
    logits = by_place(proceed, k - 1)
    reached = logsigmoid(logits).cumsum(-1)
    stops = logsigmoid(-logits)
    first = torch.zeros_like(proceed[..., :1])
    return torch.cat([first, reached], -1) + torch.cat([stops, first], -1)


def slate_log_chances(utility: Tensor, nothing: Tensor, depth: Tensor) -> Tensor:
    """Log chance of a click at each place, and of none, of a shopper who looks to a depth and then chooses.

        P(click at c) = sum over m >= c of P(m) exp(u_c) / (exp(u_0) + sum over j <= m of exp(u_j))

    Args:
        utility: (S, K) of the items by place; `choice.NEVER` in empty slots.
        nothing: (S,) utility of clicking nothing.
        depth: (K,) or (S, K) log chances of the depths, see `depth_log_chances`.

    Returns:
        (S, K + 1), the last column for no click; the exponentials of a row sum to 1.
    """
    peak = torch.maximum(utility.amax(1), nothing).detach()[:, None]  # taken off, so that no exponential overflows
    utility, nothing = utility - peak, nothing[:, None] - peak
    total = utility.exp().cumsum(1) + nothing.exp()  # of nothing and the first m places
    share = depth.exp() / total.clamp(min=torch.finfo(total.dtype).tiny)
    deeper = share.flip(1).cumsum(1).flip(1).log()  # over all depths that reach a place
    return torch.cat([utility + deeper, nothing + deeper[:, :1]], 1)


def _choice_among_places(over: Tensor, logits: Tensor) -> Tensor:
    """(S, K + 1) log chances of `position`: of (S, K) utilities over nothing's, and (K,) or (S, K) logits of looking.

    The sum over the 2^K sets of places is an integral. A logit is a race: each thing arrives at an exponential time, at
    rate exp(utility), and the first is chosen. Given the time t at which nothing arrives, the places are independent:

        P(none) = integral of w_0 exp(-w_0 t) product over j of f_j(t) dt,   f_j(t) = 1 - c_j + c_j exp(-w_j t)
        P(click at c) = integral of c_c w_c exp(-(w_0 + w_c) t) product over j other than c of f_j(t) dt

    with c_j the chance to look at place j and w the rates, here such that w_0 + sum over j of c_j w_j = 1. It is taken
    by the trapezoidal rule in y, t = exp(y - exp(-y)), which converges exponentially.

    Source: Takahasi and Mori, "Double exponential formulas for numerical integration", 1974.
    """
    race = _Race.of(over, logits)
    beaten = race.beaten(race.rate)
    free = race.free(beaten, logits.expand_as(over))
    together = race.alone + free.sum(1)
    click = logsigmoid(logits) + race.rate + (together[:, None] - free + beaten).logsumexp(2)
    whole = torch.cat([click, race.idle + together.logsumexp(1, keepdim=True)], 1)
    return torch.log_softmax(whole, 1)  # what is left of the integral's error is shared out


def _outcome_among_places(over: Tensor, logits: Tensor, place: Tensor) -> Tensor:
    """(S,) of what `_choice_among_places` gives, the column `place` (S,) alone, at a fraction of the work."""
    race, logits = _Race.of(over, logits), logits.expand_as(over)
    row, column = torch.nonzero(over > -_ABSENT, as_tuple=True)
    free = race.free(race.beaten(race.rate[row, column], row), logits[row, column])
    together = race.alone.index_add(0, row, free)
    slot = place.clamp(max=over.shape[1] - 1)[:, None]
    rate, logit = (part.gather(1, slot).squeeze(1) for part in (race.rate, logits))
    beaten = race.beaten(rate, slice(None))
    click = logsigmoid(logit) + rate + (together - race.free(beaten, logit) + beaten).logsumexp(1)
    return torch.where(place < over.shape[1], click, race.idle.squeeze(1) + together.logsumexp(1))


@dataclass(frozen=True, slots=True)
class _Race:
    """The integrals of `_choice_among_places` at their nodes.

    Attributes:
        rate: (S, K) log of w_j. idle: (S, 1) log of w_0.
        log_time: (S, Q) of the nodes.
        alone: (S, Q) log of the weight of a node times exp(-w_0 t).
    """

    rate: Tensor
    idle: Tensor
    log_time: Tensor
    alone: Tensor

    @classmethod
    def of(cls, over: Tensor, logits: Tensor) -> "_Race":
        whole = torch.logaddexp((over + logsigmoid(logits)).logsumexp(1), torch.zeros_like(over[:, 0]))[:, None]
        span = _RIGHT - _LEFT + whole.detach()  # nothing may take as long as 1 / w_0
        nodes = min(NODES, 1 + math.ceil(float(span.max()) / _STEP)) if len(span) else 1
        step = span / max(1, nodes - 1)
        y = _LEFT + step * torch.arange(nodes, dtype=over.dtype, device=over.device)
        log_time = y - torch.exp(-y)
        weight = step.log() + log_time + torch.log1p(torch.exp(-y))
        return cls(over - whole, -whole, log_time, weight - torch.exp(log_time - whole))

    def beaten(self, rate: Tensor, row: Tensor | slice | None = None) -> Tensor:
        """(..., Q) log chance to arrive after a node's time, at log rates (S, K), or (R,) of slates `row`."""
        log_time = self.log_time[:, None] if row is None else self.log_time[row]
        return -torch.exp((rate[..., None] + log_time).clamp(max=_CERTAIN))

    @staticmethod
    def free(beaten: Tensor, logits: Tensor) -> Tensor:
        """Log of f: that a place is not looked at, or its item arrives later."""
        return torch.log(torch.sigmoid(-logits)[..., None] + torch.sigmoid(logits)[..., None] * beaten.exp())


def look_and_choose(
    form: Examination,
    utility: Tensor,
    nothing: Tensor,
    proceed: Tensor,
    luck: Tensor,
    drawn: Callable[[int, int], Tensor],
) -> tuple[Tensor, Tensor]:
    """What shoppers look at and click, drawn with the chances of `click_log_chances`.

    Args:
        form: of examination.
        utility: (B, K) of the items by place; `choice.NEVER` in empty slots.
        nothing: (B,) utility of clicking nothing.
        proceed: (H + 1,) or (B, H + 1) logits of looking.
        luck: (B,) uniform numbers, which say how far down a shopper would look.
        drawn: (stream, n) -> (B, n) more uniform numbers, see `randomness.uniform`.

    Returns:
        (B, K) bool places looked at, empty slots too; and (B,) int64 the place clicked, -1 for none.
    """
    k = utility.shape[1]
    chances = looked_chances(form, proceed, k)
    if form in ("depth", "position"):
        examined = (luck[:, None] if form == "depth" else drawn(_PLACES, k)) < chances
        noise = -torch.log(-torch.log(drawn(_CHOICE, 1 + k)))
        best, place = torch.where(examined, utility + noise[:, 1:], -math.inf).max(1)
        return examined, torch.where(best > nothing + noise[:, 0], place, -1)
    wanted = drawn(_PLACES, k) < torch.sigmoid(utility - nothing[:, None])
    reached = luck[:, None] < chances
    hit = wanted & reached
    first = hit.int().argmax(1)
    clicked = torch.where(hit.any(1), first, -1)
    upto = torch.where(clicked >= 0, clicked, k)
    return reached & (torch.arange(k, device=utility.device) <= upto[:, None]), clicked
