"""Parameters that a person reads of a fitted shopper: they are those of the shop whose log it was fitted on."""

from dataclasses import replace

import pytest
import torch

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators import FitConfig, FittedShopper, KnownTruthShopper, collect_log, fit_shopper
from slatewise.simulators.features import ITEM_FEATURES
from slatewise.simulators.leaving import IDLE_LEVELS, leaving_features
from slatewise.simulators.price_slope import price_slope

ALIKE = dict.fromkeys(
    ("quality", "allure", "category_taste", "intent", "style_taste", "satiation", "familiarity", "letdown"), 0.0
)


@pytest.fixture(scope="module")
def fitted() -> FittedShopper:
    """Fitted where items differ in price alone, and shoppers bear four slates without a click."""
    shop = KnownShop.make(replace(KnownShopConfig.small(), **ALIKE, outside_option=60.0, patience=4))
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=1_000, k=8, seed=2, again=0.5)
    return fit_shopper(log, MeanEncoder.from_catalogue(shop.catalogue), config=FitConfig(held_out=0, members=8))


def slope(shopper: FittedShopper) -> float:
    return price_slope(shopper.model.own.choice, shopper.model.facts, shopper.model.scaling)


def test_the_slope_of_price_is_that_of_the_shop(fitted: FittedShopper) -> None:
    members = torch.tensor([slope(fitted.member(number)) for number in range(8)])
    assert abs(slope(fitted) + 0.4) < 3 * float(members.std()) < 0.4
    row = next(row for row in fitted.report["evidence"] if "dearer within its category" in row["quantity"])
    assert row["value"] == pytest.approx(slope(fitted))
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * float(members.std()))


def test_the_slope_of_price_holds_what_popularity_and_effects_know_of_it(fitted: FittedShopper) -> None:
    model = fitted.model
    popular = torch.zeros_like(model.own.choice.item)
    popular[ITEM_FEATURES.index("popularity")] = 1.0
    facts = replace(model.facts, popularity=-0.5 * model.facts.price_in_category)
    choice = replace(model.own.choice, item=popular, effects=-0.2 * model.facts.price_in_category)
    per_unit = 0.5 / float(model.scaling.scale[ITEM_FEATURES.index("popularity")])
    assert price_slope(choice, facts, model.scaling) == pytest.approx(-per_unit - 0.2, rel=1e-4)


def test_patience_that_ends_at_a_slate_ends_there_and_stays_ended(fitted: FittedShopper) -> None:
    number = torch.arange(1, IDLE_LEVELS + 3)
    nothing = torch.zeros_like(number)
    chance = fitted.model.own.leaving.chance(
        leaving_features(number, number, nothing, nothing, nothing.float()), nothing
    )
    assert (chance[:3] < 0.05).all()
    assert (chance[3:] > 0.95).all()  # no shopper of the log has borne a fifth
