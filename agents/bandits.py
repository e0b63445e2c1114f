"""Contextual bandits over item vectors: they learn what is clicked now, and know nothing of later.

A shopper's state s and an item's vector v make the features x = (s * v, v, 1), of P = 2 D + 1 entries; the chance of a
click is taken to be linear in them, with one set of weights for all items, so that a new item needs no clicks of its
own. Of a slate, the items down to the click were looked at, and all of them where nothing was clicked.

Shapes: B shoppers, K slots, N items, D width of states and item vectors.

Source: LinUCB, Li et al., WWW 2010 (arXiv 1003.0146); Thompson sampling with linear payoffs, Agrawal and Goyal, ICML
2013 (1209.3352); slates read as cascades, Li et al., "Contextual combinatorial cascading bandits", ICML 2016.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from ..datasets.tokens import Floats
from .baselines import Ranking
from .replay import state_of

Doubles = NDArray[np.float64]
_CELLS = 4_000_000  # numbers worked out at once for uncertainties
_AT_ONCE = 65_536  # items shown that are learnt from at once


class LinearBandit(Ranking):
    """Ridge regression of clicks on the features, kept as sums. Subclasses say how doubt is used.

    Args:
        item_vectors: (N + 1, D) by dense index, as wide as the state.
        k: slots.
        available: (N + 1,) bool; all by default.
        ridge: what the weights are pulled to 0 by, in slates' worth of evidence, above 0.

    Attributes:
        precision: (P, P) ridge and the sum of x x' so far. clicks: (P,) sum of x over items clicked.
    """

    def __init__(
        self, item_vectors: ArrayLike | Tensor, k: int, available: ArrayLike | None = None, *, ridge: float = 1.0
    ) -> None:
        if ridge <= 0:
            raise ValueError(f"ridge must be above 0, got {ridge}")
        self.item_vectors = np.asarray(item_vectors, dtype=np.float64)
        super().__init__(k, np.ones(len(self.item_vectors)) if available is None else available)
        size = 2 * self.item_vectors.shape[1] + 1
        self.precision, self.clicks = ridge * np.eye(size), np.zeros(size)
        self._solved: tuple[Doubles, Doubles] | None = None

    def update(self, states: ArrayLike, slates: ArrayLike, clicked: ArrayLike) -> None:
        """Learn from slates shown.

        Args:
            states: (B, D) when they were shown.
            slates: (B, K), best place first, 0 in empty slots.
            clicked: (B,) slot, -1 for none.
        """
        states, slates = np.asarray(states, dtype=np.float64), np.asarray(slates, dtype=np.int64)
        clicked = np.asarray(clicked, dtype=np.int64)
        place = np.arange(slates.shape[1])
        looked = (slates > 0) & ((clicked < 0)[:, None] | (place <= clicked[:, None]))
        rows, slots = np.nonzero(looked)
        for start in range(0, len(rows), _AT_ONCE):
            row, slot = rows[start : start + _AT_ONCE], slots[start : start + _AT_ONCE]
            vectors = self.item_vectors[slates[row, slot]]
            x = np.concatenate([states[row] * vectors, vectors, np.ones((len(row), 1))], axis=1)
            self.precision = self.precision + x.T @ x
            self.clicks = self.clicks + x[slot == clicked[row]].sum(0)
        self._solved = None

    def learn(self, env: VecEnv, total_timesteps: int) -> "LinearBandit":
        """Show slates to the shoppers of a stable-baselines3 env and learn from each; returns the bandit itself.

        Raises:
            ValueError: the env's infos do not name the slot clicked.
        """
        observation, shown = env.reset(), 0
        while shown < total_timesteps:
            slates, _ = self.predict(observation, deterministic=False)
            states = np.array(state_of(observation))
            observation, _, _, infos = env.step(slates)
            if "clicked" not in infos[0]:
                raise ValueError(f"a bandit learns from infos['clicked'] (slot or -1); the env gave {sorted(infos[0])}")
            self.update(states, slates, [info["clicked"] for info in infos])
            shown += len(slates)
        return self

    @property
    def weights(self) -> Doubles:
        """(P,) ridge estimate."""
        return self._solution()[0]

    def _solution(self) -> tuple[Doubles, Doubles]:
        """The weights, and (P, P) their covariance in units of the noise's variance."""
        if self._solved is None:
            covariance = np.linalg.inv(self.precision)
            self._solved = covariance @ self.clicks, (covariance + covariance.T) / 2
        return self._solved

    def _means(self, states: Doubles, weights: Doubles) -> Doubles:
        """(B, N + 1) values with weights (P,), or (B, P) for each shopper its own."""
        dim = states.shape[1]
        weights = np.broadcast_to(weights, (len(states), weights.shape[-1]))
        return (states * weights[:, :dim] + weights[:, dim:-1]) @ self.item_vectors.T + weights[:, -1:]

    def _spreads(self, states: Doubles) -> Doubles:
        """(B, N + 1) standard deviations of values, in units of the noise's."""
        _, covariance = self._solution()
        dim, n = states.shape[1], len(self.item_vectors)
        found = np.empty((len(states), n))
        for rows in np.array_split(np.arange(len(states)), max(1, len(states) * n * dim // _CELLS)):
            s = states[rows]
            # x = T(s) (v, 1), so x' C x is a form in v whose matrix depends on the shopper alone.
            both = covariance[:dim, dim:-1] * s[:, :, None]
            form = s[:, :, None] * covariance[:dim, :dim] * s[:, None, :] + both + both.swapaxes(1, 2)
            form += covariance[dim:-1, dim:-1]
            line = 2 * (s * covariance[:dim, -1] + covariance[dim:-1, -1])
            square = np.einsum("bnd,nd->bn", self.item_vectors @ form, self.item_vectors)
            found[rows] = square + line @ self.item_vectors.T + covariance[-1, -1]
        return np.sqrt(np.maximum(found, 0.0))


class LinUCBPolicy(LinearBandit):
    """The items of the highest upper bounds: what may be good is tried.

    Args:
        item_vectors: as for `LinearBandit`.
        k: slots.
        available: (N + 1,) bool; all by default.
        alpha: how many standard deviations the bound lies above the estimate (Li et al. 2010 tuned it from 0 to 1.5).
        ridge: as for `LinearBandit`.
    """

    def __init__(
        self,
        item_vectors: ArrayLike | Tensor,
        k: int,
        available: ArrayLike | None = None,
        *,
        alpha: float = 0.5,
        ridge: float = 1.0,
    ) -> None:
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0, got {alpha}")
        super().__init__(item_vectors, k, available, ridge=ridge)
        self.alpha = alpha

    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) upper bounds."""
        states = np.asarray(state_of(observation), dtype=np.float64)
        bound = self._means(states, self.weights)
        return (bound + self.alpha * self._spreads(states) if self.alpha else bound).astype(np.float32)


class ThompsonPolicy(LinearBandit):
    """The best items by weights drawn from what is believed of them, anew for each shopper and slate.

    Args:
        item_vectors: as for `LinearBandit`.
        k: slots.
        available: (N + 1,) bool; all by default.
        spread: standard deviation of the noise, which scales the draws (0.3: that of a click of chance 0.1).
        ridge: as for `LinearBandit`.
        seed: of the draws.
    """

    def __init__(
        self,
        item_vectors: ArrayLike | Tensor,
        k: int,
        available: ArrayLike | None = None,
        *,
        spread: float = 0.3,
        ridge: float = 1.0,
        seed: int = 0,
    ) -> None:
        if spread < 0:
            raise ValueError(f"spread must be at least 0, got {spread}")
        super().__init__(item_vectors, k, available, ridge=ridge)
        self.spread, self.rng = spread, np.random.default_rng(seed)

    def reseed(self, seed: int) -> None:
        """Draw from here on as a new policy of this seed would."""
        self.rng = np.random.default_rng(seed)

    def scores(self, observation: Any) -> Floats:
        """(B, N + 1) values by weights drawn for each shopper."""
        states = np.asarray(state_of(observation), dtype=np.float64)
        mean, covariance = self._solution()
        root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(mean)))
        drawn = mean + self.spread * self.rng.standard_normal((len(states), len(mean))) @ root.T
        return self._means(states, drawn).astype(np.float32)
