"""A fitted shopper run on and on beside the true one: what it makes of a slate that is shown again and again."""

import numpy as np
import torch

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators import FitConfig, KnownTruthShopper, Shopper, collect_log, fit_shopper, slate_likelihood
from slatewise.simulators.funnel import FUNNEL_FEATURES
from slatewise.simulators.learn import Strengths

SHOPPERS, SLATES, PLACES = 8_000, 4, 6


def purchases(shopper: Shopper, slate: torch.Tensor) -> np.ndarray:
    """(SLATES,) purchases a shopper on the same slate shown again and again, whoever would have left kept."""
    state = shopper.reset(torch.arange(SHOPPERS) + 10**6)
    rates = []
    for _ in range(SLATES):
        response, state = shopper.respond(state, slate.expand(SHOPPERS, -1))
        rates.append(float(response.purchased.float().mean()))
    return np.array(rates)


def test_a_fitted_shopper_tires_of_buying_from_a_slate_shown_again() -> None:
    """In a shop whose shoppers buy much less once sated; a funnel that cannot tire sells 2.5 times the truth late."""
    config = KnownShopConfig(
        n_items=200,
        n_categories=6,
        n_brands=12,
        satiation=0.8,
        match=1.5,
        cart_rate=0.3,
        purchase_rate=0.4,
        letdown=0.0,
    )
    shop = KnownShop.make(config)
    truth = KnownTruthShopper(shop)
    log = collect_log(truth, shop.catalogue, sessions=1_500, k=PLACES, seed=2)
    fitted = fit_shopper(log, MeanEncoder.from_catalogue(shop.catalogue), config=FitConfig(held_out=0, members=0))
    popular = torch.as_tensor(shop.popularity)[1:].topk(PLACES).indices + 1
    true, found = purchases(truth, popular), purchases(fitted, popular)
    assert 1 / 1.25 < found.sum() / true.sum() < 1.25
    assert found[2:].sum() / true[2:].sum() < 2.2
    assert {"shown_before", "category_clicks", "category_shown"} < set(FUNNEL_FEATURES)


def test_effects_of_a_rival_without_the_encoder_read_no_vectors() -> None:
    encoder = MeanEncoder(torch.eye(4))
    strengths = Strengths(1.0, 0.5, 0.3)
    assert strengths.of("none", encoder) is None
    own, both = strengths.of("own", encoder), strengths.of("alike and own", encoder)
    assert own is not None
    assert both is not None
    assert not own.vectors.any()
    assert both.vectors.any()
    assert (own.alike, own.own) == (both.alike, both.own) == (0.5, 0.3)


def test_intervals_treat_the_sessions_of_a_shopper_as_one() -> None:
    shop = KnownShop.make(KnownShopConfig.small())
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=300, k=PLACES, seed=1)
    fitted = fit_shopper(log, MeanEncoder.from_catalogue(shop.catalogue), config=FitConfig(held_out=0, members=0))
    events = log.events.copy()
    events["shopper_id"] = "s" + (events["session_id"].astype("category").cat.codes % 10).astype(str)
    apart = slate_likelihood(fitted, log, resamples=50)
    together = slate_likelihood(fitted, ShopLog(events, log.catalogue, log.facts), resamples=50)
    assert apart.shoppers == log.sessions["shopper_id"].nunique()
    assert (together.shoppers, together.sessions) == (10, apart.sessions)
    assert together.table["log_likelihood"].tolist() == apart.table["log_likelihood"].tolist()
    assert list(apart.table["model"]) == ["fitted", "position", "position and popularity", "all but the session state"]
