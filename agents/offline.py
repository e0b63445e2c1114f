"""Agents that learn from logged slates, without a simulator: behaviour cloning and off-policy REINFORCE.

Shapes: B slates of a batch, K slots, N items, M items sampled, D width of states.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..datasets.tokens import Floats
from .checkpoint import Curve, restore, save
from .learning import SCORER_LIMITS, ScorerConfig, check_finite, check_settings, predicted
from .offline_data import LoggedSlates
from .plackett_luce import log_probs_beside, seeded
from .scorers import LogitScorer
from .slate_choice import NEVER


class OfflinePolicy(nn.Module):
    """The scorer that learns, the one that stands for the logging policy where that is estimated, and the optimiser."""

    def __init__(self, shape: dict[str, Any], learning_rate: float, *, estimate: bool) -> None:
        super().__init__()
        self.scorer = LogitScorer(**shape)
        self.behaviour = LogitScorer(**shape) if estimate else None
        self.optimizer = torch.optim.Adam(self.parameters(), lr=learning_rate)


class OfflineAgent:
    """Learns a Plackett-Luce policy from a log of slates. Made by `BCConfig.build` or `ReinforceConfig.build`.

    Its face is stable-baselines3's: `learn`, `predict`, `save`, `load`, `num_timesteps` (logged slates learnt from,
    each time counted). Every item counts as one that could have been shown; what may be shown now only decides slates.

    Args:
        config: settings.
        data: what is learnt from.
        item_vectors: (N + 1, D) by dense index, as wide as the states; row 0 is the padding.
        available: (N + 1,) bool, items that may be shown; all by default.
        k: slots of its slates; those of the log by default.
        seed: of weights, batches and samples.
        device: where the networks live.
    """

    def __init__(
        self,
        config: "OfflineConfig",
        data: LoggedSlates,
        *,
        item_vectors: ArrayLike | Tensor,
        available: ArrayLike | Tensor | None = None,
        k: int | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.config, self.data, self.seed = config, data, seed
        self.learning_rate = config.learning_rate
        self.k = data.slates.shape[1] if k is None else k
        vectors = torch.as_tensor(item_vectors, dtype=torch.float32)
        if len(data) and vectors.shape[1] != data.states.shape[1]:
            raise ValueError(f"item vectors are {vectors.shape[1]} wide and logged states {data.states.shape[1]}")
        if int(data.slates.max(initial=0)) >= len(vectors):
            raise ValueError(f"the log shows item {data.slates.max()}, and there are vectors for {len(vectors) - 1}")
        shape = {"dim": vectors.shape[1], "n_items": len(vectors) - 1, "k": self.k, "hidden": config.hidden}
        shape |= {"scale": config.scale, "max_candidates": config.max_candidates}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = OfflinePolicy(shape, config.learning_rate, estimate=config.estimates).to(device)
        self.scorer.set_items(vectors, available)
        if self.policy.behaviour is not None:
            self.policy.behaviour.set_items(vectors)
        self.device = torch.device(device)
        self.num_timesteps = self._n_updates = self._episode_num = 0
        self.figures: dict[str, float] = {}
        self._rng, self._generator = np.random.default_rng(seed), seeded(seed, device)
        self._rows = config.rows(data)
        self._returns = config.credit(data)
        # So that one learning rate serves rewards in clicks and in euros.
        self._unit = float(np.abs(self._returns[self._rows]).mean()) or 1.0

    @property
    def scorer(self) -> LogitScorer:
        """State -> scores whose top k is the greedy slate; what is exported."""
        return self.policy.scorer

    def learn(self, total_timesteps: int) -> Self:
        """Learn from so many logged slates more, drawn in random order, pass after pass.

        Raises:
            DivergedError: the loss is no longer finite.
        """
        until, size = self.num_timesteps + total_timesteps, min(self.config.batch_size, len(self._rows))
        while self.num_timesteps < until:
            order = self._rng.permutation(self._rows)
            for start in range(0, len(order) - size + 1, size):
                self._update(order[start : start + size])
                self.num_timesteps += size
                self._n_updates += 1
                if self.num_timesteps >= until:
                    break
        return self

    def _update(self, rows: NDArray[np.int64]) -> None:
        loss = self.loss(rows)
        check_finite(loss, self)
        self.policy.optimizer.zero_grad()
        loss.backward()
        for one in self.policy.children():  # a network apart, so that none is held back by the others' gradients
            clip_grad_norm_(one.parameters(), self.config.max_grad_norm)
        self.policy.optimizer.step()

    def loss(self, rows: NDArray[np.int64]) -> Tensor:
        """What a gradient step on these logged slates makes smaller."""
        data = self.data
        batch = LoggedBatch(
            states=torch.from_numpy(data.states[rows]).to(self.device),
            slates=torch.from_numpy(data.slates[rows]).to(self.device),
            clicked=torch.from_numpy(data.clicked[rows]).to(self.device),
            returns=torch.from_numpy(self._returns[rows] / self._unit).to(self.device),
            propensity=torch.from_numpy(data.propensity[rows]).to(self.device),
        )
        sampled = None
        if self.scorer.n_items > self.config.sampled:
            drawn = self._rng.integers(1, self.scorer.n_items + 1, self.config.sampled)
            sampled = torch.from_numpy(drawn).to(self.device)
        loss, self.figures = self.config.loss(self.policy, batch, self.k, sampled, self.num_timesteps)
        return loss

    def log_likelihood(self, data: LoggedSlates) -> float:
        """Mean log-probability of the slates of a log, over all items, empty slots left out."""
        with torch.no_grad():
            parts = [torch.from_numpy(one).to(self.device) for one in (data.states, data.slates)]
            rows = zip(*(part.split(self.config.batch_size) for part in parts), strict=True)
            return float(torch.cat([slot_log_probs_of(self.scorer, *row)[0].sum(1) for row in rows]).mean())

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.int64], None]:
        """(B, k) int64 slates, best place first, and None; drawn by Plackett-Luce unless `deterministic`."""
        del state, episode_start
        return predicted(self.scorer, observation, None if deterministic else self._generator), None

    def save(self, path: str | Path) -> None:
        """Write weights, optimiser and counters into one safetensors file."""
        save(self, Curve(1), Path(path))

    def load(self, path: str | Path) -> Self:
        """Go on from where `save` was called; for an agent built alike, and returns it. Batches are drawn anew.

        Raises:
            ArtefactError: the file cannot be read, or belongs to another learner.
        """
        restore(self, Curve(1), Path(path))
        self._rng = np.random.default_rng([self.seed, self.num_timesteps])
        return self


@dataclass(frozen=True, slots=True)
class LoggedBatch:
    """Logged slates: states (B, D), slates and propensity (B, K), clicked slot or -1 and returns (B,)."""

    states: Tensor
    slates: Tensor
    clicked: Tensor
    returns: Tensor
    propensity: Tensor


def slot_log_probs_of(
    scorer: LogitScorer, states: Tensor, slates: Tensor, sampled: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of the slots of logged slates under a scorer, whatever is available now.

    Args:
        scorer: scores by item vectors.
        states: (B, D).
        slates: (B, K), 0 in empty slots.
        sampled: (M,) items drawn evenly with replacement; they stand for all that is not on the slate. All by default.

    Returns:
        (B, K) log-probability of each slot given those above it, 0 in empty slots; and (B, K) of the slot's item as the
        first of a slate.
    """
    vectors, filled = scorer.item_vectors, slates > 0
    if sampled is None:
        logits = scorer.pair(states, vectors)
        chosen, others = logits.gather(1, slates), logits.scatter(1, slates, NEVER)
        others = others.masked_fill(torch.arange(len(vectors), device=slates.device) == 0, NEVER)
    else:
        chosen = scorer.pair.at(states, vectors, slates)
        there = (sampled[None, :, None] == slates[:, None, :]).any(2)
        # Each sampled item stands for N / M of them, so that the sum over the rest is unbiased.
        others = scorer.pair(states, vectors[sampled]) + math.log(scorer.n_items / len(sampled))
        others = others.masked_fill(there, NEVER)
    chosen, rest = chosen.masked_fill(~filled, NEVER), torch.logsumexp(others, 1, keepdim=True)
    first = chosen - torch.logaddexp(torch.logsumexp(chosen, 1, keepdim=True), rest)
    slots = log_probs_beside(chosen, rest).masked_fill(~filled, 0.0)
    return slots, first.masked_fill(~filled, 0.0)


@dataclass(frozen=True, kw_only=True)
class OfflineConfig(ScorerConfig):
    """Settings that all offline learners share."""

    learning_rate: float = 1e-3
    """Of Adam (Kingma and Ba 2015: 1e-3)."""
    batch_size: int = 256
    """Logged slates a gradient step."""
    sampled: int = 2_000
    """Above this many items, so many drawn anew at each step stand for those not shown (sampled softmax)."""
    max_grad_norm: float = 10.0

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("batch_size", "sampled"), (1, np.inf))
        check_settings(self, {**SCORER_LIMITS, **sizes, "max_grad_norm": (0, np.inf)})

    @property
    def estimates(self) -> bool:
        """Whether a second scorer stands for the logging policy."""
        return False

    def credit(self, data: LoggedSlates) -> Floats:
        """(S,) what each logged slate is credited with."""
        return data.rewards

    def build(
        self,
        data: LoggedSlates,
        *,
        item_vectors: ArrayLike | Tensor,
        available: ArrayLike | Tensor | None = None,
        k: int | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> OfflineAgent:
        """A learner for logged slates; arguments as for `OfflineAgent`.

        Raises:
            EvidenceError: the log does not hold what is learnt from.
            ValueError: vectors, availability and log do not fit each other.
        """
        return OfflineAgent(self, data, item_vectors=item_vectors, available=available, k=k, seed=seed, device=device)

    def rows(self, data: LoggedSlates) -> NDArray[np.int64]:
        """Numbers of the logged slates that are learnt from."""
        raise NotImplementedError

    def loss(
        self, policy: OfflinePolicy, batch: LoggedBatch, k: int, sampled: Tensor | None, learnt: int
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss after so many slates `learnt` from, and figures to look at."""
        raise NotImplementedError
