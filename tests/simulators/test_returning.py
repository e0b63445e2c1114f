"""Whether and when shoppers come again: found in visits whose truth is known, censored ones too, and simulated so."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import ArtefactError
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
from slatewise.simulators.known_truth_state import visit_seed
from slatewise.simulators.priors import ASSUMED, LEARNED, RANGES
from slatewise.simulators.returning import RETURN_FEATURES, Returning, Revisits, return_features
from slatewise.simulators.returning_fit import HALF, learn_returning, return_calibration
from slatewise.testing import random_slates

TRUTH = Returning(
    weights=torch.tensor([-0.5, 0.8, 0.6, 0.0, 0.3]),
    pace=torch.tensor([1.8, 0.0, 0.3, 0.0, -0.4]),
    spread=torch.tensor(0.9),
    weibull=torch.tensor(False),
    low=torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]),
    high=torch.tensor([1.0, 1.0, 1.0, 5.0, 3.0]),
)


def visits_of(truth: Returning, visits: int = 8_000, *, days: float = 40.0, whole: bool = False) -> Revisits:
    """Visits at any time of a log of so many days, and what came of them; `whole` is a clock of days."""
    rng = np.random.default_rng(5)
    clicked, bought = rng.random(visits) < 0.6, rng.random(visits) < 0.3
    columns = (clicked, clicked & bought, rng.integers(1, 30, visits), rng.integers(0, 6, visits))
    features = return_features(*(torch.from_numpy(one) for one in columns))
    luck = torch.from_numpy(rng.uniform(0.0005, 0.9995, (visits, 2))).float()
    comes = (luck[:, 0] < truth.within(features, math.inf)).numpy()
    wait, left = truth.days(features, luck[:, 1]).double().numpy(), rng.uniform(0, days, visits)
    if whole:
        wait, left = np.round(wait), np.floor(left) + HALF
    wait = np.where(comes & (wait <= left), wait, np.nan)
    return Revisits(features, wait, left, rng.integers(visits // 3, size=visits))


def rates(visits: Revisits, **settings: float) -> tuple[float, float]:
    """The chance to come again that is found, and the median days."""
    found = learn_returning(visits, np.ones(len(visits)), Priors(**settings), 20)  # pyright: ignore[reportArgumentType]
    return found.evidence[0].value, found.evidence[1].value


@pytest.mark.parametrize("weibull", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_the_truth_of_simulated_visits_is_found_within_its_intervals(weibull: bool, whole: bool) -> None:
    truth = replace(TRUTH, weibull=torch.tensor(weibull))
    visits = visits_of(truth, whole=whole)
    found = learn_returning(visits, np.ones(len(visits)), Priors(), 20)
    assert found.fit is not None
    assert found.fit.weibull == weibull
    wanted = torch.cat([truth.weights, truth.pace, truth.spread.log()[None]]).double().numpy()
    away = (found.fit.theta - wanted) / found.fit.errors
    assert np.abs(away).max() < 3.5
    assert (np.abs(away) < 1.96).mean() > 0.7
    assert found.fit.errors.max() < 0.5  # or any truth would lie within
    mean = float(truth.within(visits.features, math.inf).mean())
    assert found.evidence[0].low < mean < found.evidence[0].high


def test_who_has_not_come_yet_may_still_come() -> None:
    visits = visits_of(TRUTH, days=12.0)
    truth = float(TRUTH.within(visits.features, math.inf).mean())
    assert float(visits.came.mean()) < truth - 0.15
    assert rates(visits)[0] == pytest.approx(truth, abs=0.1)
    # Who is taken for gone because the log ended makes the chance the share that has come so far.
    forgetful = replace(visits, left=np.full(len(visits), 3_000.0))
    assert rates(forgetful)[0] < truth - 0.15


def test_visits_of_one_shopper_are_not_taken_for_independent() -> None:
    visits = visits_of(TRUTH, 1_500)
    four = Revisits(
        visits.features.repeat(4, 1), np.tile(visits.wait, 4), np.tile(visits.left, 4), np.tile(visits.shopper, 4)
    )
    once, often = (learn_returning(some, np.ones(len(some)), Priors(), 20).fit for some in (visits, four))
    assert once is not None
    assert often is not None
    assert often.chance[1] > 0.9 * once.chance[1]  # four times the independent visits would make it half


def test_visits_count_as_often_as_their_weight() -> None:
    visits = visits_of(TRUTH, 2_000)
    weight = np.random.default_rng(1).integers(3, size=2_000)
    rows = np.repeat(np.arange(2_000), weight)
    many = Revisits(visits.features[rows], visits.wait[rows], visits.left[rows], visits.shopper[rows])
    weighed = learn_returning(visits, weight.astype(float), Priors(), 20)
    repeated = learn_returning(many, np.ones(len(rows)), Priors(), 20)
    assert torch.allclose(weighed.returning.weights, repeated.returning.weights, atol=2e-3)
    assert torch.allclose(weighed.returning.pace, repeated.returning.pace, atol=2e-3)


def test_what_is_foretold_is_held_against_visits_that_the_log_follows_long_enough() -> None:
    table = return_calibration(TRUTH, visits_of(TRUTH)).set_index("days")
    assert list(table.index) == [7.0, 30.0]
    assert ((table["low"] < table["predicted"]) & (table["predicted"] < table["high"])).all()
    wrong = return_calibration(replace(TRUTH, weights=TRUTH.weights + 1), visits_of(TRUTH)).set_index("days")
    assert (wrong["predicted"] > wrong["high"]).all()
    assert return_calibration(TRUTH, visits_of(TRUTH, days=7.0)).empty


def test_within_counts_what_days_draws() -> None:
    features = visits_of(TRUTH, 20_000).features
    luck = torch.rand(20_000, generator=torch.Generator().manual_seed(3)) * 0.999 + 0.0005
    for weibull in (False, True):
        one = replace(TRUTH, weibull=torch.tensor(weibull))
        drawn = (one.days(features, luck) <= 5.0).float() * one.within(features, math.inf)
        assert float(drawn.mean()) == pytest.approx(float(one.within(features, 5.0).mean()), abs=0.01)


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(replace(KnownShopConfig.small(), come_back=0.55, come_back_after=3.0, delight=1.2))


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=2_000, k=6, seed=1)


@pytest.fixture(scope="module")
def encoder(shop: KnownShop) -> MeanEncoder:
    return MeanEncoder.from_catalogue(shop.catalogue)


@pytest.fixture(scope="module")
def fitted(log: ShopLog, encoder: MeanEncoder) -> FittedShopper:
    return fit_shopper(log, encoder, config=FitConfig(members=2))


def row_of(shopper: FittedShopper, start: str) -> dict[str, Any]:
    """The row of the evidence whose quantity begins so."""
    return next(row for row in shopper.report["evidence"] if row["quantity"].startswith(start))


def test_a_log_of_the_known_truth_shop_tells_how_its_shoppers_come_again(fitted: FittedShopper) -> None:
    found = {row["name"]: row for row in fitted.report["parameters"] if row["part"] == "coming again"}
    assert list(found) == list(RETURN_FEATURES)
    for name in ("clicked", "bought"):  # one step of pleasure each
        assert found[name]["low"] < 1.2 < found[name]["high"], name
        assert found[name]["low"] > 0
    days = row_of(fitted, "median days until")
    assert days["source"] == LEARNED
    assert "log-normal" in str(days["evidence"])
    assert days["low"] - 0.5 < 3.0 < days["high"] + 0.5  # a visit's time of day moves its wait by less
    for row in fitted.report["returns"]:
        assert abs(row["predicted"] - row["observed"]) < 0.1


def test_shoppers_who_come_again_leave_a_log_that_says_so(
    fitted: FittedShopper, shop: KnownShop, encoder: MeanEncoder
) -> None:
    again = replace(fitted.model.own.returning, weights=torch.tensor([0.4, 0.0, 0.0, 0.0, 0.0]))
    again = replace(again, pace=torch.tensor([math.log(4.0), 0.0, 0.0, 0.0, 0.0]), weibull=torch.tensor(False))
    truth = FittedShopper(replace(fitted.model, own=replace(fitted.model.own, returning=again), members=None), encoder)
    log = collect_log(truth, shop.catalogue, sessions=2_500, k=6, seed=4)
    assert log.sessions["shopper_id"].value_counts().max() > 4
    visits = Revisits.of(log)
    found = learn_returning(visits, np.ones(len(visits)), Priors(), 20).evidence[0]
    assert found.low < 1 / (1 + math.exp(-0.4)) < found.high
    planned = collect_log(truth, shop.catalogue, sessions=300, k=6, seed=4, visits=1.0)
    assert planned.sessions["shopper_id"].nunique() > 180


def test_coming_again_is_decided_by_the_seed_of_the_visit_alone(fitted: FittedShopper) -> None:
    shopper = torch.arange(400)
    slate = random_slates(400, 6, fitted.n_items)
    for one in (fitted, fitted.ensemble()):
        _, state = one.respond(one.reset(shopper), slate)
        coming, days = one.returns(state)
        assert coming.dtype == torch.bool
        assert bool((days > 0).all())
        _, few = one.respond(one.reset(shopper[7:19]), slate[7:19])
        assert coming[7:19].equal(one.returns(few)[0])
        assert torch.allclose(days[7:19], one.returns(few)[1])
        _, later = one.respond(one.reset(visit_seed(shopper, 3)), slate)
        assert not one.returns(later)[1].equal(days)
        assert float(one.return_chances(later).mean()) != float(one.return_chances(state).mean())
    first, fourth = (fitted.ensemble().whose(seeds) for seeds in (shopper, visit_seed(shopper, 3)))
    assert first is not None
    assert fourth is not None
    assert first.equal(fourth)


def test_members_have_their_own_and_a_folder_keeps_them_all(
    fitted: FittedShopper, log: ShopLog, encoder: MeanEncoder, tmp_path: Path
) -> None:
    first, second = (fitted.member(number).model.own.returning for number in (0, 1))
    assert not first.weights.equal(second.weights)
    few = log.part(np.arange(500))
    kept = fit(few, encoder, tmp_path / "shopper", config=FitConfig(members=2))
    read = load_shopper(tmp_path / "shopper")
    assert isinstance(read, FittedShopper)
    assert isinstance(kept, FittedShopper)
    for name in Returning.__slots__:
        for one, other in ((kept, read), (kept.member(1), read.member(1))):
            assert getattr(one.model.own.returning, name).equal(getattr(other.model.own.returning, name))
    state = read.reset(torch.arange(50))
    assert read.returns(state)[1].equal(kept.returns(kept.reset(torch.arange(50)))[1])


def test_a_folder_from_before_shoppers_came_again_is_refused(
    log: ShopLog, encoder: MeanEncoder, tmp_path: Path
) -> None:
    fit(log.part(np.arange(500)), encoder, tmp_path / "shopper", config=FitConfig(members=0))
    path = tmp_path / "shopper" / "shopper.safetensors"
    save_file({name: one for name, one in load_file(path).items() if ".returning." not in name}, path)
    with pytest.raises(ArtefactError, match="fit it anew"):
        load_shopper(tmp_path / "shopper")


def test_a_log_that_knows_no_shopper_twice_leaves_it_to_the_priors(log: ShopLog, encoder: MeanEncoder) -> None:
    few = log.part(np.arange(400))
    strangers = ShopLog(few.events.assign(shopper_id=few.events["session_id"]), few.catalogue, few.facts)
    one = ShopLog(few.events.assign(shopper_id="one"), few.catalogue, few.facts)
    biased = ShopLog(few.events, few.catalogue, {**few.facts, "length_biased": True})
    priors = Priors(come_back=0.42, come_back_after=9.0)
    for silent in (strangers, one, biased):
        shopper = fit_shopper(silent, encoder, config=FitConfig(members=0, priors=priors))
        chance, days = row_of(shopper, "chance to come again"), row_of(shopper, "median days until")
        assert chance["source"] == days["source"] == ASSUMED
        assert (chance["value"], days["value"]) == (0.42, 9.0)
        assert (chance["low"], chance["high"]) == RANGES["come_back"]
        state = shopper.reset(torch.arange(4_000))
        assert float(shopper.return_chances(state)[0]) == pytest.approx(0.42)
        coming, after = shopper.returns(state)
        assert float(coming.float().mean()) == pytest.approx(0.42, abs=0.03)
        assert float(after.median()) == pytest.approx(9.0, rel=0.08)
        assert "returns" not in shopper.report


def test_priors_of_coming_again_are_checked() -> None:
    with pytest.raises(ValueError, match="come_back must be in"):
        Priors(come_back=1.0)
    with pytest.raises(ValueError, match="come_back_after must be above 0"):
        Priors(come_back_after=0.0)


def test_sessions_left_out_of_a_fit_still_tell_when_their_shopper_came_again(log: ShopLog) -> None:
    whole = Revisits.of(log)
    half = log.part(np.arange(0, len(log), 2))
    part = Revisits.of(log, half)
    assert len(part) == len(half)
    assert np.array_equal(part.wait, whole.wait[::2], equal_nan=True)
    assert Revisits.of(half).came.sum() < part.came.sum()


def test_waits_and_numbers_of_visits_are_those_of_a_hand_made_log(log: ShopLog) -> None:
    some = log.part(np.arange(60))
    start = some.sessions["start"].to_numpy()
    visits = Revisits.of(some)
    ids = some.sessions["shopper_id"].to_numpy()
    for number in range(60):
        mine = np.flatnonzero(ids == ids[number])
        later, before = mine[start[mine] > start[number]], mine[start[mine] < start[number]]
        expected = (start[later].min() - start[number]) / np.timedelta64(1, "D") if len(later) else np.nan
        assert visits.wait[number] == pytest.approx(expected, nan_ok=True)
        assert float(visits.features[number, -1]) == pytest.approx(math.log1p(len(before)))
