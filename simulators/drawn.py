"""Shoppers of an ensemble: each is of one of its members, drawn by the shopper's seed.

Shapes: B shoppers.
"""

from typing import Any

import torch
from torch import Tensor

from ..errors import EvidenceError
from .arrivals import drawn_below
from .known_truth_state import first_visit

_MEMBER = 4  # stream of random numbers


class Drawn:
    """Base of shoppers whose model may hold the members of an ensemble.

    Args:
        model: with `members`, which are None or have a length.
        device: where shoppers live.
        drawn: whether each shopper who arrives is of a member of the ensemble, so that what is simulated is as
            uncertain as the fit; otherwise all are as fitted on the whole log.
    """

    def __init__(self, model: Any, device: torch.device, drawn: bool) -> None:
        if drawn and not model.members:
            raise EvidenceError("the shopper was fitted without an ensemble; fit it with members")
        self.device, self.drawn = device, drawn
        self._held = len(model.members or ())

    @property
    def members(self) -> int:
        """Members of the ensemble, 0 where none was fitted."""
        return self._held

    def whose(self, seeds: Tensor) -> Tensor | None:
        """(B,) int64 the member that each of these shoppers is of, the same on every visit (`visit_seed`).

        None where they are not drawn of an ensemble.
        """
        return drawn_below(first_visit(seeds.to(self.device)), _MEMBER, self.members) if self.drawn else None


def no_member(number: int, held: int) -> IndexError:
    """What to raise where an ensemble lacks a member."""
    return IndexError(f"no member {number} in an ensemble of {held}; fit with more members")
