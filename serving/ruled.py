"""Slates that keep the rules of a bundle, from scores: the best, or drawn with the chance of every draw.

The same filling of slots as `agents.rules.pick_by_rules`, for one shopper and without torch; a test holds them equal.

Shapes: N + 1 scores by dense index, K places, D width of the item vectors. A score of -inf marks what may not be shown.
"""

import numpy as np

from ..datasets.catalogue import Catalogue
from ..datasets.rules import ROUNDING, SlateRules
from ..datasets.tokens import Floats, Ints
from .sampling import Doubles


class RulesAtWork:
    """Rules over a catalogue, made ready for filling slates.

    Args:
        rules: what slates must keep.
        catalogue: categories, brands and prices.
        vectors: (N + 1, D) item vectors, unit rows but for row 0.

    Raises:
        ValueError: the rules name what the catalogue lacks.
    """

    def __init__(self, rules: SlateRules, catalogue: Catalogue, vectors: Floats) -> None:
        self.rules = rules
        self.allowed = rules.allowed(catalogue)
        """(N + 1,) items that may be on a slate at all."""
        self._groups = rules.groups(catalogue)
        self._vectors = vectors

    def best(self, scores: Doubles, k: int) -> Ints:
        """(K',) the slate filled from the best place down, each with the highest score that is still allowed."""
        return self._filled(scores, k)[0]

    def draw(self, logits: Doubles, k: int, rng: np.random.Generator) -> tuple[Ints, Doubles]:
        """A slate drawn place by place, each in proportion to exp(logit) among what the rules still allow.

        Args:
            logits: (N + 1,) scores divided by the temperature.
            k: places.
            rng: where luck comes from. One draw of noise serves all places: what was passed over stays in order.

        Returns:
            (K',) indices and (K',) float64 chances in (0, 1] of each item at its place given those above it.
        """
        return self._filled(logits, k, rng.gumbel(size=logits.shape))

    def _filled(self, scores: Doubles, k: int, noise: Doubles | None = None) -> tuple[Ints, Doubles]:
        left = np.where(self.allowed, scores, -np.inf)
        keys = left if noise is None else left + noise
        items: list[int] = []
        chances: list[float] = []
        for _ in range(k):
            item = int(np.argmax(keys))
            if keys[item] == -np.inf:
                break
            if noise is not None:
                peak = left.max()
                chances.append(float(np.exp(left[item] - peak) / np.exp(left - peak).sum()))
            items.append(item)
            gone = self._ruled_out(items)
            left[gone] = -np.inf
            keys[gone] = -np.inf
        return np.array(items, np.int64), np.array(chances if noise is not None else np.ones(len(items)))

    def _ruled_out(self, items: list[int]) -> np.ndarray:
        """(N + 1,) what may not follow the latest of the items shown: itself, full groups, what is too alike."""
        latest = items[-1]
        gone = np.zeros(len(self.allowed), dtype=bool)
        gone[latest] = True
        for group, most in self._groups:
            if group[latest] > 0 and (group[items] == group[latest]).sum() >= most:
                gone |= group == group[latest]
        if self.rules.max_similarity is not None:
            gone |= self._vectors @ self._vectors[latest] > self.rules.max_similarity + ROUNDING
        return gone
