"""What shoppers clicked in a log, what it looked like to them, and what came of it: the ground of the funnel.

Shapes: C clicks, F item features.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from ..encoders.state import StateEncoder
from ..errors import EvidenceError
from .choice import ChoiceWeights
from .choice_evidence import all_clicked
from .choice_fit import ChoiceData
from .learn import LearnedChoice
from .observed import After, shopper_numbers
from .occasions import Occasions
from .replay import Progress


@dataclass(frozen=True, slots=True)
class Clicked:
    """Clicks on slates, or views where choices are next views.

    Attributes:
        features: (C, F) float64 scaled features of the items. item: (C,) the items.
        outcome: (C,) codes 1..3 of `funnel.OUTCOMES`. session: (C,) session numbers. shopper: (C,) whose they are.
    """

    features: NDArray[np.float64]
    item: Ints
    outcome: Ints
    session: Ints
    shopper: Ints

    @classmethod
    def of(cls, after: After, data: ChoiceData, shopper: Ints) -> Self:
        """The clicks among occasions; `shopper` (sessions,) is whose each session is."""
        took = np.flatnonzero(after.outcome >= 1)
        session = data.session.numpy()[took]
        features = data.features.numpy()[took, data.clicked.numpy()[took]]
        return cls(features, after.item[took], after.outcome[took], session, shopper[session])

    def __len__(self) -> int:
        return len(self.item)

    def beside(self, other: Self, sessions: int, shoppers: int) -> Self:
        """These clicks and then those of another log, whose sessions and shoppers are numbered on from here."""
        later = replace(other, session=other.session + sessions, shopper=other.shopper + shoppers)
        names = self.__dataclass_fields__
        return type(self)(*(np.concatenate([getattr(self, name), getattr(later, name)]) for name in names))

    def utility(self, choice: ChoiceWeights) -> NDArray[np.float64]:
        """(C,) what the items were worth to those who clicked them."""
        return choice.utility(torch.from_numpy(self.features), torch.from_numpy(self.item)).numpy()


def clicked_beside(
    clicked: Clicked,
    log: ShopLog,
    others: ShopLog,
    encoder: StateEncoder,
    learned: LearnedChoice,
    progress: Progress | None = None,
) -> Clicked:
    """The clicks of a log, and after them those on the slates of others, seen as the log's were.

    Args:
        clicked: those of `log`.
        log: whose choices were learnt.
        others: of the same catalogue.
        encoder: the shopper's.
        learned: the choices of `log`.
        progress: told how many slates are done.

    Raises:
        EvidenceError: the others are of another catalogue.
    """
    if others.catalogue.n_items != log.catalogue.n_items:
        raise EvidenceError(
            f"the others' log has {others.catalogue.n_items} items and the log {log.catalogue.n_items}; "
            "give one of the same catalogue"
        )
    scaling, facts = learned.scaling, learned.facts.to(encoder.item_vectors.device)
    occasions = Occasions.of_slates(others.slates, all_clicked(others))
    seen = occasions.replay(others, encoder, facts, scaling.bend, progress, scaling.half_lives)
    theirs = Clicked.of(After.of_slates(others.slates), occasions.data(seen, scaling), shopper_numbers(others))
    return clicked.beside(theirs, len(log), int(shopper_numbers(log).max(initial=-1)) + 1)
