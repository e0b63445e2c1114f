"""Retrieval in front of the slate: what is retrieved, slates by place, and masks."""

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
from slatewise.envs import ShopEnv, ShopVectorEnv
from slatewise.envs.defaults import default_shop
from slatewise.envs.retrieval import Retrieval
from slatewise.simulators import KnownTruthShopper
from slatewise.testing import OneFavouriteShopper

from .conftest import assert_same, assert_same_infos

N, M, K = 200, 12, 3
SOME = np.arange(N + 1) % 3 > 0
ALL_PARTS = ("history", "candidate_features", "action_mask")


@pytest.fixture
def encoder() -> MeanEncoder:
    return MeanEncoder.from_catalogue(default_shop().catalogue)


def test_candidates_are_the_best_available_items_in_order(encoder: MeanEncoder) -> None:
    prices = torch.arange(N + 1, dtype=torch.float32)
    states = torch.nn.functional.normalize(torch.randn(5, encoder.dim, generator=torch.Generator().manual_seed(0)))
    found = Retrieval(M, encoder, prices, SOME).find(states)
    scores = encoder.scores(states).masked_fill(~torch.from_numpy(SOME), -torch.inf)
    assert found.shape == (5, M + 1)
    assert not found[:, 0].any()
    torch.testing.assert_close(scores.gather(1, found[:, 1:]), scores.topk(M).values, atol=1e-4, rtol=0)
    assert SOME[found[:, 1:].numpy()].all()


def test_equal_scores_go_by_index_and_places_left_over_stay_empty(encoder: MeanEncoder) -> None:
    few = np.zeros(N + 1, bool)
    few[[9, 4, 30]] = True
    found = Retrieval(5, encoder, torch.ones(N + 1), few).find(torch.zeros(2, encoder.dim))
    assert found.tolist() == [[0, 4, 9, 30, 0, 0]] * 2


def test_features_are_the_cosine_the_rank_of_the_price_and_the_vector(encoder: MeanEncoder) -> None:
    prices = torch.arange(N + 1, dtype=torch.float32)
    retrieval = Retrieval(2, encoder, prices)
    states = encoder.item_vectors[[7]]
    found = torch.tensor([[0, 7, 200]])
    features = retrieval.features(states, found)
    assert features.shape == (1, 3, retrieval.width)
    assert not features[0, 0].any()
    torch.testing.assert_close(features[0, 1, :2], torch.tensor([1.0, 6 / 199]))
    assert features[0, 2, 1] == 1.0
    torch.testing.assert_close(features[0, 2, 2:], encoder.item_vectors[200])


def test_a_slate_names_places_in_the_list_that_was_told() -> None:
    env = ShopEnv(k=K, candidates=M, available=SOME)
    assert env.action_space == gym.spaces.MultiDiscrete([M + 1] * K)
    env.action_space.seed(0)
    seen, _ = env.reset(seed=1)
    for _ in range(4):
        told, slate = seen["candidates"], env.action_space.sample()
        seen, _, terminated, _, _ = env.step(slate)
        assert env.batch.last is not None
        assert env.batch.last.slate[0].tolist() == told[slate].tolist()
        if terminated:
            break


def test_a_repeated_place_and_an_empty_one_leave_their_slots_empty() -> None:
    few = np.zeros(N + 1, bool)
    few[[9, 4]] = True
    env = ShopEnv(k=K, candidates=5, available=few)
    seen, _ = env.reset(seed=0)
    env.step(np.array([1, 1, 4]))  # the first item twice, and a place that nobody fills
    assert env.batch.last is not None
    assert env.batch.last.slate.tolist() == [[seen["candidates"][1], 0, 0]]
    with pytest.raises(ValueError, match=r"places of candidates in \[0, 5\].*got 6"):
        env.step(np.array([1, 2, 6]))


def test_sampled_places_are_those_that_there_are_items_for() -> None:
    few = np.zeros(N + 1, bool)
    few[[9, 4, 30, 31]] = True
    env = ShopEnv(k=3, candidates=50, available=few)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(20):
        slate = env.action_space.sample()
        assert set(slate.tolist()) < {1, 2, 3, 4}
        assert len(set(slate.tolist())) == 3
    env.step(env.action_space.sample())
    assert env.batch.last is not None
    assert (env.batch.last.slate > 0).all()


def test_slates_may_name_items_beside_a_list_of_candidates() -> None:
    env = ShopEnv(k=K, candidates=M, actions="items")
    assert env.action_space == gym.spaces.MultiDiscrete([N + 1] * K)
    env.reset(seed=0)
    env.step(np.array([200, 5, 5]))
    assert env.batch.last is not None
    assert env.batch.last.slate.tolist() == [[200, 5, 0]]


def test_a_retrieval_of_one_s_own_decides() -> None:
    def dearest(states: torch.Tensor) -> torch.Tensor:
        return torch.arange(N + 1.0).expand(len(states), -1)

    env = ShopEnv(candidates=5, retrieve=dearest)
    assert env.reset(seed=0)[0]["candidates"].tolist() == [0, 200, 199, 198, 197, 196]
    with pytest.raises(ValueError, match=r"shape \(1, 201\), got \(1, 3\)"):
        ShopEnv(candidates=5, retrieve=lambda states: torch.zeros(len(states), 3)).reset(seed=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_scores_of_one_s_own_may_be_of_any_size(encoder: MeanEncoder, scale: float, shift: float) -> None:
    draws = np.random.default_rng(0).permutation(N + 1) / N + shift
    scores = torch.from_numpy(draws * scale).float()[None]
    found = Retrieval(M, encoder, torch.ones(N + 1), retrieve=lambda _: scores).find(torch.zeros(1, encoder.dim))
    assert found[0, 1:].tolist() == (1 + np.argsort(-draws[1:])[:M]).tolist()


def test_scores_of_one_s_own_that_rounding_alone_tells_apart_go_by_index(encoder: MeanEncoder) -> None:
    near = torch.tensor([3.0, 1.0, 1.0 + 1e-6, 1.0 - 1e-7, -0.0, 0.0, 1.001]).repeat(2, 1)
    near[1] *= -1
    scores = torch.nn.functional.pad(near, (0, N + 1 - near.shape[1]), value=-torch.inf)
    found = Retrieval(8, encoder, torch.ones(N + 1), retrieve=lambda _: scores).find(torch.zeros(2, encoder.dim))
    assert found.tolist() == [[0, 6, 1, 2, 3, 4, 5, 0, 0], [0, 4, 5, 1, 2, 3, 6, 0, 0]]


def test_a_score_of_one_s_own_may_be_infinite_but_not_nan(encoder: MeanEncoder) -> None:
    scores = torch.arange(N + 1.0)[None].clone()
    scores[0, 9], scores[0, N] = torch.inf, -torch.inf
    retrieval = Retrieval(3, encoder, torch.ones(N + 1), retrieve=lambda _: scores)
    assert retrieval.find(torch.zeros(1, encoder.dim)).tolist() == [[0, 9, N - 1, N - 2]]
    scores[0, 3] = torch.nan
    with pytest.raises(ValueError, match="retrieve gave nan"):
        retrieval.find(torch.zeros(1, encoder.dim))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_rows_with_candidates_are_single_environments(mode: AutoresetMode) -> None:
    settings: dict[str, Any] = {"k": K, "candidates": M, "observation": ALL_PARTS, "max_slates": 3, "history_len": 4}
    native = ShopVectorEnv(5, autoreset_mode=mode, **settings)
    rows = SyncVectorEnv([lambda: ShopEnv(**settings) for _ in range(5)], autoreset_mode=mode)
    assert native.observation_space == rows.observation_space
    assert native.action_space == rows.action_space
    native.action_space.seed(3)
    assert_same(native.reset(seed=11)[0], rows.reset(seed=11)[0])
    for _ in range(25):
        slates = native.action_space.sample()
        native_step, row_step = native.step(slates), rows.step(slates)
        for one, two in zip(native_step[:4], row_step[:4], strict=True):
            assert_same(one, two)
        assert_same_infos(native_step[4], row_step[4])
        single = np.stack([env.unwrapped.action_masks() for env in rows.envs])  # pyright: ignore[reportAttributeAccessIssue]
        np.testing.assert_array_equal(native.action_masks(), single)


def test_masks_rule_out_what_would_leave_a_slot_empty() -> None:
    env = ShopEnv(k=K, available=SOME)
    env.reset(seed=0)
    mask = env.action_masks()
    assert mask.shape == (K * (N + 1),)
    assert mask.dtype == np.bool_
    for slot in mask.reshape(K, N + 1):
        assert slot[0]
        np.testing.assert_array_equal(slot[1:], SOME[1:])
    space = gym.spaces.MultiDiscrete([N + 1] * K, seed=0)
    drawn = space.sample(mask=tuple(mask.reshape(K, N + 1).astype(np.int8)))
    assert all(item == 0 or SOME[item] for item in drawn)


def test_the_mask_in_the_observation_is_that_of_the_method() -> None:
    few = np.zeros(N + 1, bool)
    few[[9, 4]] = True
    env = ShopEnv(k=2, candidates=4, available=few, observation="action_mask")
    seen, _ = env.reset(seed=0)
    assert seen["action_mask"].tolist() == [1, 1, 1, 0, 0] * 2
    np.testing.assert_array_equal(seen["action_mask"], env.action_masks())
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        ShopEnv().action_masks()


@pytest.mark.parametrize("candidates", [None, 20])
def test_what_is_not_on_sale_on_the_day_of_the_visit_is_not_shown(candidates: int | None) -> None:
    made = KnownShop.make(replace(KnownShopConfig.small(), turnover=0.8, come_back=0.8, come_back_after=20.0))
    shopper = KnownTruthShopper(made)
    settings: dict[str, Any] = {"available": "on_sale", "visits": True, "k": K, "observation": "action_mask"}
    settings |= {"shopper": shopper, "candidates": candidates, "max_slates": 40}
    native = ShopVectorEnv(6, **settings)
    rows = SyncVectorEnv([lambda: ShopEnv(**settings) for _ in range(6)])
    native.action_space.seed(0)
    assert_same(native.reset(seed=0)[0], rows.reset(seed=0)[0])
    hidden, waiting = 0, np.zeros(6, bool)
    for _ in range(25):
        slates = native.action_space.sample() * ~waiting[:, None]  # what is given to a row that waits counts as empty
        there = shopper.there(native.batch.here.state.day).numpy()
        named = slates if candidates is None else np.take_along_axis(native.batch.shelf.found.numpy(), slates, 1)
        native_step, row_step = native.step(slates), rows.step(slates)
        assert_same(native_step[0], row_step[0])
        np.testing.assert_allclose(native_step[1], row_step[1], rtol=1e-5)
        assert native.batch.last is not None
        shown = native.batch.last.slate.numpy()
        np.testing.assert_array_equal(shown, named * np.take_along_axis(there, named, 1))
        hidden += int(((shown == 0) & (named > 0)).sum())
        waiting = native_step[2] | native_step[3]
        mask = native.action_masks().reshape(6, K, -1)[:, 0]
        if candidates is None:
            np.testing.assert_array_equal(mask[:, 1:], shopper.there(native.batch.here.state.day).numpy()[:, 1:])
    assert (hidden > 50) == (candidates is None)  # all candidates are there, so none is hidden


def test_only_a_shop_with_a_calendar_knows_what_is_on_sale() -> None:
    plain = MeanEncoder(torch.from_numpy(np.random.default_rng(0).normal(size=(21, 6))))
    with pytest.raises(ValueError, match="OneFavouriteShopper know no days"):
        ShopEnv(OneFavouriteShopper(20), plain, available="on_sale")
    with pytest.raises(ValueError, match="got 'sale'"):
        ShopEnv(available="sale")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("actions", ["items", "places"])
@pytest.mark.parametrize("observation", ["state", "history", "candidate_features", "action_mask", ALL_PARTS])
def test_both_checkers_are_content(observation: Any, actions: Any) -> None:
    settings: dict[str, Any] = {"candidates": M, "observation": observation, "actions": actions}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("slatewise/Shop-v0", **settings).unwrapped)
        env_checker.check_env(ShopEnv(**settings, render_mode="ansi"), skip_render_check=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"candidates": 2, "k": 3}, "k=3.*got 2"),
        ({"candidates": 201}, "at most 200.*got 201"),
        ({"actions": "places"}, "needs candidates="),
        ({"candidates": 9, "actions": "prices"}, "'prices'"),
        ({"observation": "candidate_features"}, "needs candidates="),
        ({"observation": ("state", "picture")}, "picture"),
        ({"retrieve": torch.zeros}, "needs candidates="),
    ],
)
def test_wrong_settings_are_refused_with_their_value(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ShopEnv(**settings)


def test_toys_have_candidates_too() -> None:
    shopper = OneFavouriteShopper(20, (7,), slates=4, glance=1.0)
    encoder = MeanEncoder(torch.from_numpy(np.random.default_rng(0).normal(size=(21, 6))))
    env = ShopEnv(shopper, encoder, 2, candidates=4)
    seen, _ = env.reset(seed=0)
    assert seen["candidates"][1] == 7  # it has just been viewed
    assert env.step(np.array([1, 2]))[4]["clicked_item"] == 7
