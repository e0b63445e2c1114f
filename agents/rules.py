"""Rules of the shop, kept while a slate is filled: no network learns them, and changing them needs no training.

Shapes: B shoppers, K slots, N items, D width of item vectors.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from ..datasets.catalogue import Catalogue
from ..datasets.tokens import Ints
from .artefact import LearnedPolicy
from .plackett_luce import seeded
from .replay import state_of
from .scorers import SlateQScorer
from .slate_choice import NEVER, best_slate

Caps = list[tuple[Tensor, int]]


@dataclass(frozen=True, kw_only=True)
class SlateRules:
    """What every slate must keep; None asks nothing."""

    most_of_category: int | None = None
    """Items of one category at most; items without a category are of none."""
    most_of_brand: int | None = None
    """Items of one brand at most; items without a brand are of none."""
    min_price: float | None = None
    """Lowest price shown, in the shop's currency; items of unknown price are then not shown."""
    max_price: float | None = None
    """Highest price shown; items of unknown price are then not shown."""
    max_similarity: float | None = None
    """Largest cosine between the vectors of two items of a slate, in [-1, 1]."""

    def __post_init__(self) -> None:
        for name in ("most_of_category", "most_of_brand"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        low, high = self.min_price, self.max_price
        if low is not None and high is not None and low > high:
            raise ValueError(f"no price lies between min_price={low} and max_price={high}")
        if self.max_similarity is not None and not -1 <= self.max_similarity <= 1:
            raise ValueError(f"max_similarity must be in [-1, 1], got {self.max_similarity}")

    def allowed(self, catalogue: Catalogue) -> NDArray[np.bool_]:
        """(N + 1,) items that may be on a slate at all."""
        price = catalogue.known_prices
        kept = np.arange(len(price)) > 0
        with np.errstate(invalid="ignore"):
            if self.min_price is not None:
                kept &= price >= self.min_price
            if self.max_price is not None:
                kept &= price <= self.max_price
        return kept

    def caps(self, catalogue: Catalogue) -> Caps:
        """Of each rule on groups, (N + 1,) group numbers, 0 for none, and how many of a group a slate may hold."""
        rules = (("category", self.most_of_category), ("brand", self.most_of_brand))
        found: Caps = []
        for column, most in rules:
            if most is not None:
                names = catalogue.frame[column].fillna("").astype(str)
                number = pd.factorize(names.where(names != "", None))[0] + 1  # missing ones are -1
                found.append((torch.from_numpy(np.append(0, number).astype(np.int64)), most))
        return found


def pick_by_rules(
    scores: Tensor, k: int, caps: Caps, vectors: Tensor | None = None, max_similarity: float = 1.0
) -> Tensor:
    """Slates filled from the best place down, each with the highest score that the rules still allow.

    With caps on one kind of group this is the best slate there is, whatever the places weigh, as long as they never
    weigh more further down (groups are a matroid). With several kinds, or similarities, it may be a little below.

    Args:
        scores: (B, N + 1); `NEVER` for what may not be shown, column 0 included.
        k: slots.
        caps: see `SlateRules.caps`.
        vectors: (N + 1, D) of unit length, where similarities are limited.
        max_similarity: largest cosine of two items.

    Returns:
        (B, K) int64, 0 where the rules leave nothing for a slot.
    """
    left, rows = scores.clone(), torch.arange(len(scores), device=scores.device)
    slate = torch.zeros(len(scores), k, dtype=torch.int64, device=scores.device)
    for slot in range(k):
        best = left.max(1)
        item = torch.where(best.values > NEVER / 2, best.indices, torch.zeros_like(best.indices))
        slate[:, slot] = item
        left[rows, item] = NEVER
        for group, most in caps:
            ours = group[item]
            full = (ours > 0) & ((group[slate[:, : slot + 1]] == ours[:, None]).sum(1) >= most)
            left = left.masked_fill((group == ours[:, None]) & full[:, None], NEVER)
        if vectors is not None:
            alike = vectors[item] @ vectors.T > max_similarity  # of the padding's zero vector, nothing but at below 0
            left = left.masked_fill(alike & (item > 0)[:, None], NEVER)
    return slate


class RuledPolicy:
    """A policy whose slates keep rules. Its face is that of the policy it fills slates for.

    A SlateQ policy is asked for the best slate that keeps the rules, by Dinkelbach's iteration over such slates; others
    for scores, of which the highest that the rules allow are taken.

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
        self._scorer = None
        if isinstance(policy, LearnedPolicy):
            self._scorer = deepcopy(policy.scorer)
            allowed = allowed & self._scorer.available
            item_vectors = self._scorer.item_vectors if item_vectors is None else item_vectors
        elif hasattr(policy, "available"):
            allowed = allowed & torch.as_tensor(policy.available, dtype=torch.bool)
        self._allowed, self._caps = allowed, rules.caps(catalogue)
        self._check()
        if self._scorer is not None:  # so that candidates are looked for among what may be shown
            self._scorer.set_items(self._scorer.item_vectors, allowed)
        self._vectors: Tensor | None = None
        if rules.max_similarity is not None:
            if item_vectors is None:
                raise ValueError("max_similarity compares item vectors; give item_vectors")
            self._vectors = F.normalize(torch.as_tensor(item_vectors, dtype=torch.float32), dim=1)
        self._generator = seeded(getattr(policy, "seed", 0))

    def _check(self) -> None:
        if int(self._allowed.sum()) < self.k:
            raise ValueError(f"the rules leave {int(self._allowed.sum())} items for slates of {self.k} slots")
        for group, most in self._caps:
            counts = torch.bincount(group[self._allowed])
            places = int(counts[:1].sum() + counts[1:].clamp(max=most).sum())
            if places < self.k:
                raise ValueError(
                    f"with {most} of a group at most, {places} of {self.k} slots can be filled; allow more of each"
                )

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
        if self._scorer is None:
            return self.pick(torch.as_tensor(self._policy.scores(observation))).numpy(), None
        states = torch.as_tensor(state_of(observation), dtype=torch.float32)
        rows = states.reshape(-1, self._scorer.dim)
        if isinstance(self._scorer, SlateQScorer) and deterministic:
            slates = self._best(self._scorer, rows)
        else:
            scores = self._scorer(rows)
            if not deterministic:  # the order of exponential clocks, of which those that rules forbid are passed over
                noise = torch.empty_like(scores).exponential_(generator=self._generator).clamp(min=1e-30)
                scores = torch.where(scores > NEVER / 2, scores - torch.log(noise), scores)
            slates = self.pick(scores)
        return slates.reshape(*states.shape[:-1], self.k).numpy(), None

    def _best(self, scorer: SlateQScorer, rows: Tensor) -> Tensor:
        utility, gain = scorer.choice(rows, scorer.item_vectors), scorer.gain(rows, scorer.item_vectors)
        allowed = self._allowed.expand(len(rows), -1)
        items = scorer.candidates(rows, exact=True)
        if items is not None:
            allowed = torch.zeros_like(allowed).scatter(1, items, True) & allowed
        best = best_slate(utility, gain, scorer.outside(rows), scorer.place, allowed, pick=self.pick)
        return best.slate
