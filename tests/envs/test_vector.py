"""The native batch equals its rows run one by one, and keeps Gymnasium's conventions."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from slatewise.envs import ShopEnv, ShopVectorEnv

from .conftest import assert_same, assert_same_infos

ROWS = 7
SHORT: dict[str, Any] = {"k": 4, "max_slates": 3, "history_len": 5}
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("observation", ["state", "history"])
def test_rows_of_a_batch_are_single_environments_through_successive_episodes(
    mode: AutoresetMode, observation: str
) -> None:
    settings: dict[str, Any] = {**SHORT, "observation": observation}
    native = ShopVectorEnv(ROWS, autoreset_mode=mode, **settings)
    rows = SyncVectorEnv([lambda: ShopEnv(**settings) for _ in range(ROWS)], autoreset_mode=mode)
    assert native.observation_space == rows.observation_space
    assert native.action_space == rows.action_space
    native.action_space.seed(3)
    (seen, infos), (expected, row_infos) = native.reset(seed=11), rows.reset(seed=11)
    assert_same(seen, expected)
    assert_same_infos(infos, row_infos)
    episodes = 0
    for number in range(40):
        if number in (15, 25):  # resets in between: to the next shoppers, and to others
            seed = None if number == 15 else 3
            assert_same_infos(native.reset(seed=seed)[1], rows.reset(seed=seed)[1])
        slates = native.action_space.sample()
        native_step, row_step = native.step(slates), rows.step(slates)
        for one, two in zip(native_step[:4], row_step[:4], strict=True):
            assert_same(one, two)
        assert_same_infos(native_step[4], row_step[4])
        episodes += int((native_step[2] | native_step[3]).sum())
    assert episodes > 6 * ROWS


@pytest.mark.parametrize("mode", MODES)
def test_the_checkers_of_the_wrappers_count_the_same_episodes(mode: AutoresetMode) -> None:
    if mode is AutoresetMode.SAME_STEP and tuple(map(int, gym.__version__.split(".")[:2])) < (1, 4):
        pytest.skip("Gymnasium before 1.4 leaves out the first step after such a reset, of its own envs too")
    env = gym.wrappers.vector.RecordEpisodeStatistics(ShopVectorEnv(3, autoreset_mode=mode, **SHORT))
    env.reset(seed=5)
    env.action_space.seed(1)
    rewards, steps, waiting = np.zeros(3), np.zeros(3, int), np.zeros(3, bool)
    for _ in range(12):
        _, reward, terminated, truncated, infos = env.step(env.action_space.sample())
        rewards += reward
        steps += ~waiting if mode is AutoresetMode.NEXT_STEP else 1
        done = terminated | truncated
        if done.any():
            np.testing.assert_allclose(infos["episode"]["r"][done], rewards[done])
            np.testing.assert_array_equal(infos["episode"]["l"][done], steps[done])
        rewards[done], steps[done], waiting = 0.0, 0, done
    assert env.episode_count >= 9


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_s_episodes_are_counted_as_those_of_rows_side_by_side_in_every_version(mode: AutoresetMode) -> None:
    rows = SyncVectorEnv([lambda: ShopEnv(**SHORT) for _ in range(3)], autoreset_mode=mode)
    native, rows = (
        gym.wrappers.vector.RecordEpisodeStatistics(env)
        for env in (ShopVectorEnv(3, autoreset_mode=mode, **SHORT), rows)
    )
    native.action_space.seed(1)
    for env in (native, rows):
        env.reset(seed=5)
    for _ in range(12):
        slates = native.action_space.sample()
        told, expected = native.step(slates)[4], rows.step(slates)[4]
        assert ("episode" in told) == ("episode" in expected)
        for name in ("r", "l") if "episode" in told else ():
            np.testing.assert_allclose(told["episode"][name], expected["episode"][name], rtol=1e-5)
    assert native.episode_count == rows.episode_count >= 9


def test_next_step_autoreset_passes_over_one_action_and_pays_nothing_for_it() -> None:
    env = ShopVectorEnv(2, k=2, max_slates=1)
    env.reset(seed=0)
    _, _, terminated, truncated, _ = env.step(np.ones((2, 2), np.int64))
    assert (terminated | truncated).all()
    _, rewards, terminated, truncated, infos = env.step(np.ones((2, 2), np.int64))
    np.testing.assert_array_equal(rewards, [0.0, 0.0])
    assert not (terminated | truncated).any()
    np.testing.assert_array_equal(infos["slates"], [0, 0])
    assert not infos["_clicked"].any()


def test_next_step_autoreset_takes_whatever_is_given_for_a_row_that_waits() -> None:
    env, plain = (ShopVectorEnv(2, k=2, max_slates=1) for _ in range(2))
    for one in (env, plain):
        one.reset(seed=0)
        one.step(np.array([[1, 2], [3, 4]]))
    given = np.array([[-1, -1], [99_999, 7]])
    np.testing.assert_array_equal(env.step(given)[0], plain.step(np.array([[1, 2], [3, 4]]))[0])
    assert given.tolist() == [[-1, -1], [99_999, 7]]
    with pytest.raises(ValueError, match="got 99999"):
        env.step(given.clip(0))
    env.step(np.array([[1, 2], [3, 4]]))
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        env.step(np.zeros((2, 3), np.int64))


def test_disabled_autoreset_waits_for_the_caller_to_reset_rows() -> None:
    env = ShopVectorEnv(3, k=2, max_slates=1, autoreset_mode="Disabled")
    env.reset(seed=0)
    slates = np.array([[1, 2], [3, 4], [5, 6]])
    env.step(slates)
    with pytest.raises(gym.error.ResetNeeded, match=r"\[0, 1, 2\]"):
        env.step(slates)
    _, infos = env.reset(options={"reset_mask": np.array([True, False, True])})
    np.testing.assert_array_equal(infos["_slates"], [True, False, True])
    with pytest.raises(gym.error.ResetNeeded, match=r"\[1\]"):
        env.step(slates)
    env.reset(options={"reset_mask": np.array([False, True, False])})
    env.step(slates)


def test_a_reset_of_some_rows_leaves_the_others_where_they_are() -> None:
    env, other = ShopVectorEnv(3, **SHORT), ShopVectorEnv(3, **SHORT)
    before, _ = env.reset(seed=0)
    after, infos = env.reset(seed=[7, 8, 9], options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(after[1], other.reset(seed=7)[0][1])
    np.testing.assert_array_equal(infos["_shopper_seed"], [False, True, False])


def test_the_very_shoppers_can_be_named() -> None:
    env = ShopVectorEnv(3, **SHORT)
    _, infos = env.reset(seed=0, options={"shopper_seeds": [5, 6, 7]})
    np.testing.assert_array_equal(infos["shopper_seed"], [5, 6, 7])
    again = ShopVectorEnv(3, **SHORT)
    again.reset(seed=99, options={"shopper_seeds": [5, 6, 7]})
    slates = np.array([[1, 2, 3, 4]] * 3)
    for one, two in zip(env.step(slates)[:4], again.step(slates)[:4], strict=True):
        np.testing.assert_array_equal(one, two)


def test_without_a_seed_rows_differ_and_with_one_they_repeat() -> None:
    env = ShopVectorEnv(4)
    _, first = env.reset()
    assert len(set(first["shopper_seed"].tolist())) == 4
    _, seeded = env.reset(seed=4)
    env.reset()
    _, again = env.reset(seed=[4, 5, 6, 7])
    np.testing.assert_array_equal(seeded["shopper_seed"], again["shopper_seed"])


def test_neighbouring_seeds_share_no_shoppers() -> None:
    env = ShopVectorEnv(50)
    met = [env.reset(seed=0)[1]["shopper_seed"], *(env.reset()[1]["shopper_seed"] for _ in range(20))]
    assert len(np.unique(np.concatenate(met))) == 50 * 21


def test_observations_are_kept_apart_unless_copying_is_turned_off() -> None:
    slates = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    for observation in ("state", "history"):
        settings: dict[str, Any] = {**SHORT, "observation": observation}
        kept, reused = ShopVectorEnv(2, **settings), ShopVectorEnv(2, **settings, copy=False)
        (one, _), (two, _) = kept.reset(seed=1), reused.reset(seed=1)
        assert_same(one, two)
        one_next, two_next = kept.step(slates)[0], reused.step(slates)[0]
        assert_same(one_next, two_next)
        assert two_next is two
        assert one_next is not one


def test_make_vec_uses_the_native_batch_and_its_limit_of_slates() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make_vec("slatewise/Shop-v0", num_envs=3, k=2, max_episode_steps=1)
        rows = gym.make_vec("slatewise/Shop-v0", num_envs=3, k=2, max_episode_steps=1, vectorization_mode="sync")
    assert isinstance(env.unwrapped, ShopVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    slates = np.array([[1, 2]] * 3)
    env.reset(seed=2)
    rows.reset(seed=2)
    for one, two in zip(env.step(slates)[:4], rows.step(slates)[:4], strict=True):
        assert_same(one, two)


@pytest.mark.parametrize(
    ("slates", "words"),
    [
        (np.array([[1, 2]]), r"shape \(2, 2\)"),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), "float64"),
        (np.array([[1, 2], [3, 201]]), "201"),
        (np.array([[1, -2], [3, 4]]), "-2"),
    ],
)
def test_what_is_no_slate_is_refused_with_its_value(slates: Any, words: str) -> None:
    env = ShopVectorEnv(2, k=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=words):
        env.step(slates)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 201}, "k must be"),
        ({"num_envs": 0}, "num_envs"),
        ({"max_slates": 0}, "max_slates"),
        ({"observation": "picture"}, "picture"),
        ({"reward": "fame"}, "fame"),
        ({"available": [True, False]}, "available"),
        ({"available": [False] * 201}, "available"),
    ],
)
def test_wrong_settings_are_refused_with_their_value(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ShopVectorEnv(**settings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shopper_seed": [1, 2]}, "no option 'shopper_seed'"),
        ({"shopper_seeds": [1]}, "shape"),
        ({"shopper_seeds": [1.5, 2.5]}, "float64"),
        ({"reset_mask": np.zeros(2, bool)}, "no row"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ShopVectorEnv(2).reset(options=options)


def test_a_step_before_the_first_reset_is_refused() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        ShopVectorEnv(2, k=2).step(np.ones((2, 2), np.int64))


def test_each_row_renders_its_own_slate() -> None:
    env = ShopVectorEnv(2, k=2, render_mode="ansi")
    env.reset(seed=0)
    env.step(np.array([[1, 2], [3, 3]]))
    texts = env.render()
    assert texts is not None
    assert len(texts) == 2
    assert "(empty)" in texts[1]
    assert "(empty)" not in texts[0]
