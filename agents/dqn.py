"""SlateQ in stable-baselines3: a deep Q-network over slates.

Shapes: B rows, K slots, D width of the state, N items, C candidates.

A slate's value is taken apart by what the shopper does with it,

    Q(s, A) = sum over i in A of P(i | s, A) Q(s, i), plus P(nothing | s, A) Q(s, 0).

`Q(s, i)` learns from the slates on which i was clicked, `Q(s, 0)` from those without a click, and P, a conditional
logit with slot effects, from all of them: from the slots clicked, or from what a click model says their chances were.
The best next slate is found exactly (`slate_choice`).

With `shown_value` each item adds `shown(s, i)`, learnt from all slots of all slates, for what is passed over may tire:

    Q(s, A) = sum over i in A of (P(i | s, A) gain(s, i) + shown(s, i)) + Q(s, 0), where Q(s, i) = Q(s, 0) + gain(s, i).

The best next slate is then found by exchanging items, and not always exactly.

Source: SlateQ, Ie et al., IJCAI 2019 (arXiv 1905.12767); double Q-learning, van Hasselt et al., AAAI 2016; n-step
returns and priorities as in Rainbow, Hessel et al., AAAI 2018.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import LinearSchedule, polyak_update
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from .dqn_policy import SlateQPolicy
from .learning import check_finite, put_items
from .plackett_luce import sample_slates, seeded
from .replay import state_of
from .scorers import SlateQScorer
from .slate_choice import NEVER, slate_value
from .transitions import CHANCES, SlateReplayBuffer, SlateSamples

ClickModel = Callable[[Any, NDArray[np.int64]], Tensor]
"""Observations and slates (B, K) -> (B, K + 1) chance of no click and of a click at each slot; see `ShopperClicks`."""


class SlateDQN(OffPolicyAlgorithm):
    """SlateQ learner. Made by `DQNConfig.build`; beyond `OffPolicyAlgorithm` it takes the arguments below.

    Args:
        policy: `SlateQPolicy`.
        env: a `VecEnv` whose infos name the `"clicked"` slot, -1 for none. Its slates hold items, or, where its action
            space says `places`, places of the "candidates" it lets observe.
        exploration_start: chance that a shopper is shown an exploring slate, at first.
        exploration_end: the same after `exploration_fraction` of the training.
        exploration_fraction: share of the training over which it falls.
        uniform_share: share of exploring slates drawn uniformly; the others are drawn by the choice model's utilities.
        iterations: Dinkelbach steps for the slates of the targets; greedy slates always take the full number.
        max_grad_norm: largest gradient norm.
        double: whether the next slate is picked by the network that learns; otherwise by the target network itself.
        target: which next slate values a state: the best one, as Q-learning does, or the one that was shown there, as
            SARSA does; where none was, the best one again.
        correction: how far draws by priority are corrected for at first, in [0, 1]; in full at the end of training.
        huber: error of a value from which its loss grows linearly, in mean sizes of a reward.
        settings: of `OffPolicyAlgorithm`.

    Attributes:
        click_model: tells the chances from which the choice model learns; where None, it learns from the slots clicked.
            It is not saved: give it again after `load`.
    """

    policy: SlateQPolicy
    replay_buffer: SlateReplayBuffer  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        policy: Any,
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        *,
        exploration_start: float = 0.3,
        exploration_end: float = 0.05,
        exploration_fraction: float = 0.5,
        uniform_share: float = 0.5,
        iterations: int = 4,
        max_grad_norm: float = 10.0,
        double: bool = True,
        target: Literal["best", "shown"] = "best",
        correction: float = 0.4,
        huber: float = 1.0,
        _init_setup_model: bool = True,
        **settings: Any,
    ) -> None:
        settings.setdefault("replay_buffer_class", SlateReplayBuffer)
        super().__init__(
            policy,
            env,
            learning_rate,
            sde_support=False,
            support_multi_env=True,
            supported_action_spaces=(spaces.MultiDiscrete,),
            **settings,
        )
        self.exploration_start, self.exploration_end = exploration_start, exploration_end
        self.exploration_fraction, self.uniform_share = exploration_fraction, uniform_share
        self.iterations, self.max_grad_norm = iterations, max_grad_norm
        self.double, self.target, self.correction, self.huber = double, target, correction, huber
        self.click_model: ClickModel | None = None
        self.exploration_rate = exploration_start
        self._ready = False
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self.exploration_schedule = LinearSchedule(
            self.exploration_start, self.exploration_end, self.exploration_fraction
        )
        self._generator = seeded(self.seed, self.device)

    @property
    def scorer(self) -> SlateQScorer:
        """State -> scores whose top K is the greedy slate; what is exported."""
        return self.policy.scorer

    @property
    def k(self) -> int:
        """Slots of a slate."""
        return self.scorer.k

    def set_items(self, item_vectors: ArrayLike | Tensor, available: ArrayLike | Tensor | None = None) -> None:
        """Give the learner its catalogue, and its target network the same."""
        put_items(self, item_vectors, available)
        self.policy.target.set_items(self.scorer.item_vectors, self.scorer.available)

    def _on_step(self) -> None:
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.int64], tuple[NDArray[Any], ...] | None]:
        """Greedy slates; unless `deterministic`, each shopper by chance (`exploration_rate`) an exploring one."""
        slates, state = self.policy.predict(observation, state, episode_start, deterministic=True)
        if deterministic:
            return slates, state
        seen, many = self.policy.obs_to_tensor(observation)
        explored = self._explore(seen).cpu().numpy()
        rows = (
            torch.rand(len(explored), generator=self._generator, device=self.device).cpu().numpy()
            < self.exploration_rate
        )
        mixed = np.where(rows[:, None], explored, slates.reshape(-1, self.k))
        return (mixed if many else mixed[0]), state

    @torch.no_grad()
    def _explore(self, observation: Any) -> Tensor:
        """(B, K) slates to learn from: some uniform, some Plackett-Luce by what shoppers seem to like."""
        scorer, state, places = self.scorer, state_of(observation), self.policy.places
        items = observation["candidates"].long() if places else scorer.candidates(state)
        utility = scorer.utilities(state, items).expand(len(state), -1)
        uniform = torch.rand(len(state), 1, generator=self._generator, device=state.device) < self.uniform_share
        logits = utility.masked_fill(uniform, 0.0).masked_fill(~scorer.allowed(items), NEVER)
        columns = sample_slates(logits, self.k, self._generator)
        return columns if items is None or places else items.gather(1, columns)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        del learning_starts, action_noise, n_envs
        # No uniform warm-up: the untrained scorer already ranks as the encoder does, and exploration is in `predict`.
        slates, _ = self.predict(self._last_obs, deterministic=False)
        return slates, slates

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: NDArray[Any],
        new_obs: Any,
        reward: NDArray[Any],
        dones: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        if self.replay_buffer.keep_chances:
            if self.click_model is None:
                raise ValueError("choice='shopper' learns from a click model; set click_model, also after load")
            chances = self.click_model(self._last_obs, buffer_action).cpu().numpy()
            for info, row in zip(infos, chances, strict=True):
                info[CHANCES] = row
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Take gradient steps on the replay; the target network follows after each.

        Raises:
            DivergedError: the loss is no longer finite.
        """
        whole = self.replay_buffer.buffer_size * self.replay_buffer.n_envs  # rows of envs, rounded down
        if len(self.replay_buffer) < max(min(self.learning_starts, whole), 1):
            return  # a resumed run starts with an empty replay
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        if not self._ready:
            self._calibrate(self.replay_buffer.sample(min(len(self.replay_buffer), 4_096)))
            self._ready = True
        figures: dict[str, float] = {}
        correction = 1 - (1 - self.correction) * self._current_progress_remaining  # in full at the end (Schaul et al.)
        for _ in range(gradient_steps):
            figures = self._update(self.replay_buffer.sample(batch_size, correction=correction))
        self._n_updates += gradient_steps
        for name, value in figures.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    @torch.no_grad()
    def _calibrate(self, batch: SlateSamples) -> None:
        """Start the outside option at the click rate seen, and the unit of value at the mean size of a reward."""
        scorer, rate = self.scorer, (batch.clicked >= 0).float().mean().clamp(1e-3, 1 - 1e-3)
        inside = torch.logsumexp(
            scorer.choice.at(batch.states, scorer.item_vectors, batch.slates) + scorer.place, dim=1
        )
        low, high = inside.min() - 20, inside.max() + 20
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if torch.sigmoid(inside - middle).mean() > rate else (low, middle)
        rewarded = batch.rewards[batch.rewards != 0].abs()
        for one in (scorer, self.policy.target):
            one.outside.last.bias.fill_(low)
            one.unit.fill_(rewarded.mean() if len(rewarded) else 1.0)

    def _update(self, batch: SlateSamples) -> dict[str, float]:
        wanted = self._targets(batch)
        choice_loss, value_loss, value = self._losses(batch, wanted)
        loss = choice_loss + value_loss
        check_finite(loss, self)
        self.policy.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.scorer.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        polyak_update(self.scorer.parameters(), self.policy.target.parameters(), self.tau)
        self.replay_buffer.surprised(batch.rows, (value - wanted).detach().cpu().numpy())
        return {"choice_loss": choice_loss.item(), "value_loss": value_loss.item(), "value": value.mean().item()}

    def _losses(self, batch: SlateSamples, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the choice model and of values, and the (B,) values of what the shoppers did."""
        scorer, states, slates = self.scorer, batch.states, batch.slates
        utility = scorer.choice.at(states, scorer.item_vectors, slates) + scorer.place
        logits = torch.cat([scorer.outside(states)[:, None], utility.masked_fill(slates == 0, NEVER)], dim=1)
        chosen = batch.clicked + 1 if batch.chances is None else batch.chances
        # The choice model must foretell how often shoppers click, so it always sees the replay as it is.
        choice_loss = (batch.even * F.cross_entropy(logits, chosen, reduction="none")).mean()
        hit = batch.clicked >= 0
        taken = slates.gather(1, batch.clicked.clamp(min=0)[:, None])
        gain = scorer.gain.at(states, scorer.item_vectors, taken).squeeze(1)
        value = scorer.null(states) + torch.where(hit, gain, torch.zeros_like(gain)) + scorer.showing(states, slates)
        value_loss = (batch.weights * F.huber_loss(value, wanted, reduction="none", delta=self.huber)).mean()
        return choice_loss, value_loss, value

    @torch.no_grad()
    def _targets(self, batch: SlateSamples) -> Tensor:
        """(B,) rewards plus the discounted value of the next slate: picked online, valued by the target."""
        scorer, target, state = self.scorer, self.policy.target, batch.next_states
        items = scorer.candidates(state) if batch.next_items is None else batch.next_items
        slate = (scorer if self.double else target).best(state, items, self.iterations).slate
        slate = slate if items is None else items.gather(1, slate)
        if self.target == "shown" and batch.next_slates is not None:
            slate = torch.where((batch.next_slates > 0).any(1, keepdim=True), batch.next_slates, slate)
        utility = target.choice.at(state, target.item_vectors, slate).masked_fill(slate == 0, NEVER)
        gain = target.gain.at(state, target.item_vectors, slate)
        value = target.null(state) + slate_value(utility, gain, target.outside(state), target.place)
        value = value + target.showing(state, slate)
        return batch.rewards / scorer.unit + batch.discounts * value

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_generator", "click_model"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
