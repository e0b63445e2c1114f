"""Agents on disk: trained by seed, killed and resumed, read back the same."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.agents import DQNConfig, PPOConfig, load_agent, load_agents, save_agent, train
from slatewise.agents.artefact import AgentConfig
from slatewise.agents.checkpoint import Curve, restore, save
from slatewise.errors import ArtefactError
from slatewise.testing.batteries import check_policy

CONFIGS: list[AgentConfig] = [PPOConfig(rollout=256, hidden=16), DQNConfig(learning_starts=200, hidden=16)]


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("config", CONFIGS)
def test_training_gives_one_policy_a_seed_and_reads_back_the_same(
    taste_shop: Any, config: AgentConfig, tmp_path: Path
) -> None:
    env = taste_shop()
    told: list[tuple[int, int, str]] = []
    settings: dict[str, Any] = {
        "config": config,
        "item_vectors": env.item_vectors,
        "seeds": (4, 9),
        "total_timesteps": 600,
    }
    agents = train(lambda seed: taste_shop(), tmp_path / "agent", **settings, progress=lambda *at: told.append(at))
    assert [agent.seed for agent in agents] == [4, 9]
    assert told[-1][:2] == (1_200, 1_200)
    slates = [agent.predict(env.states)[0] for agent in agents]
    again = load_agents(tmp_path / "agent")
    for one, before in zip(again, slates, strict=True):
        np.testing.assert_array_equal(one.predict(env.states)[0], before)
    np.testing.assert_array_equal(load_agent(tmp_path / "agent", 9).predict({"state": env.states})[0], slates[1])
    assert agents[0].scores(env.states).tolist() != agents[1].scores(env.states).tolist()
    with (tmp_path / "agent" / "seed-4" / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(float(row["timesteps"])) for row in rows] == sorted({int(float(row["timesteps"])) for row in rows})
    assert 0 <= float(rows[-1]["ctr"]) <= 1
    # Finished with the same settings: read back, not trained again.
    train(lambda seed: pytest.fail("trained again"), tmp_path / "agent", **settings)
    with pytest.raises(ArtefactError, match="total_timesteps"):
        train(lambda seed: taste_shop(), tmp_path / "agent", **{**settings, "total_timesteps": 700})


@pytest.mark.parametrize("config", CONFIGS)
def test_a_killed_training_goes_on_where_it_was(taste_shop: Any, config: AgentConfig, tmp_path: Path) -> None:
    env = taste_shop()
    made: list[int] = []
    settings: dict[str, Any] = {
        "config": config,
        "item_vectors": env.item_vectors,
        "seeds": (0, 1),
        "total_timesteps": 2_000,
        "checkpoint_every": 500,
    }

    def killed_in_the_second(done: int, total: int, words: str) -> None:
        if done >= 3_200:
            raise KilledError

    def make(seed: int) -> Any:
        made.append(seed)
        return taste_shop()

    with pytest.raises(KilledError):
        train(make, tmp_path / "agent", **settings, progress=killed_in_the_second)
    with pytest.raises(ArtefactError, match="unfinished"):
        load_agents(tmp_path / "agent")
    told: list[int] = []
    train(make, tmp_path / "agent", **settings, progress=lambda done, total, words: told.append(done))
    assert made == [0, 1, 1]  # the first seed was finished
    assert 2_500 <= told[0] < 3_200  # the second went on from a checkpoint
    assert told[-1] == 4_000
    with (tmp_path / "agent" / "seed-1" / "curve.csv").open() as file:
        steps = [float(row["timesteps"]) for row in csv.DictReader(file)]
    assert steps == sorted(steps)
    assert steps[0] < 500
    assert not list((tmp_path / "agent").glob("**/checkpoint*"))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_checkpoint_restores_weights_and_optimiser_exactly(
    taste_shop: Any, config: AgentConfig, tmp_path: Path
) -> None:
    env = taste_shop()
    agent: Any = config.build(env, item_vectors=env.item_vectors, seed=0).learn(600)
    save(agent, Curve(100), tmp_path / "one.safetensors")
    other = config.build(taste_shop(), item_vectors=np.zeros_like(env.item_vectors), seed=5)
    restore(other, Curve(100), tmp_path / "one.safetensors")
    assert other.num_timesteps == agent.num_timesteps
    for mine, theirs in zip(other.policy.state_dict().values(), agent.policy.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    steps = [one.policy.optimizer.state_dict()["state"] for one in (other, agent)]
    torch.testing.assert_close(steps[0], steps[1], rtol=0, atol=0)
    (tmp_path / "two.safetensors").write_bytes(b"cut short")
    with pytest.raises(ArtefactError, match="delete it"):
        restore(other, Curve(100), tmp_path / "two.safetensors")


@pytest.mark.parametrize("config", CONFIGS)
def test_a_learner_trained_by_hand_can_be_saved(taste_shop: Any, config: AgentConfig, tmp_path: Path) -> None:
    env = taste_shop()
    agent = config.build(env, item_vectors=env.item_vectors, seed=7).learn(600)
    policy = save_agent(agent, tmp_path / "agent")
    np.testing.assert_array_equal(policy.predict(env.states)[0], agent.predict(env.states, deterministic=True)[0])
    assert policy.seed == 7
    with pytest.raises(ArtefactError, match="exists"):
        save_agent(agent, tmp_path / "agent")
    with pytest.raises(ArtefactError, match=r"seeds \[7\], not 8"):
        load_agent(tmp_path / "agent", 8)
    (tmp_path / "agent" / "seed-7" / "policy.safetensors").write_bytes(b"cut short")
    with pytest.raises(ArtefactError, match="train it again"):
        load_agent(tmp_path / "agent")


def test_sampled_slates_repeat_with_the_policy_and_differ_from_the_greedy(taste_shop: Any, tmp_path: Path) -> None:
    env = taste_shop()
    save_agent(CONFIGS[0].build(env, item_vectors=env.item_vectors), tmp_path / "agent")
    states = np.repeat(env.states, 20, axis=0)
    first, second = (load_agent(tmp_path / "agent").predict(states, deterministic=False)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    policy = load_agent(tmp_path / "agent")
    check_policy(policy, states, 30)
    assert (policy.predict(states)[0] != first).any()
    assert policy.predict(env.states[0])[0].shape == (3,)


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_some_and_different(taste_shop: Any, seeds: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seeds"):
        train(lambda seed: taste_shop(), tmp_path, config=CONFIGS[0], item_vectors=np.zeros((31, 8)), seeds=seeds)
