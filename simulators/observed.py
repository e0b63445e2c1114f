"""What a log's shoppers did, beside what a fitted shopper says of it: the ground on which it is judged.

Shapes: S occasions, K slots, F item features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.log import ShopLog, Slates
from ..errors import EvidenceError
from .choice_fit import ChoiceData
from .features import Scaling
from .fitted import FittedShopper
from .funnel import outcome_codes
from .leaving import leaving_features, mean_match
from .occasions import Occasions, next_views
from .replay import Progress, Replay


@dataclass(frozen=True, slots=True)
class Observed:
    """Occasions of a log and what they looked like.

    Attributes:
        occasions: the moments of choice. seen: their features before scaling.
        data: what the choice likelihood reads. slates: the log's slates; none where choices are next views.
    """

    occasions: Occasions
    seen: Replay
    data: ChoiceData
    slates: Slates | None

    @classmethod
    def by(cls, shopper: FittedShopper, log: ShopLog, *, seed: int = 0, progress: Progress | None = None) -> "Observed":
        """A log as `shopper` sees it: its slates, or its next views if the shopper was fitted on next views.

        Raises:
            EvidenceError: the log holds none, or is of another catalogue.
        """
        model = shopper.model
        if log.catalogue.n_items != shopper.n_items:
            raise EvidenceError(
                f"the log has {log.catalogue.n_items} items and the shopper {shopper.n_items}; fit it on this catalogue"
            )
        if model.from_slates:
            slates = log.slates
            occasions = Occasions.of_slates(slates)
        else:
            slates = None
            occasions = next_views(log, alternatives=50, most=20_000, rng=np.random.default_rng(seed))
        if not len(occasions):
            raise EvidenceError(
                f"{len(log)} sessions hold no {'slate' if model.from_slates else 'next view'} to judge by"
            )
        seen = occasions.replay(log, shopper.encoder, model.facts, model.scaling.bend, progress)
        return cls(occasions, seen, occasions.data(seen, _on_cpu(model.scaling)), slates)


def _on_cpu(scaling: Scaling) -> Scaling:
    return scaling.to(torch.device("cpu"))


def outcomes(slates: Slates) -> Tensor:
    """(S,) codes of `funnel.OUTCOMES` of slates."""
    clicked, carted, purchased = (torch.from_numpy(part) for part in (slates.clicked, slates.carted, slates.purchased))
    return outcome_codes(clicked, carted, purchased)


def chosen_items(slates: Slates) -> Tensor:
    """(S,) item clicked on each slate, 0 for none."""
    place = np.maximum(slates.clicked, 0)
    return torch.from_numpy(np.where(slates.clicked >= 0, slates.items[np.arange(len(slates)), place], 0))


def leaving_rows(slates: Slates, seen: Replay, data: ChoiceData) -> tuple[Tensor, Tensor]:
    """Features of leaving (S, Q) after each slate, and the latest item clicked (S,)."""
    clicked = torch.from_numpy(slates.clicked) >= 0
    idle = torch.where(clicked, 0, seen.idle + 1)
    match = mean_match(data.features, data.items)
    last_clicked = torch.where(clicked, chosen_items(slates), seen.last_clicked)
    return leaving_features(seen.slates + 1, idle, last_clicked, outcomes(slates), match), last_clicked
