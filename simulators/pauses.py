"""The time that shoppers spend on slates: by what came of a slate, at a pace of their own, and now and then long.

A first slate may take longer than others, or less: there is a page to find one's way about.

    log seconds = mean(outcome) + first, on a visit's first slate + pace + spread(outcome) x noise
    pace ~ Normal(0, its standard deviation), once a visit
    noise ~ Normal(0, 1), or, of the share of pauses in which a shopper turns aside, Normal(shift, width)

Sums over the pace are over a grid of its values.

Source: random intercepts, Laird and Ware, "Random-effects models for longitudinal data", Biometrics 1982.

Shapes: P pauses, J values of the pace, B shoppers, W tokens brought along.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ..datasets.schema import Event
from .randomness import normal
from .shopper import TokenBatch

SHORTEST = 0.5
"""Seconds that a pause counts at least: clocks of whole seconds tell no shorter ones apart."""
PACES = torch.linspace(-4, 4, 33, dtype=torch.float64)
"""(J,) values of the pace that are summed over, in standard deviations."""
LOG_SHARES = torch.log_softmax(-0.5 * PACES**2, 0)
_PACE = 6  # stream of random numbers, see `fitted`


@dataclass(frozen=True, slots=True)
class Pauses:
    """The law of the time on a slate. Of an ensemble every tensor has a row a member, and `who` says whose is meant.

    Attributes:
        mean: (4,) float32 of log seconds by `funnel.OUTCOMES`, at a usual pace and not turned aside.
        spread: (4,) float32 standard deviation of log seconds around that, for one shopper.
        pace: () float32 standard deviation of what a shopper's visit adds to them all.
        aside: (3,) float32 share of the pauses that turn aside, and their shift and width in spreads.
        first: () float32 what a visit's first slate adds to the mean.
    """

    mean: Tensor
    spread: Tensor
    pace: Tensor
    aside: Tensor
    first: Tensor = field(default_factory=lambda: torch.tensor(0.0))

    @classmethod
    def constant(cls, seconds: float, spread: float) -> "Pauses":
        """Log-normal with one median for all outcomes and shoppers."""
        return cls(
            torch.full((4,), math.log(seconds)),
            torch.full((4,), spread),
            torch.tensor(0.0),
            torch.tensor([0.0, 0.0, 1.0]),
        )

    @classmethod
    def stacked(cls, members: Sequence["Pauses"]) -> "Pauses":
        """Of an ensemble of these members."""
        return cls(*(torch.stack([getattr(member, one.name) for member in members]) for one in fields(cls)))

    def to(self, device: torch.device) -> "Pauses":
        """The same on a device."""
        return Pauses(*(getattr(self, one.name).to(device) for one in fields(self)))

    def drawn(
        self, outcome: Tensor, pace: Tensor, luck: Tensor, who: Tensor | None = None, first: Tensor | None = None
    ) -> Tensor:
        """(B,) float32 seconds of shoppers at their pace (B,), given uniform luck (B, 2).

        Args:
            outcome: (B,) codes of `funnel.OUTCOMES`.
            pace: (B,).
            luck: (B, 2).
            who: (B,).
            first: (B,) bool whose first slate it is; nobody's by default.
        """
        mean, spread, _, aside = self._of(outcome, who, first)
        noise = torch.special.ndtri(luck[:, 0])
        noise = torch.where(luck[:, 1] < aside[..., 0], aside[..., 1] + aside[..., 2] * noise, noise)
        return torch.exp(mean + pace + spread * noise)

    def arrived(self, seeds: Tensor, tokens: TokenBatch, gap: Tensor, who: Tensor | None = None) -> Tensor:
        """(B,) float32 pace of shoppers who arrive, drawn by their seeds and by the pauses that they bring along.

        The grid's posterior is taken for normal.

        Args:
            seeds: (B,).
            tokens: (B, W) what they did before; their gaps are pauses, but for those of 0 seconds.
            gap: (B,) seconds from the last of them to the first slate.
            who: (B,).
        """
        following = torch.cat([tokens.gaps[:, 1:], torch.zeros_like(gap)[:, None]], 1)
        places = torch.arange(following.shape[1], device=gap.device)
        last = places == tokens.lengths[:, None] - 1
        following = torch.where(last, gap[:, None], following).masked_fill(places >= tokens.lengths[:, None], 0.0)
        owner, place = torch.nonzero(following > 0, as_tuple=True)
        outcome = outcome_of(tokens.events[owner, place])
        told = self.log_density(following[owner, place], outcome, None if who is None else who[owner])
        weight = LOG_SHARES.to(gap.device).expand(len(seeds), -1).clone().index_add_(0, owner, told).softmax(1)
        paces = PACES.to(gap.device)
        middle = weight @ paces
        spread = (weight @ paces**2 - middle**2).clamp(min=0).sqrt()
        scale = self.pace if who is None else self.pace[who]
        return scale * (middle.float() + spread.float() * normal(seeds, 0, _PACE, 1)[:, 0])

    def log_density(
        self, seconds: Tensor, outcome: Tensor, who: Tensor | None = None, first: Tensor | None = None
    ) -> Tensor:
        """(P, J) float64 log density of log seconds (P,) at each pace; `first` (P,) as of `drawn`."""
        noise, spread, aside = self._noise(seconds, outcome, who, first)
        return log_density_of(noise, aside) - spread.log()

    def foretold(
        self, session: Tensor, seconds: Tensor, outcome: Tensor, first: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log density of each pause's log seconds, and chance of a shorter one, given the session's earlier pauses.

        Args:
            session: (P,) number of each pause's session; its pauses in order of time, not scattered among others'.
            seconds: (P,) above 0.
            outcome: (P,) codes of `funnel.OUTCOMES`.
            first: (P,) bool as of `drawn`.

        Returns:
            (P,) float64 each. The first sum to the log likelihood of sessions whose pace is unknown.
        """
        told = self.log_density(seconds, outcome, None, first)
        before = told.cumsum(0) - told
        _, many = torch.unique_consecutive(session, return_counts=True)
        start = (many.cumsum(0) - many).repeat_interleave(many)
        weight = (LOG_SHARES + before - before[start]).log_softmax(1)
        noise, _, aside = self._noise(seconds, outcome, None, first)
        share, shift, width = aside.unbind(-1)
        below = torch.special.ndtr(noise) * (1 - share) + torch.special.ndtr((noise - shift) / width) * share
        return (weight + told).logsumexp(1), (weight.exp() * below).sum(1)

    def _noise(
        self, seconds: Tensor, outcome: Tensor, who: Tensor | None, first: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(P, J) noise that makes these seconds at each pace, (P, 1) spread, and (P, 1, 3) or (3,) of turning aside."""
        mean, spread, pace, aside = (one.double() for one in self._of(outcome, who, first))
        shift = PACES.to(seconds.device) * (pace if who is None else pace[:, None])
        left = seconds.double().clamp(min=SHORTEST).log() - mean
        return (left[:, None] - shift) / spread[:, None], spread[:, None], aside if who is None else aside[:, None]

    def _of(self, outcome: Tensor, who: Tensor | None, first: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and spread (P,) of each pause, with the pace and turning aside of all, or of each (P,) and (P, 3)."""
        added = 0.0 if first is None else first * (self.first if who is None else self.first[who])
        if who is None:
            return self.mean[outcome] + added, self.spread[outcome], self.pace, self.aside
        return self.mean[who, outcome] + added, self.spread[who, outcome], self.pace[who], self.aside[who]


def outcome_of(events: Tensor) -> Tensor:
    """Codes of `funnel.OUTCOMES` that tokens' events stand for; a view counts as a click, all else as nothing."""
    code = torch.where(events == Event.VIEW, 1, events - Event.CLICK + 1)
    return torch.where((code >= 1) & (code <= 3), code, 0)


def log_density_of(noise: Tensor, aside: Tensor) -> Tensor:
    """Log density of the noise (..., J) given `Pauses.aside`, (3,) or (..., 3)."""
    share, shift, width = aside.unbind(-1)
    usual = torch.log1p(-share) - 0.5 * noise**2
    long = (share / width).log() - 0.5 * ((noise - shift) / width) ** 2
    return torch.logaddexp(usual, long) - 0.5 * math.log(2 * math.pi)
