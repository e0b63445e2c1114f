"""Gymnasium's own wrappers and vector environments work on ours, without a warning, and say what they should."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers as single
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as many

from slatewise.envs import ShopVectorEnv
from slatewise.envs.picture import picture_shape
from slatewise.envs.sb3 import SB3Bridge

ID = "slatewise.envs:slatewise/Shop-v0"
SHORT: dict[str, Any] = {"k": 3, "max_slates": 4}


def played(env: gym.Env[Any, Any], episodes: int = 3) -> list[dict[str, Any]]:
    """Play whole episodes, and see that what comes out is of the spaces promised; infos of the last steps."""
    env.action_space.seed(0)
    last = []
    for episode in range(episodes):
        seen, info = env.reset(seed=episode)
        ended = False
        while not ended:
            assert env.observation_space.contains(seen)
            seen, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert np.isfinite(float(reward))
            ended = terminated or truncated
        assert env.observation_space.contains(seen)
        last.append(info)
    return last


SINGLE: dict[str, tuple[str, Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]]] = {
    "FlattenObservation": ("history", single.FlattenObservation),
    "FrameStackObservation": ("state", partial(single.FrameStackObservation, stack_size=4)),
    "DelayObservation": ("state", partial(single.DelayObservation, delay=1)),
    "TimeAwareObservation": (
        "history",
        lambda env: single.TimeAwareObservation(single.TimeLimit(env, max_episode_steps=3)),
    ),
    "FilterObservation": ("history", partial(single.FilterObservation, filter_keys=["state", "items"])),
    "DtypeObservation": ("state", partial(single.DtypeObservation, dtype=np.float64)),
    "RescaleObservation": (
        "state",
        partial(single.RescaleObservation, min_obs=np.float32(0), max_obs=np.float32(1)),
    ),
    "NormalizeObservation": ("state", single.NormalizeObservation),
    "NormalizeReward": ("state", single.NormalizeReward),
    "ClipReward": ("state", partial(single.ClipReward, min_reward=0.0, max_reward=1.0)),
    "TimeLimit": ("state", partial(single.TimeLimit, max_episode_steps=2)),
    "RecordEpisodeStatistics": ("state", single.RecordEpisodeStatistics),
    "Autoreset": ("state", single.Autoreset),
}


# Gymnasium asks whether the limits of float64 fit into float32, and NumPy warns.
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("name", SINGLE)
def test_a_wrapper_of_single_environments_works(name: str) -> None:
    observation, wrap = SINGLE[name]
    env = wrap(gym.make(ID, observation=observation, **SHORT))
    if name == "NormalizeObservation":  # its space does not bound what it gives
        env.reset(seed=0)
        assert np.isfinite(env.step(env.action_space.sample())[0]).all()
        return
    played(env)


def test_statistics_of_episodes_are_the_sums_of_what_was_earned() -> None:
    env = single.RecordEpisodeStatistics(gym.make(ID, **SHORT))
    env.action_space.seed(0)
    for episode in range(5):
        env.reset(seed=episode)
        total, length, ended, info = 0.0, 0, False, {}
        while not ended:
            _, reward, terminated, truncated, info = env.step(env.action_space.sample())
            total, length, ended = total + float(reward), length + 1, terminated or truncated
        assert info["episode"]["r"] == pytest.approx(total)
        assert info["episode"]["l"] == length == info["slates"]


def test_a_time_limit_of_gymnasium_s_truncates_and_does_not_terminate() -> None:
    for episode in range(5):
        env = gym.make(ID, k=3, max_episode_steps=1)
        env.reset(seed=episode)
        _, _, terminated, truncated, _ = env.step(np.array([1, 2, 3]))
        assert truncated
        assert isinstance(terminated, bool)


def test_a_flat_history_is_the_history() -> None:
    plain = gym.make(ID, observation="history", **SHORT)
    flat = single.FlattenObservation(gym.make(ID, observation="history", **SHORT))
    expected, _ = plain.reset(seed=4)
    seen, _ = flat.reset(seed=4)
    back: Any = gym.spaces.unflatten(plain.observation_space, seen)
    for name, values in expected.items():
        np.testing.assert_array_equal(back[name], values)


MANY: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "FlattenObservation": ("history", many.FlattenObservation),
    "DtypeObservation": ("state", partial(many.DtypeObservation, dtype=np.float64)),
    "FilterObservation": ("history", partial(many.FilterObservation, filter_keys=["state", "items"])),
    "RescaleObservation": (
        "state",
        partial(many.RescaleObservation, min_obs=np.float32(0), max_obs=np.float32(1)),
    ),
    "NormalizeObservation": ("state", many.NormalizeObservation),
    "NormalizeReward": ("state", many.NormalizeReward),
    "ClipReward": ("state", partial(many.ClipReward, min_reward=0.0, max_reward=1.0)),
    "RecordEpisodeStatistics": ("history", many.RecordEpisodeStatistics),
    "DictInfoToList": ("state", many.DictInfoToList),
}


NEXT, SAME = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP
# Gymnasium's own wrappers of observations refuse SAME_STEP, whose last views they would leave as they were.
TRIED = [(name, mode) for name in MANY for mode in (NEXT, SAME) if mode is NEXT or "Observation" not in name]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.parametrize(("name", "mode"), TRIED, ids=lambda one: getattr(one, "name", one))
def test_a_wrapper_of_vector_environments_gives_on_the_native_batch_what_it_gives_on_its_rows(
    name: str, mode: AutoresetMode
) -> None:
    observation, wrap = MANY[name]
    settings = {**SHORT, "observation": observation}
    native = wrap(gym.make_vec(ID, 4, autoreset_mode=mode, **settings))
    rows = wrap(SyncVectorEnv([partial(gym.make, ID, **settings)] * 4, autoreset_mode=mode))
    rng = np.random.default_rng(0)
    same(native.reset(seed=2)[0], rows.reset(seed=2)[0])
    for _ in range(12):
        slates = rng.integers(0, 201, (4, 3))
        one, two = native.step(slates), rows.step(slates)
        for number in range(4):
            same(one[number], two[number])
        if name == "DictInfoToList":
            assert len(one[4]) == 4
        elif "episode" in one[4]:
            done = one[2] | one[3]
            for figure in ("r", "l"):
                np.testing.assert_allclose(one[4]["episode"][figure][done], two[4]["episode"][figure][done])


def same(one: Any, two: Any) -> None:
    """Equal to rounding, with the same names, shapes and dtypes."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            same(one[name], two[name])
        return
    assert one.shape == two.shape
    assert one.dtype == two.dtype
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["sync", "vector_entry_point"])
def test_make_vec_makes_the_same_shoppers_however_it_is_told_to(how: Any) -> None:
    env = gym.make_vec(ID, 3, vectorization_mode=how, **SHORT)
    _, infos = env.reset(seed=7)
    expected = ShopVectorEnv(3, **SHORT).reset(seed=7)[1]
    np.testing.assert_array_equal(infos["shopper_seed"], expected["shopper_seed"])
    env.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # of Python 3.12 and later, about fork
def test_processes_of_their_own_give_what_the_native_batch_gives() -> None:
    settings = {**SHORT, "observation": "history"}
    native = ShopVectorEnv(2, autoreset_mode=AutoresetMode.NEXT_STEP, **settings)
    rows = AsyncVectorEnv([partial(gym.make, ID, **settings)] * 2)
    try:
        same(native.reset(seed=1)[0], rows.reset(seed=1)[0])
        native.action_space.seed(5)
        for _ in range(10):
            slates = native.action_space.sample()
            for one, two in zip(native.step(slates)[:4], rows.step(slates)[:4], strict=True):
                same(one, two)
    finally:
        rows.close()


def test_stable_baselines3_gets_the_pictures_in_one_frame() -> None:
    bridge = SB3Bridge.make(4, k=3, render_mode="rgb_array")
    bridge.reset()
    bridge.step(np.array([[1, 2, 3]] * 4))
    height, width, channels = picture_shape(3)
    frame = bridge.render()
    assert frame is not None
    assert frame.shape == (2 * height, 2 * width, channels)
