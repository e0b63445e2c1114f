"""PPO over slates: it learns a toy, repeats itself, and does what stable-baselines3 expects of an algorithm."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

from slatewise.agents.learning import DivergedError
from slatewise.agents.ppo import PPOConfig, SlatePPO, clipped_gain, left_credit, slot_credit
from slatewise.agents.replay import slots_clicked

QUICK = PPOConfig(rollout=512, hidden=32)


def mean_return(agent: Any, env: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # evaluate_policy would like a Monitor
        return float(evaluate_policy(agent, env, n_eval_episodes=200)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("as_dict", [False, True])
def test_ppo_learns_each_taste_its_favourite(taste_shop: Any, as_dict: bool) -> None:
    env = taste_shop(as_dict=as_dict)
    agent = QUICK.build(env, item_vectors=env.item_vectors, seed=1)
    assert mean_return(agent, env) < 0.5  # the favourites lie far from the state
    agent.learn(8_000)
    assert mean_return(agent, env) > 1.7  # the best earns 4 slates * 0.5 clicks = 2, random slates 0.2


def test_the_slate_as_a_whole_may_be_credited_and_clipped(taste_shop: Any) -> None:
    env = taste_shop(tastes=1)
    config = PPOConfig(rollout=512, hidden=32, credit="slate", clip="slate", ent_coef=0.0)
    agent = config.build(env, item_vectors=env.item_vectors, seed=0).learn(12_000)
    assert mean_return(agent, env) > 1.5


def test_the_same_seed_gives_the_same_agent(taste_shop: Any) -> None:
    def run(seed: int) -> np.ndarray:
        env = taste_shop()
        agent = QUICK.build(env, item_vectors=env.item_vectors, seed=seed)
        np.random.seed(seed + int(torch.rand(1) * 1e6))  # noqa: NPY002 - what others draw must not matter
        return agent.learn(1_500).policy.parameters_to_vector()

    np.testing.assert_array_equal(run(3), run(3))
    assert not np.array_equal(run(3), run(4))


def test_saving_and_loading_changes_nothing(taste_shop: Any, tmp_path: Path) -> None:
    env = taste_shop()
    available = np.arange(31) != env.favourites[0]
    agent = QUICK.build(env, item_vectors=env.item_vectors, available=available, seed=2).learn(1_000)
    agent.save(tmp_path / "agent.zip")
    again = SlatePPO.load(tmp_path / "agent.zip", env=env)
    slates, _ = agent.predict(env.states, deterministic=True)
    assert slates.dtype == np.int64
    np.testing.assert_array_equal(again.predict(env.states, deterministic=True)[0], slates)
    assert not again.scorer.available[env.favourites[0]]
    assert again.credit == agent.credit
    again.learn(600)


def test_one_shopper_gets_one_slate(taste_shop: Any) -> None:
    env = taste_shop()
    agent = QUICK.build(env, item_vectors=env.item_vectors)
    for deterministic in (True, False):
        assert agent.predict(env.states[0], deterministic=deterministic)[0].shape == (3,)
        assert agent.predict(env.states, deterministic=deterministic)[0].shape == (2, 3)


def test_log_probabilities_kept_are_those_evaluated_again(taste_shop: Any) -> None:
    env = taste_shop()
    config = PPOConfig(rollout=64, n_epochs=1, minibatches=1, hidden=32, max_candidates=10)  # on candidates
    agent = config.build(env, item_vectors=env.item_vectors)
    state = torch.from_numpy(env.states)
    slates, values, slots = agent.policy(state)
    again = agent.policy.evaluate_actions(state, slates.float())  # stable-baselines3 passes actions as floats
    torch.testing.assert_close(again[1], slots.sum(1))
    torch.testing.assert_close(again[0], values)
    assert (again[2] > 0).all()
    agent.learn(64)
    assert agent.logger.name_to_value["train/clip_fraction_slot"] == 0  # one step from the policy that acted


def test_candidates_are_found_once_for_each_slate(taste_shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = taste_shop()
    config = PPOConfig(rollout=64, n_epochs=3, minibatches=4, hidden=32, max_candidates=10)
    agent = config.build(env, item_vectors=env.item_vectors)
    asked: list[int] = []
    find = agent.scorer.candidates
    monkeypatch.setattr(agent.scorer, "candidates", lambda state: asked.append(len(state)) or find(state))
    agent.learn(64)
    assert sum(asked) == 64  # and none in the three passes over them
    kept = agent.rollout_buffer.items
    assert kept is not None
    states = torch.from_numpy(agent.rollout_buffer.observations)
    expected = find(states)
    assert expected is not None
    np.testing.assert_array_equal(kept.reshape(64, -1), expected.numpy())


def test_clipping_worked_out_by_hand() -> None:
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5])
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    gain = clipped_gain(torch.log(ratio), advantage, 0.2)
    torch.testing.assert_close(gain, torch.tensor([1.2, 0.5, -1.5, -0.8]))


def test_credit_goes_to_the_clicked_slot() -> None:
    credit = slot_credit(torch.tensor([3.0, -1.0]), torch.tensor([[False, True], [False, False]]))
    torch.testing.assert_close(credit, torch.tensor([[0.0, 1.5], [0.0, -1.5]]))


def test_credit_goes_to_every_slot_that_was_clicked() -> None:
    credit = slot_credit(torch.tensor([3.0, -1.0]), torch.tensor([[True, True], [False, True]]))
    torch.testing.assert_close(credit, torch.tensor([[1.5, 2.0], [-1.5, -2.0]]))


def test_slates_that_were_left_are_credited_among_themselves() -> None:
    clicked = torch.tensor([[False, True], [False, False], [False, False]])
    credit = left_credit(torch.tensor([9.0, 1.0, -3.0]), clicked)
    torch.testing.assert_close(credit, torch.tensor([[0.0], [2.0], [-2.0]]))
    torch.testing.assert_close(left_credit(torch.tensor([9.0]), clicked[:1]), torch.zeros(1, 1))


def test_ppo_learns_by_clicked_and_by_left_slates(taste_shop: Any) -> None:
    env = taste_shop()
    config = PPOConfig(rollout=512, hidden=32, credit="both")
    agent = config.build(env, item_vectors=env.item_vectors, seed=1).learn(8_000)
    assert mean_return(agent, env) > 1.6


def test_the_learning_rate_falls_to_nothing_by_the_end(taste_shop: Any) -> None:
    env = taste_shop()
    agent = PPOConfig(rollout=512, hidden=32, schedule="linear").build(env, item_vectors=env.item_vectors)
    assert agent.lr_schedule(1.0) == pytest.approx(3e-4)
    agent.learn(2_048)  # four rollouts; the last update has none of the training left
    assert agent.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("told", [{"clicked": 1}, {"clicks": np.array([0, 1, 0])}, {"clicked": 0, "clicks": [0, 1, 0]}])
def test_several_clicks_of_a_slate_are_told_beside_one(told: dict[str, Any]) -> None:
    assert slots_clicked(told, 3).tolist() == [False, True, False]


def test_the_buffer_keeps_every_click_of_a_slate(taste_shop: Any) -> None:
    env = taste_shop()
    step = env.step_wait
    env.step_wait = lambda: (lambda o, r, d, i: (o, r, d, [{"clicks": [True, False, True]} for _ in i]))(*step())
    agent = QUICK.build(env, item_vectors=env.item_vectors).learn(100)
    assert agent.rollout_buffer.clicked.reshape(-1, 3).all(0).tolist() == [True, False, True]
    assert not agent.rollout_buffer.clicked.reshape(-1, 3)[:, 1].any()


def test_a_reward_that_is_no_number_stops_training(taste_shop: Any) -> None:
    env = taste_shop()
    step = env.step_wait
    env.step_wait = lambda: (lambda o, r, d, i: (o, r * np.inf, d, i))(*step())  # 0 clicks times infinity
    agent = QUICK.build(env, item_vectors=env.item_vectors)
    with np.errstate(invalid="ignore"), pytest.raises(DivergedError, match="learning_rate"):
        agent.learn(600)


@pytest.mark.parametrize(
    "settings",
    [{"gamma": 1.5}, {"clip": "row"}, {"credit": "row"}, {"schedule": "cosine"}, {"rollout": 0}, {"scale": -1.0}],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        PPOConfig(**settings)


def test_an_env_that_does_not_say_what_was_clicked_is_refused(taste_shop: Any) -> None:
    env = taste_shop()
    step = env.step_wait
    env.step_wait = lambda: (lambda o, r, d, i: (o, r, d, [{} for _ in i]))(*step())
    with pytest.raises(ValueError, match="clicked"):
        QUICK.build(env, item_vectors=env.item_vectors).learn(100)


def test_a_table_of_another_catalogue_is_refused(taste_shop: Any) -> None:
    env = taste_shop()
    with pytest.raises(ValueError, match="needs 31 rows; got 30"):
        QUICK.build(env, item_vectors=env.item_vectors[:-1])
