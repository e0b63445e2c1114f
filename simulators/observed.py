"""What a log's shoppers did, beside what a fitted shopper says of it: the ground on which it is judged.

Shapes: S occasions, K slots, F item features.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog, Slates
from ..datasets.schema import Event
from ..datasets.tokens import Ints
from ..errors import EvidenceError
from .choice_evidence import all_clicked
from .choice_fit import ChoiceData, choice_chances
from .foretold import FITTED, Foretold
from .funnel import outcome_codes
from .given_click import clicked_alone
from .leaving import leaving_features, mean_match
from .occasions import Occasions, next_views
from .replay import Progress, Replay

if TYPE_CHECKING:
    from .fitted import FittedShopper
    from .shopper_model import ShopperModel


@dataclass(frozen=True, slots=True)
class Observed:
    """Occasions of a log and what they looked like.

    Attributes:
        occasions: the moments of choice. seen: their features before scaling.
        data: what the choice likelihood reads. slates: the log's slates; none where choices are next views.
        shopper: (S,) whose occasion each is, as a number.
        length_biased: whether the log's sessions were sampled by length, so that it cannot tell when shoppers leave.
    """

    occasions: Occasions
    seen: Replay
    data: ChoiceData
    slates: Slates | None
    shopper: Ints
    length_biased: bool

    @classmethod
    def by(
        cls, shopper: "FittedShopper", log: ShopLog, *, seed: int = 0, progress: Progress | None = None
    ) -> "Observed":
        """A log as `shopper` sees it: its slates, or its next views if the shopper was fitted on next views.

        Raises:
            EvidenceError: the log holds none, or is of another catalogue.
        """
        model = shopper.model
        slates, occasions = judged_by(log, shopper.n_items, model.from_slates, seed)
        bend, half_lives = model.scaling.bend, model.scaling.half_lives
        seen = occasions.replay(log, shopper.encoder, model.facts, bend, progress, half_lives)
        data = occasions.data(seen, model.scaling.to(torch.device("cpu")))
        who = shopper_numbers(log)[occasions.session]
        return cls(occasions, seen, data, slates, who, bool(log.facts.get("length_biased")))

    @torch.no_grad()
    def foretold(self, model: "ShopperModel") -> Foretold:
        """What a model, on the CPU, foretells of it."""
        data, models = self.data, {FITTED: model.own.choice, **model.rivals}
        choices = {
            name: choice_chances(weights.to(torch.device("cpu"), torch.float64), data)
            for name, weights in models.items()
        }
        offered = (self.occasions.session, self.shopper, data.items, data.clicked, choices)
        if self.slates is None:
            return Foretold(*offered, correction=data.correction)
        item, hit = chosen_items(self.slates), data.clicked >= 0
        features = data.features[torch.arange(len(item)), data.clicked.clamp(min=0)].float()
        own = model.own
        utility = own.choice.utility(features, item)
        cart, purchase = (stage.chance(features, item, utility) * hit for stage in (own.cart, own.purchase))
        if self.length_biased or self.occasions.given_click:
            return Foretold(*offered, self.slates, cart, purchase)
        at, taken = leaving_rows(self.slates, self.seen, data)
        return Foretold(*offered, self.slates, cart, purchase, own.leaving.chance(at.float(), taken))


def judged_by(log: ShopLog, n_items: int, from_slates: bool, seed: int) -> tuple[Slates | None, Occasions]:
    """The slates of a log, or none and its next views, that a shopper of so many items can be judged by.

    Of a log that keeps only slates that were clicked, the few others are left out, and it is judged given a click.

    Raises:
        EvidenceError: the log holds none, or is of another catalogue.
    """
    if log.catalogue.n_items != n_items:
        raise EvidenceError(
            f"the log has {log.catalogue.n_items} items and the shopper {n_items}; fit it on this catalogue"
        )
    slates = log.slates if from_slates else None
    if slates is None:
        occasions = next_views(log, alternatives=50, most=20_000, rng=np.random.default_rng(seed))
    else:
        given = len(slates) > 0 and all_clicked(log)
        slates = clicked_alone(slates) if given else slates
        occasions = Occasions.of_slates(slates, given)
    if not len(occasions):
        raise EvidenceError(f"{len(log)} sessions hold no {'slate' if from_slates else 'next view'} to judge by")
    return slates, occasions


def shopper_numbers(log: ShopLog) -> Ints:
    """(sessions,) number of the shopper of each session.

    A log that knows one shopper only does not tell whose sessions are alike: each then counts as another shopper's, so
    that there is something to resample, and to hold against something else.
    """
    ids = log.sessions["shopper_id"].to_numpy(dtype=object).astype(str)
    number = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    return number if number.any() else np.arange(len(ids))


@dataclass(frozen=True, slots=True)
class After:
    """What came of each occasion.

    Attributes:
        outcome: (S,) codes of `funnel.OUTCOMES`. item: (S,) the item clicked or viewed, 0 for none.
        seconds: (S,) until the shopper's next slate or action; nan where none came.
        first: (S,) whether it is the session's first slate; of next views none is.
    """

    outcome: Ints
    item: Ints
    seconds: NDArray[np.float64]
    first: NDArray[np.bool_]

    @classmethod
    def of_slates(cls, slates: Slates) -> "After":
        """What came of slates."""
        first = np.append(True, slates.session[1:] != slates.session[:-1])[: len(slates)]
        return cls(outcomes(slates).numpy(), chosen_items(slates).numpy(), slates.dwell.astype(np.float64), first)

    @classmethod
    def of_views(cls, log: ShopLog, occasions: Occasions) -> "After":
        """What came of next views: carts and purchases of the item at the time or later in the session."""
        tokens, item = log.tokens, occasions.items[:, 0]
        at = tokens.offsets[occasions.session] + occasions.before
        outcome = np.ones(len(occasions), np.int64)
        for depth, event in ((2, Event.CART), (3, Event.PURCHASE)):
            deep = np.flatnonzero((tokens.events >= event) & (tokens.events <= Event.PURCHASE))
            owner = np.searchsorted(tokens.offsets, deep, side="right") - 1
            key = owner * (log.catalogue.n_items + 1) + tokens.items[deep]
            # Sorted by session and item, then place: the last of a pair says whether any came at `at` or later.
            order = np.lexsort((deep, key))
            wanted = occasions.session * (log.catalogue.n_items + 1) + item
            last = np.searchsorted(key[order], wanted, side="right") - 1
            found = (last >= 0) & (key[order][last] == wanted) & (deep[order][last] >= at) if len(deep) else False
            outcome[found] = depth
        following = np.minimum(at + 1, len(tokens.items) - 1)
        inside = at + 1 < tokens.offsets[occasions.session + 1]
        seconds = np.where(inside, tokens.gaps[following], np.nan).astype(np.float64)
        return cls(outcome, item, seconds, np.zeros(len(occasions), np.bool_))


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
