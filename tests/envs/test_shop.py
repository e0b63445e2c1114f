"""The plain environment keeps the contracts of Gymnasium and of stable-baselines3."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common import env_checker

from slatewise.encoders import MeanEncoder
from slatewise.envs import ShopEnv
from slatewise.envs.defaults import default_shop
from slatewise.testing import OneFavouriteShopper

OBSERVATIONS = ["state", "history"]


@pytest.fixture
def toy() -> dict[str, Any]:
    shopper = OneFavouriteShopper(20, (7,), slates=4, glance=1.0)
    vectors = np.random.default_rng(0).normal(size=(21, 6))
    import torch

    return {"shopper": shopper, "encoder": MeanEncoder(torch.from_numpy(vectors)), "k": 3}


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_the_environment_keeps_the_gymnasium_contract(observation: str) -> None:
    env = gym.make("slatewise.envs:slatewise/Shop-v0", observation=observation).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_the_environment_keeps_the_stable_baselines3_contract(observation: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env_checker.check_env(ShopEnv(observation=observation, render_mode="ansi"), skip_render_check=False)


def test_the_wrapped_environment_runs_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("slatewise/Shop-v0", render_mode="ansi", k=3)
        env.action_space.seed(0)
        env.reset(seed=0)
        ended = False
        while not ended:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            assert isinstance(env.render(), str)
            ended = terminated or truncated


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 200), min_size=4, max_size=4), min_size=1, max_size=6), st.integers(0, 2**31))
def test_any_action_of_the_space_is_legal(slates: list[list[int]], seed: int) -> None:
    env = ShopEnv(k=4, observation="history", history_len=3)
    observation, info = env.reset(seed=seed)
    for number, slate in enumerate(slates):
        action = np.array(slate)
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(observation)
        assert np.isfinite(reward)
        assert info["slates"] == number + 1
        if info["clicked"] >= 0:
            assert info["clicked_item"] == slate[info["clicked"]] > 0
            assert slate.index(info["clicked_item"]) == info["clicked"]  # a repeat's second place is empty
        else:
            assert info["clicked_item"] == info["revenue"] == reward == 0
        if terminated or truncated:
            break


def test_a_repeat_leaves_its_slot_empty(toy: dict[str, Any]) -> None:
    env = ShopEnv(**toy)
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.array([3, 3, 3]))
    assert info["examined"] == 1
    _, reward, _, _, info = env.step(np.array([3, 7, 7]))
    assert (info["examined"], info["clicked"], info["clicked_item"]) == (2, 1, 7)
    assert reward in (1.0, 6.0)


def test_an_item_that_is_not_available_leaves_its_slot_empty(toy: dict[str, Any]) -> None:
    available = np.ones(21, bool)
    available[7] = False
    env = ShopEnv(**toy, available=available)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([7, 2, 3]))
    assert (info["examined"], info["clicked"], reward) == (2, -1, 0.0)
    assert not any((env.action_space.sample() == 7).any() for _ in range(50))


def test_a_time_limit_truncates_and_leaving_terminates(toy: dict[str, Any]) -> None:
    short = ShopEnv(**toy, max_slates=2)
    short.reset(seed=0)
    assert short.step(np.array([1, 2, 3]))[2:4] == (False, False)
    assert short.step(np.array([1, 2, 3]))[2:4] == (False, True)
    even = ShopEnv(**toy, max_slates=4)  # the shopper leaves just when the time is up: that is no truncation
    even.reset(seed=0)
    for _ in range(3):
        assert even.step(np.array([1, 2, 3]))[2:4] == (False, False)
    assert even.step(np.array([1, 2, 3]))[2:4] == (True, False)


def test_the_history_is_the_tokens_seen_so_far_and_forgets_the_oldest(toy: dict[str, Any]) -> None:
    env = ShopEnv(**toy, observation="history", history_len=3)
    seen, _ = env.reset(seed=0)
    assert seen["items"].tolist() == [7, 0, 0]
    assert seen["events"].tolist() == [2, 0, 0]
    assert seen["lengths"].tolist() == [1]
    assert not seen["slates"].any()  # brought along
    seen = env.step(np.array([0, 4, 5]))[0]  # ignored: the best-placed item, as an impression
    assert (seen["items"].tolist(), seen["events"].tolist()) == ([7, 4, 0], [2, 1, 0])
    assert seen["gaps"].tolist() == [0.0, 10.0, 0.0]
    seen = env.step(np.array([0, 0, 0]))[0]  # nothing shown, no token
    assert seen["lengths"].tolist() == [2]
    assert seen["slates"].reshape(3, 3).tolist() == [[0, 0, 0], [0, 4, 5], [0, 0, 0]]
    seen = env.step(np.array([1, 7, 5]))[0]
    assert seen["items"].tolist() == [7, 4, 7]
    assert seen["events"][2] in (3, 5)
    seen = env.step(np.array([9, 9, 2]))[0]
    assert seen["items"].tolist() == [4, 7, 9]
    assert seen["slates"].reshape(3, 3).tolist() == [[0, 4, 5], [1, 7, 5], [9, 0, 2]]  # a repeat is an empty slot
    assert seen["lengths"].tolist() == [3]


def test_the_state_is_the_encoder_s_own(toy: dict[str, Any]) -> None:
    import torch

    env = ShopEnv(**toy)
    env.reset(seed=0)
    seen = env.step(np.array([4, 2, 3]))[0]
    tokens = torch.tensor([[7, 4]]), torch.tensor([[2, 1]]), torch.tensor([[0.0, 10.0]]), torch.tensor([2])
    np.testing.assert_allclose(seen, toy["encoder"].encode(*tokens)[0], atol=1e-6)


def test_a_seed_meets_the_same_shoppers_in_every_episode() -> None:
    one, two = ShopEnv(), ShopEnv()
    met = []
    for env in (one, two):
        met.append(
            [env.reset(seed=5)[1]["shopper_seed"], env.reset()[1]["shopper_seed"], env.reset()[1]["shopper_seed"]]
        )
    assert met[0] == met[1]
    assert len(set(met[0])) == 3


def test_a_shopper_can_be_named() -> None:
    env = ShopEnv()
    assert env.reset(seed=1, options={"shopper_seeds": [42]})[1]["shopper_seed"] == 42
    with pytest.raises(ValueError, match="shopper_seed'"):
        env.reset(options={"shopper_seed": 42})
    with pytest.raises(ValueError, match="one integer"):
        env.reset(options={"shopper_seeds": [1, 2]})


def test_the_last_slate_can_be_read(toy: dict[str, Any]) -> None:
    env = ShopEnv(**toy, render_mode="ansi")
    _, info = env.reset(seed=0)
    assert env.render() == f"shopper {info['shopper_seed']}, slate 0: has just arrived"
    _, reward, _, _, info = env.step(np.array([2, 7, 7]))
    lines = (env.render() or "").splitlines()
    assert lines[0] == f"shopper {info['shopper_seed']}, slate 1: 10 s, reward {reward:g}, stays"
    assert lines[1].split() == ["1.", "item", "2", "looked", "at"]
    assert lines[2].endswith("bought for 7.00" if info["purchased"] else "clicked")
    assert lines[3].split() == ["3.", "(empty)"]


def test_titles_come_from_the_shop_s_catalogue() -> None:
    env = ShopEnv(k=1, render_mode="ansi")
    env.reset(seed=0)
    env.step(np.array([1]))
    assert str(default_shop().catalogue.frame["text"].iloc[0])[:40] in (env.render() or "")


def test_a_step_before_the_first_reset_is_refused() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        ShopEnv().step(np.ones(5, np.int64))


def test_a_step_after_the_end_is_refused_until_the_next_reset(toy: dict[str, Any]) -> None:
    for limit in (30, 1):  # leaving, and the limit of slates
        env = ShopEnv(**toy, max_slates=limit)
        env.reset(seed=0)
        while not any(env.step(np.array([1, 2, 3]))[2:4]):
            pass
        with pytest.raises(gym.error.ResetNeeded, match=r"has ended; call reset\(\)"):
            env.step(np.array([1, 2, 3]))
        env.reset()
        env.step(np.array([1, 2, 3]))


@pytest.mark.parametrize("name", ["k", "max_slates", "history_len", "max_visits", "candidates"])
@pytest.mark.parametrize("value", [2.5, 3.0, float("nan"), True, "3"])
def test_numbers_of_things_are_integers(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be an integer, got"):
        ShopEnv(**{name: value})
    ShopEnv(k=np.int64(2), candidates=np.int32(4))  # pyright: ignore[reportArgumentType]


def test_parts_over_different_items_are_refused(toy: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="20 items and the shopper 200"):
        ShopEnv(encoder=toy["encoder"])
    with pytest.raises(ValueError, match="no catalogue"):
        ShopEnv(shopper=toy["shopper"])
