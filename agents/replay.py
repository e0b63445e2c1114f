"""The spaces that slate learners know, and PPO's buffer of slates for stable-baselines3.

Of a dictionary observation only the entry `"state"` is kept, so both kinds of observation need the same memory.
Each buffer draws from a generator of its own, so that one learner's batches do not depend on another's.
"""

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

Observation = NDArray[Any] | Mapping[str, NDArray[Any]]


def state_space(space: spaces.Space) -> spaces.Box:
    """The space of states inside an observation space.

    Raises:
        ValueError: there is none: neither a flat `Box` nor a `Dict` with a flat `Box` called "state".
    """
    inner = space.spaces.get("state") if isinstance(space, spaces.Dict) else space
    if not isinstance(inner, spaces.Box) or len(inner.shape) != 1:
        raise ValueError(f"a slate policy observes a Box of shape (d,), or a Dict whose 'state' is one; got {space}")
    return inner


def slate_space(space: spaces.Space) -> tuple[int, int]:
    """Catalogue size and slots (N, K) of an action space of slates.

    Raises:
        ValueError: the space is not `MultiDiscrete([n_items + 1] * k)`.
    """
    if not isinstance(space, spaces.MultiDiscrete) or space.nvec.ndim != 1 or len(set(space.nvec.tolist())) != 1:
        raise ValueError(f"slates are actions of MultiDiscrete([n_items + 1] * k); got {space}")
    return int(space.nvec[0]) - 1, len(space.nvec)


def names_places(slates: spaces.Space) -> bool:
    """Whether an action space's slates name places of the candidates observed; they name items otherwise."""
    return bool(getattr(slates, "places", False))


def candidate_space(observations: spaces.Space, slates: spaces.Space) -> spaces.Box | None:
    """The space of candidates where slates name places among them; None where slates name items.

    Raises:
        ValueError: slates name places, and observations hold no "candidates" of as many places.
    """
    if not names_places(slates):
        return None
    inner = observations.spaces.get("candidates") if isinstance(observations, spaces.Dict) else None
    places = slate_space(slates)[0] + 1
    if not isinstance(inner, spaces.Box) or inner.shape != (places,):
        raise ValueError(f"slates of places need 'candidates' of shape ({places},) to be observed; got {observations}")
    return inner


def catalogue_size(observations: spaces.Space, slates: spaces.Space) -> int:
    """Items that slates choose from, or, where they name places, that the observed candidates come from.

    Raises:
        ValueError: see `candidate_space`.
    """
    candidates = candidate_space(observations, slates)
    return slate_space(slates)[0] if candidates is None else int(candidates.high.max())


def slots_clicked(info: Mapping[str, Any], k: int) -> NDArray[np.bool_]:
    """(K,) which slots an env's info says were clicked: those of "clicks", or the one of "clicked", -1 for none."""
    if "clicks" in info:
        return np.asarray(info["clicks"], bool)
    return np.arange(k) == info.get("clicked", -1)


def state_of(observation: Any) -> Any:
    """The state in an observation (array or tensor): itself, or the entry "state" of a dictionary."""
    return observation["state"] if isinstance(observation, Mapping) else observation


class SlateRolloutSamples(NamedTuple):
    """A minibatch: states (B, D); slates, their log-probabilities and whether clicked (B, K); advantages, returns (B,).

    `items` are the (B, C) int64 that were scored, where these were not all.
    """

    observations: Tensor
    actions: Tensor
    clicked: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    items: Tensor | None = None


class SlateRolloutBuffer(RolloutBuffer):
    """PPO's buffer with a log-probability for each slot, (steps, envs, K), and which slots were clicked.

    Where not all items were scored, it also holds which ones, (steps, envs, C) int32.
    """

    clicked: NDArray[Any]
    items: NDArray[np.int32] | None

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        gae_lambda: float = 1,
        gamma: float = 0.99,
        n_envs: int = 1,
        seed: int | None = None,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        super().__init__(buffer_size, state_space(observation_space), action_space, device, gae_lambda, gamma, n_envs)

    def reset(self) -> None:
        """Empty the buffer."""
        super().reset()
        self.log_probs = np.zeros((self.buffer_size, self.n_envs, self.action_dim), dtype=np.float32)
        self.clicked = np.zeros((self.buffer_size, self.n_envs, self.action_dim), dtype=bool)
        self.items = None

    def keep_items(self, items: Tensor) -> None:
        """Keep which items, (E, C), were scored in the step of every env that is added next."""
        if self.items is None:
            self.items = np.zeros((self.buffer_size, *items.shape), np.int32)
        self.items[self.pos] = items.cpu().numpy()

    def add(self, obs: Any, action: Any, reward: Any, episode_start: Any, value: Tensor, log_prob: Tensor) -> None:
        """Add one step of every env; see the base class."""
        super().add(state_of(obs), action, reward, episode_start, value, log_prob)

    def get(self, batch_size: int | None = None) -> Generator[SlateRolloutSamples, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Minibatches of the whole buffer, in random order."""
        if not self.generator_ready:
            for name in ("observations", "actions", "clicked", "values", "log_probs", "advantages", "returns"):
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))
            if self.items is not None:
                self.items = self.swap_and_flatten(self.items)
            self.generator_ready = True
        order = self.rng.permutation(self.buffer_size * self.n_envs)
        for start in range(0, len(order), batch_size or len(order)):
            yield self._get_samples(order[start : start + (batch_size or len(order))])

    def _get_samples(self, batch_inds: NDArray[Any], env: VecNormalize | None = None) -> SlateRolloutSamples:  # noqa: ARG002  # pyright: ignore[reportIncompatibleMethodOverride]
        wide = (self.observations, self.actions, self.clicked, self.log_probs)
        states, slates, clicked, log_probs = (self.to_torch(column[batch_inds]) for column in wide)
        flat = (self.advantages, self.returns)
        advantages, returns = (self.to_torch(column[batch_inds].flatten()) for column in flat)
        items = None if self.items is None else self.to_torch(self.items[batch_inds]).long()
        return SlateRolloutSamples(states, slates, clicked, log_probs, advantages, returns, items)
