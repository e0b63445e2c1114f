"""Minari data sets of logs and rollouts: nothing is lost on the way there and back, propensities least of all."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from slatewise.agents.plackett_luce import sample_slates, seeded
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.encoders import MeanEncoder
from slatewise.envs import ShopEnv
from slatewise.envs.defaults import default_shop
from slatewise.envs.offline import export_log, export_rollouts, log_of, plackett_luce
from slatewise.envs.offline_log import history_space
from slatewise.errors import EvidenceError
from slatewise.simulators import KnownTruthShopper, ShopperState, collect_log
from slatewise.simulators.known_truth_state import VISIT_BITS
from slatewise.testing import OneFavouriteShopper

minari: Any = pytest.importorskip("minari")

K = 4
ABOUT: dict[str, Any] = {
    "author": "the tests",
    "author_email": "tests@example.org",
    "code_permalink": "https://example.org",
    "algorithm_name": "none",
    "description": "made by a test",
}


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


@pytest.fixture(scope="module")
def log() -> ShopLog:
    shop = KnownShop.make(KnownShopConfig(n_items=60, seed=0))
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=60, k=K, seed=1)


class Sampled:
    """A policy that samples by Plackett-Luce on the same scores for everyone."""

    def __init__(self, n_items: int, k: int, seed: int = 0) -> None:
        self.k, self._generator = k, seeded(seed)
        self._scores = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, n_items + 1)))
        self._scores[:, 0] = -torch.inf

    def scores(self, observation: Any) -> Any:
        rows = len(observation["state"] if isinstance(observation, dict) else observation)
        return self._scores.expand(rows, -1).numpy()

    def predict(self, observation: Any, deterministic: bool = True) -> tuple[Any, None]:
        return sample_slates(torch.from_numpy(self.scores(observation).copy()), self.k, self._generator).numpy(), None


def same_slates(one: ShopLog, two: ShopLog) -> None:
    """The slates of two logs, what came of them and their propensities."""
    for name in ("session", "before", "items", "clicked", "carted", "purchased", "propensity", "last"):
        np.testing.assert_array_equal(getattr(one.slates, name), getattr(two.slates, name), err_msg=name)
    np.testing.assert_allclose(one.slates.dwell, two.slates.dwell, rtol=1e-5, atol=1e-3)
    for name in ("items", "events", "offsets"):
        np.testing.assert_array_equal(getattr(one.tokens, name), getattr(two.tokens, name), err_msg=name)
    np.testing.assert_allclose(one.tokens.gaps, two.tokens.gaps, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_a_log_comes_back_from_a_data_set_with_its_propensities(log: ShopLog, data_format: str) -> None:
    export_log(log, "shop/logged-v0", data_format=data_format, **ABOUT)
    dataset = minari.load_dataset("shop/logged-v0")
    assert dataset.total_steps == len(log.slates)
    assert np.isfinite(log.slates.propensity).all()
    back = log_of(dataset, log.catalogue)
    same_slates(back, log)
    assert back.sessions["session_id"].tolist() == log.sessions["session_id"].tolist()
    assert back.sessions["shopper_id"].tolist() == log.sessions["shopper_id"].tolist()
    assert (back.sessions["start"] == log.sessions["start"]).all()


def test_what_a_data_set_holds_is_of_its_spaces_and_pays_what_the_log_says(log: ShopLog) -> None:
    dataset = export_log(log, "shop/logged-v0", reward="revenue", history_len=6, **ABOUT)
    encoder = MeanEncoder.from_catalogue(log.catalogue)
    assert dataset.observation_space == history_space(60, K, encoder.dim, 6)
    paid = 0.0
    for episode in dataset.iterate_episodes():
        assert len(episode.observations["items"]) == len(episode) + 1 == len(episode.infos["propensity"])
        for step in range(len(episode) + 1):
            view = {name: values[step] for name, values in episode.observations.items()}
            assert dataset.observation_space.contains(view)
        assert all(dataset.action_space.contains(slate) for slate in episode.actions)
        assert episode.terminations.tolist() == [False] * (len(episode) - 1) + [True]
        assert not episode.truncations.any()
        paid += episode.rewards.sum()
    bought = log.events[log.events["event"] == "purchase"]
    assert len(bought) > 3
    assert paid == pytest.approx(float((bought["price"] * bought["quantity"].astype(float)).sum()), rel=1e-5)


def test_observations_of_logged_sessions_are_those_of_the_environment() -> None:
    """Rollouts, made a log and exported anew, say what the environment said."""
    env = gym.make("slatewise.envs:slatewise/Shop-v0", k=K, observation="history", history_len=7)
    rolled = export_rollouts(env, Sampled(200, K), "shop/sampled-v0", episodes=12, seed=3, **ABOUT)
    catalogue = default_shop().catalogue
    logged = export_log(log_of(rolled, catalogue), "shop/again-v0", history_len=7, **ABOUT)
    for name, space in logged.observation_space.spaces.items():
        assert rolled.observation_space[name] == space
    for one, two in zip(rolled.iterate_episodes(), logged.iterate_episodes(), strict=True):
        np.testing.assert_array_equal(one.actions, two.actions)
        np.testing.assert_allclose(one.rewards, two.rewards)
        for name, values in two.observations.items():
            np.testing.assert_allclose(one.observations[name], values, rtol=1e-4, atol=2e-3, err_msg=name)
        for name in ("clicked", "carted", "purchased", "quantity", "revenue"):
            np.testing.assert_allclose(one.infos[name][1:], two.infos[name][1:], rtol=1e-6, err_msg=name)


def test_rollouts_keep_the_chances_of_a_policy_s_slates() -> None:
    env, policy = gym.make("slatewise.envs:slatewise/Shop-v0", k=2), Sampled(200, 2)
    dataset = export_rollouts(
        env, policy, "shop/chances-v0", episodes=3, deterministic=False, propensities=plackett_luce(policy), **ABOUT
    )
    weights = np.exp(policy.scores(np.zeros((1, 1)))[0])
    for episode in dataset.iterate_episodes():
        for (first, second), chances in zip(episode.actions, episode.infos["propensity"][1:], strict=True):
            assert chances[0] == pytest.approx(weights[first] / weights.sum())
            assert chances[1] == pytest.approx(weights[second] / (weights.sum() - weights[first]))
    back = log_of(dataset, default_shop().catalogue)
    assert np.isfinite(back.slates.propensity).all()


def test_without_chances_rollouts_say_that_they_are_not_known() -> None:
    env = gym.make("slatewise.envs:slatewise/Shop-v0", k=2)
    dataset = export_rollouts(env, Sampled(200, 2), "shop/unknown-v0", episodes=1, **ABOUT)
    assert np.isnan(dataset[0].infos["propensity"]).all()


def test_rollouts_tell_the_slate_as_the_shopper_saw_it() -> None:
    class Repeats:
        def predict(self, observation: Any, deterministic: bool = True) -> tuple[Any, None]:
            return np.array([[5, 5, 7]]), None

    dataset = export_rollouts(ShopEnv(k=3), Repeats(), "shop/repeats-v0", episodes=2, **ABOUT)
    for episode in dataset.iterate_episodes():
        assert (episode.actions == [5, 5, 7]).all()
        assert (episode.infos["slate"][1:] == [5, 0, 7]).all()
        assert not episode.infos["slate"][0].any()
    assert (log_of(dataset, default_shop().catalogue).slates.items[:, :2] == [5, 7]).all()


def test_the_environment_of_rollouts_is_recovered_and_gives_the_same_episode() -> None:
    env = gym.make("slatewise.envs:slatewise/Shop-v0", k=3, observation="history")
    export_rollouts(env, Sampled(200, 3), "shop/recovered-v0", episodes=4, seed=11, **ABOUT)
    dataset = minari.load_dataset("shop/recovered-v0")
    again = dataset.recover_environment()
    for number, (episode, metadata) in enumerate(
        zip(dataset.iterate_episodes(), dataset.storage.get_episode_metadata(range(4)), strict=True)
    ):
        assert metadata["seed"] == 11 + number
        seen, _ = again.reset(seed=metadata["seed"])
        np.testing.assert_array_equal(seen["items"], episode.observations["items"][0])
        for step, slate in enumerate(episode.actions):
            seen, reward, terminated, truncated, _ = again.step(slate)
            assert reward == pytest.approx(episode.rewards[step])
            assert (terminated, truncated) == (episode.terminations[step], episode.truncations[step])
            np.testing.assert_allclose(seen["state"], episode.observations["state"][step + 1], atol=1e-5)


def test_an_environment_of_objects_is_exported_without_a_recipe() -> None:
    env = ShopEnv(k=2)
    dataset = export_rollouts(env, Sampled(200, 2), "shop/objects-v0", episodes=1, **ABOUT)
    assert dataset.spec.env_spec is None


class Newcomer(OneFavouriteShopper):
    """Brings nothing along, sees two slates a visit, and comes three times, two days apart."""

    comes_again = True

    def reset(self, seeds: torch.Tensor) -> ShopperState:
        state = super().reset(seeds)
        for column in (state.arrival.items, state.arrival.lengths, state.gap):
            column.zero_()
        return state

    def return_chances(self, state: ShopperState) -> torch.Tensor:
        return ((state.seed >> VISIT_BITS) < 2).float()

    def returns(self, state: ShopperState) -> tuple[torch.Tensor, torch.Tensor]:
        chances = self.return_chances(state)
        return chances > 0, torch.full_like(chances, 2.0)


def test_visits_are_told_with_the_days_between_them_and_are_no_log() -> None:
    vectors = MeanEncoder.from_catalogue(default_shop().catalogue).item_vectors
    env = ShopEnv(Newcomer(200, (7,), slates=2, glance=1.0), MeanEncoder(vectors), 2, visits=True, remembers=True)
    dataset = export_rollouts(env, Sampled(200, 2), "shop/visits-v0", episodes=2, **ABOUT)
    for episode in dataset.iterate_episodes():
        days = 2 * 24 * 3600.0
        assert episode.infos["gap"][1:].tolist() == [0, 10, days, 10, days, 10]
        assert episode.infos["returned"].tolist() == [False, False, True, False, True, False, False]
        assert episode.infos["days_away"].tolist() == [0, 0, 2, 0, 2, 0, 0]
    with pytest.raises(ValueError, match=r"several visits.*export from slatewise/Shop-v0"):
        log_of(minari.load_dataset("shop/visits-v0"), default_shop().catalogue)


def test_what_cannot_be_exported_or_read_is_refused(log: ShopLog) -> None:
    events = log.events[log.events["event"] != "impression"].assign(slate_id=None)
    with pytest.raises(EvidenceError, match="no impressions"):
        export_log(ShopLog(events, log.catalogue), "shop/none-v0", **ABOUT)
    dataset = export_log(log, "shop/logged-v0", **ABOUT)
    with pytest.raises(ValueError, match="60 items, and the catalogue over 200"):
        log_of(dataset, default_shop().catalogue)
