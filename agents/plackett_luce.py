"""Plackett-Luce: a distribution over ordered slates without repeats.

Slots are filled from the best place down; each takes an item with chance proportional to `exp(score)` among the items
not taken yet. Shapes: B shoppers, K slots, N columns of scores (items, or candidates).

Source: Plackett, "The analysis of permutations", 1975; sampling by Gumbel-top-k, Kool et al., ICML 2019 (1903.06059).
"""

from typing import Self

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor, nn

from .slate_choice import NEVER


def seeded(seed: int | None, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for one policy; None seeds it from the operating system."""
    generator = torch.Generator(device=device)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def sample_slates(logits: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
    """(B, K) int64 columns drawn without repeats: the top K of scores plus standard Gumbel noise."""
    # An exponential draw is strictly positive here, so its logarithm is finite.
    noise = torch.empty_like(logits).exponential_(generator=generator).clamp(min=1e-30)
    return (logits - torch.log(noise)).topk(k, dim=1).indices


def slot_log_probs(logits: Tensor, slate: Tensor) -> Tensor:
    """Log-probability of each slot's item given the slots above it; their sum is that of the ordered slate.

    Args:
        logits: (B, N) scores; `NEVER` for what may not be shown.
        slate: (B, K) int64 columns, all different.

    Returns:
        (B, K), exact: the normaliser of slot j is the log-sum of the slate's slots from j on and of all that is not
        on the slate, so one pass over the N columns serves all K slots.
    """
    chosen = logits.gather(1, slate)
    return chosen - _normalisers(logits, slate, chosen)[0]


def _normalisers(logits: Tensor, slate: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K) log-normaliser of each slot, and the (B, N) scores with the slate's own items taken out."""
    left = logits.scatter(1, slate, NEVER)
    return _left_over(chosen, torch.logsumexp(left, dim=1, keepdim=True)), left


def log_probs_beside(chosen: Tensor, rest: Tensor) -> Tensor:
    """(B, K) log-probability of each slot given (B, K) scores of a slate and (B, 1) the log-sum of all not on it."""
    return chosen - _left_over(chosen, rest)


def _left_over(chosen: Tensor, rest: Tensor) -> Tensor:
    """(B, K) log-sum of what each slot could have taken."""
    return torch.logaddexp(torch.logcumsumexp(chosen.flip(1), dim=1).flip(1), rest)


def slot_entropies(logits: Tensor, slate: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of each slot's choice given the slots above it, and the slots' log-probabilities, (B, K) each."""
    chosen = logits.gather(1, slate)
    normaliser, left = _normalisers(logits, slate, chosen)
    rest = torch.logsumexp(left, dim=1, keepdim=True)
    mean_left = (torch.softmax(left, dim=1) * left).sum(1, keepdim=True)
    # Mean score under slot j's choice: the part off the slate, and the slots from j on.
    share = torch.exp(chosen[:, None, :] - normaliser[:, :, None]).triu()
    mean = torch.exp(rest - normaliser) * mean_left + (share * chosen[:, None, :]).sum(2)
    return normaliser - mean, chosen - normaliser


def slate_entropy(logits: Tensor, slate: Tensor) -> Tensor:
    """(B,) unbiased estimate of the entropy of ordered slates, with an unbiased gradient, from one sampled slate each.

    The chain rule gives the entropy as the expectation, over slates, of the sum of the slots' conditional entropies
    H_j. The slate itself depends on the scores, so the gradient also needs `grad log p(slot l) * (sum of H_j below l)`.
    That term is added with value zero; `H_l` times the number of slots below, which does not depend on slot l's own
    item, is taken off as a control variate. (Left to itself, stable-baselines3 uses the sampled log-probability, whose
    gradient is zero in expectation.) Slates drawn by older scores, as in PPO's later epochs, make it slightly biased.
    """
    entropies, log_probs = slot_entropies(logits, slate)
    k = slate.shape[1]
    fixed = entropies.detach()
    below = fixed.flip(1).cumsum(1).flip(1) - fixed
    slots_below = torch.arange(k - 1, -1, -1, device=fixed.device)
    return (entropies + (log_probs - log_probs.detach()) * (below - slots_below * fixed)).sum(1)


class PlackettLuce(Distribution):
    """Plackett-Luce over items as a stable-baselines3 distribution.

    Args:
        k: slots of a slate.
        seed: of the samples; None seeds from the operating system.
    """

    def __init__(self, k: int, seed: int | None = None) -> None:
        super().__init__()
        self.k = k
        self.seed = seed
        self._generator: torch.Generator | None = None

    @property
    def generator(self) -> torch.Generator:
        """Source of the samples, on the device of the scores."""
        if self._generator is None or self._generator.device != self.logits.device:
            self._generator = seeded(self.seed, self.logits.device)
        return self._generator

    def proba_distribution_net(self, *_args: object, **_settings: object) -> nn.Module:
        """Nothing to make: scores come from a scorer, ready."""
        return nn.Identity()

    def proba_distribution(self, logits: Tensor, items: Tensor | None = None) -> Self:
        """Set the scores: (B, N) logits, and (B, N) the items they belong to (None: column number = item)."""
        self.logits, self.items = logits, items
        return self

    def _columns(self, slate: Tensor) -> Tensor:
        """Columns of a slate's items."""
        if self.items is None:
            return slate
        return (self.items[:, None, :] == slate[:, :, None]).to(torch.uint8).argmax(2)

    def _items(self, columns: Tensor) -> Tensor:
        return columns if self.items is None else self.items.gather(1, columns)

    def sample(self) -> Tensor:
        """(B, K) slates drawn at random."""
        return self._items(sample_slates(self.logits, self.k, self.generator))

    def mode(self) -> Tensor:
        """(B, K) the likeliest slates: the top K in order."""
        return self._items(self.logits.topk(self.k, dim=1).indices)

    def slot_log_probs(self, actions: Tensor) -> Tensor:
        """(B, K) log-probability of each slot given those above it."""
        return slot_log_probs(self.logits, self._columns(actions.long()))

    def log_prob(self, actions: Tensor) -> Tensor:
        """(B,) log-probability of ordered slates."""
        return self.slot_log_probs(actions).sum(1)

    def entropy(self, actions: Tensor | None = None) -> Tensor:
        """(B,) `slate_entropy` along slates drawn from this distribution; drawn anew where None."""
        columns = (
            sample_slates(self.logits.detach(), self.k, self.generator)
            if actions is None
            else self._columns(actions.long())
        )
        return slate_entropy(self.logits, columns)

    def actions_from_params(self, logits: Tensor, deterministic: bool = False) -> Tensor:
        """(B, K) slates for given scores."""
        return self.proba_distribution(logits).get_actions(deterministic)

    def log_prob_from_params(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Sampled slates for given scores, and their log-probabilities."""
        slates = self.actions_from_params(logits)
        return slates, self.log_prob(slates)
