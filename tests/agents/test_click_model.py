"""A fitted shopper as a teacher of clicks: what it says is what it does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.agents import ShopperClicks
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators import FitConfig, FittedShopper, KnownTruthShopper, collect_log, fit_boosted, fit_shopper
from slatewise.testing import random_slates


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> Any:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=300, k=5, seed=1)


@pytest.fixture(scope="module")
def fitted(shop: KnownShop, log: Any) -> FittedShopper:
    return fit_shopper(log, MeanEncoder.from_catalogue(shop.catalogue), config=FitConfig(members=0))


def came(shopper: Any, rows: int = 40) -> tuple[Any, dict[str, Any]]:
    """Shoppers who have just come, and what an agent sees of them."""
    state = shopper.reset(torch.arange(rows))
    tokens = state.arrival
    width = int(tokens.lengths.max())
    seen = {name: getattr(tokens, name)[:, :width].numpy() for name in ("items", "events", "gaps")}
    slates = np.zeros((rows, width * 5), np.int64)
    return state, {**seen, "lengths": tokens.lengths.numpy()[:, None], "slates": slates}


@pytest.mark.parametrize("form", ["depth", "cascade"])
def test_chances_are_those_by_which_the_shopper_clicks(fitted: FittedShopper, form: Any) -> None:
    own = replace(fitted.model.own, choice=replace(fitted.model.own.choice, form=form))
    shopper = FittedShopper(replace(fitted.model, own=own), fitted.encoder)
    state, seen = came(shopper)
    slates = random_slates(40, 5, shopper.n_items)
    slates[:7, 2] = 0
    chances = ShopperClicks(shopper)(seen, slates.numpy())
    assert chances.shape == (40, 6)
    torch.testing.assert_close(chances.sum(1), torch.ones(40))
    # Of a slate with an empty slot, the shopper's outside option knows, and the teacher takes it for a full one.
    torch.testing.assert_close(
        1 - chances[7:, 0], shopper.expect(state, slates).click[0][7:].float(), atol=1e-4, rtol=0
    )
    assert (chances[:7, 3] < 1e-6).all()


def test_boosted_shoppers_teach_too(log: Any) -> None:
    shopper = fit_boosted(log, config=FitConfig(members=0))
    _, seen = came(shopper)
    chances = ShopperClicks(shopper)(seen, random_slates(40, 5, shopper.n_items).numpy())
    torch.testing.assert_close(chances.sum(1), torch.ones(40))
    assert chances[:, 0].mean() > 0.2
