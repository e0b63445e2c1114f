"""SlateQ: it learns a toy, knows what shoppers choose, and does what stable-baselines3 expects of an algorithm."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.agents import DQNConfig, SlateDQN, load_agent, save_agent
from slatewise.agents.learning import DivergedError

QUICK = DQNConfig(learning_starts=500, buffer_size=10_000, batch_size=128, hidden=32, learning_rate=2e-3)


def hits(agent: Any, env: Any) -> list[bool]:
    slates, _ = agent.predict(env.states, deterministic=True)
    return (slates == env.favourites[:, None]).any(1).tolist()


@pytest.mark.parametrize("as_dict", [False, True])
def test_dqn_learns_each_taste_its_favourite(taste_shop: Any, as_dict: bool) -> None:
    env = taste_shop(as_dict=as_dict)
    agent = QUICK.build(env, item_vectors=env.item_vectors, seed=0)
    observation = env.reset() if as_dict else env.states
    assert agent.predict(observation, deterministic=True)[0].shape == (
        len(env.states) if not as_dict else env.num_envs,
        3,
    )
    agent.learn(6_000)
    if as_dict:
        states = {"state": env.states, "items": np.ones((2, 2), np.int64)}
        assert (agent.predict(states, deterministic=True)[0] == env.favourites[:, None]).any(1).all()
    else:
        assert hits(agent, env) == [True, True]


def test_it_learns_from_several_slates_at_once_drawn_by_priority(taste_shop: Any) -> None:
    env = taste_shop()
    config = replace(QUICK, n_steps=3, priority=0.6)
    agent = config.build(env, item_vectors=env.item_vectors, seed=0).learn(6_000)
    assert hits(agent, env) == [True, True]
    rows = agent.replay_buffer.sample(20_000).rows
    assert np.bincount(rows).max() > 2 * 20_000 / len(agent.replay_buffer)  # drawn alike, strata allow 5 of 3.3


def test_the_choice_model_learns_from_the_shoppers_own(taste_shop: Any, tmp_path: Path) -> None:
    env = taste_shop(as_dict=True)

    def clicks(observation: Any, slates: np.ndarray) -> torch.Tensor:
        taste = (observation["state"] @ env.states.T).argmax(1)
        hit = torch.from_numpy(0.5 * (slates == env.favourites[taste][:, None]))
        return torch.cat([1 - hit.sum(1, keepdim=True), hit], 1).float()

    config = replace(QUICK, choice="shopper")
    agent = config.build(env, item_vectors=env.item_vectors, seed=0, click_model=clicks).learn(6_000)
    slates = agent.predict({"state": env.states}, deterministic=True)[0]
    assert (slates == env.favourites[:, None]).any(1).all()
    agent.save(tmp_path / "agent.zip")
    again = SlateDQN.load(tmp_path / "agent.zip", env=env)
    with pytest.raises(ValueError, match="after load"):
        again.learn(100)
    again.click_model = clicks
    again.learn(600)


def test_dqn_values_what_it_will_earn_and_how_often_shoppers_click(taste_shop: Any) -> None:
    env = taste_shop()
    config = DQNConfig(learning_starts=500, hidden=32, gamma=0.5, tau=0.05, learning_rate=2e-3)
    agent = config.build(env, item_vectors=env.item_vectors, seed=0).learn(12_000)
    state = torch.from_numpy(env.states)
    best = agent.scorer.best(state, None)
    value = (agent.scorer.null(state) + best.value) * agent.scorer.unit
    # 0.5 clicks a slate, discounted by 0.5 without end (time limits are no ends): 0.5 / (1 - 0.5) = 1.
    np.testing.assert_allclose(value.detach().numpy(), [1, 1], atol=0.25)


def test_the_same_seed_gives_the_same_agent(taste_shop: Any) -> None:
    def run(seed: int) -> Any:
        env = taste_shop()
        agent = QUICK.build(env, item_vectors=env.item_vectors, seed=seed)
        np.random.seed(seed + int(torch.rand(1) * 1e6))  # noqa: NPY002 - what others draw must not matter
        return agent.learn(1_200).policy.parameters_to_vector()

    np.testing.assert_array_equal(run(3), run(3))
    assert not np.array_equal(run(3), run(4))


def test_saving_and_loading_changes_nothing(taste_shop: Any, tmp_path: Path) -> None:
    env = taste_shop()
    agent = QUICK.build(env, item_vectors=env.item_vectors, seed=2).learn(1_000)
    agent.save(tmp_path / "agent.zip")
    again = SlateDQN.load(tmp_path / "agent.zip", env=env)
    np.testing.assert_array_equal(
        again.predict(env.states, deterministic=True)[0], agent.predict(env.states, deterministic=True)[0]
    )
    np.testing.assert_array_equal(again.policy.target.item_vectors, env.item_vectors)
    again.learn(700)


def test_it_learns_what_showing_is_worth_and_keeps_it(taste_shop: Any, tmp_path: Path) -> None:
    env = taste_shop()
    config = replace(QUICK, shown_value=True, schedule="linear")
    agent = config.build(env, item_vectors=env.item_vectors, seed=1).learn(6_000)
    assert hits(agent, env) == [True, True]
    assert agent.policy.optimizer.param_groups[0]["lr"] < 0.1 * config.learning_rate
    slates, _ = agent.predict(env.states, deterministic=True)
    agent.save(tmp_path / "agent.zip")
    again = SlateDQN.load(tmp_path / "agent.zip", env=env)
    np.testing.assert_array_equal(again.predict(env.states, deterministic=True)[0], slates)
    save_agent(agent, tmp_path / "agent")
    read = load_agent(tmp_path / "agent")
    assert read.scorer.settings()["shown_value"]
    np.testing.assert_array_equal(read.predict(env.states)[0], slates)


def test_exploring_is_decided_shopper_by_shopper(taste_shop: Any) -> None:
    env = taste_shop()
    agent = QUICK.build(env, item_vectors=env.item_vectors, seed=0)
    states = np.repeat(env.states[:1], 4_000, axis=0)
    greedy, _ = agent.predict(states[0], deterministic=True)
    agent.exploration_rate = 0.25
    slates, _ = agent.predict(states, deterministic=False)
    assert (slates != greedy).any(1).mean() == pytest.approx(0.25, abs=0.03)
    assert (np.diff(np.sort(slates, axis=1)) > 0).all()
    agent.exploration_rate = 0.0
    assert (agent.predict(states, deterministic=False)[0] == greedy).all()


def test_before_learning_the_outside_option_meets_the_click_rate(taste_shop: Any) -> None:
    env = taste_shop()
    agent = QUICK.build(env, item_vectors=env.item_vectors, seed=0)
    agent.learning_starts = 10**9  # collect only
    agent.learn(2_000)
    batch = agent.replay_buffer.sample(4_096)
    agent._calibrate(batch)
    scorer = agent.scorer
    utility = scorer.choice.at(batch.states, scorer.item_vectors, batch.slates) + scorer.place
    clicks = torch.sigmoid(torch.logsumexp(utility, 1) - scorer.outside(batch.states)).mean()
    assert clicks.item() == pytest.approx((batch.clicked >= 0).float().mean().item(), abs=1e-3)


def test_targets_look_past_time_limits_and_stop_at_true_ends(taste_shop: Any) -> None:
    env = taste_shop()
    agent = QUICK.build(env, item_vectors=env.item_vectors)
    agent.learning_starts = 10**9
    agent.learn(200)
    batch = agent.replay_buffer.sample(64)
    assert (batch.discounts > 0).all()  # the toy only ends by its time limit
    ended = batch._replace(discounts=torch.zeros(64))
    torch.testing.assert_close(agent._targets(ended), batch.rewards)
    assert (agent._targets(batch) > agent._targets(ended)).all()


def test_training_works_on_candidates(taste_shop: Any) -> None:
    env = taste_shop()
    config = DQNConfig(learning_starts=200, hidden=16, max_candidates=10)
    agent = config.build(env, item_vectors=env.item_vectors).learn(600)
    candidates = agent.scorer.candidates(torch.from_numpy(env.states))
    assert candidates is not None
    slates, _ = agent.predict(env.states, deterministic=True)
    assert all(set(slate) <= set(row.tolist()) for slate, row in zip(slates, candidates, strict=True))


def test_an_env_that_does_not_say_what_was_clicked_is_refused(taste_shop: Any) -> None:
    env = taste_shop()
    step = env.step_wait
    env.step_wait = lambda: (lambda o, r, d, i: (o, r, d, [{} for _ in i]))(*step())
    with pytest.raises(ValueError, match="clicked"):
        QUICK.build(env, item_vectors=env.item_vectors).learn(100)


def test_a_reward_that_is_no_number_stops_training(taste_shop: Any) -> None:
    env = taste_shop()
    step = env.step_wait
    env.step_wait = lambda: (lambda o, r, d, i: (o, r * np.inf, d, i))(*step())
    with np.errstate(invalid="ignore"), pytest.raises(DivergedError):
        QUICK.build(env, item_vectors=env.item_vectors).learn(700)


@pytest.mark.parametrize(
    "settings",
    [{"gamma": -0.1}, {"tau": 2.0}, {"batch_size": 0}, {"uniform_share": 1.5}, {"n_steps": 0}, {"priority": -1}],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        DQNConfig(**settings)
