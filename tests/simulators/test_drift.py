"""Interests that fade within a session: what the features count, and that a half-life is found where there is one."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import Event
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators import (
    FitConfig,
    FittedShopper,
    KnownTruthShopper,
    Priors,
    collect_log,
    features,
    fit_shopper,
    load_shopper,
)
from slatewise.simulators.choice_fit import fit_choice, log_likelihood, settled
from slatewise.simulators.drift import HALF_LIVES, WITHIN, _compared, faded, find_drift, half_life_of
from slatewise.simulators.features import ITEM_FEATURES, HalfLives, Scaling, fading_columns, item_facts
from slatewise.simulators.fit_family import fit
from slatewise.simulators.learn import Strengths, learn_choice
from slatewise.simulators.observed import Observed
from slatewise.simulators.occasions import Occasions
from slatewise.simulators.priors import ASSUMED, LEARNED
from slatewise.simulators.trail import Trail

ALONE = FitConfig(members=0)
TAKEN_BY = ("category_share", "category_clicks")
INTERESTS, SATURATION = HALF_LIVES["interests"], HALF_LIVES["saturation"]


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def encoder(shop: KnownShop) -> MeanEncoder:
    return MeanEncoder.from_catalogue(shop.catalogue)


@pytest.fixture(scope="module")
def lasting(shop: KnownShop, encoder: MeanEncoder) -> FittedShopper:
    """Fitted on the known-truth shop, where interests do not fade."""
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=1_000, k=6, seed=1)
    return fit_shopper(log, encoder, config=ALONE)


def taken_with(shopper: FittedShopper, half_life: float) -> FittedShopper:
    """The shopper, but taken by categories it was taken by before, for so long, and staying for many slates."""
    model = shopper.model
    item = model.own.choice.item.clone()
    item[[ITEM_FEATURES.index(name) for name in TAKEN_BY]] = torch.tensor([2.5, 1.5])
    item[ITEM_FEATURES.index("same_category")] = 0.0
    high = model.scaling.high.clone()
    high[[ITEM_FEATURES.index(name) for name in TAKEN_BY]] = torch.tensor([1.0, 3.0])
    weights = torch.zeros_like(model.own.leaving.weights)
    weights[0] = -2.5
    leaving = replace(model.own.leaving, weights=weights, effects=torch.zeros_like(model.own.leaving.effects))
    scaling = replace(model.scaling, half_lives=HalfLives(half_life), high=high)
    choice = replace(model.own.choice, item=item)
    own = replace(model.own, choice=choice, leaving=leaving)
    return FittedShopper(replace(model, own=own, scaling=scaling), shopper.encoder)


@pytest.fixture(scope="module")
def fickle_log(lasting: FittedShopper, shop: KnownShop) -> ShopLog:
    return collect_log(taken_with(lasting, 1.0), shop.catalogue, sessions=900, k=6, seed=7, visits=1.0)


@pytest.fixture(scope="module")
def folder(fickle_log: ShopLog, encoder: MeanEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fickle") / "shopper"
    shopper = fit(fickle_log, encoder, out, config=ALONE)
    assert isinstance(shopper, FittedShopper)
    assert shopper.model.scaling.half_lives.interests == 1.0
    return out


@pytest.fixture(scope="module")
def fickle(folder: Path) -> FittedShopper:
    shopper = load_shopper(folder)
    assert isinstance(shopper, FittedShopper)
    return shopper


def row_of(shopper: FittedShopper) -> dict[str, Any]:
    """What the evidence says of drift."""
    return next(row for row in shopper.report["evidence"] if row["quantity"].startswith("half-life of interests"))


def test_earlier_items_count_less_by_the_half_life() -> None:
    catalogue = Catalogue(
        pd.DataFrame(
            {
                "item_id": ["i1", "i2", "i3"],
                "text": "thing",
                "category": ["a", "b", "b"],
                "brand": "x",
                "price": 1.0,
                "available": True,
            }
        )
    )
    facts = item_facts(catalogue, np.zeros(4, np.float32))
    trail = Trail.start(1, torch.device("cpu"))
    for item, event in ((1, Event.CLICK), (2, Event.VIEW), (3, Event.CLICK)):  # of categories a, b, b
        trail.after_token(torch.tensor([item]), torch.tensor([int(event)]), facts.price_in_category)
    asked = facts.category[torch.tensor([[1, 2]])]
    share, clicks, _ = fading_columns(trail, asked, facts, HalfLives(1.0))
    # Weights 1, 1/2 and 1/4 from the latest back: a has 1/4 of 7/4. Of clicks a has the one before the latest.
    assert share[0].tolist() == pytest.approx([1 / 7, 6 / 7])
    assert clicks[0].tolist() == pytest.approx([math.log(1.5), math.log(2.0)])
    share, clicks, _ = fading_columns(trail, asked, facts, HalfLives())
    assert share[0].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert clicks[0].tolist() == pytest.approx([math.log(2.0), math.log(2.0)])


def test_a_table_of_categories_tells_what_comparing_them_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frame = {"item_id": [f"i{number}" for number in range(60)], "text": "thing", "brand": "x", "price": 1.0}
    named = rng.choice(list("abcdefgh"), 60)
    facts = item_facts(Catalogue(pd.DataFrame({**frame, "category": named, "available": True})), np.zeros(61, "f4"))
    trail = Trail.start(300, torch.device("cpu"))
    for _ in range(9):
        trail.after_slate(torch.from_numpy(rng.integers(0, 61, (300, 10))))
        drawn = torch.from_numpy(rng.integers(0, 61, 300)), torch.from_numpy(rng.integers(0, 7, 300))
        trail.after_token(*drawn, facts.price_in_category)
    asked = facts.category[torch.from_numpy(rng.integers(0, 61, (300, 10)))]
    for half_lives in (HalfLives(), HalfLives(2.0, 3.0)):
        monkeypatch.setattr(features, "_TABLE", 32)
        table = torch.stack(fading_columns(trail, asked, facts, half_lives))
        monkeypatch.setattr(features, "_TABLE", 0)
        assert torch.allclose(torch.stack(fading_columns(trail, asked, facts, half_lives)), table, atol=1e-6)
        assert (table > 0).any(dim=2).any(dim=1).all()


def test_a_half_life_is_found_where_shoppers_have_one_and_kept_in_the_folder(fickle: FittedShopper) -> None:
    row = row_of(fickle)
    assert row["source"] == LEARNED
    assert "in items taken" in str(row["quantity"])
    assert row["value"] == fickle.model.scaling.half_lives.interests == 1.0
    assert row["low"] <= 1.0 <= row["high"] < 8.0


def test_none_is_found_where_interests_last(lasting: FittedShopper, shop: KnownShop, encoder: MeanEncoder) -> None:
    assert math.isinf(lasting.model.scaling.half_lives.interests)
    assert "none found" in str(row_of(lasting)["quantity"])
    log = collect_log(taken_with(lasting, math.inf), shop.catalogue, sessions=900, k=6, seed=7, visits=1.0)
    again = fit_shopper(log, encoder, config=ALONE)
    assert math.isinf(again.model.scaling.half_lives.interests)
    assert "none found" in str(row_of(again)["quantity"])


def test_a_fit_with_the_drift_foretells_later_sessions_better(
    fickle: FittedShopper, lasting: FittedShopper, shop: KnownShop, fickle_log: ShopLog
) -> None:
    later = collect_log(taken_with(lasting, 1.0), shop.catalogue, sessions=500, k=6, seed=8, visits=1.0)
    told = Observed.by(fickle, later).foretold(fickle.model).choices["fitted"][0].mean()
    still = FittedShopper(
        replace(fickle.model, scaling=replace(fickle.model.scaling, half_lives=HalfLives())), fickle.encoder
    )
    without = Observed.by(still, later).foretold(still.model).choices["fitted"][0].mean()
    assert float(told) > float(without)


def test_a_log_that_cannot_tell_leaves_it_to_the_prior(shop: KnownShop, encoder: MeanEncoder) -> None:
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=150, k=6, seed=1)
    alike = Catalogue(log.catalogue.frame.assign(category="all"))
    one = ShopLog(log.events, alike, log.facts)
    assert half_life_of(0.5) == 1.0
    assert half_life_of(0.2) == pytest.approx(3.1, abs=0.02)
    for fading in (0.0, 0.5):
        config = replace(ALONE, priors=Priors(interest_fading=fading))
        shopper = fit_shopper(one, MeanEncoder.from_catalogue(alike), config=config)
        row = next(row for row in shopper.report["evidence"] if "interest_fading" in row["quantity"])
        assert (row["source"], row["value"], row["high"]) == (ASSUMED, fading, 0.3)
        assert shopper.model.scaling.half_lives.interests == half_life_of(fading)
    with pytest.raises(ValueError, match="interest_fading must be in"):
        Priors(interest_fading=1.0)


def test_saturation_that_fades_is_found_and_counts_older_slots_less(shop: KnownShop, encoder: MeanEncoder) -> None:
    facts = item_facts(shop.catalogue, np.zeros(shop.n_items + 1, np.float32))
    trail = Trail.start(1, torch.device("cpu"))
    for slate in ([1, 2], [3, 4]):
        trail.after_slate(torch.tensor([slate]))
    asked = facts.category[torch.arange(1, 5)[None]]
    shown = fading_columns(trail, asked, facts, HalfLives(saturation=1.0))[2][0]
    weights = {3: 1.0, 4: 1.0, 1: 0.5, 2: 0.5}  # the latest slate counts whole
    category = facts.category
    wanted = [sum(w for item, w in weights.items() if category[item] == category[one]) for one in range(1, 5)]
    assert shown.tolist() == pytest.approx(wanted)
    tiring = KnownShop.make(replace(KnownShopConfig.small(), satiation=1.5, satiation_kept=0.5))
    log = collect_log(KnownTruthShopper(tiring), tiring.catalogue, sessions=1_500, k=6, seed=3, again=0.5)
    found = fit_shopper(log, encoder, config=ALONE)
    assert found.model.scaling.half_lives.saturation <= 4
    assert found.model.own.choice.item[ITEM_FEATURES.index("category_shown")] < 0
    row = next(row for row in found.report["evidence"] if row["quantity"].startswith("half-life of saturation"))
    assert row["source"] == LEARNED


def test_a_half_life_is_found_as_if_each_were_fitted_alone(fickle_log: ShopLog, encoder: MeanEncoder) -> None:
    log, priors = fickle_log.part(np.arange(150)), Priors()
    occasions, n = Occasions.of_slates(log.slates), log.catalogue.n_items
    learned = learn_choice(log, occasions, encoder, priors, Strengths(1.0, 0.5, 0.3))
    seen = occasions.replay(log, encoder, learned.facts, learned.scaling.bend)
    filled = torch.from_numpy(occasions.items > 0)
    scaling = Scaling.of(seen.raw, filled, learned.scaling.bend)
    lasts = fit_choice(occasions.data(seen, scaling), learned.prior, n)
    ground = log, occasions, learned.facts, seen, scaling, np.arange(len(occasions)), learned.prior, lasts
    found = find_drift("interests", *ground, priors)
    assert found.best < math.inf
    told = []
    for half_life in (found.best, math.inf):
        half_lives = HalfLives(half_life)
        faded(seen, log, occasions, learned.facts, half_lives)
        data = occasions.data(seen, Scaling.of(seen.raw, filled, learned.scaling.bend, half_lives))
        alone = fit_choice(data, settled(learned.prior, lasts), n, errors=False, rounds=1)
        told.append(float(log_likelihood(alone.weights, data).sum()))
    assert found.gain == pytest.approx(told[0] - told[1], abs=0.05)
    assert found.gain > 1


def test_a_gain_that_one_shopper_makes_is_no_drift() -> None:
    told = np.zeros((len(INTERESTS), 400))
    told[1] = 0.05
    everyone, one = np.arange(400), np.zeros(400, np.int64)
    assert _compared("interests", told, everyone).half_life == INTERESTS[1]
    assert math.isinf(_compared("interests", told, one).half_life)
    assert math.isinf(_compared("interests", told / 20, everyone).half_life)  # too little
    told[2] = told[1] - 0.9 * WITHIN / 400
    told[3] = told[1] - 1.1 * WITHIN / 400
    found = _compared("interests", told, everyone)
    assert (found.low, found.high) == (INTERESTS[1], INTERESTS[2])
