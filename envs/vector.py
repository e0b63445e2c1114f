"""The native batch: a Gymnasium vector environment of shoppers, computed at once instead of one by one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, create_empty_array
from numpy.typing import ArrayLike, NDArray

from ..datasets.catalogue import Catalogue
from ..encoders.state import StateEncoder
from ..simulators.shopper import Shopper
from .batch import Observation, ShopBatch
from .defaults import DEFAULT_K, DEFAULT_MAX_SLATES, parts
from .figures import Bools, Ints, with_masks
from .render import RENDER_MODES, checked_mode, rendered
from .rewards import RewardMix, SlateOutcome, reward_of
from .seeds import SeedStreams
from .settings import ActionKind, ObservationKind, Retrieve, ShopSettings
from .waiting import WaitingRoom

_OPTIONS = ("reset_mask", "shopper_seeds")


class ShopVectorEnv(gym.vector.VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """Many shoppers, one slate each per step; row i, seeded s + i, is the `ShopEnv` seeded s + i.

    ## Action Space
    As `ShopEnv`, rows first: (num_envs, k) int64, sampled without repeats.
    ## Observation Space
    As `ShopEnv`, rows first.
    ## Rewards
    (num_envs,) float64: the `reward` mix of what happened on each slate. `infos` has `ShopEnv`'s figures as arrays,
    each with a mask `_figure` beside it; rows outside the mask are zero.
    ## Starting State
    As `ShopEnv`. `reset(seed=s)` seeds row i with s + i; a sequence gives each row its own seed, or None to go on.
    `options={"shopper_seeds": (num_envs,) ints}` names the very shoppers, so that policies can be compared on the same
    ones, and `options={"reset_mask": (num_envs,) bool}` the rows to reset.
    ## Episode End
    As `ShopEnv`. The row's next shopper arrives, by `autoreset_mode`, at the next step, whose action for this row is
    passed over (NEXT_STEP); at once, with the old shopper's last view in `final_obs` and `final_info` (SAME_STEP); or
    when the caller resets the row by `reset_mask` (DISABLED).
    ## Arguments
    As `ShopEnv`, and `num_envs` (int, 1), `autoreset_mode` (AutoresetMode or its value, NEXT_STEP), `copy` (bool, True:
    every observation is an array of its own; False: all steps return the same arrays, overwritten), `max_episode_steps`
    (int: what `gymnasium.make_vec` calls a limit of slates; the smaller of the two holds).
    ## Version History
    - v0: first release.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": RENDER_MODES,
        "render_fps": 1,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        shopper: Shopper | None = None,
        encoder: StateEncoder | None = None,
        k: int = DEFAULT_K,
        reward: RewardMix | str | Mapping[str, float] | Callable[[SlateOutcome], Any] = "clicks_and_purchases",
        max_slates: int = DEFAULT_MAX_SLATES,
        *,
        observation: ObservationKind = "state",
        history_len: int = 20,
        available: ArrayLike | Literal["on_sale"] | None = None,
        doubt: float | None = None,
        candidates: int | None = None,
        retrieve: Retrieve | None = None,
        actions: ActionKind | None = None,
        visits: bool = False,
        max_visits: int = 20,
        max_days: float = 365.0,
        day_discount: float = 1.0,
        remembers: bool = False,
        search: bool = False,
        query_vectors: ArrayLike | None = None,
        device: torch.device | str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        catalogue: Catalogue | None = None,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        shopper, encoder, self.catalogue = parts(shopper, encoder, catalogue, visits=visits, device=device)
        settings = ShopSettings(
            k=k,
            reward=reward_of(reward),
            max_slates=limited(max_slates, max_episode_steps),
            observation=observation,
            history_len=history_len,
            available=available,
            doubt=doubt,
            candidates=candidates,
            retrieve=retrieve,
            actions=actions,
            visits=visits,
            max_visits=max_visits,
            max_days=max_days,
            day_discount=day_discount,
            remembers=remembers,
            search=search,
            query_vectors=query_vectors,
        )
        self.batch = ShopBatch(num_envs, shopper, encoder, settings, self.catalogue)
        self.num_envs, self.copy, self.render_mode = num_envs, copy, checked_mode(render_mode)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.single_action_space = self.batch.action_space
        self.single_observation_space = self.batch.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._buffer: Any = None if copy else create_empty_array(self.single_observation_space, num_envs)
        self._streams = SeedStreams(num_envs)
        self._room = WaitingRoom(self.batch, self._streams)
        self._ended = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Let new shoppers arrive, in all rows or those of `options["reset_mask"]`.

        Raises:
            ValueError: an unknown option, or seeds or a mask of another length.
        """
        if isinstance(seed, int):
            super().reset(seed=seed)
        options = _checked(options, self.num_envs)
        mask = options.get("reset_mask")
        if mask is None or not self.batch.started:
            mask = np.ones(self.num_envs, np.bool_)
        rows = np.flatnonzero(mask)
        self._streams.seed(rows, seed, self.np_random)
        drawn, named = self._streams.draw(rows), options.get("shopper_seeds")
        self.batch.arrive(rows, drawn if named is None else named[rows])
        self._room.forget(rows)
        self._ended[rows] = False
        return self.batch.observe(out=self._buffer), with_masks(self.batch.episode(), mask)

    def step(self, actions: NDArray[np.int64]) -> tuple[Observation, NDArray[Any], Bools, Bools, dict[str, Any]]:
        """Show each shopper a slate, (num_envs, k).

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`, or, without autoreset, after a row's episode ended.
            ValueError: `actions` are no slates over these items.
        """
        self._refuse_ended()
        turn = self.batch.show(self._counted(actions))
        rewards, terminated, truncated = turn.rewards, turn.terminated, turn.truncated
        observation = self.batch.observe(out=self._buffer)
        infos: dict[str, Any] = {}
        fresh = np.zeros(self.num_envs, np.bool_)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._ended.any():
            fresh = self._ended
            rewards, terminated, truncated = rewards * ~fresh, terminated & ~fresh, truncated & ~fresh
        self._ended = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._ended.any():
            fresh = self._ended.copy()
            infos = self._finals(observation, turn.figures, fresh)
        if fresh.any():
            self._replace(np.flatnonzero(fresh), observation)
        infos |= with_masks(turn.figures, ~fresh)
        infos |= with_masks(self.batch.episode(), np.ones(self.num_envs, np.bool_))
        return observation, rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """The last slate of each row: text under `"ansi"`, pictures (height, 720, 3) uint8 under `"rgb_array"`.

        A row whose next shopper is there already, as after an end under SAME_STEP, shows that one.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        frames = rendered(self.batch, self.render_mode, self.catalogue)
        return None if frames is None else tuple(frames)

    @property
    def queries(self) -> tuple[str, ...]:
        """Texts of the searches that `info["query"]` numbers; none where nobody searches."""
        return () if self.batch.search is None else self.batch.search.texts

    def action_masks(self) -> Bools:
        """(num_envs, k * (n + 1)) bool, a row a shopper; see `ShopEnv.action_masks`.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if not self.batch.started:
            raise gym.error.ResetNeeded("call reset() before action_masks(): no shopper has arrived yet")
        return self.batch.shelf.action_masks()

    def _refuse_ended(self) -> None:
        if not self.batch.started:
            raise gym.error.ResetNeeded("call reset() before step(): no shopper has arrived yet")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            rows = np.flatnonzero(self._ended).tolist()
            raise gym.error.ResetNeeded(
                f"the episodes of rows {rows} have ended; reset them by options={{'reset_mask': ...}}"
            )

    def _counted(self, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slates, empty where the row only waits for its next shopper: what is given there may be anything."""
        if self.autoreset_mode is not AutoresetMode.NEXT_STEP or not self._ended.any():
            return actions
        slates = np.array(actions)
        if slates.shape == (self.num_envs, self.batch.k):  # another shape is refused, with its words, as it is
            slates[self._ended] = 0
        return slates

    def _replace(self, rows: Ints, observation: Observation) -> None:
        """Next shoppers for rows whose episode is over, seen in `observation`."""
        self.batch.arrive(rows, *self._room.next(rows))
        self._ended[rows] = False
        seen = self.batch.observe(rows)
        if isinstance(observation, dict):
            for name, values in seen.items():
                observation[name][rows] = values
        else:
            observation[rows] = seen

    def _finals(self, observation: Observation, figures: dict[str, NDArray[Any]], ended: Bools) -> dict[str, Any]:
        """The last view of shoppers about to be replaced, as Gymnasium lays it out."""
        rows, last = np.flatnonzero(ended), np.full(self.num_envs, None, dtype=object)
        if isinstance(observation, dict):
            seen = {name: values[rows] for name, values in observation.items()}
            for place, row in enumerate(rows.tolist()):
                last[row] = {name: values[place] for name, values in seen.items()}
        else:
            for row, seen in zip(rows.tolist(), observation[rows], strict=True):
                last[row] = seen
        final_info = with_masks({**figures, **self.batch.episode()}, ended)
        return {"final_obs": last, "_final_obs": ended.copy(), "final_info": final_info, "_final_info": ended.copy()}


def limited(max_slates: int, max_episode_steps: int | None) -> int:
    """The smaller limit; `gymnasium.make_vec` passes the latter on."""
    return max_slates if max_episode_steps is None else min(max_slates, max_episode_steps)


def _checked(options: Mapping[str, Any] | None, rows: int) -> dict[str, NDArray[Any]]:
    """Options of a reset as arrays."""
    options = options or {}
    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"reset knows no option {name!r}; it knows {', '.join(_OPTIONS)}")
    checked: dict[str, NDArray[Any]] = {}
    for name, kind in (("reset_mask", np.bool_), ("shopper_seeds", np.int64)):
        if options.get(name) is None:
            continue
        values = np.asarray(options[name])
        if values.shape != (rows,) or not np.can_cast(values.dtype, kind, "same_kind"):
            raise ValueError(
                f"option {name!r} must be {kind.__name__} of shape ({rows},), got {values.dtype} {values.shape}"
            )
        checked[name] = values.astype(kind)
    if "reset_mask" in checked and not checked["reset_mask"].any():
        raise ValueError("option 'reset_mask' names no row; leave it out to reset all")
    return checked
