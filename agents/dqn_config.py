"""Settings of SlateQ, and the learner they build."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from .dqn import ClickModel, SlateDQN
from .dqn_policy import SlateQPolicy
from .learning import SCORER_LIMITS, RateSchedule, ScorerConfig, check_settings, scheduled


@dataclass(frozen=True, kw_only=True)
class DQNConfig(ScorerConfig):
    """Settings of `SlateDQN`. Defaults were tuned on the known-truth shop where no source is named."""

    gamma: float = 0.9
    """Discount per slate shown, in [0, 1)."""
    learning_rate: float = 1e-3
    schedule: RateSchedule = "constant"
    """Whether the learning rate stays, or falls to 0 in a line (`linear`): what is learnt last is then no noise."""
    buffer_size: int = 100_000
    """Slates remembered."""
    learning_starts: int = 2_000
    """Slates shown before the first gradient step."""
    batch_size: int = 256
    train_every: int = 1
    """Slates shown to each env between gradient steps."""
    gradient_steps: int = 1
    """Gradient steps each time."""
    n_steps: int = 1
    """Slates whose rewards a target counts before it bootstraps (Rainbow: 3); not corrected for older policies."""
    priority: float = 0.0
    """Power of errors by which slates are drawn from the replay (Schaul et al. 2016: 0.6); 0 draws all alike."""
    correction: float = 0.4
    """How far draws by priority are corrected for at first; in full at the end (Schaul et al. 2016)."""
    double: bool = True
    """Whether the next slate is picked by the network that learns (van Hasselt et al. 2016)."""
    target: Literal["best", "shown"] = "best"
    """Which next slate values a state: the best one (Q-learning), or the one that was shown there (SARSA)."""
    choice: Literal["learned", "shopper"] = "learned"
    """What the choice model learns from: slots clicked, or their chances by the simulated shopper's click model."""
    tau: float = 0.01
    """Share by which the target network follows at each gradient step."""
    exploration_start: float = 0.3
    """Chance of an exploring slate at first. Low, for the greedy slate starts as good as the encoder."""
    exploration_end: float = 0.05
    exploration_fraction: float = 0.5
    """Share of the training over which exploration falls."""
    uniform_share: float = 0.5
    """Share of exploring slates that are uniform; the others follow the choice model."""
    iterations: int = 4
    """Dinkelbach steps for the slates of the targets."""
    huber: float = 1.0
    """Error of a value, in mean sizes of a reward, from which its loss grows linearly instead of by its square (Mnih et
    al. 2015: 1). Values are then drawn to medians: where a slate matters by the rare visit that it ends, raise it."""
    max_grad_norm: float = 10.0
    shown_value: bool = False
    """Whether items add to a slate's value by being shown, clicked or not: for shoppers who tire of what they pass
    over. Elsewhere it is one more thing to learn."""

    def __post_init__(self) -> None:
        shares = ("tau", "exploration_start", "exploration_end", "exploration_fraction", "uniform_share", "correction")
        sizes = (
            "buffer_size",
            "learning_starts",
            "batch_size",
            "train_every",
            "gradient_steps",
            "iterations",
            "n_steps",
        )
        limits = {**SCORER_LIMITS, **dict.fromkeys(shares, (0, 1)), **dict.fromkeys(sizes, (1, np.inf))}
        check_settings(self, limits | {"gamma": (0, 1), "priority": (0, 10), "huber": (1e-3, 1e9)})
        if self.buffer_size < self.learning_starts:
            raise ValueError(
                f"buffer_size={self.buffer_size} never holds the learning_starts={self.learning_starts} slates that "
                "learning begins with"
            )
        scheduled(self.learning_rate, self.schedule)
        if self.target not in ("best", "shown"):
            raise ValueError(f"target must be 'best' or 'shown', got {self.target!r}")
        if self.choice not in ("learned", "shopper"):
            raise ValueError(f"choice must be 'learned' or 'shopper', got {self.choice!r}")

    def build(
        self,
        env: GymEnv,
        *,
        item_vectors: ArrayLike | Tensor,
        available: ArrayLike | Tensor | None = None,
        seed: int | None = 0,
        device: str = "cpu",
        verbose: int = 0,
        click_model: ClickModel | None = None,
    ) -> SlateDQN:
        """A learner for an env; arguments as for `PPOConfig.build`. The env's infos must hold `"clicked"`.

        `choice="shopper"` needs a `click_model`, for instance `ShopperClicks(shopper)`, and its observations.

        Raises:
            ValueError: spaces, vectors and availability do not fit each other, or the click model is missing, or one
                is given that `choice="learned"` would not read.
        """
        if (click_model is None) == (self.choice == "shopper"):
            given = "none" if click_model is None else "one"
            raise ValueError(f"choice={self.choice!r} and {given} given as click_model; they go together")
        agent = SlateDQN(
            SlateQPolicy,
            env,
            scheduled(self.learning_rate, self.schedule),
            buffer_size=self.buffer_size,
            learning_starts=self.learning_starts,
            batch_size=self.batch_size,
            tau=self.tau,
            gamma=self.gamma,
            train_freq=self.train_every,
            gradient_steps=self.gradient_steps,
            exploration_start=self.exploration_start,
            exploration_end=self.exploration_end,
            exploration_fraction=self.exploration_fraction,
            uniform_share=self.uniform_share,
            iterations=self.iterations,
            max_grad_norm=self.max_grad_norm,
            huber=self.huber,
            double=self.double,
            target=self.target,
            correction=self.correction,
            policy_kwargs={
                "hidden": self.hidden,
                "scale": self.scale,
                "max_candidates": self.max_candidates,
                "shown_value": self.shown_value,
            },
            replay_buffer_kwargs={
                "seed": seed,
                "n_steps": self.n_steps,
                "gamma": self.gamma,
                "priority": self.priority,
                "keep_chances": self.choice == "shopper",
            },
            seed=seed,
            device=device,
            verbose=verbose,
        )
        agent.click_model = click_model
        agent.set_items(item_vectors, available)
        return agent
