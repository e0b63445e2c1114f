"""Every registered environment, with every part of an observation, every kind of action and every reward, is clean."""

import inspect
import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common import env_checker
from stable_baselines3.common.monitor import Monitor

from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.envs import REWARDS, RewardMix, ShopEnv, ShopVectorEnv, SlateOutcome
from slatewise.envs.observations import PARTS
from slatewise.simulators import KnownTruthShopper

from .conftest import assert_same

IDS = sorted(name for name in gym.registry if name.startswith("slatewise/"))
REWARDED: dict[str, Any] = {
    **{name: name for name in REWARDS},
    "weights": {"click": 1.0, "cart": 2.0},
    "function": lambda what: what.response.dwell,
}


def settings_of(part: str) -> list[dict[str, Any]]:
    """Ways to ask for a part: with and without candidates, by place and by item, where it can be."""
    ways: list[dict[str, Any]] = [{}, {"candidates": 9}, {"candidates": 9, "actions": "items"}]
    asked: dict[str, Any] = {"observation": part, "search": True} if part == "query" else {"observation": part}
    return [asked | way for way in ways if way or not part.startswith("candidate")]


def test_there_are_the_environments_that_the_docs_name() -> None:
    assert IDS == ["slatewise/Search-v0", "slatewise/Shop-v0", "slatewise/Visits-v0"]
    assert all(name in (ShopEnv.__doc__ or "") for name in IDS)
    assert all(f"`{part}`" in (ShopEnv.__doc__ or "") for part in PARTS)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("env_id", IDS)
def test_both_checkers_are_content(env_id: str, part: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for settings in settings_of(part):
            check_env(gym.make(env_id, **settings).unwrapped, skip_render_check=True)
            env_checker.check_env(gym.make(env_id, **settings).unwrapped)


@pytest.mark.parametrize("available", ["half", "on_sale"])
@pytest.mark.parametrize("actions", [None, "places", "items"])
@pytest.mark.parametrize("env_id", IDS)
def test_both_checkers_are_content_with_all_parts_at_once_and_items_that_are_not_there(
    env_id: str, actions: Any, available: str
) -> None:
    """By item without candidates, by place, and by item beside candidates; rendering too."""
    shop = KnownShop.make(replace(KnownShopConfig.small(), turnover=0.5, come_back=0.45))
    settings: dict[str, Any] = {"shopper": KnownTruthShopper(shop), "render_mode": "rgb_array", "search": True}
    settings["available"] = np.arange(shop.n_items + 1) % 2 == 0 if available == "half" else "on_sale"
    settings["observation"] = tuple(part for part in PARTS if actions or not part.startswith("candidate"))
    settings |= {} if actions is None else {"candidates": 9, "actions": actions}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, **settings).unwrapped)
        env_checker.check_env(gym.make(env_id, **settings).unwrapped, skip_render_check=False)


@pytest.mark.parametrize("reward", REWARDED.values(), ids=REWARDED)
@pytest.mark.parametrize("env_id", IDS)
def test_every_reward_is_paid(env_id: str, reward: Any) -> None:
    """What it says for the figures that `infos` tell, and not always nothing."""
    env = gym.make_vec(env_id, num_envs=64, reward=reward, max_slates=8)
    env.action_space.seed(0)
    env.reset(seed=0)
    earned = 0
    for _ in range(8):
        _, rewards, _, _, infos = env.step(env.action_space.sample())
        np.testing.assert_allclose(rewards, due(reward, infos), rtol=1e-5)
        earned += np.count_nonzero(rewards)
    assert earned
    check_env(gym.make(env_id, reward=reward).unwrapped, skip_render_check=True)


def due(reward: Any, infos: dict[str, Any]) -> Any:
    """(B,) what a reward pays for these figures; rows without any have zeros."""
    if callable(reward) and not isinstance(reward, RewardMix):
        return infos["dwell"]
    mix = RewardMix.of(reward)
    total = mix.click * (infos["_clicked"] & (infos["clicked"] >= 0)) + mix.cart * infos["carted"]
    total = total + mix.purchase * infos["purchased"] + mix.revenue * infos["revenue"]
    return total + mix.returned * infos["returned"] if "returned" in infos else total


@pytest.mark.parametrize("env_id", IDS)
def test_a_batch_is_native_and_its_rows_are_the_single_environment(env_id: str) -> None:
    native, single = gym.make_vec(env_id, num_envs=3, max_slates=9), gym.make(env_id, max_slates=9)
    assert isinstance(native.unwrapped, ShopVectorEnv)
    assert native.single_observation_space == single.observation_space
    native.action_space.seed(0)
    native.reset(seed=4)
    single.reset(seed=5)
    for _ in range(9):
        slates = native.action_space.sample()
        (_, rewards, *ends, _), (_, reward, *end, _) = native.step(slates), single.step(slates[1])
        assert rewards[1] == pytest.approx(reward)
        assert [bool(one[1]) for one in ends] == end
        if any(end):
            break


def test_totals_of_an_episode_are_the_sums_of_its_slates() -> None:
    """As stable-baselines3's `Monitor` logs them at the end."""
    names = {"clicks": "clicked", "carts": "carted", "purchases": "purchased", "sales": "revenue"}
    env = Monitor(ShopEnv(max_slates=8, k=20), info_keywords=tuple(names))
    env.action_space.seed(0)
    sold = 0
    for episode in range(40):
        env.reset(seed=episode)
        sums, ended, info = dict.fromkeys(names, 0.0), False, {}
        while not ended:
            *_, terminated, truncated, info = env.step(env.action_space.sample())
            ended = terminated or truncated
            for total, name in names.items():
                sums[total] += info[name] >= 0 if name == "clicked" else info[name]
        assert {name: info["episode"][name] for name in names} == pytest.approx(sums)
        sold += info["purchases"]
    assert sold > 0


def test_a_reward_of_one_s_own_may_read_all_that_came_of_a_slate() -> None:
    told: list[SlateOutcome] = []

    def reward(what: SlateOutcome) -> np.ndarray:
        told.append(what)
        return np.zeros(len(what.slate))

    env = gym.make_vec("slatewise/Visits-v0", num_envs=64, reward=reward)
    env.reset(seed=0)
    for _ in range(8):
        infos = env.step(env.action_space.sample())[4]
        live = infos["_returned"]
        np.testing.assert_array_equal(told[-1].returned.numpy()[live], infos["returned"][live])
        np.testing.assert_array_equal(told[-1].days_away.numpy()[live], infos["days_away"][live])
    assert any(what.returned.any() for what in told)


@pytest.mark.parametrize("env", [ShopEnv, ShopVectorEnv])
def test_every_argument_is_documented(env: type) -> None:
    said = (ShopEnv.__doc__ or "") + (env.__doc__ or "")
    for name in inspect.signature(env).parameters:
        assert f"`{name}`" in said, name


def test_environments_of_other_processes_are_the_same() -> None:
    rows = gym.make_vec("slatewise/Visits-v0", num_envs=2, vectorization_mode="async", k=3)
    native = gym.make_vec("slatewise/Visits-v0", num_envs=2, k=3)
    try:
        native.action_space.seed(0)
        (seen, _), (expected, _) = native.reset(seed=0), rows.reset(seed=0)
        for _ in range(4):
            assert_same(seen, expected)
            slates = native.action_space.sample()
            seen, expected = native.step(slates)[0], rows.step(slates)[0]
    finally:
        rows.close()
