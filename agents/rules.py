"""Rules of the shop, kept while a slate is filled: no network learns them, and changing them needs no training.

Shapes: B shoppers, K slots, N items, D width of item vectors.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.catalogue import Catalogue
from ..datasets.rules import ROUNDING, SlateRules
from ..datasets.tokens import Ints
from .artefact import LearnedPolicy
from .plackett_luce import seeded
from .replay import state_of
from .scorers import SlateQScorer, SlateScorer
from .slate_choice import NEVER, BestSlate, best_slate, ranking

Caps = list[tuple[Tensor, int]]


def caps_of(rules: SlateRules, catalogue: Catalogue) -> Caps:
    """`SlateRules.groups` as tensors."""
    return [(torch.from_numpy(group), most) for group, most in rules.groups(catalogue)]


def pick_by_rules(
    scores: Tensor, k: int, caps: Caps, vectors: Tensor | None = None, max_similarity: float = 1.0
) -> Tensor:
    """Slates filled from the best place down, each with the highest score that the rules still allow.

    With caps on one kind of group this is the best slate there is, whatever the places weigh, as long as they never
    weigh more further down (groups are a matroid). With several kinds, or similarities, it may be a little below.

    Args:
        scores: (B, N + 1); `NEVER` for what may not be shown, column 0 included.
        k: slots.
        caps: see `SlateRules.groups`.
        vectors: (N + 1, D) of unit length, where similarities are limited.
        max_similarity: largest cosine of two items.

    Returns:
        (B, K) int64, 0 where the rules leave nothing for a slot.
    """
    left = scores
    slate: list[Tensor] = []
    for _ in range(k):
        best = left.max(1)
        item = torch.where(best.values > NEVER / 2, best.indices, torch.zeros_like(best.indices))
        slate.append(item)
        left = left.scatter(1, item[:, None], NEVER)
        for group, most in caps:
            ours = group[item]
            held = torch.stack([group[one] == ours for one in slate]).sum(0)
            full = (ours > 0) & (held >= most)
            left = left.masked_fill((group == ours[:, None]) & full[:, None], NEVER)
        if vectors is not None:
            alike = vectors[item] @ vectors.T > max_similarity + ROUNDING  # of the padding's zeros, nothing from 0 on
            left = left.masked_fill(alike & (item > 0)[:, None], NEVER)
    return torch.stack(slate, dim=1)


class RuledScorer(nn.Module):
    """State -> scores from which slots, filled in order under the rules, give a policy's slate. What is exported.

    Args:
        scorer: whose available items are those that rules allow at all.
        pick: (B, N + 1) scores -> (B, K) slates that keep the rules.
    """

    def __init__(self, scorer: SlateScorer, pick: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.scorer, self.pick, self.k = scorer, pick, scorer.k

    def forward(self, state: Tensor) -> Tensor:
        """(B, N + 1) scores; `NEVER` for what may not be shown."""
        return self.scorer(state)

    def slates(self, state: Tensor) -> Tensor:
        """(B, K) the best slates that keep the rules."""
        return self.pick(self(state))


class RuledValues(RuledScorer):
    """The same of a SlateQ policy: scores are worths at the value of the best slate that keeps the rules."""

    scorer: SlateQScorer

    def forward(self, state: Tensor) -> Tensor:
        """(B, N + 1) scores; `NEVER` for what may not be shown."""
        return ranking(self._best(state).worth)

    def slates(self, state: Tensor) -> Tensor:
        """(B, K) the best slates that keep the rules."""
        return self._best(state).slate

    def _best(self, state: Tensor) -> BestSlate:
        utility, gain, outside, place = self.parts(state)
        return best_slate(utility, gain, outside, place, utility > NEVER / 2, pick=self.pick)

    def parts(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, N + 1) utilities, `NEVER` for what may not be shown, and gains, (B,) of nothing, (K,) of places.

        A bundle holds these: iterating over slates that keep rules is too much for one graph.
        """
        scorer, items = self.scorer, self.scorer.candidates(state, exact=True)
        utility, allowed = scorer.choice(state, scorer.item_vectors), scorer.available
        if items is not None:
            allowed = torch.zeros_like(utility, dtype=torch.bool).scatter(1, items, True) & allowed
        gain = scorer.gain(state, scorer.item_vectors)
        return utility.masked_fill(~allowed, NEVER), gain, scorer.outside(state), scorer.place


class RuledPolicy:
    """A policy whose slates keep rules. Its face is that of the policy it fills slates for.

    A SlateQ policy is asked for the best slate that keeps the rules, by Dinkelbach's iteration over such slates; others
    for scores, of which the highest that the rules allow are taken; so is one with `shown_value`.

    Args:
        policy: a trained policy, or any with a method `scores`.
        rules: what slates must keep.
        catalogue: categories, brands and prices.
        item_vectors: (N + 1, D), for `max_similarity`; those of a trained policy by default.

    Raises:
        ValueError: the rules leave too few items for a slate, or similarities are limited and there are no vectors.
    """

    def __init__(
        self, policy: Any, rules: SlateRules, catalogue: Catalogue, item_vectors: ArrayLike | Tensor | None = None
    ) -> None:
        if not hasattr(policy, "scores"):
            raise ValueError(f"{type(policy).__name__} gives no scores to choose by; wrap a policy that does")
        self.rules, self.k, self._policy = rules, policy.k, policy
        allowed = torch.from_numpy(rules.allowed(catalogue))
        scorer = None
        if isinstance(policy, LearnedPolicy):
            scorer = deepcopy(policy.scorer)
            allowed = allowed & scorer.available
            item_vectors = scorer.item_vectors if item_vectors is None else item_vectors
        elif hasattr(policy, "available"):
            allowed = allowed & torch.as_tensor(policy.available, dtype=torch.bool)
        rules.check(catalogue, self.k, allowed.numpy())
        self._allowed, self._caps = allowed, caps_of(rules, catalogue)
        self._vectors: Tensor | None = None
        if rules.max_similarity is not None:
            if item_vectors is None:
                raise ValueError("max_similarity compares item vectors; give item_vectors")
            self._vectors = F.normalize(torch.as_tensor(item_vectors, dtype=torch.float32), dim=1)
        self.scorer: RuledScorer | None = None
        """Of a trained policy, what is exported."""
        if scorer is not None:
            scorer.set_items(scorer.item_vectors, allowed)  # so that candidates are looked for among what may be shown
            by_values = isinstance(scorer, SlateQScorer) and scorer.shown is None
            ruled = RuledValues if by_values else RuledScorer
            self.scorer = ruled(scorer, self.pick)
        self._generator = seeded(getattr(policy, "seed", 0))

    def reseed(self, seed: int) -> None:
        """Draw from here on as a new policy of this seed would."""
        self._generator = seeded(seed)
        if hasattr(self._policy, "reseed"):
            self._policy.reseed(seed)

    def pick(self, worth: Tensor) -> Tensor:
        """(B, K) the best slates that keep the rules, of (B, N + 1) scores."""
        similar = 1.0 if self.rules.max_similarity is None else self.rules.max_similarity
        return pick_by_rules(worth.masked_fill(~self._allowed, NEVER), self.k, self._caps, self._vectors, similar)

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Ints, None]:
        """(B, k) int64 slates, best place first, 0 in a slot for which the rules left nothing; and None.

        Unless `deterministic`, a trained policy's slots are drawn by Plackett-Luce among what the rules still allow.
        """
        del state, episode_start
        if self.scorer is None:
            return self.pick(torch.as_tensor(self._policy.scores(observation))).numpy(), None
        scorer, states = self.scorer.scorer, torch.as_tensor(state_of(observation), dtype=torch.float32)
        rows = states.reshape(-1, scorer.dim)
        if deterministic:
            slates = self.scorer.slates(rows)
        else:  # the order of exponential clocks, of which those that rules forbid are passed over
            scores = self.scorer(rows)
            noise = torch.empty_like(scores).exponential_(generator=self._generator).clamp(min=1e-30)
            slates = self.pick(torch.where(scores > NEVER / 2, scores - torch.log(noise), scores))
        return slates.reshape(*states.shape[:-1], self.k).numpy(), None
