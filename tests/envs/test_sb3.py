"""The bridge gives stable-baselines3 what its own vectorised environments give."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from slatewise.encoders import MeanEncoder
from slatewise.envs import ShopEnv, ShopVectorEnv
from slatewise.envs.sb3 import SB3Bridge
from slatewise.testing import OneFavouriteShopper

ROWS = 5
SHORT: dict[str, Any] = {"k": 3, "max_slates": 3, "history_len": 4}


@pytest.mark.parametrize(
    "more",
    [
        {"observation": "state"},
        {"observation": "history"},
        {"visits": True, "observation": "context", "max_slates": 8, "max_visits": 2},
        {"search": True, "observation": "query"},
    ],
    ids=["state", "history", "visits", "search"],
)
def test_the_bridge_tells_what_a_dummy_vec_env_of_monitored_rows_tells(more: dict[str, Any]) -> None:
    settings = {**SHORT, **more}
    bridge = SB3Bridge.make(ROWS, **settings)
    dummy = DummyVecEnv([lambda: Monitor(ShopEnv(**settings)) for _ in range(ROWS)])
    assert bridge.observation_space == dummy.observation_space
    assert bridge.action_space == dummy.action_space
    for env in (bridge, dummy):
        env.seed(9)
    _assert_close(bridge.reset(), dummy.reset())
    assert bridge.reset_infos == dummy.reset_infos
    assert ("day" in bridge.reset_infos[0]) == ("visit" in bridge.reset_infos[0]) == ("visits" in more)
    bridge.action_space.seed(0)
    ended = 0
    for _ in range(40):
        slates = np.stack([bridge.action_space.sample() for _ in range(ROWS)])
        (seen, rewards, dones, infos), (expected, row_rewards, row_dones, row_infos) = (
            bridge.step(slates),
            dummy.step(slates),
        )
        _assert_close(seen, expected)
        np.testing.assert_allclose(rewards, row_rewards)
        assert rewards.dtype == row_rewards.dtype == np.float32
        np.testing.assert_array_equal(dones, row_dones)
        for info, row_info in zip(infos, row_infos, strict=True):
            _assert_info(info, row_info)
            ended += "episode" in info
        assert bridge.reset_infos == dummy.reset_infos
    assert ended > 2 * ROWS


def _assert_close(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        for name in two:
            np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def _assert_info(info: dict[str, Any], row_info: dict[str, Any]) -> None:
    for name in ("clicked", "carted", "purchased"):
        assert info[name] == row_info[name]
    assert info["revenue"] == pytest.approx(row_info["revenue"])
    assert info.get("TimeLimit.truncated", False) == row_info["TimeLimit.truncated"]
    assert ("terminal_observation" in info) == ("terminal_observation" in row_info) == ("episode" in info)
    if "episode" in info:
        _assert_close(info["terminal_observation"], row_info["terminal_observation"])
        assert info["episode"]["r"] == pytest.approx(row_info["episode"]["r"])
        assert info["episode"]["l"] == row_info["episode"]["l"]


def test_infos_of_a_step_are_not_shared_between_rows_or_steps() -> None:
    bridge = SB3Bridge.make(2, k=2)
    bridge.reset()
    slates = np.array([[0, 0], [0, 0]])
    first, second = bridge.step(slates)[3], bridge.step(slates)[3]
    first[0]["clicked"] = 99
    assert [info["clicked"] for info in (first[1], *second)] == [-1, -1, -1]


def test_ppo_learns_on_the_bridge_and_is_evaluated_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bridge = SB3Bridge.make(8, k=2)
        model = PPO("MlpPolicy", bridge, n_steps=16, batch_size=64, n_epochs=1, seed=0, device="cpu").learn(256)
        assert len(model.ep_info_buffer or ()) > 0
        assert np.isfinite(evaluate_policy(model, bridge, n_eval_episodes=8)[0])


def test_a_stock_learner_finds_the_item_everyone_wants() -> None:
    shopper = OneFavouriteShopper(6, (4,), slates=3, glance=0.7)
    encoder = MeanEncoder(torch.eye(7, 6).roll(1, 0))
    bridge = SB3Bridge.make(16, shopper=shopper, encoder=encoder, k=2, reward="clicks")
    model = A2C("MlpPolicy", bridge, n_steps=5, learning_rate=3e-3, ent_coef=0.01, seed=0, device="cpu").learn(12_000)
    mean, _ = evaluate_policy(model, bridge, n_eval_episodes=48)
    assert not isinstance(mean, list)
    assert mean > 0.9 * shopper.slates  # every slate clicked is the best there is


def test_only_the_parts_asked_for_are_passed_on_and_a_stock_policy_reads_them() -> None:
    settings: dict[str, Any] = {**SHORT, "candidates": 6, "observation": ("history", "context", "candidate_features")}
    parts = ["state", "context", "candidate_features"]
    bridge, whole = SB3Bridge.make(ROWS, parts=parts, **settings), SB3Bridge.make(ROWS, **settings)
    assert set(bridge.observation_space.spaces) == set(parts)  # pyright: ignore[reportAttributeAccessIssue]
    for env in (bridge, whole):
        env.seed(9)
    first: Any = bridge.reset()
    assert list(first) == parts
    whole.reset()
    ended = 0
    for _ in range(5):
        (seen, *_, infos), (expected, *_, told) = (env.step(np.array([[1, 2, 3]] * ROWS)) for env in (bridge, whole))
        _assert_close(expected, seen)
        for info, other in zip(infos, told, strict=True):
            if "terminal_observation" in info:
                assert list(info["terminal_observation"]) == parts
                _assert_close(other["terminal_observation"], info["terminal_observation"])
                ended += 1
    assert ended
    PPO("MultiInputPolicy", bridge, n_steps=8, batch_size=20, n_epochs=1, seed=0, device="cpu").learn(80)
    for wrong in (["state", "picture"], []):
        with pytest.raises(ValueError, match=r"parts must be keys.*candidate_features"):
            SB3Bridge.make(2, parts=wrong, **settings)
    with pytest.raises(ValueError, match="a plain state"):
        SB3Bridge.make(2, parts=["state"])


def test_the_bridge_goes_under_stable_baselines3_s_own_wrappers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = VecNormalize(SB3Bridge.make(3, **SHORT))
        env.reset()
        for _ in range(4):
            assert len(env.step(np.array([[1, 2, 3]] * 3))[3]) == 3
        with pytest.warns(UserWarning, match="already wrapped"):
            VecMonitor(SB3Bridge.make(2))


def test_the_bridge_refuses_an_env_that_stable_baselines3_would_misread() -> None:
    with pytest.raises(ValueError, match="NEXT_STEP"):
        SB3Bridge(ShopVectorEnv(2))
    with pytest.raises(ValueError, match="copy=True"):
        SB3Bridge(ShopVectorEnv(2, autoreset_mode=AutoresetMode.SAME_STEP, copy=False))


def test_rows_share_the_attributes_and_options_of_one_env() -> None:
    bridge = SB3Bridge.make(3, k=2, render_mode="ansi")
    assert bridge.get_attr("num_envs", [0, 2]) == [3, 3]
    assert bridge.env_is_wrapped(Monitor) == [True] * 3
    assert bridge.env_is_wrapped(gym.wrappers.TimeLimit, 0) == [False]
    assert not bridge.has_attr("fame")
    bridge.set_attr("render_mode", None)
    assert bridge.get_attr("render_mode", 1) == [None]
    with pytest.raises(ValueError, match="some of them"):
        bridge.set_attr("render_mode", "ansi", 1)
    bridge.set_options({"shopper_seeds": [7, 8, 9]})
    bridge.reset()
    assert [info["shopper_seed"] for info in bridge.reset_infos] == [7, 8, 9]
    bridge.reset()
    assert [info["shopper_seed"] for info in bridge.reset_infos] != [7, 8, 9]
    with pytest.raises(ValueError, match="one dict"):
        bridge.set_options([{}, {}, {}])
    assert bridge.env_method("render", indices=[0]) == [None]
    masks = bridge.env_method("action_masks", indices=[1, 0])
    assert np.stack(masks).shape == (2, 2 * (bridge.env.batch.shopper.n_items + 1))  # as sb3-contrib stacks them
    bridge.close()
