"""What shoppers are said to make of a slate is what they then do, and its parts are all there is to it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators import (
    BoostedShopper,
    FitConfig,
    FittedShopper,
    KnownTruthShopper,
    collect_log,
    fit_boosted,
    fit_shopper,
    reasons,
)
from slatewise.testing import OneFavouriteShopper

K, SHOPPERS = 4, 20_000


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig(n_items=60, n_categories=4, n_brands=6, seed=2))


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=900, k=K, seed=1)


@pytest.fixture(scope="module")
def fitted(log: ShopLog) -> FittedShopper:
    return fit_shopper(log, MeanEncoder.from_catalogue(log.catalogue), config=FitConfig(members=3))


@pytest.fixture(scope="module")
def boosted(log: ShopLog) -> BoostedShopper:
    return fit_boosted(log, config=FitConfig(members=0))


def slates(rows: int, n_items: int, seed: int = 0) -> Tensor:
    """(rows, K) slates without repeats, a tenth of whose slots are empty."""
    rng = np.random.default_rng(seed)
    drawn = np.argsort(rng.random((rows, n_items)), axis=1)[:, :K] + 1
    return torch.from_numpy(drawn * (rng.random((rows, K)) > 0.1))


def after(shopper: Any, rows: int, shown: int = 2) -> Any:
    """States of shoppers who have seen some slates."""
    state = shopper.reset(torch.arange(rows))
    for number in range(shown):
        _, state = shopper.respond(state, slates(rows, shopper.n_items, seed=number))
    return state


def check_against_responses(shopper: Any) -> None:
    """Clicks, carts and purchases of many shoppers are as frequent, slot by slot, as they were said to be."""
    state, slate = after(shopper, SHOPPERS), slates(SHOPPERS, shopper.n_items, seed=9)
    told = reasons(shopper, state, slate)
    assert told is not None
    response, _ = shopper.respond(state, slate)
    clicks = torch.nn.functional.one_hot(response.clicked + 1, K + 1)[:, 1:].double()
    for name, expected, happened in (
        ("click", told.click, clicks),
        ("cart", told.click * told.cart, clicks * response.carted[:, None]),
        ("purchase", told.click * told.cart * told.purchase, clicks * response.purchased[:, None]),
    ):
        spread = (expected * (1 - expected)).double().sum(0).sqrt()  # of the count, given the chances
        off = (happened.sum(0) - expected.double().sum(0)).abs()
        assert (off < 4.5 * spread + 0.5).all(), (name, off, spread)
    assert not told.click[slate == 0].any()
    assert not told.utility[slate == 0].any()
    if told.parts:
        torch.testing.assert_close(sum(told.parts.values()), told.utility, rtol=1e-4, atol=1e-4)


def test_the_known_truth_tells_what_it_does(shop: KnownShop) -> None:
    check_against_responses(KnownTruthShopper(shop))


def test_the_known_truth_tells_of_every_mechanism() -> None:
    shopper = KnownTruthShopper(KnownShop.make(KnownShopConfig.realistic()))
    state = after(shopper, 300)
    slate = slates(300, shopper.n_items, seed=5)
    slate[:, 0] = torch.where(state.familiar[:, 0] > 0, state.familiar[:, 0], slate[:, 0])
    slate[:, 1:] *= slate[:, 1:] != slate[:, :1]
    told = reasons(shopper, state, slate)
    assert told is not None
    torch.testing.assert_close(sum(told.parts.values()), told.utility, rtol=1e-4, atol=1e-4)
    assert {"goes with what it took", "owned already"} <= set(told.parts)
    assert (told.parts["clicked before"] < 0).any()


def test_the_fitted_shopper_tells_what_it_does(fitted: FittedShopper) -> None:
    check_against_responses(fitted)
    check_against_responses(fitted.ensemble())


def test_the_boosted_shopper_tells_what_it_does(boosted: BoostedShopper) -> None:
    check_against_responses(boosted)


def test_who_cannot_tell_says_nothing() -> None:
    toy = OneFavouriteShopper()
    assert reasons(toy, toy.reset(torch.arange(2)), torch.ones((2, 1), dtype=torch.int64)) is None
