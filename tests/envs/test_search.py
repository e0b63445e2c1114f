"""Searches: what shoppers ask for when they come, and states that are turned towards it."""

import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common import env_checker

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.encoders.session import ShopSessionConfig, ShopSessionModel
from slatewise.envs import ShopEnv, ShopVectorEnv
from slatewise.envs.defaults import default_shop
from slatewise.envs.search import matching
from slatewise.simulators import KnownTruthShopper
from slatewise.testing import OneFavouriteShopper

from .conftest import assert_same, assert_same_infos

N, E = 200, 12
SEARCH: dict[str, Any] = {"search": True, "observation": ("history", "query"), "history_len": 6}


def reads_searches() -> ShopSessionModel:
    """An encoder of the default shop's items whose readers of searches have random weights."""
    rng = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ShopSessionConfig(width=16, heads=2, feed_forward=16, window=5, query_dim=E)
        text = rng.normal(size=(N, E)).astype(np.float32)
        model = ShopSessionModel.for_items(config, text, default_shop().catalogue.known_prices, np.ones(N + 1, bool))
        for reader in (model.query_in, model.query_out):
            assert reader is not None
            for weight in reader.parameters():
                weight.data.normal_(std=0.5)
    return model.eval()


def vectors(shopper: KnownTruthShopper) -> np.ndarray:
    found = np.random.default_rng(1).normal(size=(len(shopper.queries), E)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found[0] = 0
    return found


def test_a_known_shopper_searches_for_what_its_visit_is_mostly_about() -> None:
    plain = replace(KnownShopConfig.small(), category_taste=0.0, intent=2.0)  # liking is then intent alone
    shopper = KnownTruthShopper(KnownShop.make(plain))
    state = shopper.reset(torch.arange(500))
    asked = shopper.searched(state)
    assert torch.equal(asked, 1 + state.liking.argmax(1))
    assert len(asked.unique()) == plain.n_categories == len(shopper.queries) - 1
    categories = shopper.shop.catalogue.frame["category"].str.lower().to_numpy()
    for number in range(1, len(shopper.queries)):
        assert set(categories[shopper.shop.category[1:] == number - 1]) == {shopper.queries[number]}


def test_a_search_does_not_change_over_a_visit_and_is_new_on_the_next() -> None:
    shopper = KnownTruthShopper(KnownShop.make(replace(KnownShopConfig.small(), come_back=0.8)))
    env = ShopVectorEnv(32, shopper, visits=True, max_slates=60, **SEARCH)
    _, infos = env.reset(seed=0)
    env.action_space.seed(0)
    changed = 0
    for _ in range(12):
        before = infos
        infos = env.step(env.action_space.sample())[4]
        same = (infos["shopper_seed"] == before["shopper_seed"]) & (infos["visit"] == before["visit"])
        np.testing.assert_array_equal(infos["query"][same], before["query"][same])
        changed += int((infos["query"] != before["query"])[infos["returned"]].sum())
        np.testing.assert_array_equal(infos["query"], shopper.searched(env.batch.here.state))
    assert changed > 10


def test_words_are_looked_for_in_categories_and_texts() -> None:
    catalogue = default_shop().catalogue
    encoder = MeanEncoder.from_catalogue(catalogue)
    jackets = 1 + np.flatnonzero(catalogue.frame["category"] == "Jackets")
    mean = encoder.item_vectors[torch.from_numpy(jackets)].sum(0)
    torch.testing.assert_close(matching("Jackets", catalogue, encoder.item_vectors), mean / mean.norm())
    words = str(catalogue.frame["text"].iloc[4]).split()[:3]
    own = matching(" ".join(words).upper(), catalogue, encoder.item_vectors)
    assert own @ encoder.item_vectors[5] > 0.5
    assert not matching("no such thing", catalogue, encoder.item_vectors).any()
    assert not matching("", catalogue, encoder.item_vectors).any()


def test_the_search_helps_to_find_what_shoppers_want() -> None:
    """The same shoppers, served what lies nearest to the state they are told of: with their searches and without."""
    clicks, n = [], 12_000
    for search in (True, False):
        env = ShopVectorEnv(n, k=5, candidates=5, reward="clicks", search=search)
        env.reset(seed=10**6)
        best = np.tile(np.arange(1, 6), (n, 1))
        clicks.append(sum(env.step(best)[1] for _ in range(4)))
    gain = clicks[0] - clicks[1]
    assert gain.mean() > 2 * gain.std() / np.sqrt(n)


def test_an_encoder_trained_with_searches_reads_them_in_tokens_and_turns_its_states() -> None:
    shopper, encoder = KnownTruthShopper(default_shop()), reads_searches()
    asked = vectors(shopper)
    env = ShopEnv(shopper, encoder, 3, query_vectors=asked, **SEARCH)
    seen, info = env.reset(seed=5)
    own = asked[info["query"]]
    np.testing.assert_array_equal(seen["query"], own)
    brought = int(seen["lengths"][0])
    for slate in ([4, 5, 6], [0, 0, 0], [9, 9, 2]):
        seen = env.step(np.array(slate))[0]
    n = int(seen["lengths"][0])
    items, events, gaps = (torch.from_numpy(seen[name][None, :n]) for name in ("items", "events", "gaps"))
    queries = torch.zeros(1, n, E)
    queries[0, brought:] = torch.from_numpy(own)  # the slates answer the search, what came before does not
    state = encoder.encode(items, events, gaps, torch.tensor([n]), queries)
    expected = encoder.towards(state, torch.from_numpy(own)[None])[0].detach()
    np.testing.assert_allclose(seen["state"], expected, atol=1e-5)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("reads", [False, True])
def test_rows_with_searches_are_single_environments(mode: AutoresetMode, reads: bool) -> None:
    shopper = KnownTruthShopper(default_shop())
    settings: dict[str, Any] = {**SEARCH, "shopper": shopper, "max_slates": 4, "k": 3}
    if reads:
        settings |= {"encoder": reads_searches(), "query_vectors": vectors(shopper)}
    else:
        settings |= {"candidates": 10}
    native = ShopVectorEnv(5, autoreset_mode=mode, **settings)
    rows = SyncVectorEnv([lambda: ShopEnv(**settings) for _ in range(5)], autoreset_mode=mode)
    assert native.observation_space == rows.observation_space
    native.action_space.seed(3)
    (seen, infos), (expected, row_infos) = native.reset(seed=11), rows.reset(seed=11)
    assert_same(seen, expected)
    assert_same_infos(infos, row_infos)
    for _ in range(20):
        slates = native.action_space.sample()
        native_step, row_step = native.step(slates), rows.step(slates)
        for one, two in zip(native_step[:4], row_step[:4], strict=True):
            assert_same(one, two)
        assert_same_infos(native_step[4], row_step[4])


def test_what_cannot_be_searched_is_refused() -> None:
    shopper, encoder = KnownTruthShopper(default_shop()), reads_searches()
    plain = MeanEncoder(torch.from_numpy(np.random.default_rng(0).normal(size=(21, 6))))
    with pytest.raises(ValueError, match="OneFavouriteShopper do not; take a known-truth shop"):
        ShopEnv(OneFavouriteShopper(20), plain, search=True)
    with pytest.raises(ValueError, match=r"\(7, 12\) text vectors of shopper.queries.*text encoder of the items"):
        ShopEnv(shopper, encoder, search=True)
    with pytest.raises(ValueError, match=r"shape \(7, 12\).*got \(3, 12\)"):
        ShopEnv(shopper, encoder, search=True, query_vectors=np.zeros((3, E)))
    with pytest.raises(ValueError, match="zeros first"):
        ShopEnv(shopper, encoder, search=True, query_vectors=np.ones((7, E)))
    with pytest.raises(ValueError, match="give search=True"):
        ShopEnv(shopper, encoder, query_vectors=vectors(shopper))
    with pytest.raises(ValueError, match="needs search=True"):
        ShopEnv(observation="query")


@pytest.mark.parametrize("observation", ["state", "query", ("history", "query", "context", "action_mask")])
def test_both_checkers_are_content(observation: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("slatewise/Search-v0", observation=observation).unwrapped
        check_env(env)
        made = gym.make("slatewise/Search-v0", observation=observation, render_mode="ansi", candidates=9).unwrapped
        env_checker.check_env(made)
        assert env.get_wrapper_attr("queries")[1] == "jackets"
        gym.make_vec("slatewise/Search-v0", num_envs=2, observation=observation).reset(seed=0)
