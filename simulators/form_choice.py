"""Which form of examination a log speaks for: each is fitted on earlier slates and judged by later ones.

Shapes: S slates.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from .choice_fit import ChoiceData, ChoicePrior, choice_chances, fit_choice
from .examination import FORMS, Examination
from .latest import latest
from .likelihood import bootstrap_mean
from .observed import shopper_numbers
from .priors import ASSUMED, LEARNED, Evidence
from .replay import Progress

LATE = 0.1
"""Share of the slates learnt from, the latest, by which forms are compared."""
LATE_CLICKS = 20
"""Clicks among them, and among the others, that let them be compared."""
_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class FormChoice:
    """The form that a shopper is fitted with.

    Attributes:
        form: of examination.
        evidence: the row that says whence it comes.
        table: where forms were compared, a row a form, the best first: `form`; `log_likelihood` a later slate, in nats;
            `gain`, what the best has more of it, with `low` and `high` of its 95 % interval over shoppers.
    """

    form: Examination
    evidence: Evidence
    table: list[dict[str, Any]]


def chosen_form(
    wanted: Examination | Literal["auto"],
    log: ShopLog,
    data: ChoiceData,
    prior: ChoicePrior,
    n_items: int,
    progress: Progress | None = None,
) -> FormChoice:
    """The form that was asked for, or, of "auto", the one that foretells the latest tenth of the slates best.

    Without slates, or with too few clicks on them, "auto" is `depth`.

    Args:
        wanted: form, or "auto".
        log: the sessions learnt from.
        data: its occasions as the likelihood reads them, each with its weight.
        prior: what is believed before, but for the form.
        n_items: N.
        progress: told of (done, total, words).
    """
    if wanted != "auto":
        return _taken(wanted, ASSUMED, "asked for")
    if data.correction is not None:
        return _taken("depth", ASSUMED, "no slates to choose a form by")
    session = data.session.numpy()
    late = torch.from_numpy(latest(log, LATE, np.bincount(session, minlength=len(log)))[session])
    early, judges = data.rows(~late), data.rows(late)
    clicks = min(int((part.clicked >= 0).sum()) for part in (early, judges))
    if clicks < LATE_CLICKS:
        return _taken("depth", ASSUMED, f"{clicks} clicks on the latest slates, too few to choose a form by")
    found: dict[Examination, NDArray[np.float64]] = {}
    first = None
    for number, form in enumerate(FORMS):
        if progress:
            progress(number, len(FORMS), f"comparing forms of examination: {form}")
        fit = fit_choice(early, replace(prior, form=form), n_items, errors=False, start=first)
        first = first or fit
        found[form] = choice_chances(fit.weights, judges)[0].numpy()
    owner = np.unique(shopper_numbers(log)[judges.session.numpy()], return_inverse=True)[1]
    table = _compared(found, owner)
    return _taken(table[0]["form"], LEARNED, f"best of {len(FORMS)} on {len(judges.items)} later slates", table)


def _compared(log_chances: dict[Examination, NDArray[np.float64]], owner: NDArray[np.int64]) -> list[dict[str, Any]]:
    """See `FormChoice.table`; `owner` (S,) numbers the slates' shoppers."""
    order = sorted(log_chances, key=lambda form: -log_chances[form].mean())
    rows = []
    for form in order:
        gain = log_chances[order[0]] - log_chances[form]
        low, high = bootstrap_mean(gain, owner, _RESAMPLES, 0)
        mean = float(log_chances[form].mean())
        rows.append({"form": form, "log_likelihood": mean, "gain": float(gain.mean()), "low": low, "high": high})
    return rows


def _taken(
    form: Examination,
    source: Literal["learned from the log", "assumed"],
    why: str,
    table: list[dict[str, Any]] | None = None,
) -> FormChoice:
    return FormChoice(form, Evidence(f"form of examination: {form}", source, why, float("nan")), table or [])
