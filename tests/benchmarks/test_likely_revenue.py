"""Revenue counted by chances has the mean of what was bought, and much less luck; nothing else changes."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators import FitConfig, KnownTruthShopper, collect_log, fit_shopper

ROWS = 30_000


@pytest.fixture(scope="module")
def shoppers() -> dict[str, Any]:
    shop = KnownShop.make(KnownShopConfig.small())
    truth = KnownTruthShopper(shop)
    log = collect_log(truth, shop.catalogue, sessions=900, k=6, seed=1)
    fitted = fit_shopper(log, MeanEncoder.from_catalogue(shop.catalogue), config=FitConfig(members=3))
    return {"truth": truth, "fitted": fitted, "ensemble": fitted.ensemble()}


@pytest.mark.parametrize("kind", ["truth", "fitted", "ensemble"])
def test_likely_revenue_has_the_mean_of_revenue(
    kind: str, shoppers: dict[str, Any], benchmark_module: Callable[[str], ModuleType]
) -> None:
    shopper = shoppers[kind]
    drawn = torch.rand(ROWS, shopper.n_items, generator=torch.Generator().manual_seed(0))
    slates = drawn.topk(6).indices + 1
    wrapped = benchmark_module("likely_revenue").LikelyRevenue(shopper)
    assert wrapped.n_items == shopper.n_items
    plain, _ = shopper.respond(shopper.reset(torch.arange(ROWS)), slates)
    likely, _ = wrapped.respond(wrapped.reset(torch.arange(ROWS)), slates)
    error = float((plain.revenue - likely.revenue).std()) / ROWS**0.5
    assert float(plain.revenue.mean() - likely.revenue.mean()) == pytest.approx(0, abs=3.5 * error)
    assert float(likely.revenue.std()) < 0.5 * float(plain.revenue.std())
    assert not likely.revenue[likely.clicked < 0].any()
    for name in ("clicked", "carted", "purchased", "left", "dwell"):
        assert torch.equal(getattr(plain, name), getattr(likely, name))
