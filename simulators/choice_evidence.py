"""What the click rate of a fitted shopper, and how it looks over a slate, rest on."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from .examination import Examination
from .gaps import slates_are_short
from .logistic import sigmoid
from .occasions import Occasions
from .priors import LEARNED, Evidence, Priors

ALL_CLICKED = 0.98
"""Share of slates clicked above which a log is taken to hold only those that were."""


def all_clicked(log: ShopLog) -> bool:
    """Whether slates were kept only where they were clicked, so that the log cannot tell how often they are not."""
    return float((log.slates.clicked >= 0).mean()) > ALL_CLICKED


def choice_evidence(
    log: ShopLog,
    occasions: Occasions,
    proceed: Tensor,
    errors: NDArray[np.float64],
    priors: Priors,
    form: Examination = "depth",
) -> list[Evidence]:
    """What the click rate and the chances to look rest on.

    Args:
        log: the sessions.
        occasions: slates or next views of it.
        proceed: (H + 1,) logits of looking, see `examination`.
        errors: (H + 1,) their standard errors.
        priors: what was assumed.
        form: of examination.
    """
    if occasions.correction is not None:
        why = slates_are_short(log)
        rows = [
            Evidence("choice among items", LEARNED, f"{len(occasions)} next views", float("nan")),
            Evidence.assumed("click rate of a popular slate", why, "click_rate", priors),
        ]
        if form in _NEXT:
            rows.append(Evidence.assumed(_NEXT[form], why, "position_decay", priors))
        if not len(log.slates):  # the first slate ends what a shopper brings along
            rows.append(Evidence.assumed("views brought along at most", why, "arrival_views", priors))
        return rows
    hit = log.slates.clicked >= 0
    count = f"{hit.sum()} clicks on {len(hit)} slates"
    if occasions.given_click:
        rows = [Evidence.assumed("click rate of a popular slate", count, "click_rate", priors)]
    else:
        rows = [Evidence.rate("click rate of a logged slate", int(hit.sum()), len(hit), count)]
    if form == "position":
        return rows + _looks_at(log, proceed, errors)
    return rows if form == "cascade" else rows + _looks_on(log, occasions, proceed, errors, priors, _NEXT[form])


_NEXT: dict[Examination, str] = {
    "depth": "chance to look at the next place",
    "dbn": "chance to look at the next place after an item not clicked",
    "position": "chance to look at the first place, of which the next has as large a share, and so on",
}
"""What the prior `position_decay` is the chance of, by form; in a cascade, of nothing."""


def _looks_on(
    log: ShopLog, occasions: Occasions, proceed: Tensor, errors: NDArray[np.float64], priors: Priors, words: str
) -> list[Evidence]:
    """Chances to look on from the first place, from one half-way down, and from the last that has its own."""
    below = [int((log.slates.clicked > place).sum()) for place in range(len(proceed))]
    given = ", at the assumed click rate" if occasions.given_click else ""
    rows, last = [], len(proceed) - 1
    for place in sorted({0, len(proceed) // 2, last}):
        if place == last and not occasions.items[:, place + 1 :].any():
            rows.append(Evidence.assumed(words, "no slate is longer", "position_decay", priors))
            continue
        name = f"chance to look on from place {place + 1}" + (" and below" if place == last else "")
        name += "" if below[place] else " (drawn to prior position_decay)"
        rows.append(_with_interval(name, f"{below[place]} clicks below{given}", proceed[place], errors[place]))
    return rows


def _looks_at(log: ShopLog, proceed: Tensor, errors: NDArray[np.float64]) -> list[Evidence]:
    """As `_looks_on`, of places that are each looked at by themselves.

    What is looked at twice as often and liked half as much is clicked about as often, so a log tells how the places
    compare, and hardly how much all of them are looked at.
    """
    rows, last = [], len(proceed) - 1
    for place in sorted({0, len(proceed) // 2, last}):
        there = log.slates.clicked >= place if place == last else log.slates.clicked == place
        name = f"chance to look at place {place + 1}" + (" and below" if place == last else "")
        name += " (level drawn to prior position_decay)"
        rows.append(_with_interval(name, f"{int(there.sum())} clicks there", proceed[place], errors[place]))
    return rows


def _with_interval(name: str, count: str, value: Tensor, error: float) -> Evidence:
    """A chance that was learnt as a logit with a standard error."""
    middle, margin = float(value), 1.96 * float(error)
    low, middle, high = sigmoid(np.array([middle - margin, middle, middle + margin])).tolist()
    return Evidence(name, LEARNED, count, middle, low, high)
