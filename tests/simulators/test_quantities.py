"""How many are bought at once: found in purchases whose truth is known, held within a cap, and simulated so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.agents import MyopicPolicy
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
    fit,
    fit_shopper,
    load_shopper,
)
from slatewise.simulators.features import ItemFacts, item_facts
from slatewise.simulators.priors import ASSUMED, LEARNED, RANGES
from slatewise.simulators.quantities import Quantities, outnumbering
from slatewise.simulators.quantities_fit import Bought, learn_quantities, quantity_calibration
from slatewise.testing import check_shopper, random_slates

WEIGHTS = np.array([1.0, -0.5, 0.3])


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def facts(shop: KnownShop) -> ItemFacts:
    return item_facts(shop.catalogue, np.zeros(shop.n_items + 1, np.float32))


@pytest.fixture(scope="module")
def encoder(shop: KnownShop) -> MeanEncoder:
    return MeanEncoder.from_catalogue(shop.catalogue)


@pytest.fixture(scope="module")
def plain(shop: KnownShop) -> ShopLog:
    """A log whose purchases are of one each."""
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=2_000, k=6, seed=1)


def told(log: ShopLog, truth: Quantities, seed: int = 3) -> ShopLog:
    """The log with the quantities of its purchases drawn anew."""
    bought = (log.events["event"] == Event.PURCHASE.label).to_numpy()
    item = log.catalogue.index_of(log.events["item_id"].to_numpy(dtype=object)[bought])
    luck = torch.from_numpy(np.random.default_rng(seed).uniform(1e-4, 1 - 1e-4, bought.sum())).float()
    quantity = log.events["quantity"].copy()
    quantity[bought] = truth.drawn(torch.from_numpy(item), luck).numpy()
    return ShopLog(log.events.assign(quantity=quantity), log.catalogue, log.facts)


@pytest.fixture(scope="module")
def many(plain: ShopLog, facts: ItemFacts) -> ShopLog:
    """A log with heavy-tailed quantities."""
    return told(plain, Quantities.of(WEIGHTS, 0.8, True, 60, facts))


@pytest.fixture(scope="module")
def fitted(many: ShopLog, encoder: MeanEncoder) -> FittedShopper:
    shopper = fit_shopper(many, encoder, config=FitConfig(members=2))
    assert shopper.model.own.quantities.heavy  # fitted, not one law for all
    return shopper


def purchases(truth: Quantities, facts: ItemFacts, count: int = 6_000) -> Bought:
    """Purchases drawn from a law, three a shopper."""
    rng = np.random.default_rng(2)
    item = rng.integers(1, len(facts.price), count)
    luck = torch.from_numpy(rng.uniform(1e-4, 1 - 1e-4, count)).float()
    shopper = rng.integers(count // 3, size=count)
    return Bought(item, truth.drawn(torch.from_numpy(item), luck).numpy(), np.arange(count), shopper)


@pytest.mark.parametrize("heavy", [True, False])
def test_the_law_of_drawn_quantities_is_found_within_its_intervals(heavy: bool, facts: ItemFacts) -> None:
    truth = Quantities.of(WEIGHTS, 0.8, heavy, 1_000, facts)
    bought = purchases(truth, facts)
    found = learn_quantities(bought, np.ones(len(bought)), facts, Priors(), 20)
    assert found.fit is not None
    assert found.fit.heavy == heavy
    assert found.fit.ahead > 10
    away = (found.fit.theta - np.append(WEIGHTS, np.log(0.8))) / found.fit.errors
    assert np.abs(away).max() < 3.0
    assert found.fit.errors.max() < 0.1  # or any law would lie within
    assert found.evidence.source == LEARNED
    assert found.evidence.low < float(truth.mean[torch.from_numpy(bought.item)].mean()) < found.evidence.high


@pytest.mark.parametrize("heavy", [True, False])
def test_what_is_expected_is_the_mean_of_what_is_drawn(heavy: bool, facts: ItemFacts) -> None:
    truth = Quantities.of(WEIGHTS, 0.9, heavy, 12, facts)
    items = torch.arange(1, len(facts.price))
    luck = torch.linspace(0.0005, 0.9995, 1_000)
    drawn = truth.drawn(items.repeat_interleave(1_000), luck.repeat(len(items))).view(-1, 1_000)
    assert int(drawn.min()) == 1
    assert int(drawn.max()) == 12
    assert torch.allclose(drawn.double().mean(1), truth.mean[1:].double(), rtol=0.01)
    assert float(truth.mean[0]) == 0.0


def test_the_chance_of_more_is_that_of_the_law_by_hand() -> None:
    one = np.array([0.0])
    # Geometric with mean 1 beyond the first: each further one has chance 1/2.
    light = [float(outnumbering(np.array([q]), one, 1.0, heavy=False)[0]) for q in (0, 1, 2, 3)]
    assert light == pytest.approx([1.0, 0.5, 0.25, 0.125])
    # The rounded log-normal number is above 1 where the log-normal one is above 1.5: log 1.5 = 0.405 deviations.
    assert float(outnumbering(np.array([1]), one, 1.0, heavy=True)[0]) == pytest.approx(0.34256, abs=1e-4)
    assert float(outnumbering(np.array([0]), one, 1.0, heavy=True)[0]) == 1.0


def test_what_is_foretold_is_held_against_other_purchases(facts: ItemFacts) -> None:
    truth = Quantities.of(WEIGHTS, 0.8, True, 60, facts)
    table = quantity_calibration(truth, purchases(truth, facts))
    assert table["count"].sum() == 6_000
    assert list(table["group"]) == [1, 2, 3, 4, 5]
    assert (np.diff(table["predicted"]) > 0).all()
    assert ((table["low"] < table["predicted"]) & (table["predicted"] < table["high"])).sum() >= 4
    flat = quantity_calibration(Quantities.of(WEIGHTS * [1, 0, 0], 0.8, True, 60, facts), purchases(truth, facts))
    assert len(flat) == 1  # one law for all items
    none = purchases(truth, facts, 3)
    assert quantity_calibration(truth, Bought(*(part[:0] for part in (none.item,) * 4))).empty


def test_a_few_enormous_orders_do_not_decide_the_mean(facts: ItemFacts) -> None:
    bought = purchases(Quantities.of(WEIGHTS, 0.8, True, 200, facts), facts)
    quantity = bought.quantity.copy()
    quantity[:3] = 80_000
    wild = replace(bought, quantity=quantity)
    calm, found = (learn_quantities(some, np.ones(len(some)), facts, Priors(), 20) for some in (bought, wild))
    assert quantity.mean() > 10 * bought.quantity.mean()
    assert found.evidence.value == pytest.approx(calm.evidence.value, rel=0.05)
    assert torch.allclose(found.quantities.mean, calm.quantities.mean, rtol=0.1)
    assert "counted as" in found.evidence.count


def test_two_odd_ones_of_few_purchases_are_held_to_the_third(facts: ItemFacts) -> None:
    quantity = np.array([*[1] * 20, *[2] * 30, 700, 900])
    bought = Bought(np.ones(52, np.int64), quantity, np.arange(52), np.arange(52))
    found = learn_quantities(bought, np.ones(52), facts, Priors(), 20)
    assert "2 of more than 2 counted as 2" in found.evidence.count
    assert float(found.quantities.mean[1]) < 2


def test_a_response_tells_how_many_and_what_they_cost(fitted: FittedShopper) -> None:
    check_shopper(fitted, k=6)
    rows = 20_000
    slate = random_slates(rows, 6, fitted.n_items)
    response, _ = fitted.respond(fitted.reset(torch.arange(rows)), slate)
    bought = response.purchased
    item = slate.gather(1, response.clicked.clamp(min=0)[:, None]).squeeze(1)
    assert response.revenue.equal(fitted.prices[item] * response.quantity)
    assert int(response.quantity.max()) > 3
    assert not response.quantity[~bought].any()
    expected = fitted.model.own.quantities.mean[item[bought]]
    error = float((response.quantity[bought] - expected).std()) / np.sqrt(int(bought.sum()))
    assert float(response.quantity[bought].float().mean()) == pytest.approx(float(expected.mean()), abs=4 * error)


def test_members_expect_the_revenue_that_they_make(fitted: FittedShopper) -> None:
    rows = 20_000
    slate, seeds = random_slates(rows, 6, fitted.n_items), torch.arange(rows)
    assert not fitted.member(0).model.own.quantities.weights.equal(fitted.member(1).model.own.quantities.weights)
    for number in (0, 1):
        state = fitted.member(number).reset(seeds)
        expected = float(fitted.expect(state, slate).revenue[number].mean())
        response, _ = fitted.member(number).respond(state, slate)
        error = float(response.revenue.std()) / np.sqrt(rows)
        assert float(response.revenue.mean()) == pytest.approx(expected, abs=4 * error)
    assert fitted.report["quantities"]
    drawn = fitted.ensemble()
    response, _ = drawn.respond(drawn.reset(seeds), slate)
    alone = [fitted.member(number).respond(fitted.member(number).reset(seeds), slate)[0] for number in (0, 1)]
    who = drawn.whose(seeds)
    assert who is not None
    # Members arrive otherwise, so only those are held who bought the same item.
    for number, one in enumerate(alone):
        same = (who == number) & response.purchased & one.purchased & (response.clicked == one.clicked)
        assert int(same.sum()) > 20
        assert response.quantity[same].equal(one.quantity[same])


def test_what_is_collected_keeps_how_many_were_bought(fitted: FittedShopper, shop: KnownShop) -> None:
    log = collect_log(fitted, shop.catalogue, sessions=1_500, k=6, seed=5)
    quantity = log.events["quantity"]
    bought = log.events["event"] == Event.PURCHASE.label
    assert quantity.notna().equals(bought)
    assert int(quantity.max()) > 5
    again = Bought.of(log)
    facts = fitted.model.facts
    found = learn_quantities(again, np.ones(len(log)), facts, Priors(), 20).evidence
    assert found.low < float(fitted.model.own.quantities.mean[torch.from_numpy(again.item)].mean()) < found.high


def test_lines_of_one_order_for_one_item_are_one_purchase(plain: ShopLog) -> None:
    some = plain.events[plain.events["event"] == Event.PURCHASE.label].head(2)
    twice = pd.concat([some, some.head(1)]).assign(quantity=pd.array([2, 3, 4], dtype="Int32"))
    bought = Bought.of(ShopLog(twice.reset_index(drop=True), plain.catalogue))
    assert sorted(bought.quantity.tolist()) == [3, 6]
    untold = ShopLog(twice.assign(quantity=pd.array([2, None, 4], dtype="Int32")), plain.catalogue)
    assert Bought.of(untold).quantity.tolist() == [6]


def row_of(shopper: FittedShopper) -> dict[str, Any]:
    """What the evidence says of quantities."""
    return next(row for row in shopper.report["evidence"] if row["quantity"].startswith("mean quantity"))


def test_a_log_without_quantities_leaves_them_to_the_prior(plain: ShopLog, encoder: MeanEncoder) -> None:
    few = plain.part(np.arange(400))
    silent = ShopLog(few.events.assign(quantity=pd.array([None] * len(few.events), dtype="Int32")), few.catalogue)
    one = fit_shopper(silent, encoder, config=FitConfig(members=0))
    assert row_of(one)["source"] == ASSUMED
    assert (row_of(one)["value"], row_of(one)["high"]) == (1.0, RANGES["units_per_purchase"][1])
    rows = 20_000
    slate = random_slates(rows, 6, one.n_items)
    quantity = one.respond(one.reset(torch.arange(rows)), slate)[0].quantity
    assert set(quantity.unique().tolist()) == {0, 1}
    config = FitConfig(members=0, priors=Priors(units_per_purchase=2.5))
    more = fit_shopper(silent, encoder, config=config)
    quantity = more.respond(more.reset(torch.arange(rows)), slate)[0].quantity
    assert float(more.model.own.quantities.mean[1:].mean()) == pytest.approx(2.5, rel=0.01)
    bought = quantity[quantity > 0].float()
    assert abs(float(bought.mean()) - 2.5) < 4 * float(bought.std()) / len(bought) ** 0.5 < 1.5
    with pytest.raises(ValueError, match="units_per_purchase must be at least 1"):
        Priors(units_per_purchase=0.5)


def test_a_log_of_single_purchases_is_learned_as_one_each(plain: ShopLog, encoder: MeanEncoder) -> None:
    shopper = fit_shopper(plain.part(np.arange(400)), encoder, config=FitConfig(members=2))
    assert row_of(shopper)["source"] == LEARNED
    assert row_of(shopper)["value"] == 1.0
    assert float(shopper.model.own.quantities.mean[1:].max()) == 1.0
    assert not any(row["part"] == "quantity" for row in shopper.report["parameters"])


def test_few_larger_purchases_are_drawn_towards_the_prior(facts: ItemFacts) -> None:
    bought = Bought(*(np.arange(1, 31) for _ in range(4)))
    bought = replace(bought, quantity=np.where(np.arange(30) < 10, 4, 1), session=np.arange(30))
    found = learn_quantities(bought, np.ones(30), facts, Priors(units_per_purchase=3.0), 20)
    assert found.fit is None
    assert "drawn to prior units_per_purchase" in found.evidence.quantity
    assert found.evidence.value == pytest.approx(2.4)
    assert float(found.quantities.mean[1]) == pytest.approx(1 + (30 + 40) / (30 + 20))  # 30 more among 30, 40 among 20


def test_a_folder_keeps_how_many_are_bought(many: ShopLog, encoder: MeanEncoder, tmp_path: Path) -> None:
    kept = fit(many.part(np.arange(500)), encoder, tmp_path / "shopper", config=FitConfig(members=2))
    read = load_shopper(tmp_path / "shopper")
    assert isinstance(kept, FittedShopper)
    assert isinstance(read, FittedShopper)
    for name in Quantities.__slots__:
        for one, other in ((kept, read), (kept.member(1), read.member(1))):
            assert getattr(one.model.own.quantities, name).equal(getattr(other.model.own.quantities, name))


def test_who_recommends_for_revenue_counts_how_many_are_bought(fitted: FittedShopper) -> None:
    history = {"items": np.array([[3]]), "events": np.array([[2]]), "gaps": np.zeros((1, 1), np.float32)}
    history["lengths"] = np.array([1])
    laws = fitted.model.own.quantities
    mean = torch.ones_like(laws.mean)
    mean[17] = 10_000.0
    own = replace(fitted.model.own, quantities=replace(laws, mean=mean))
    model = replace(fitted.model, own=own, members=None)
    by_revenue = MyopicPolicy(FittedShopper(model, fitted.encoder), 4, "revenue").predict(history)[0]
    assert 17 in by_revenue
