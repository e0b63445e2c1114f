"""The price on what an ensemble disagrees by about a slate."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import slatewise.envs  # noqa: F401  registers the environments
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders.mean import MeanEncoder
from slatewise.envs import ShopVectorEnv
from slatewise.simulators import FitConfig, FittedShopper, KnownTruthShopper, collect_log, fit_shopper
from slatewise.testing import random_slates

ROWS, K = 64, 6


@pytest.fixture(scope="module")
def encoder() -> MeanEncoder:
    return MeanEncoder.from_catalogue(KnownShop.make(KnownShopConfig.small()).catalogue)


@pytest.fixture(scope="module")
def shopper(encoder: MeanEncoder) -> FittedShopper:
    shop = KnownShop.make(KnownShopConfig.small())
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=250, k=K, seed=1)
    return fit_shopper(log, encoder, config=FitConfig(members=3, held_out=0))


def slates(n_items: int) -> np.ndarray:
    return random_slates(ROWS, K, n_items).numpy()


def test_disagreement_costs_what_its_price_says(shopper: FittedShopper, encoder: MeanEncoder) -> None:
    free, told, priced = (ShopVectorEnv(ROWS, shopper, encoder, K, doubt=doubt) for doubt in (None, 0.0, 2.0))
    for env in (free, told, priced):
        env.reset(seed=3)
    for _ in range(2):
        _, plain, *_, figures = free.step(slates(shopper.n_items))
        assert "doubt" not in figures
        _, same, *_, known = told.step(slates(shopper.n_items))
        assert np.array_equal(same, plain)
        _, less, *_, figures = priced.step(slates(shopper.n_items))
        live = figures["_doubt"]
        assert (figures["doubt"][live] > 0).all()
        assert np.array_equal(figures["doubt"], known["doubt"])
        np.testing.assert_allclose(less[live], (plain - 2.0 * figures["doubt"])[live])


def test_disagreement_is_in_units_of_the_reward(shopper: FittedShopper, encoder: MeanEncoder) -> None:
    found, env = [], None
    for weight in (1.0, 10.0):
        env = ShopVectorEnv(ROWS, shopper, encoder, K, reward={"click": weight}, doubt=0.0)
        env.reset(seed=3)
        found.append(env.step(slates(shopper.n_items))[4]["doubt"])
    np.testing.assert_allclose(found[1], 10 * found[0], rtol=1e-5)
    assert env is not None
    state = shopper.reset(torch.from_numpy(env.batch.shopper_seeds))
    expected = shopper.expect(state, torch.from_numpy(slates(shopper.n_items)))
    np.testing.assert_allclose(found[0], expected.click.std(0), rtol=1e-5)


def test_it_works_on_shoppers_drawn_of_the_ensemble_and_in_one_env(
    shopper: FittedShopper, encoder: MeanEncoder
) -> None:
    env = gym.make("slatewise/Shop-v0", shopper=shopper.ensemble(), encoder=encoder, k=K, doubt=1.0)
    env.reset(seed=0)
    info = env.step(slates(shopper.n_items)[0])[4]
    assert info["doubt"] > 0


def test_doubt_needs_an_ensemble_and_a_price(shopper: FittedShopper, encoder: MeanEncoder) -> None:
    with pytest.raises(ValueError, match="fit it with at least 2 members"):
        ShopVectorEnv(2, shopper.member(0), encoder, K, doubt=0.5)
    for price in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="doubt must be a finite number"):
            ShopVectorEnv(2, shopper, encoder, K, doubt=price)
    with pytest.raises(ValueError, match="nobody can expect"):
        ShopVectorEnv(2, shopper, encoder, K, reward=lambda what: what.response.dwell, doubt=0.5)
