"""Proximal policy optimisation over slates: a Plackett-Luce policy in stable-baselines3.

Shapes: B rows, K slots, D width of the state, N items, C candidates.

Source: PPO, Schulman et al. 2017 (arXiv 1707.06347).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import explained_variance
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from .learning import (
    SCORER_LIMITS,
    RateSchedule,
    ScorerConfig,
    check_finite,
    check_settings,
    constructor_parameters,
    put_items,
    scheduled,
)
from .plackett_luce import PlackettLuce
from .replay import (
    SlateRolloutBuffer,
    SlateRolloutSamples,
    catalogue_size,
    names_places,
    slate_space,
    slots_clicked,
    state_of,
    state_space,
)
from .scorers import Head, LogitScorer


class SlatePolicy(ActorCriticPolicy):
    """Plackett-Luce policy over slates with a value of the state.

    Item vectors and availability are buffers, set after construction by `scorer.set_items` and saved with the weights.

    Args:
        observation_space: `Box` of states, or a `Dict` with one called "state"; else only "candidates" are read of it.
        action_space: `MultiDiscrete([n_items + 1] * k)`; where it says `places`, of the "candidates" observed, whose
            largest number is the catalogue's size.
        lr_schedule: learning rate by what remains of the training.
        hidden: width of the hidden layers.
        scale: what `state . item` is multiplied by at first.
        max_candidates: above this many items, only so many nearest the state are scored; see `SlateScorer`.
        seed: of the slates drawn.
        use_sde: must stay False; stable-baselines3 always passes it.
    """

    scorer: LogitScorer

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.MultiDiscrete,
        lr_schedule: Schedule,
        *,
        hidden: int = 128,
        scale: float = 5.0,
        max_candidates: int = 2_000,
        seed: int | None = None,
        use_sde: bool = False,
    ) -> None:
        n_items, (_, k) = catalogue_size(observation_space, action_space), slate_space(action_space)
        self.places = names_places(action_space)
        self.scored: Tensor | None = None
        """(B, C) items that were scored for the slates drawn last; None for all of them."""
        self._shape: dict[str, Any] = {"dim": state_space(observation_space).shape[0], "n_items": n_items, "k": k}
        self._shape |= {"hidden": hidden, "scale": scale, "max_candidates": max_candidates}
        self._seed = seed
        super().__init__(observation_space, action_space, lr_schedule, use_sde=use_sde)

    def _build(self, lr_schedule: Schedule) -> None:
        self.scorer = LogitScorer(**self._shape)
        self.value_net = Head(self._shape["dim"], self._shape["hidden"])
        self.action_dist = PlackettLuce(self._shape["k"], self._seed)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # pyright: ignore[reportCallIssue]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return constructor_parameters(self)

    def _over(self, state: Tensor, items: Tensor | None) -> PlackettLuce:
        """The policy in the given states over (B, C) items, or over all; its slates name places of them, or items."""
        return self.action_dist.proba_distribution(self.scorer.logits(state, items), None if self.places else items)

    def _candidates(self, obs: Any) -> Tensor | None:
        """(B, C) items that are scored in the observed states; None for all of them."""
        return obs["candidates"].long() if self.places else self.scorer.candidates(state_of(obs))

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """(B, K) slates, (B, 1) values, and the slots' log-probabilities, (B, K)."""
        self.scored = self._candidates(obs)
        policy = self._over(state_of(obs), self.scored)
        slates = policy.get_actions(deterministic)
        return slates, self.predict_values(obs), policy.slot_log_probs(slates)

    def evaluate_slots(self, obs: Any, actions: Tensor, items: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1) values, (B, K) log-probability of each slot, and (B,) entropy of given slates.

        `items` are the (B, C) that were scored when the slates were drawn; where None, they are found anew.
        """
        policy = self._over(state_of(obs), self._candidates(obs) if items is None else items)
        return self.predict_values(obs), policy.slot_log_probs(actions), policy.entropy(actions)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1) values, (B,) log-probability of the ordered slates, and (B,) entropy."""
        values, log_probs, entropy = self.evaluate_slots(obs, actions)
        return values, log_probs.sum(1), entropy

    def get_distribution(self, obs: Any) -> PlackettLuce:
        """The policy in the observed states."""
        return self._over(state_of(obs), self._candidates(obs))

    def predict_values(self, obs: Any) -> Tensor:
        """(B, 1) values of the observed states."""
        return self.value_net(state_of(obs))[:, None]

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        if deterministic and not self.places:
            return self.scorer.slates(state_of(observation))
        if deterministic:
            return self.get_distribution(observation).mode()
        return self.get_distribution(observation).sample()


class SlatePPO(PPO):
    """PPO whose actions are slates. Made by `PPOConfig.build`; other arguments are those of stable-baselines3's `PPO`.

    `credit="slot"` gives a slate's advantage to the clicked slot alone. Where shoppers choose by a multinomial logit,
    what slot j adds to the slate's value is `P_j (Q_j - Q) / (1 - P_j)`, for `P_j` the chance that j is clicked and
    `Q_j` the value if it is: but for the denominator, which is near 1, the mean of what the clicked slot is given.
    Where shoppers click several items of a slate and infos say which ("clicks", (K,) bool), each of them is given it.
    `credit="slate"` gives it to all slots, which assumes nothing of shoppers and is K times as noisy. (A difference
    reward: Wolpert and Tumer 2002; counterfactual baselines, Foerster et al., AAAI 2018.)

    `credit="both"` was made for shoppers who tire of what they pass over: clicked slots are credited as with `slot`,
    and a slate that nobody clicked credits all its slots alike, by how it did among such slates. There the luck of a
    click is left out, so that it is less noisy than `slate`. Where passing over changes nothing it is noisier than
    `slot`. In trainings of close to a million slates `slate` wins by such shoppers (`benchmarks/long_term.py`); `both`
    was measured in shorter ones alone, where it does not.

    `clip="slot"` clips the probability ratio of each slot and adds the slots up; `clip="slate"` clips that of the whole
    slate, as stock PPO would, which leaves ever less to learn from the more slots there are: at logits moved by 0.1,
    5 % of the rows are clipped at K = 1 and half at K = 10. Both fractions are logged, whichever is used.

    Which items are candidates hangs on the state and not on what is learnt, so they are found once, when a slate is
    drawn, and kept for the passes over the rollout: C int32 a slate.
    """

    policy: SlatePolicy  # pyright: ignore[reportIncompatibleVariableOverride]
    rollout_buffer: SlateRolloutBuffer  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        policy: Any,
        env: GymEnv | str,
        *args: Any,
        clip: Literal["slot", "slate"] = "slot",
        credit: Literal["slot", "slate", "both"] = "slot",
        **settings: Any,
    ):
        self.clip, self.credit = clip, credit
        settings.setdefault("rollout_buffer_class", SlateRolloutBuffer)
        super().__init__(policy, env, *args, **settings)

    @property
    def scorer(self) -> LogitScorer:
        """State -> scores whose top K is the greedy slate; what is exported."""
        return self.policy.scorer

    @property
    def k(self) -> int:
        """Slots of a slate."""
        return self.scorer.k

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: Any = None) -> None:
        super()._update_info_buffer(infos, dones)
        # The one place where stable-baselines3 shows infos before the step is added to the buffer.
        if self.credit != "slate" and not {"clicked", "clicks"} & infos[0].keys():
            raise ValueError(
                f"credit={self.credit!r} reads infos['clicked'] (slot or -1), or infos['clicks'] ((k,) bool); the env "
                f"gave {sorted(infos[0])}"
            )
        self.rollout_buffer.clicked[self.rollout_buffer.pos] = [slots_clicked(info, self.k) for info in infos]
        if self.policy.scored is not None:
            self.rollout_buffer.keep_items(self.policy.scored)

    def train(self) -> None:
        """Update the policy on the rollout just collected.

        Raises:
            DivergedError: the loss is no longer finite.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = float(self.clip_range(self._current_progress_remaining))  # pyright: ignore[reportCallIssue]
        figures: dict[str, list[float]] = {}
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                step = self._update(batch, clip_range)
                for name, value in step.items():
                    figures.setdefault(name, []).append(value)
                if self.target_kl is not None and step["approx_kl"] > 1.5 * self.target_kl:
                    break
            else:
                self._n_updates += 1
                continue
            break
        for name, values in figures.items():
            self.logger.record(f"train/{name}", float(np.mean(values)))
        buffer = self.rollout_buffer
        self.logger.record(
            "train/explained_variance", float(explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        )
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _update(self, batch: SlateRolloutSamples, clip_range: float) -> dict[str, float]:
        values, log_probs, entropy = self.policy.evaluate_slots(batch.observations, batch.actions, batch.items)
        advantages = batch.advantages[:, None]
        if self.credit != "slate":
            advantages = slot_credit(batch.advantages, batch.clicked)
        if self.credit == "both":
            advantages = advantages + left_credit(batch.advantages, batch.clicked)
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        slots = log_probs - batch.old_log_prob  # (B, K)
        whole = slots.sum(1, keepdim=True)  # (B, 1)
        log_ratio = slots if self.clip == "slot" else whole
        gain = clipped_gain(log_ratio, advantages, clip_range).sum(1)
        value_loss = F.mse_loss(values.flatten(), batch.returns)
        loss = -gain.mean() - self.ent_coef * entropy.mean() + self.vf_coef * value_loss
        check_finite(loss, self)
        self.policy.optimizer.zero_grad()
        loss.backward()
        # Two networks with nothing in common, clipped apart: a large value error must not mute the policy.
        clip_grad_norm_(self.policy.scorer.parameters(), self.max_grad_norm)
        clip_grad_norm_(self.policy.value_net.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        with torch.no_grad():
            moved = {"clip_fraction_slot": slots, "clip_fraction_slate": whole}
            return {
                **{name: ((one.exp() - 1).abs() > clip_range).float().mean().item() for name, one in moved.items()},
                "approx_kl": (whole.exp() - 1 - whole).mean().item(),
                "entropy": entropy.mean().item(),
                "value_loss": value_loss.item(),
                "loss": loss.item(),
            }


def clipped_gain(log_ratio: Tensor, advantage: Tensor, clip_range: float) -> Tensor:
    """PPO's clipped surrogate, elementwise: `min(r A, clip(r) A)` for `r = exp(log_ratio)`."""
    ratio = torch.exp(log_ratio)
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip_range, 1 + clip_range) * advantage)


def slot_credit(advantage: Tensor, clicked: Tensor) -> Tensor:
    """(B, K) the advantage at clicked slots and 0 elsewhere, less the batch's mean for each slot.

    Args:
        advantage: (B,) of the slates.
        clicked: (B, K) 1 or True where a slot was clicked.
    """
    given = advantage[:, None] * clicked
    return given - given.mean(0)


def left_credit(advantage: Tensor, clicked: Tensor) -> Tensor:
    """(B, 1) of slates that nobody clicked the advantage, less its mean over them; 0 for the others.

    Args:
        advantage: (B,) of the slates.
        clicked: (B, K) 1 or True where a slot was clicked.
    """
    left = (clicked > 0).logical_not().all(1)
    mean = advantage[left].mean() if left.any() else 0.0
    return torch.where(left, advantage - mean, 0.0)[:, None]


@dataclass(frozen=True, kw_only=True)
class PPOConfig(ScorerConfig):
    """Settings of `SlatePPO`. Defaults were tuned on the known-truth shop where no source is named."""

    gamma: float = 0.95
    """Discount per slate shown, in [0, 1]."""
    gae_lambda: float = 0.9
    """Bias against variance of advantages, in [0, 1] (Schulman et al. 2016, generalised advantage estimation)."""
    learning_rate: float = 3e-4
    """Of both networks (Schulman et al. 2017); at 1e-3 the policy fell back after some 50,000 slates."""
    schedule: RateSchedule = "constant"
    """Whether the learning rate stays, or falls to 0 in a line (`linear`): what is learnt last is then no noise."""
    rollout: int = 1_024
    """Slates collected, over all envs, between two updates of the policy."""
    minibatches: int = 4
    """Gradient steps for one pass over a rollout."""
    n_epochs: int = 4
    """Passes over each rollout."""
    clip_range: float = 0.2
    """How far a probability ratio may move before it is clipped (Schulman et al. 2017)."""
    clip: Literal["slot", "slate"] = "slot"
    """Whether the ratio is clipped for each slot, or for the slate as a whole."""
    credit: Literal["slot", "slate", "both"] = "slot"
    """Which slots are credited with what a slate earned: those clicked, all, or all where none was; see `SlatePPO`."""
    ent_coef: float = 0.01
    """Weight of the entropy of the whole ordered slate (about `k log n_items` at its largest)."""
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    """Largest gradient norm, of policy and value network each."""
    target_kl: float | None = None
    """Stop the passes over a rollout once the slate's policy has moved 1.5 times this far."""

    def __post_init__(self) -> None:
        fractions = {"gamma": (0, 1), "gae_lambda": (0, 1), "clip_range": (1e-6, 10)}
        sizes = dict.fromkeys(("rollout", "minibatches", "n_epochs"), (1, np.inf))
        check_settings(self, {**SCORER_LIMITS, **fractions, **sizes, "ent_coef": (0, np.inf), "vf_coef": (0, np.inf)})
        scheduled(self.learning_rate, self.schedule)
        if self.clip not in ("slot", "slate"):
            raise ValueError(f"clip must be 'slot' or 'slate', got {self.clip!r}")
        if self.credit not in ("slot", "slate", "both"):
            raise ValueError(f"credit must be 'slot', 'slate' or 'both', got {self.credit!r}")

    def build(
        self,
        env: GymEnv,
        *,
        item_vectors: ArrayLike | Tensor,
        available: ArrayLike | Tensor | None = None,
        seed: int | None = 0,
        device: str = "cpu",
        verbose: int = 0,
    ) -> SlatePPO:
        """A learner for an env.

        Args:
            env: a stable-baselines3 `VecEnv` (or a Gymnasium env) of slates.
            item_vectors: (N + 1, D) by dense index, as wide as the state; row 0 is the padding.
            available: (N + 1,) bool, items that may be shown; all by default.
            seed: of weights, samples and batches; the env is seeded with it too.
            device: where the networks live.
            verbose: 1 prints what stable-baselines3 logs.

        Raises:
            ValueError: spaces, vectors and availability do not fit each other.
        """
        n_envs = getattr(env, "num_envs", 1)
        # As many steps as make the rollout divisible into equal minibatches.
        n_steps = max(-(-self.rollout // (n_envs * self.minibatches)), 1) * self.minibatches
        shape = {"hidden": self.hidden, "scale": self.scale, "max_candidates": self.max_candidates, "seed": seed}
        agent = SlatePPO(
            SlatePolicy,
            env,
            learning_rate=scheduled(self.learning_rate, self.schedule),
            n_steps=n_steps,
            batch_size=n_envs * n_steps // self.minibatches,
            n_epochs=self.n_epochs,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            clip_range=self.clip_range,
            clip=self.clip,
            credit=self.credit,
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
            max_grad_norm=self.max_grad_norm,
            target_kl=self.target_kl,
            policy_kwargs=shape,
            rollout_buffer_kwargs={"seed": seed},
            seed=seed,
            device=device,
            verbose=verbose,
        )
        put_items(agent, item_vectors, available)
        return agent
