"""Traps in which a toy looks fine: each test fails for an agent that has fallen into one."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from slatewise.agents import DQNConfig, LearnedPolicy, PPOConfig, SlateDQN
from slatewise.agents.plackett_luce import PlackettLuce, seeded, slot_log_probs
from slatewise.encoders import MeanEncoder
from slatewise.envs.sb3 import SB3Bridge
from slatewise.testing.toys import BaitShopper, OneFavouriteShopper

QUICK_PPO = PPOConfig(rollout=512, hidden=32, learning_rate=2e-3)


def shop_of(shopper: Any, k: int, **settings: Any) -> tuple[SB3Bridge, torch.Tensor]:
    """Sixteen rows of a toy's shoppers, and item vectors that tell items apart."""
    vectors = normalize(torch.randn(shopper.n_items + 1, 8, generator=seeded(3)), dim=1)
    vectors[0] = 0
    encoder = MeanEncoder(vectors)
    return SB3Bridge.make(16, shopper=shopper, encoder=encoder, k=k, reward="clicks", **settings), encoder.item_vectors


# Slates that name places, read as items


QUICK_DQN = DQNConfig(learning_starts=300, batch_size=128, hidden=32, learning_rate=2e-3)


@pytest.mark.parametrize("config", [QUICK_DQN, QUICK_PPO], ids=["dqn", "ppo"])
def test_a_learner_shows_the_favourite_by_its_place_among_the_candidates(config: Any, tmp_path: Any) -> None:
    env, vectors = shop_of(OneFavouriteShopper(12, (4, 9)), 2, candidates=8)
    agent = config.build(env, item_vectors=vectors, seed=0).learn(3_000 if config is QUICK_DQN else 8_192)
    seen: Any = env.reset()
    shown = np.take_along_axis(seen["candidates"], agent.predict(seen, deterministic=True)[0], 1)
    assert (np.isin(shown, (4, 9)).sum(1) >= 1).all()  # places differ from row to row, and so do the favourites
    agent.save(tmp_path / "agent.zip")
    again = type(agent).load(tmp_path / "agent.zip").predict(seen, deterministic=True)[0]
    assert (again == agent.predict(seen, deterministic=True)[0]).all()
    if isinstance(agent, SlateDQN):
        batch = agent.replay_buffer.sample(500)
        assert batch.next_items is not None
        taken = batch.slates[torch.arange(500), batch.clicked.clamp(min=0)][batch.clicked >= 0]
        assert set(taken.tolist()) <= {4, 9}  # items, no longer places


def test_an_env_of_places_that_shows_no_candidates_is_refused() -> None:
    env, vectors = shop_of(OneFavouriteShopper(6, (4,)), 2, candidates=6)
    bridge = SB3Bridge(env.env, parts=["state"])
    with pytest.raises(ValueError, match="'candidates'"):
        DQNConfig().build(bridge, item_vectors=vectors)


# A policy taken out of a training that stops it


def test_a_learner_goes_on_learning_after_a_policy_was_made_of_it(taste_shop: Any) -> None:
    env = taste_shop()
    agent = QUICK_PPO.build(env, item_vectors=env.item_vectors).learn(512)
    before = LearnedPolicy(agent.scorer).scores(env.states)
    agent.learn(512)
    assert np.abs(LearnedPolicy(agent.scorer).scores(env.states) - before).max() > 1e-3


# A bonus that does nothing


def test_the_entropy_bonus_spreads_a_policy_that_earns_nothing(taste_shop: Any) -> None:
    env = taste_shop()
    env.favourites = np.zeros_like(env.favourites)  # nobody clicks anything
    agent = PPOConfig(rollout=512, hidden=32, ent_coef=0.1, learning_rate=2e-3).build(
        env, item_vectors=env.item_vectors
    )
    states = torch.from_numpy(env.states).repeat(500, 1)

    def entropy() -> float:
        with torch.no_grad():
            return agent.policy.get_distribution(states).entropy().mean().item()

    before = entropy()
    agent.learn(4_000)
    assert agent.logger.name_to_value["train/entropy"] > before + 0.3  # of log(30 * 29 * 28) = 10.1 at most
    assert entropy() > before + 0.3


def test_minus_log_probability_would_have_no_slope() -> None:
    """What stable-baselines3 puts in the place of an entropy that is None."""
    logits = torch.randn(1, 5, generator=seeded(0), dtype=torch.float64).requires_grad_()
    slates = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    slates = slates[slates[:, 0] != slates[:, 1]]
    chance = slot_log_probs(logits.expand(20, -1), slates).sum(1).exp().detach()
    (stock,) = torch.autograd.grad(-(chance * slot_log_probs(logits.expand(20, -1), slates).sum(1)).sum(), logits)
    ours = PlackettLuce(2).proba_distribution(logits.expand(20, -1)).entropy(slates)
    (slope,) = torch.autograd.grad((chance * ours).sum(), logits)
    assert stock.abs().max() < 1e-12
    assert slope.abs().max() > 0.01


# Ratios of whole slates


@pytest.mark.parametrize(("k", "whole"), [(1, 0.05), (10, 0.5)])
def test_whole_slates_leave_the_range_far_sooner_than_their_slots(k: int, whole: float) -> None:
    rng = seeded(0)
    logits = torch.randn(2_000, 50, generator=rng)
    slates = PlackettLuce(k, seed=1).proba_distribution(logits).sample()
    moved = slot_log_probs(logits + 0.1 * torch.randn(2_000, 50, generator=rng), slates) - slot_log_probs(
        logits, slates
    )
    share = {"slot": moved, "slate": moved.sum(1, keepdim=True)}
    clipped = {name: ((ratio.exp() - 1).abs() > 0.2).float().mean().item() for name, ratio in share.items()}
    assert clipped["slot"] < 0.06
    assert clipped["slate"] == pytest.approx(whole, abs=0.04)


def test_ppo_clips_slots_unless_told_otherwise_and_logs_both(taste_shop: Any) -> None:
    assert PPOConfig().clip == "slot"
    env = taste_shop()
    shares = {}
    for clip in ("slot", "slate"):
        config = PPOConfig(rollout=512, hidden=32, learning_rate=3e-3, clip=clip)
        agent = config.build(env, item_vectors=env.item_vectors).learn(1_024)
        shares[clip] = {name: agent.logger.name_to_value[f"train/clip_fraction_{name}"] for name in ("slot", "slate")}
    assert all(share["slate"] > share["slot"] for share in shares.values())


# Nothing clicked, and where to bootstrap


def test_targets_depend_on_the_next_state_and_not_on_the_old_one(taste_shop: Any) -> None:
    env = taste_shop()
    agent = DQNConfig(learning_starts=400, hidden=32).build(env, item_vectors=env.item_vectors).learn(800)
    batch = agent.replay_buffer.sample(64)
    wanted = agent._targets(batch)
    torch.testing.assert_close(agent._targets(batch._replace(states=batch.states.flip(0))), wanted)
    other = batch._replace(next_states=batch.next_states + 0.3)
    assert not torch.allclose(agent._targets(other), wanted)


def test_the_choice_model_learns_from_slates_left_alone(taste_shop: Any) -> None:
    """Fitted on clicks only, it would foretell a click on every slate; with a sigmoid twice, on half or more."""
    env = taste_shop()
    config = DQNConfig(learning_starts=400, hidden=32, learning_rate=3e-3, exploration_start=1.0, exploration_end=1.0)
    agent = config.build(env, item_vectors=env.item_vectors, seed=1).learn(6_000)
    scorer, states = agent.scorer, torch.from_numpy(env.states)
    others = [item for item in range(1, 31) if item not in env.favourites]

    def foretold(slates: np.ndarray) -> list[float]:
        with torch.no_grad():
            items = torch.from_numpy(slates)
            utility = scorer.choice.at(states, scorer.item_vectors, items) + scorer.place
            return torch.sigmoid(torch.logsumexp(utility, 1) - scorer.outside(states)).tolist()

    with_it = np.column_stack([env.favourites, [others[:2]] * 2])
    without = np.array([others[:3]] * 2)
    assert foretold(with_it) == pytest.approx([0.5, 0.5], abs=0.12)
    assert max(foretold(without)) < 0.05


# Gains that are no gains over time


@pytest.mark.parametrize(("gamma", "first"), [(0.0, "bait"), (0.9, "staple")])
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_only_an_agent_that_looks_ahead_gives_up_the_bait(algorithm: str, gamma: float, first: str) -> None:
    shopper = BaitShopper(n_items=8, slates=8)
    env, vectors = shop_of(shopper, 2)
    config: Any = (
        PPOConfig(rollout=512, hidden=32, learning_rate=3e-3, gamma=gamma)
        if algorithm == "ppo"
        else DQNConfig(learning_starts=500, hidden=32, learning_rate=3e-3, gamma=gamma, tau=0.05)
    )
    agent = config.build(env, item_vectors=vectors, seed=0)
    agent.learn(10_000 if algorithm == "ppo" else 6_000)
    slate = agent.predict(env.reset(), deterministic=True)[0][0].tolist()
    known = {shopper.bait: "bait", shopper.staple: "staple"}
    assert next(known[item] for item in slate if item in known) == first  # the higher one is what the shopper takes


# Time limits


def test_ppo_bootstraps_over_time_limits_and_not_over_true_ends(taste_shop: Any) -> None:
    for cut in (True, False):
        env = taste_shop()
        if not cut:
            step = env.step_wait
            env.step_wait = lambda step=step: _really_ended(*step())
        agent = PPOConfig(rollout=128, n_epochs=1, learning_rate=1e-6).build(env, item_vectors=env.item_vectors)
        with torch.no_grad():
            agent.policy.value_net.last.weight.zero_()
            agent.policy.value_net.last.bias.fill_(10.0)
        agent.learn(128)
        ends = agent.rollout_buffer.rewards.reshape(8, 16)[3::4]  # of each row the fourth slate, at which it is cut
        # A click or none, and 0.95 * 10 where the shopper would have stayed.
        assert set(np.round(ends, 2).ravel().tolist()) <= ({9.5, 10.5} if cut else {0.0, 1.0})


def _really_ended(observation: Any, rewards: Any, done: Any, infos: Any) -> Any:
    return observation, rewards, done, [{**info, "TimeLimit.truncated": False} for info in infos]


# The known best


def test_ppo_reaches_the_best_order_of_a_two_armed_slate() -> None:
    # Two items on a slate of two: the order is all there is to learn. In the first place the favourite is clicked
    # always, in the second in three of ten cases; the best return is 5 clicks in 5 slates.
    shopper = OneFavouriteShopper(n_items=2, favourites=(1, 2), slates=5, glance=0.3)
    env, vectors = shop_of(shopper, 2)
    agent = QUICK_PPO.build(env, item_vectors=-vectors, seed=0)  # at first the wrong way round
    states = torch.stack([vectors[1], vectors[2]])
    best = torch.tensor([[1, 2], [2, 1]])

    def chances() -> torch.Tensor:
        with torch.no_grad():
            return agent.policy.get_distribution(states).log_prob(best).exp()

    assert (chances() < 0.4).all()
    agent.learn(8_000)
    assert (chances() > 0.95).all()
    assert agent.predict(states.numpy(), deterministic=True)[0].tolist() == best.tolist()


def test_no_slate_repeats_an_item_however_it_was_drawn(taste_shop: Any) -> None:
    env = taste_shop(n_items=6, k=5)
    for config in (PPOConfig(), DQNConfig(exploration_start=1.0, exploration_end=1.0)):
        agent: Any = config.build(env, item_vectors=env.item_vectors, available=np.arange(7) != 2)
        slates = agent.predict(np.repeat(env.states, 200, axis=0), deterministic=False)[0]
        assert np.sort(slates, axis=1).tolist() == [[1, 3, 4, 5, 6]] * 400
        assert isinstance(agent, SlateDQN) or len(np.unique(slates, axis=0)) > 20
