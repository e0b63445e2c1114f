"""Shoppers fitted on logs: what is learned, what is assumed, and that they keep what simulators promise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.agents import MyopicPolicy
from slatewise.datasets.artefact import read_config
from slatewise.datasets.ingest import ingest
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import Event
from slatewise.encoders.mean import MeanEncoder
from slatewise.envs import ShopVectorEnv
from slatewise.errors import ArtefactError, EvidenceError
from slatewise.simulators import (
    FitConfig,
    FittedShopper,
    KnownTruthShopper,
    Priors,
    Shopper,
    TokenBatch,
    calibration_table,
    collect_log,
    fit,
    fit_shopper,
    load_shopper,
    save_known_truth,
    slate_likelihood,
)
from slatewise.simulators.examination import depth_log_chances, slate_log_chances
from slatewise.simulators.features import ITEM_FEATURES
from slatewise.simulators.learn import nothing_for_click_rate
from slatewise.simulators.likelihood import bootstrap_mean, within_slate_auc
from slatewise.simulators.observed import After, Observed
from slatewise.simulators.occasions import Occasions, next_views
from slatewise.simulators.priors import ASSUMED, LEARNED, RANGES, wilson
from slatewise.testing import check_shopper, only_views, random_slates

ALONE = FitConfig(members=0)
"""Without an ensemble, which tests of its own hold (test_ensemble.py)."""


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=1_200, k=6, seed=1)


@pytest.fixture(scope="module")
def few(log: ShopLog) -> ShopLog:
    return log.part(np.arange(300))


@pytest.fixture(scope="module")
def later(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=800, k=6, seed=2)


@pytest.fixture(scope="module")
def encoder(shop: KnownShop) -> MeanEncoder:
    return MeanEncoder.from_catalogue(shop.catalogue)


@pytest.fixture(scope="module")
def fitted(log: ShopLog, encoder: MeanEncoder) -> FittedShopper:
    return fit_shopper(log, encoder, config=ALONE)


def click_rate(shopper: Shopper, slate: torch.Tensor) -> float:
    """Of a first slate."""
    response, _ = shopper.respond(shopper.reset(torch.arange(len(slate)) + 10**6), slate)
    return float((response.clicked >= 0).float().mean())


def sources(shopper: FittedShopper) -> dict[str, str]:
    """First words of a quantity -> where its value comes from."""
    return {row["quantity"].split(" (")[0]: row["source"] for row in shopper.report["evidence"]}


def test_a_fitted_shopper_keeps_the_promises_of_simulators(fitted: FittedShopper) -> None:
    check_shopper(fitted, k=6)


def test_a_fitted_shopper_clicks_about_as_often_as_the_true_one(fitted: FittedShopper, shop: KnownShop) -> None:
    truth = KnownTruthShopper(shop)
    popular = (torch.as_tensor(shop.popularity)[1:].topk(6).indices + 1).expand(3_000, -1)
    for slate in (random_slates(3_000, 6, shop.n_items), popular):
        assert click_rate(fitted, slate) == pytest.approx(click_rate(truth, slate), rel=0.25)


def test_a_fit_foretells_other_shoppers_better_than_position_and_popularity(
    fitted: FittedShopper, later: ShopLog
) -> None:
    judged = slate_likelihood(fitted, later, resamples=200)
    gain, low, auc = (
        dict(zip(judged.table["model"], judged.table[name], strict=True)) for name in ("gain", "low", "auc")
    )
    assert judged.slates == len(later.slates)
    assert low["position and popularity"] > 0
    assert gain["position"] > gain["position and popularity"]
    assert auc["fitted"] > auc["position and popularity"] > 0.55


def test_a_fit_judged_by_later_sessions_keeps_none_of_its_log_aside(
    few: ShopLog, later: ShopLog, encoder: MeanEncoder
) -> None:
    part = later.part(np.arange(150))
    judged = fit_shopper(few, encoder, later=part, config=ALONE).report
    whole = fit_shopper(few, encoder, config=FitConfig(held_out=0, members=0)).report
    assert judged["held_out_counts"]["sessions"] <= 150
    assert judged["parameters"] == whole["parameters"]
    assert judged["counts"] == whole["counts"]


def test_each_part_is_calibrated_on_other_shoppers(fitted: FittedShopper, later: ShopLog) -> None:
    table = calibration_table(fitted, later, bins=5)
    assert set(table["part"]) == {"examination", "choice", "cart", "purchase", "leaving"}
    for part, rows in table.groupby("part"):
        inside = rows["predicted"].between(rows["low"] - 0.01, rows["high"] + 0.01)
        assert np.average(inside, weights=rows["count"]) > 0.6, part
    choice = table[table["part"] == "choice"]
    assert np.average(choice["predicted"], weights=choice["count"]) == pytest.approx(
        np.average(choice["observed"], weights=choice["count"]), rel=0.15
    )


def test_a_fit_on_its_own_shoppers_finds_the_same_price_and_depth_again(
    fitted: FittedShopper, encoder: MeanEncoder, shop: KnownShop
) -> None:
    """Clicks simulated by the fitted shopper itself: the weights that made them are known."""
    model = fitted.model
    item = torch.zeros_like(model.own.choice.item)
    price, match = ITEM_FEATURES.index("price"), ITEM_FEATURES.index("match")
    item[price], item[match] = -0.8, 0.6
    choice = replace(model.own.choice, item=item, effects=torch.zeros_like(model.own.choice.effects)).with_nothing(2.0)
    known = FittedShopper(replace(model, own=replace(model.own, choice=choice)), encoder)
    own = collect_log(known, shop.catalogue, sessions=1_200, k=6, seed=3)
    again = fit_shopper(own, encoder, config=FitConfig(held_out=0.0, members=0))
    found = {row["name"]: row for row in again.report["parameters"] if row["part"] == "choice"}
    for column, name in ((price, "price"), (match, "match")):
        # The same effect of a raw unit, whatever the log's standard deviation.
        true = float(item[column] / model.scaling.scale[column] * again.model.scaling.scale[column])
        assert abs(found[name]["value"] - true) < 3.5 * found[name]["error"] < 0.5
    np.testing.assert_allclose(again.looked(6), known.looked(6), atol=0.15)


def test_saving_and_loading_change_nothing(few: ShopLog, encoder: MeanEncoder, tmp_path: Path) -> None:
    made = fit(few, encoder, tmp_path / "shopper", config=FitConfig(held_out=0, members=0), inputs={"log": "abc"})
    read = load_shopper(tmp_path / "shopper")
    assert isinstance(read, FittedShopper)
    slate = random_slates(64, 6, made.n_items)
    one, _ = made.respond(made.reset(torch.arange(64)), slate)
    two, _ = read.respond(read.reset(torch.arange(64)), slate)
    for name in ("examined", "clicked", "carted", "purchased", "left", "dwell", "revenue"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert list(read.model.rivals) == sorted(made.model.rivals)
    record = read_config(tmp_path / "shopper", "shopper")["slatewise_artefact"]
    assert record["inputs"] == {"log": "abc"}
    assert record["settings"]["priors"]["click_rate"] == 0.1
    assert (
        pd.DataFrame(record["facts"]["evidence"]).columns.tolist()
        == pd.DataFrame(made.report["evidence"]).columns.tolist()
    )


def test_a_known_truth_shopper_is_saved_and_loaded_by_the_same_calls(shop: KnownShop, tmp_path: Path) -> None:
    read = load_shopper(save_known_truth(shop, tmp_path / "truth"))
    assert isinstance(read, KnownTruthShopper)
    slate = random_slates(16, 6, shop.n_items)
    one, _ = KnownTruthShopper(shop).respond(KnownTruthShopper(shop).reset(torch.arange(16)), slate)
    two, _ = read.respond(read.reset(torch.arange(16)), slate)
    assert torch.equal(one.dwell, two.dwell)


def test_a_broken_shopper_folder_is_named(few: ShopLog, encoder: MeanEncoder, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no finished shopper"):
        load_shopper(tmp_path / "nowhere")
    fit(few, encoder, tmp_path / "shopper", config=FitConfig(held_out=0, members=0))
    (tmp_path / "shopper" / "shopper.safetensors").write_bytes(b"half")
    with pytest.raises(ArtefactError, match="not a readable shopper"):
        load_shopper(tmp_path / "shopper")


def test_an_encoder_of_another_catalogue_is_refused(fitted: FittedShopper) -> None:
    with pytest.raises(EvidenceError, match="200 items and its encoder knows 3"):
        FittedShopper(fitted.model, MeanEncoder(torch.eye(4)))


def test_without_slates_the_click_rate_depth_and_leaving_are_assumed_and_said_to_be(
    log: ShopLog, encoder: MeanEncoder
) -> None:
    priors = Priors(click_rate=0.2, slates_per_session=4, slate_size=8)
    shopper = fit_shopper(only_views(log), encoder, config=FitConfig(priors=priors, members=0))
    assert shopper.report["counts"]["learned_from"] == "next views"
    said = sources(shopper)
    assert said["choice among items"] == LEARNED
    for quantity in ("click rate of a popular slate", "chance to look at the next place", "mean slates a session"):
        assert said[quantity] == ASSUMED
    popular = (shopper.model.facts.popularity[1:].topk(8).indices + 1).expand(4_000, -1)
    assert click_rate(shopper, popular) == pytest.approx(0.2, abs=0.025)
    np.testing.assert_allclose(shopper.looked(3), [1, 0.85, 0.85**2], rtol=1e-5)
    response, _ = shopper.respond(shopper.reset(torch.arange(4_000)), popular)
    assert float(response.left.float().mean()) == pytest.approx(0.25, abs=0.03)
    check_shopper(shopper, k=6)


def test_a_log_of_clicked_slates_alone_says_nothing_of_how_often_they_are_not(
    log: ShopLog, encoder: MeanEncoder
) -> None:
    slates = log.slates
    named = log.events["slate_id"].notna()
    clicked = log.events["slate_id"].isin(log.events.loc[log.events["event"] == Event.CLICK.label, "slate_id"])
    kept = ShopLog(log.events[clicked | ~named].reset_index(drop=True), log.catalogue, log.facts)
    assert len(kept.slates) == int((slates.clicked >= 0).sum())
    shopper = fit_shopper(
        kept, encoder, config=FitConfig(held_out=0, members=0, priors=Priors(click_rate=0.15, slate_size=6))
    )
    assert sources(shopper)["click rate of a popular slate"] == ASSUMED
    popular = (shopper.model.facts.popularity[1:].topk(6).indices + 1).expand(4_000, -1)
    assert click_rate(shopper, popular) == pytest.approx(0.15, abs=0.025)


def test_sessions_sampled_by_length_say_nothing_of_leaving(few: ShopLog, encoder: MeanEncoder) -> None:
    biased = ShopLog(few.events, few.catalogue, {**few.facts, "length_biased": True})
    shopper = fit_shopper(biased, encoder, config=ALONE)
    assert sources(shopper)["mean slates a session"] == ASSUMED
    assert sources(shopper)["click rate of a logged slate"] == LEARNED
    assert not shopper.model.own.leaving.weights[1:].any()
    assert "leaving" not in {row["part"] for row in shopper.report["calibration"]}


def test_a_log_too_small_is_refused_with_its_counts(log: ShopLog, encoder: MeanEncoder) -> None:
    tiny = log.part(np.arange(12))
    clicks = int((tiny.slates.clicked >= 0).sum())
    with pytest.raises(EvidenceError, match=f"12 sessions hold {clicks} clicks on {len(tiny.slates)} slates"):
        fit_shopper(tiny, encoder, config=FitConfig(held_out=0, members=0))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="held_out"):
        FitConfig(held_out=1.0)
    with pytest.raises(ValueError, match="min_clicks"):
        FitConfig(min_clicks=0)
    with pytest.raises(ValueError, match="own_sd"):
        FitConfig(own_sd=0)
    with pytest.raises(ValueError, match="click_rate"):
        Priors(click_rate=1.0)
    with pytest.raises(ValueError, match="slates_per_session"):
        Priors(slates_per_session=0.5)


def test_every_prior_has_a_range_that_holds_its_default() -> None:
    for name, value in Priors().to_dict().items():
        if name != "slate_size":
            low, high = RANGES[name]
            assert low <= value <= high


def test_scores_of_items_foretell_the_clicks_on_a_slate(fitted: FittedShopper) -> None:
    arrival = fitted.reset(torch.tensor([5])).arrival
    scores = fitted.choice_scores(arrival)
    assert scores.utility.shape == scores.cart_chance.shape == (1, fitted.n_items + 1)
    assert scores.utility[0, 0] == -torch.inf
    assert (scores.purchase_chance <= scores.cart_chance).all()
    slate = scores.utility.topk(6).indices
    depth = depth_log_chances(fitted.model.own.choice.proceed.double(), 6)
    chances = slate_log_chances(scores.utility.gather(1, slate).double(), scores.outside.double(), depth).exp()
    # The same arrival many times over, with the luck of other seeds.
    state = fitted.reset(torch.full((20_000,), 5))
    state.seed = torch.arange(20_000)
    response, _ = fitted.respond(state, slate.expand(20_000, -1))
    for place in range(6):
        assert float((response.clicked == place).float().mean()) == pytest.approx(float(chances[0, place]), abs=0.012)
    looked = response.examined.float().mean(0)
    np.testing.assert_allclose(looked, fitted.looked(6), atol=0.015)


def test_scores_follow_a_history_as_the_simulation_does(fitted: FittedShopper) -> None:
    state = fitted.reset(torch.arange(8))
    arrival, slate = state.arrival, random_slates(8, 1, fitted.n_items)  # slates of one item leave nothing unsaid
    gap = state.gap.clone()
    response, state = fitted.respond(state, slate)
    items, events = response.tokens(slate)
    width = torch.arange(arrival.items.shape[1] + 1)
    new = width == arrival.lengths[:, None]

    def longer(part: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        return torch.where(new, last[:, None], torch.nn.functional.pad(part, (0, 1)))

    history = TokenBatch(
        longer(arrival.items, items), longer(arrival.events, events), longer(arrival.gaps, gap), arrival.lengths + 1
    )
    scores = fitted.choice_scores(history)
    every = torch.arange(1, fitted.n_items + 1).expand(8, -1)
    utility = fitted.model.own.choice.utility(fitted.scaled(state.memory.state, state.trail, every), every)
    np.testing.assert_allclose(scores.utility[:, 1:], utility, atol=1e-4)
    usual = torch.full((8,), fitted.model.scaling.slots.usual)
    outside = fitted.outside(state.trail, usual) @ fitted.model.own.choice.outside
    np.testing.assert_allclose(scores.outside, outside, atol=1e-5)


def test_scores_on_a_history_observation_are_those_of_the_simulation(fitted: FittedShopper) -> None:
    env = ShopVectorEnv(16, fitted, fitted.encoder, 6, max_slates=8, observation="history", history_len=16)
    env.reset(seed=3)
    for number in range(8):
        env.batch.show(random_slates(16, 6, fitted.n_items, seed=number % 3).numpy())  # some slates come again
    seen, state = env.batch.observe(), env.batch.here.state
    tokens = TokenBatch(*(torch.from_numpy(seen[name]) for name in ("items", "events", "gaps", "lengths")))
    tokens.lengths = tokens.lengths.squeeze(1)
    slates = torch.from_numpy(seen["slates"]).view(16, 16, 6)
    scores = fitted.choice_scores(tokens, slates)
    every = torch.arange(1, fitted.n_items + 1).expand(16, -1)
    utility = fitted.model.own.choice.utility(fitted.scaled(state.memory.state, state.trail, every), every)
    np.testing.assert_allclose(scores.utility[:, 1:], utility, atol=1e-4)
    six = torch.full((len(utility),), 6)
    outside = fitted.outside(state.trail, six) @ fitted.model.own.choice.outside
    np.testing.assert_allclose(scores.outside, outside, atol=1e-5)
    assert not torch.allclose(fitted.choice_scores(tokens).utility[:, 1:], utility, atol=0.05)  # tokens tell less
    best = MyopicPolicy(fitted, 6).predict(seen)[0]
    np.testing.assert_array_equal(np.sort(best), np.sort(utility.topk(6).indices + 1))


def test_arrivals_are_those_of_the_log(fitted: FittedShopper, log: ShopLog) -> None:
    arrival = fitted.reset(torch.arange(3_000)).arrival
    _, first = np.unique(log.slates.session, return_index=True)
    before = log.slates.before[first]
    assert float(arrival.lengths.float().mean()) == pytest.approx(before.mean(), abs=0.08)
    assert set(arrival.events[arrival.items > 0].tolist()) == {int(Event.VIEW)}
    assert (arrival.gaps[:, 0] == 0).all()


def test_carts_and_purchases_after_views_are_found(shop: KnownShop) -> None:
    ids = shop.catalogue.item_ids
    rows = [("view", 1), ("view", 2), ("view", 3), ("cart", 3), ("view", 4), ("cart", 2), ("purchase", 2)]
    events = pd.DataFrame(
        {
            "shopper_id": "s",
            "session_id": "s",
            "time": pd.date_range("2026-01-01", periods=len(rows), freq="10s", tz="UTC"),
            "item_id": [ids[item] for _, item in rows],
            "event": [event for event, _ in rows],
            **dict.fromkeys(("slate_id", "position", "query", "quantity")),
            **dict.fromkeys(("propensity", "price"), np.nan),
        }
    )
    log = ShopLog(events, shop.catalogue)
    occasions = next_views(log, alternatives=3, most=100, rng=np.random.default_rng(0))
    after = After.of_views(log, occasions)
    said = list(zip(after.item.tolist(), after.outcome.tolist(), after.seconds.tolist(), strict=True))
    # Tokens: 1, 2, 3 (to the cart), 4, 2 (bought). The second view of 2 is bought, and so is the first, later.
    assert said[0] == (2, 3, 10.0)
    assert said[1] == (3, 2, 20.0)
    assert said[2] == (4, 1, 10.0)
    assert said[3][:2] == (2, 3)
    assert np.isnan(said[3][2])
    assert (occasions.items[:, 1:] != occasions.items[:, :1]).all()


def test_the_chance_to_rank_the_click_first_is_counted_by_hand(fitted: FittedShopper, later: ShopLog) -> None:
    data = Observed.by(fitted, later.part(np.arange(30))).data
    rows = torch.nonzero(data.clicked >= 0).squeeze(1)[:1]
    one = data.rows(rows)
    others = torch.arange(one.items.shape[1]).double()[None]
    place = int(one.clicked[0])
    assert within_slate_auc(others, one) == pytest.approx(place / (one.items.shape[1] - 1))
    assert within_slate_auc(torch.zeros_like(others), one) == 0.5


def test_intervals_hold_a_mean_and_widen_with_clusters() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(100), 5)
    values = np.repeat(rng.normal(size=100), 5)
    apart = bootstrap_mean(values, np.arange(500), 500, 0)
    together = bootstrap_mean(values, cluster, 500, 0)
    assert apart[0] < values.mean() < apart[1]
    assert together[1] - together[0] > 1.8 * (apart[1] - apart[0])
    np.testing.assert_allclose(wilson(0, 10), (0, 0.2775), atol=1e-4)


def test_a_wanted_click_rate_is_met(fitted: FittedShopper) -> None:
    nothing = nothing_for_click_rate(fitted, 0.3, 6)
    own = replace(fitted.model.own, choice=fitted.model.own.choice.with_nothing(nothing))
    asked = FittedShopper(replace(fitted.model, own=own), fitted.encoder)
    popular = (asked.model.facts.popularity[1:].topk(6).indices + 1).expand(4_000, -1)
    assert click_rate(asked, popular) == pytest.approx(0.3, abs=0.03)


def test_a_log_of_another_catalogue_is_not_judged_by(fitted: FittedShopper) -> None:
    other = KnownShop.make(KnownShopConfig(n_items=50))
    few = collect_log(KnownTruthShopper(other), other.catalogue, sessions=5, k=4, seed=0)
    with pytest.raises(EvidenceError, match="50 items and the shopper 200"):
        Observed.by(fitted, few)
    assert len(Occasions.of_slates(few.slates)) == len(few.slates)


@pytest.mark.slow
def test_real_shoppers_are_foretold_better_than_by_position(shared_data: Path, tmp_path: Path) -> None:
    log = ingest(shared_data / "gmerch", tmp_path / "log", source="ga360")
    shopper = fit_shopper(log, MeanEncoder.from_catalogue(log.catalogue), config=ALONE)
    held = {row["model"]: row for row in shopper.report["held_out"]}
    assert held["position"]["low"] > 0
    assert held["position and popularity"]["gain"] > 0
    assert sources(shopper)["mean slates a session"] == ASSUMED
    assert sources(shopper)["chance of a cart given a click"] == LEARNED
