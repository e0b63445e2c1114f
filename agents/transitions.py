"""The replay of slates: states, slates, what the shopper chose, and what came of it over the next n slates.

Shapes: B rows drawn, E envs, D width of the state, K slots. Rows are numbered `step * E + env`.

Each state is kept once: the next state of a row is the row below it, and only where an episode ended, or was broken
off, it is kept apart. Where slates name places among candidates, these are kept beside the state. Slates are int32. At
a width of 64 and 10 slots a row takes about 320 bytes.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from .priorities import Priorities
from .replay import candidate_space, state_of, state_space

Ints = NDArray[np.int64]
CHANCES = "choice_chances"
"""Entry of an info: (K + 1,) chance of no click and of a click at each slot, where a click model tells it."""


class SlateSamples(NamedTuple):
    """Transitions over up to n slates: what a slate earned, and the state from which to go on.

    Attributes:
        states: (B, D).
        slates: (B, K) int64 items.
        clicked: (B,) int64 slot, -1 for none.
        next_states: (B, D) after the last of the slates counted.
        discounts: (B,) what the value of `next_states` counts for: `gamma ** slates counted`, 0 after a true end.
        rewards: (B,) discounted sum over the slates counted.
        weights: (B,) corrections for drawing some rows more often than others, 1 at most; 1 where all are drawn alike.
        even: (B,) the same in full, of mean 1: with them, means over the batch are means over the replay.
        chances: (B, K + 1) chance of no click and of each slot, where the replay keeps them.
        rows: (B,) numbers of the rows, for `SlateReplayBuffer.surprised`.
        next_slates: (B, K) int64 items shown in `next_states`; 0 where nothing was, or it is not known.
        next_items: (B, C) int64 candidates in `next_states`, where slates name places among candidates.
    """

    states: Tensor
    slates: Tensor
    clicked: Tensor
    next_states: Tensor
    discounts: Tensor
    rewards: Tensor
    weights: Tensor
    even: Tensor
    chances: Tensor | None
    rows: Ints
    next_slates: Tensor | None = None
    next_items: Tensor | None = None


class SlateReplayBuffer(BaseBuffer):
    """Replay of slates with the slot that was clicked, read from `infos`.

    True ends alone end a return: an episode cut short by a time limit, or by a reset, is bootstrapped over.

    Args:
        buffer_size: slates remembered, of all envs together.
        observation_space: of states, see `state_space`.
        action_space: of slates.
        device: where samples go.
        n_envs: E.
        optimize_memory_usage: must stay off; each state is kept once anyway.
        seed: of the rows drawn.
        n_steps: slates whose rewards are counted before the value of a state stands in for the rest. Those after the
            first were chosen by an older policy; as in Rainbow (Hessel et al., AAAI 2018) this is not corrected.
        gamma: discount per slate.
        priority: 0 draws all rows alike; above it, rows in proportion to (error + small) to this power.
        keep_chances: whether infos hold `CHANCES`, and samples too.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        seed: int | None = None,
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
        priority: float = 0.0,
        keep_chances: bool = False,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError("a replay of slates keeps each state once already; leave optimize_memory_usage off")
        super().__init__(max(buffer_size // n_envs, 1), state_space(observation_space), action_space, device, n_envs)
        self.rng = np.random.default_rng(seed)
        self.n_steps, self.gamma, self.keep_chances = n_steps, gamma, keep_chances
        rows, self._dim = (self.buffer_size, n_envs), state_space(observation_space).shape[0]
        candidates = candidate_space(observation_space, action_space)
        self._places = 0 if candidates is None else candidates.shape[0]
        self.states = np.zeros((*rows, self._dim + self._places), np.float32)  # items below 2**24 are exact
        self.slates = np.zeros((*rows, self.action_dim), np.int32)
        self.clicked = np.full(rows, -1, np.int16)
        self.rewards = np.zeros(rows, np.float32)
        self.over = np.zeros(rows, bool)  # nothing follows: a true end, a time limit, or a reset
        self.ended = np.zeros(rows, bool)  # a true end
        self.chances = np.zeros((*rows, self.action_dim + 1), np.float32) if keep_chances else None
        self._last_states: dict[int, NDArray[np.float32]] = {}  # of rows that are over
        self._upcoming: NDArray[np.float32] | None = None  # (E, D) what follows the newest rows
        self.priorities = Priorities(self.buffer_size * n_envs, priority) if priority > 0 else None

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[dict[str, Any]]) -> None:
        """Add one step of every env.

        Raises:
            ValueError: an info lacks "clicked", without which the shopper's choice cannot be learnt.
        """
        if "clicked" not in infos[0]:
            raise ValueError(f"SlateDQN learns from infos['clicked'] (slot or -1); the env gave {sorted(infos[0])}")
        at, state = self.pos, self._kept(obs)
        self._break_off(state)
        for env in np.flatnonzero(self.over[at]):
            del self._last_states[at * self.n_envs + int(env)]
        self.states[at], self.slates[at], self.rewards[at], self.over[at] = state, action, reward, done
        self.clicked[at] = [int(info["clicked"]) for info in infos]
        self.ended[at] = done & ~np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        if self.chances is not None:
            self.chances[at] = [info[CHANCES] for info in infos]
        self._upcoming = self._kept(next_obs).copy()
        for env in np.flatnonzero(done):
            self._last_states[at * self.n_envs + int(env)] = self._upcoming[env].copy()
        if self.priorities is not None:
            self.priorities.add(at * self.n_envs + np.arange(self.n_envs))
        self.pos = (at + 1) % self.buffer_size
        self.full |= self.pos == 0

    def _kept(self, observation: Any) -> NDArray[np.float32]:
        """(E, D) states, and the candidates beside them where there are any."""
        state = np.asarray(state_of(observation), np.float32)
        if not self._places:
            return state
        return np.concatenate([state, np.asarray(observation["candidates"], np.float32)], axis=1)

    def _break_off(self, state: NDArray[np.float32]) -> None:
        """End the newest rows that these states do not follow: the env was reset in between."""
        if self._upcoming is None:
            return
        before = (self.pos - 1) % self.buffer_size
        broken = ~self.over[before] & (state != self._upcoming).any(1)
        for env in np.flatnonzero(broken):
            self.over[before, env] = True
            self._last_states[before * self.n_envs + int(env)] = self._upcoming[env].copy()

    def __len__(self) -> int:
        return self.size() * self.n_envs

    def sample(self, batch_size: int, env: VecNormalize | None = None, *, correction: float = 1.0) -> SlateSamples:  # noqa: ARG002  # pyright: ignore[reportIncompatibleMethodOverride]
        """Transitions drawn with replacement, uniformly or by priority.

        Args:
            batch_size: B.
            env: not used.
            correction: how far `weights` correct for priorities, from 0 (not at all) to 1 (in full).
        """
        if self.priorities is None:
            return self._get_samples(self.rng.integers(0, len(self), batch_size))
        rows, chance = self.priorities.draw(batch_size, self.rng)
        rare = 1 / (len(self) * chance)
        weights = rare**correction
        batch = self._get_samples(rows)
        return batch._replace(weights=self._told(weights / weights.max()), even=self._told(rare / rare.mean()))

    def surprised(self, rows: Ints, errors: NDArray[Any]) -> None:
        """Tell by how much each row drawn was misjudged, (B,); large errors are drawn again sooner."""
        if self.priorities is not None:
            self.priorities.set(rows, np.abs(errors))

    def _get_samples(self, batch_inds: Ints, env: VecNormalize | None = None) -> SlateSamples:  # noqa: ARG002  # pyright: ignore[reportIncompatibleMethodOverride]
        step, row = np.divmod(batch_inds, self.n_envs)
        last, rewards, counted = self._walk(step, row)
        discounts = self.gamma**counted * ~self.ended[last, row]
        ones = torch.ones(len(step), device=self.device)
        seen, after = self.states[step, row], self._after(last, row)
        following = (last + 1) % self.buffer_size
        unknown = self.over[last, row] | (last == (self.pos - 1) % self.buffer_size)
        shown = np.where(unknown[:, None], 0, self._items(after, self.slates[following, row]))
        return SlateSamples(
            states=self._told(seen[:, : self._dim]),
            slates=self._told(self._items(seen, self.slates[step, row]), np.int64),
            clicked=self._told(self.clicked[step, row], np.int64),
            next_states=self._told(after[:, : self._dim]),
            next_slates=self._told(shown, np.int64),
            next_items=self._told(after[:, self._dim :], np.int64) if self._places else None,
            discounts=self._told(discounts),
            rewards=self._told(rewards),
            weights=ones,
            even=ones,
            chances=None if self.chances is None else self._told(self.chances[step, row]),
            rows=batch_inds,
        )

    def _items(self, seen: NDArray[np.float32], slates: NDArray[Any]) -> NDArray[Any]:
        """(B, K) the items of slates, which name places among the candidates kept where there are any."""
        return np.take_along_axis(seen[:, self._dim :], slates, 1) if self._places else slates

    def _walk(self, step: Ints, row: Ints) -> tuple[Ints, NDArray[np.float64], Ints]:
        """Up to n slates on from each row: the last one's step, the discounted rewards, and how many slates.

        It ends early where nothing follows: at an episode's last slate, and at the newest slate of all.
        """
        newest = (self.pos - 1) % self.buffer_size
        last, rewards = step.copy(), self.rewards[step, row].astype(np.float64)
        counted = np.ones(len(step), np.int64)
        going = np.ones(len(step), bool)
        for _ in range(1, self.n_steps):
            going &= ~self.over[last, row] & (last != newest)
            last = np.where(going, (last + 1) % self.buffer_size, last)
            rewards += np.where(going, self.gamma**counted * self.rewards[last, row], 0.0)
            counted += going
        return last, rewards, counted

    def _after(self, step: Ints, row: Ints) -> NDArray[np.float32]:
        """(B, D) the states that follow these rows."""
        assert self._upcoming is not None
        states = self.states[(step + 1) % self.buffer_size, row]
        newest = step == (self.pos - 1) % self.buffer_size
        states[newest] = self._upcoming[row[newest]]
        for place in np.flatnonzero(self.over[step, row]):
            states[place] = self._last_states[int(step[place]) * self.n_envs + int(row[place])]
        return states

    def _told(self, column: NDArray[Any], dtype: Any = np.float32) -> Tensor:
        return torch.as_tensor(column.astype(dtype), device=self.device)
