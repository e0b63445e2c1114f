"""Logs that keep only the slates that were clicked: places are learnt given a click, whatever click rate is assumed."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators import (
    BoostedShopper,
    FitConfig,
    FittedShopper,
    KnownTruthShopper,
    Priors,
    Shopper,
    collect_log,
    fit_boosted,
    fit_shopper,
    slate_likelihood,
)
from slatewise.simulators.choice_evidence import all_clicked
from slatewise.simulators.choice_fit import choice_chances
from slatewise.simulators.examination import FORMS, Examination, click_log_chances, given_click
from slatewise.simulators.features import OUTSIDE_FEATURES
from slatewise.simulators.foretold import FITTED
from slatewise.simulators.given_click import first_level, level_of_nothing, popular_slates
from slatewise.simulators.observed import Observed
from slatewise.simulators.occasions import Occasions
from slatewise.simulators.popularity import shown_popularity

K, DECAY, RATE = 6, 0.4, 0.1
Fit = Callable[[ShopLog], FittedShopper | BoostedShopper]


@pytest.fixture(scope="module")
def whole() -> ShopLog:
    """Slates of which one in nine is clicked; a shopper stops at each place with chance 0.4."""
    shop = KnownShop.make(replace(KnownShopConfig.small(), position_decay=DECAY))
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=2_500, k=K, seed=1)


@pytest.fixture(scope="module")
def log(whole: ShopLog) -> ShopLog:
    """The slates that were clicked."""
    events = whole.events
    hit = events["slate_id"].isin(events.loc[events["event"] == "click", "slate_id"])
    return ShopLog(events[hit | events["slate_id"].isna()].reset_index(drop=True), whole.catalogue, whole.facts)


@pytest.fixture(scope="module")
def encoder(whole: ShopLog) -> MeanEncoder:
    return MeanEncoder.from_catalogue(whole.catalogue)


@pytest.fixture(scope="module", params=["transformer", "boosted"])
def fitted(request: pytest.FixtureRequest, log: ShopLog, encoder: MeanEncoder) -> FittedShopper | BoostedShopper:
    config = FitConfig(members=0, priors=Priors(click_rate=RATE, slate_size=K))
    return fit_boosted(log, config=config) if request.param == "boosted" else fit_shopper(log, encoder, config=config)


def places_clicked(shopper: Shopper, slates: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """Click rate of first slates drawn from those given, and shares of the places given a click."""
    drawn = np.random.default_rng(0).integers(len(slates), size=40_000)
    response, _ = shopper.respond(shopper.reset(torch.arange(len(drawn))), torch.from_numpy(slates[drawn]))
    hit = response.clicked[response.clicked >= 0]
    return len(hit) / len(drawn), (torch.bincount(hit, minlength=K) / len(hit)).double().numpy()


def test_simulated_clicks_fall_on_the_places_of_the_log(fitted: FittedShopper, log: ShopLog) -> None:
    slates = log.slates
    rate, simulated = places_clicked(fitted, slates.items)
    real = np.bincount(slates.clicked, minlength=K) / len(slates)
    assert 0.01 < rate < RATE  # popular slates are clicked at the rate assumed
    # Three standard errors of the log's share; a simulated first slate is no session, hence a little more.
    np.testing.assert_array_less(np.abs(simulated - real), 3 * np.sqrt(real * (1 - real) / len(slates)) + 0.02)


def test_how_far_shoppers_look_is_found_within_its_interval(fitted: FittedShopper) -> None:
    rows = [row for row in fitted.report["parameters"] if row["part"] == "examination"]
    truth = math.log((1 - DECAY) / DECAY)
    assert len(rows) == K
    assert all(row["low"] < truth < row["high"] for row in rows)
    assert rows[0]["high"] - rows[0]["low"] < 0.9


def test_popular_slates_are_clicked_at_the_rate_assumed(fitted: FittedShopper, log: ShopLog) -> None:
    assert all_clicked(log)
    early = log.part(np.argsort(log.sessions["start"].to_numpy(), kind="stable")[: round(0.8 * len(log))]).slates
    popularity = shown_popularity(early.items, early.clicked, log.catalogue.n_items)
    best = 1 + np.argsort(-popularity[1:])[None, :K]
    assert places_clicked(fitted, best)[0] == pytest.approx(RATE, abs=0.01)
    rows = {row["quantity"]: row for row in fitted.report["evidence"]}
    assert rows["click rate of a popular slate (prior click_rate)"]["source"] == "assumed"
    assert rows["chance to look on from place 1"]["evidence"].endswith("at the assumed click rate")
    learnt = {row["name"]: row["value"] for row in fitted.report["parameters"] if row["part"] == "choice"}
    assert learnt.get("nothing", 0.0) == 0.0  # neither a weight nor a share of the trees' gain


def test_such_a_log_judges_given_a_click(fitted: FittedShopper, whole: ShopLog, log: ShopLog) -> None:
    seen = fitted.foretell(log.part(np.arange(200)))
    done, chances = seen.choices[FITTED]
    torch.testing.assert_close(chances.exp().sum(1), torch.ones(len(done), dtype=torch.float64))
    torch.testing.assert_close(chances.gather(1, seen.clicked[:, None])[:, 0], done)
    assert seen.leaving is None
    table = slate_likelihood(fitted, seen).table
    assert (table[table["model"] == "position"]["low"] > 0).all()
    open_ = fitted.foretell(whole.part(np.arange(100)))  # which keeps the others, and judges the click rate too
    assert (open_.choices[FITTED][1].exp().sum(1) < 0.9).all()


def test_a_slate_that_was_kept_without_a_click_says_nothing(fitted: FittedShopper, log: ShopLog) -> None:
    some = log.part(np.arange(150))
    events = some.events
    lost = events[(events["slate_id"] == events["slate_id"].dropna().iloc[0]) & (events["event"] != "impression")]
    odd = ShopLog(events.drop(lost.index).reset_index(drop=True), some.catalogue, some.facts)
    assert (odd.slates.clicked < 0).sum() == 1
    assert all_clicked(odd)
    assert len(fitted.foretell(odd).clicked) == len(some.slates) - 1
    if isinstance(fitted, FittedShopper):
        data = Observed.by(fitted, some).data
        choice = fitted.model.own.choice.to(torch.device("cpu"), torch.float64)
        before = choice_chances(choice, data)[0]
        after = choice_chances(choice, replace(data, clicked=torch.cat([torch.tensor([-1]), data.clicked[1:]])))[0]
        assert before[0] < 0
        assert after[0] == 0
        torch.testing.assert_close(after[1:], before[1:])


def test_members_of_an_ensemble_keep_the_rate_and_the_places(log: ShopLog, encoder: MeanEncoder) -> None:
    config = FitConfig(members=2, priors=Priors(click_rate=RATE, slate_size=K))
    model = fit_shopper(log.part(np.arange(1_200)), encoder, config=config).model
    assert model.members is not None
    nothing = OUTSIDE_FEATURES.index("nothing")
    for number in range(2):
        choice = model.member(number).own.choice
        assert 0.3 < float(torch.sigmoid(choice.proceed[0])) < 0.85
        assert float(choice.outside[nothing]) > 2
        assert not choice.outside[torch.arange(len(OUTSIDE_FEATURES)) != nothing].any()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_conditioned_alike(form: Examination) -> None:
    utility, nothing = torch.tensor([[0.5, -0.2, 0.1]], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
    chances = click_log_chances(form, utility, nothing, torch.tensor([0.3, 1.0], dtype=torch.float64)).exp()
    torch.testing.assert_close(
        given_click(chances.log()).exp(), chances[:, :3] / (1 - chances[:, 3:]), rtol=1e-6, atol=1e-9
    )


def test_the_first_level_meets_the_rate() -> None:
    level = first_level(0.25, 0.5, 2)
    # Half look at one item, half at both, all of utility 0.
    nothing = math.exp(level)
    assert 0.5 / (1 + nothing) + 0.5 * 2 / (2 + nothing) == pytest.approx(0.25)
    alone = torch.zeros(1, 1, dtype=torch.float64)
    assert level_of_nothing(alone, alone[0], alone[0], 0.2) == pytest.approx(math.log(4))


def test_popular_slates_stand_where_sessions_saw_their_first() -> None:
    of_log = Occasions(np.array([0, 0, 3]), np.array([2, 5, 0]), np.ones((3, 2), np.int64), np.zeros(3, np.int64), None)
    best = popular_slates(of_log, torch.tensor([9.0, 1.0, 3.0, 2.0]), 2)
    assert best.session.tolist() == [0, 3]
    assert best.before.tolist() == [2, 0]
    assert best.items.tolist() == [[2, 3], [2, 3]]
