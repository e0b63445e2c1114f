"""What offline agents learn from logged slates: to show what was shown, or what was clicked more often.

Shapes: B slates of a batch, K slots, M items sampled.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.tokens import Floats
from ..errors import EvidenceError
from .learning import check_settings
from .offline import LoggedBatch, OfflineConfig, OfflinePolicy, slot_log_probs_of
from .offline_data import LoggedSlates


@dataclass(frozen=True, kw_only=True)
class BCConfig(OfflineConfig):
    """Settings of behaviour cloning: the likeliest Plackett-Luce policy for the slates of a log, clicked or not.

    What the shop showed to whom: where other agents do no better, they have learnt nothing.
    """

    def rows(self, data: LoggedSlates) -> NDArray[np.int64]:
        """All slates that show something."""
        found = np.flatnonzero((data.slates > 0).any(1))
        if not len(found):
            raise EvidenceError("the log holds no slates, and behaviour cloning learns from what was shown")
        return found

    def loss(
        self,
        policy: OfflinePolicy,
        batch: LoggedBatch,
        k: int,  # noqa: ARG002
        sampled: Tensor | None,
        learnt: int,  # noqa: ARG002
    ) -> tuple[Tensor, dict[str, float]]:
        """Minus the log-probability of the slates."""
        slots, _ = slot_log_probs_of(policy.scorer, batch.states, batch.slates, sampled)
        loss = -slots.sum(1).mean()
        return loss, {"loss": loss.item()}


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(OfflineConfig):
    """Settings of top-k off-policy REINFORCE: clicks teach, each as rarely shown as it was.

    The gradient of a click on item a at slot j of a slate shown in state s is

        min(pi(a | s, slots above) / b(a | s, slots above), cap) * K (1 - pi(a | s))^(K - 1) * R * grad log pi

    with b the chance by which the logging policy put it there, pi(a | s) the chance as the first of a slate, and R the
    discounted rewards from this slate on. The middle factor is the top-k correction: an item that is on the slate
    already needs no more weight. Slates without a click teach nothing, as in the source.

    Source: Chen et al., "Top-k off-policy correction for a REINFORCE recommender system", WSDM 2019 (arXiv 1812.02353).
    """

    gamma: float = 0.9
    """Discount per slate of the rewards that a click is credited with, in [0, 1]."""
    behaviour: Literal["logged", "estimated"] = "logged"
    """Where the chances of the logging policy come from: the log, or a scorer that clones it (Chen et al. 2019)."""
    cap: float = math.exp(3)
    """Largest ratio of chances that counts (Chen et al. 2019: e^3)."""
    top_k: bool = True
    """Whether the top-k correction is made; without it a policy for slates of one item is learnt."""

    clone_first: int = 50_000
    """Logged slates from which an estimated logging policy is learnt before the policy is. (Chen et al. learn both at
    once; the policy then settled on what was shown most before the chances were known.)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {"gamma": (0, 1)})
        if self.behaviour not in ("logged", "estimated"):
            raise ValueError(f"behaviour must be 'logged' or 'estimated', got {self.behaviour!r}")
        if self.cap <= 0:
            raise ValueError(f"cap must be above 0, got {self.cap}")
        if self.clone_first < 0:
            raise ValueError(f"clone_first must be at least 0, got {self.clone_first}")

    @property
    def estimates(self) -> bool:
        """Whether the logging policy is estimated."""
        return self.behaviour == "estimated"

    def credit(self, data: LoggedSlates) -> Floats:
        """(S,) discounted rewards from each slate on."""
        return data.returns(self.gamma)

    def rows(self, data: LoggedSlates) -> NDArray[np.int64]:
        """Slates that were clicked, and with them all where the logging policy is estimated from them."""
        clicked = np.flatnonzero(data.clicked >= 0)
        if not len(clicked):
            raise EvidenceError(
                "no logged slate was clicked, and REINFORCE learns from clicks; clone behaviour instead"
            )
        if self.behaviour == "logged":
            data.check_propensities()
            return clicked
        return np.flatnonzero((data.slates > 0).any(1))

    def loss(
        self, policy: OfflinePolicy, batch: LoggedBatch, k: int, sampled: Tensor | None, learnt: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Minus the weighted log-probability of what was clicked; and of all slots, for an estimated logging policy."""
        slots, first = slot_log_probs_of(policy.scorer, batch.states, batch.slates, sampled)
        hit, at = batch.clicked >= 0, batch.clicked.clamp(min=0)[:, None]
        clicked, alone = slots.gather(1, at).squeeze(1), first.gather(1, at).squeeze(1)
        cloning = torch.zeros((), device=slots.device)
        if policy.behaviour is None:
            logged = torch.log(batch.propensity.gather(1, at).squeeze(1)).to(slots.dtype)
        else:
            theirs, _ = slot_log_probs_of(policy.behaviour, batch.states, batch.slates, sampled)
            cloning, logged = -theirs.sum(1).mean(), theirs.gather(1, at).squeeze(1).detach()
            if learnt < self.clone_first:
                return cloning, {"loss": 0.0, "behaviour_loss": cloning.item()}
        logged = torch.where(hit, logged, torch.zeros_like(logged))
        weight = click_weights(clicked, logged, alone, k if self.top_k else 1, self.cap)
        gain = torch.where(hit, weight * batch.returns * clicked, torch.zeros_like(clicked))
        loss = -gain.sum() / hit.sum().clamp(min=1)
        ratio = torch.exp(clicked - logged).detach()[hit]
        figures = {"loss": loss.item(), "behaviour_loss": cloning.item()}
        figures |= {"capped": (ratio > self.cap).float().mean().item()} if len(ratio) else {}
        return loss + cloning, figures


def click_weights(clicked: Tensor, logged: Tensor, alone: Tensor, k: int, cap: float) -> Tensor:
    """What a click counts for, without a gradient of its own.

    Args:
        clicked: (B,) log-probability of the item clicked at its slot.
        logged: (B,) the same under the logging policy.
        alone: (B,) log-probability of the item as the first of a slate.
        k: slots that the policy fills.
        cap: largest ratio.

    Returns:
        (B,) capped ratio times `k (1 - pi)^(k - 1)`.
    """
    with torch.no_grad():
        ratio = torch.exp(torch.clamp(clicked - logged, max=math.log(cap)))
        return ratio * k * (1 - alone.exp()).clamp(min=0) ** (k - 1)
