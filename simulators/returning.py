"""Whether and when a shopper comes again after a visit: the return hazard between visits.

A mixture cure model: some shoppers never come again, and those who do wait a log-normal or a Weibull time. A log tells
of a wait only up to its end.

Sources: Berkson and Gage, "Survival curve for cancer patients following treatment", JASA 1952; Farewell, "The use of
mixture models for the analysis of survival data with long-term survivors", Biometrics 1982.

Shapes: B shoppers, V visits, R return features, M members of an ensemble.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from ..datasets.schema import Event
from ..datasets.tokens import Ints
from .known_truth_state import VISIT_BITS
from .logistic import logit

if TYPE_CHECKING:
    from .fitted import FittedState

RETURN_FEATURES = ("always", "clicked", "bought", "by_tokens", "by_visits")
"""Columns of `return_features`: 1, whether anything was clicked on the visit (or put into the cart, or bought),
whether anything was bought, log of the visit's tokens, and log(1 + visits before it)."""
VISITS_KEPT = 8
"""Earlier visits that are told apart. They are counted from the log's beginning, so the longer a log, the more everyone
has; of very many it is the log's age that they tell, not the shopper."""
SPREAD = 1.1
"""Spread of log days where it is assumed; of the known-truth shop."""
_DAY = 24 * 3600.0  # seconds
_LONGEST = 36_500.0  # days


@dataclass(frozen=True, slots=True)
class Returning:
    """Chance to come again at all = sigmoid(weights . features); days until then of a location and a spread.

    Log days are normal with mean `pace . features` and deviation `spread`, or, for a Weibull wait, `pace . features` is
    the log of its scale and `spread` 1 over its shape. Of an ensemble all have a row a member, and then `who` says
    whose is meant.

    Attributes:
        weights: (R,) float32. pace: (R,) float32. spread: () float32, > 0. weibull: () bool.
        low: (R,) and high: (R,) features seen in the log; simulated ones are held within.
    """

    weights: Tensor
    pace: Tensor
    spread: Tensor
    weibull: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def constant(cls, chance: float, days: float) -> "Returning":
        """Who comes again with the same chance after every visit, and after so many days in the median."""
        rest = torch.zeros(len(RETURN_FEATURES) - 1)
        one = torch.cat([torch.ones(1), rest])
        weights, pace = (torch.cat([torch.tensor([value]), rest]) for value in (logit(chance), math.log(days)))
        return cls(weights, pace, torch.tensor(SPREAD), torch.tensor(False), one, one.clone())

    def within(self, features: Tensor, days: float, who: Tensor | None = None) -> Tensor:
        """(B,) chance to come again within so many days, infinity for ever, given features (B, R)."""
        features, own = self._held(features, who)
        chance = torch.sigmoid((features * own.weights).sum(-1))
        if math.isinf(days):
            return chance
        z = (math.log(days) - (features * own.pace).sum(-1)) / own.spread
        return chance * torch.where(own.weibull, -torch.expm1(-z.exp()), torch.special.ndtr(z))

    def days(self, features: Tensor, luck: Tensor, who: Tensor | None = None) -> Tensor:
        """(B,) days until those come again who do, given features (B, R) and luck (B,) in (0, 1)."""
        features, own = self._held(features, who)
        z = torch.where(own.weibull, torch.log(-torch.log1p(-luck)), torch.special.ndtri(luck))
        return torch.exp((features * own.pace).sum(-1) + own.spread * z).clamp(1 / _DAY, _LONGEST)

    def _held(self, features: Tensor, who: Tensor | None) -> tuple[Tensor, "Returning"]:
        own = self if who is None else Returning(*(getattr(self, name)[who] for name in self.__slots__))
        return torch.minimum(torch.maximum(features, own.low), own.high), own

    def to(self, device: torch.device) -> "Returning":
        """The same on a device."""
        return Returning(*(getattr(self, name).to(device) for name in self.__slots__))


def return_features(clicked: Tensor, bought: Tensor, tokens: Tensor, visits: Tensor) -> Tensor:
    """(B, R) float32 features of coming again.

    Args:
        clicked: (B,) bool, whether anything was on this visit.
        bought: (B,) bool, whether anything was on this visit.
        tokens: (B,) int64 of this visit.
        visits: (B,) int64 before it.
    """
    columns = (
        torch.ones_like(tokens),
        clicked,
        bought,
        tokens.clamp(min=1).log(),
        visits.clamp(max=VISITS_KEPT).log1p(),
    )
    return torch.stack([column.to(torch.float32) for column in columns], 1)


def features_of_state(state: "FittedState") -> Tensor:
    """(B, R) float32 features of a visit that ended like this; visits before are counted by the seed (`visit_seed`)."""
    trail = state.trail
    visits = (state.seed >> VISIT_BITS).clamp(min=0)
    tokens = state.arrival.lengths.to(state.step.device) + state.step
    return return_features(trail.clicked[:, 0] > 0, trail.bought[:, 0] > 0, tokens, visits)


@dataclass(frozen=True, slots=True)
class Revisits:
    """Visits of a log and what came of them; a row a session.

    Attributes:
        features: (V, R) float32, see `RETURN_FEATURES`.
        wait: (V,) days from the visit's start to that of the shopper's next one; nan where none came by the log's end.
        left: (V,) days from the visit's start to the log's end.
        shopper: (V,) whose visit it is, as a number.
    """

    features: Tensor
    wait: NDArray[np.float64]
    left: NDArray[np.float64]
    shopper: Ints

    def __len__(self) -> int:
        return len(self.wait)

    @property
    def came(self) -> NDArray[np.bool_]:
        """(V,) whether the shopper came again by the log's end."""
        return np.isfinite(self.wait)

    @classmethod
    def of(cls, log: ShopLog, only: ShopLog | None = None) -> "Revisits":
        """The visits of a log; given `only`, a part of it, the part's visits, as the whole log tells of them."""
        sessions, tokens = log.sessions, log.tokens
        start = sessions["start"].to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6 / _DAY
        end = log.events["time"].to_numpy(dtype="datetime64[us]").astype(np.int64).max() / 1e6 / _DAY
        if (start % 1 == 0).all():  # a clock of days: waits are told to half a day, and so is the end
            end += 0.5
        shopper = np.unique(sessions["shopper_id"].to_numpy(dtype=object).astype(str), return_inverse=True)[1]
        order = np.lexsort((start, shopper))
        same = np.diff(shopper[order], append=-1) == 0
        wait, visits = np.full(len(order), np.nan), np.zeros(len(order), np.int64)
        wait[order[:-1]] = np.where(same[:-1], np.diff(start[order]), np.nan)
        place = np.arange(len(order))
        visits[order] = place - np.maximum.accumulate(np.where(np.append(True, ~same[:-1]), place, 0))
        owner = np.repeat(np.arange(len(tokens)), tokens.lengths)
        clicked, bought = (
            np.bincount(owner, (tokens.events >= least) & (tokens.events <= Event.PURCHASE), len(tokens)) > 0
            for least in (Event.CLICK, Event.PURCHASE)
        )
        columns = (torch.from_numpy(np.ascontiguousarray(one)) for one in (clicked, bought, tokens.lengths, visits))
        whole = cls(return_features(*columns), wait, end - start, shopper.astype(np.int64))
        if only is None:
            return whole
        return whole.rows(sessions["session_id"].isin(only.sessions["session_id"]).to_numpy())

    def rows(self, which: NDArray[np.bool_]) -> "Revisits":
        """Some of the visits."""
        kept = torch.from_numpy(which.copy())
        return Revisits(self.features[kept], self.wait[which], self.left[which], self.shopper[which])
