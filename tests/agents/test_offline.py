"""Offline agents: they copy a log, or see through how often it showed what; and refuse what it cannot tell."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.agents import (
    BCConfig,
    LoggedSlates,
    OfflineAgent,
    ReinforceConfig,
    load_agent,
    save_agent,
    train_offline,
)
from slatewise.agents.offline import slot_log_probs_of
from slatewise.agents.offline_losses import click_weights
from slatewise.agents.plackett_luce import seeded, slot_log_probs
from slatewise.datasets.artefact import read_config
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.errors import ArtefactError, EvidenceError
from slatewise.simulators import KnownTruthShopper, collect_log
from slatewise.simulators.logging_policies import PlackettLucePolicy
from slatewise.testing import only_views
from slatewise.testing.batteries import check_policy

N, DIM = 12, 8
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(N + 1, DIM)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
VECTORS[0] = 0
LIKED = np.array([0.0, 0.2, 0.1, 0.1, 0.1, 0.1, 0.8, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])  # chance of a click if first
SHOWN = np.array([0, 40, 10, 10, 10, 10, 2, 5, 5, 5, 5, 5, 5]) / 112.0  # item 6 is liked most and shown least


def log_of(rows: int = 4_000, k: int = 2, seed: int = 0) -> LoggedSlates:
    """Slates drawn by `SHOWN`; the first item is looked at, and nobody looks at others."""
    policy = PlackettLucePolicy(torch.log(torch.from_numpy(SHOWN)), k)
    slates, chance = policy.sample(torch.arange(rows), torch.full((rows,), seed))
    rng = np.random.default_rng(seed)
    clicked = np.where(rng.random(rows) < LIKED[slates[:, 0]], 0, -1)
    states = np.tile(VECTORS[3], (rows, 1))
    return LoggedSlates(
        states, slates.numpy(), clicked, (clicked >= 0).astype(np.float32), chance.numpy(), np.arange(rows)
    )


def first_chances(agent: OfflineAgent) -> np.ndarray:
    with torch.no_grad():
        return torch.softmax(agent.scorer(torch.from_numpy(VECTORS[3:4])), 1)[0].numpy()


def test_cloning_shows_items_as_often_as_the_log_did() -> None:
    agent = BCConfig(hidden=32, learning_rate=5e-3).build(log_of(), item_vectors=VECTORS).learn(60_000)
    np.testing.assert_allclose(first_chances(agent), SHOWN, atol=0.04)
    assert agent.num_timesteps == 60_160  # whole batches
    assert agent.predict(VECTORS[3:4])[0][0, 0] == 1


@pytest.mark.parametrize("behaviour", ["logged", "estimated"])
def test_reinforce_finds_what_is_liked_though_it_was_shown_least(behaviour: Any) -> None:
    config = ReinforceConfig(hidden=32, learning_rate=5e-3, behaviour=behaviour)
    agent = config.build(log_of(8_000), item_vectors=VECTORS, k=1).learn(120_000)
    assert first_chances(agent).argmax() == 6
    assert agent.predict(VECTORS[3])[0].tolist() == [6]


def test_without_the_log_s_chances_clicks_alone_would_teach_what_was_shown() -> None:
    data = log_of(8_000)
    fooled = replace(data, propensity=np.ones_like(data.propensity))  # as if every slate had been certain
    agent = ReinforceConfig(hidden=32, learning_rate=5e-3).build(fooled, item_vectors=VECTORS, k=1).learn(120_000)
    assert first_chances(agent).argmax() == 1


def test_the_weighted_gradient_is_that_of_the_policy_s_value_on_average() -> None:
    logits = torch.randn(6, generator=seeded(1), dtype=torch.float64).requires_grad_()
    shown = torch.softmax(torch.randn(6, generator=seeded(2), dtype=torch.float64), 0)
    reward = torch.rand(6, generator=seeded(3), dtype=torch.float64)
    log_probs = torch.log_softmax(logits, 0)
    weight = click_weights(log_probs, shown.log(), log_probs, 1, 1e9)
    (found,) = torch.autograd.grad((shown * weight * reward * log_probs).sum(), logits, retain_graph=True)
    (wanted,) = torch.autograd.grad((torch.softmax(logits, 0) * reward).sum(), logits)
    torch.testing.assert_close(found, wanted)
    # Of k draws: the chance that an item is among them is 1 - (1 - pi)^k (Chen et al., equation 6).
    weight = click_weights(log_probs, shown.log(), log_probs, 3, 1e9)
    (found,) = torch.autograd.grad((shown * weight * reward * log_probs).sum(), logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(((1 - (1 - torch.softmax(logits, 0)) ** 3) * reward).sum(), logits)
    torch.testing.assert_close(found, wanted)


def test_weights_worked_out_by_hand() -> None:
    clicked, logged, alone = (torch.log(torch.tensor(one)) for one in ([0.5, 0.5], [0.25, 0.01], [0.4, 0.2]))
    weight = click_weights(clicked, logged, alone, 2, 10.0)
    torch.testing.assert_close(weight, torch.tensor([2 * 2 * 0.6, 10 * 2 * 0.8]))


def test_log_probabilities_leave_empty_slots_out_and_the_padding_too() -> None:
    scorer = BCConfig(hidden=8).build(log_of(10), item_vectors=VECTORS, available=np.arange(N + 1) != 4).scorer
    states = torch.from_numpy(VECTORS[[3, 5]])
    slates = torch.tensor([[4, 2, 7], [1, 9, 0]])
    slots, first = slot_log_probs_of(scorer, states, slates)
    logits = scorer.pair(states, scorer.item_vectors)[:, 1:]
    torch.testing.assert_close(slots[:1], slot_log_probs(logits[:1], slates[:1] - 1))  # item 4 could be shown then
    torch.testing.assert_close(slots[1:, :2], slot_log_probs(logits[1:], slates[1:, :2] - 1))
    torch.testing.assert_close(first[0], torch.log_softmax(logits[0], 0)[slates[0] - 1])
    assert slots[1, 2] == 0


def test_sampled_items_stand_for_all() -> None:
    scorer = BCConfig(hidden=8).build(log_of(10), item_vectors=VECTORS).scorer
    states, slates = torch.from_numpy(VECTORS[[3, 5]]), torch.tensor([[4, 2], [1, 0]])
    sampled = torch.randint(1, N + 1, (200_000,), generator=seeded(0))
    for found, wanted in zip(
        slot_log_probs_of(scorer, states, slates, sampled), slot_log_probs_of(scorer, states, slates), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=0.02, rtol=0)


def test_a_large_catalogue_is_learnt_by_sampling() -> None:
    data = log_of()
    config = BCConfig(hidden=32, learning_rate=5e-3, sampled=6)
    agent = config.build(data, item_vectors=VECTORS).learn(60_000)
    assert first_chances(agent).argmax() == 1
    assert agent.log_likelihood(data) > BCConfig().build(data, item_vectors=VECTORS).log_likelihood(data) + 0.5


def test_returns_reach_to_the_end_of_a_session() -> None:
    data = replace(log_of(4), rewards=np.array([1, 0, 2, 4], np.float32), session=np.array([0, 0, 0, 1]))
    assert data.returns(0.5).tolist() == [1.5, 1, 2, 4]
    assert data.returns(0.0).tolist() == [1, 0, 2, 4]


def test_the_same_seed_learns_the_same_and_others_do_not_disturb_it() -> None:
    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(int(torch.randint(99, ())))
        agent = BCConfig(hidden=8).build(log_of(600), item_vectors=VECTORS, seed=seed).learn(2_000)
        return torch.cat([weight.flatten() for weight in agent.scorer.parameters()])

    torch.testing.assert_close(run(1), run(1), rtol=0, atol=0)
    assert not torch.equal(run(1), run(2))


def test_saving_loading_and_going_on_give_identical_slates(tmp_path: Path) -> None:
    data = log_of(600)
    agent = ReinforceConfig(hidden=8).build(data, item_vectors=VECTORS, seed=1).learn(3_000)
    agent.save(tmp_path / "agent.safetensors")
    other = ReinforceConfig(hidden=8).build(data, item_vectors=np.zeros_like(VECTORS), seed=2)
    again = other.load(tmp_path / "agent.safetensors")
    states = RNG.normal(size=(50, DIM)).astype(np.float32)
    np.testing.assert_array_equal(again.predict(states)[0], agent.predict(states)[0])
    assert again.num_timesteps == agent.num_timesteps
    steps = [one.learn(0).policy.optimizer.state_dict()["state"] for one in (again, agent)]
    torch.testing.assert_close(steps[0], steps[1], rtol=0, atol=0)
    saved = save_agent(agent, tmp_path / "folder")
    np.testing.assert_array_equal(load_agent(tmp_path / "folder").predict(states)[0], agent.predict(states)[0])
    assert saved.name == "reinforce"
    check_policy(agent, states, N)
    with pytest.raises(ArtefactError, match="cannot be resumed"):
        BCConfig(hidden=16).build(data, item_vectors=VECTORS).load(tmp_path / "agent.safetensors")


@pytest.fixture(scope="module")
def shop_log() -> Any:
    shop = KnownShop.make(KnownShopConfig.small())
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=200, k=4, seed=1)


def test_a_log_s_slates_come_with_the_state_before_them(shop_log: Any) -> None:
    encoder = MeanEncoder.from_catalogue(shop_log.catalogue)
    data = LoggedSlates.from_log(shop_log, encoder, click=1.0, purchase=5.0)
    slates = shop_log.slates
    np.testing.assert_array_equal(data.rewards, (slates.clicked >= 0) * (1.0 + 5.0 * slates.purchased))
    row = int(np.flatnonzero(slates.before > 2)[0])
    memory = encoder.start(1)
    first = shop_log.tokens.offsets[slates.session[row]]
    for place in range(first, first + slates.before[row]):
        token = (shop_log.tokens.items[place], shop_log.tokens.events[place], shop_log.tokens.gaps[place])
        memory = encoder.step(memory, *(torch.tensor([one]) for one in token))
    np.testing.assert_allclose(data.states[row], memory.state[0], atol=1e-5)
    agent = ReinforceConfig(hidden=8).build(data, item_vectors=encoder.item_vectors).learn(2_000)
    assert agent.predict(data.states)[0].shape == (len(data), 4)


def test_what_a_log_cannot_tell_is_refused(shop_log: Any) -> None:
    encoder = MeanEncoder.from_catalogue(shop_log.catalogue)
    with pytest.raises(EvidenceError, match="no slates"):
        LoggedSlates.from_log(only_views(shop_log), encoder)
    data = log_of(500)
    blind = replace(data, propensity=np.full_like(data.propensity, np.nan))
    with pytest.raises(EvidenceError, match="no propensity"):
        ReinforceConfig().build(blind, item_vectors=VECTORS)
    ReinforceConfig(behaviour="estimated", hidden=8).build(blind, item_vectors=VECTORS).learn(256)
    with pytest.raises(EvidenceError, match="no logged slate was clicked"):
        ReinforceConfig().build(replace(data, clicked=np.full_like(data.clicked, -1)), item_vectors=VECTORS)
    with pytest.raises(ValueError, match="wide"):
        BCConfig().build(data, item_vectors=VECTORS[:, :4])
    with pytest.raises(ValueError, match="there are vectors for 8"):
        BCConfig().build(data, item_vectors=VECTORS[:9])


@pytest.mark.parametrize("settings", [{"cap": 0.0}, {"gamma": 2.0}, {"batch_size": 0}, {"behaviour": "guessed"}])
def test_settings_out_of_range_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ReinforceConfig(**settings)


class KilledError(Exception):
    """Stands for a kill."""


def test_a_killed_training_keeps_its_finished_seeds_and_a_finished_one_is_read_back(tmp_path: Path) -> None:
    out, data, later = tmp_path / "agent", log_of(600), log_of(300, seed=1)
    settings: dict[str, Any] = {"config": BCConfig(hidden=8), "item_vectors": VECTORS, "seeds": (3, 5), "later": later}
    settings |= {"total_timesteps": 2_000, "k": 3}

    def killed_in_the_second(done: int, total: int, words: str) -> None:
        assert total == 4_000
        if done > 3_000:
            raise KilledError

    with pytest.raises(KilledError):
        train_offline(data, out, **settings, progress=killed_in_the_second)
    told: list[int] = []
    agents = train_offline(data, out, **settings, progress=lambda done, *_: told.append(done))
    assert min(told) > 2_000  # the first seed was finished
    assert [agent.seed for agent in agents] == [3, 5]
    assert agents[0].predict(VECTORS[3:5])[0].shape == (2, 3)
    learning = read_config(out, "agent")["slatewise_artefact"]["facts"]["learning"]
    assert learning["3"]["later_log_likelihood"] < 0
    again = train_offline(data, out, **settings, progress=lambda *_: pytest.fail("trained again"))
    np.testing.assert_array_equal(again[1].predict(VECTORS)[0], agents[1].predict(VECTORS)[0])
    with pytest.raises(ArtefactError, match="total_timesteps"):
        train_offline(data, out, **{**settings, "total_timesteps": 999})
    with pytest.raises(ValueError, match="seeds"):
        train_offline(data, out, **{**settings, "seeds": (1, 1)})
