"""The ensemble of a fitted shopper: other weights, the same promises, and doubt that more shoppers put to rest."""

from pathlib import Path

import numpy as np
import pytest
import torch

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import EvidenceError
from slatewise.simulators import (
    FitConfig,
    FittedShopper,
    KnownTruthShopper,
    collect_log,
    fit,
    fit_shopper,
    load_shopper,
)
from slatewise.simulators.ensemble import NEEDED, left_out, parts_of, resampled
from slatewise.simulators.features import ITEM_FEATURES, OUTSIDE_FEATURES
from slatewise.simulators.pauses_fit import LearnedPauses
from slatewise.testing import check_shopper, random_slates


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=1_600, k=6, seed=1)


@pytest.fixture(scope="module")
def encoder(shop: KnownShop) -> MeanEncoder:
    return MeanEncoder.from_catalogue(shop.catalogue)


@pytest.fixture(scope="module")
def fitted(log: ShopLog, encoder: MeanEncoder) -> FittedShopper:
    return fit_shopper(log.part(np.arange(400)), encoder, config=FitConfig(members=4))


def test_members_are_other_fits_which_the_seed_repeats(log: ShopLog, encoder: MeanEncoder) -> None:
    few = log.part(np.arange(300))
    one, same, other = (fit_shopper(few, encoder, config=FitConfig(members=2, seed=seed)) for seed in (0, 0, 1))
    assert one.members == 2
    for name in ("item", "outside", "proceed", "effects"):
        first, second = (getattr(one.member(number).model.own.choice, name) for number in (0, 1))
        assert first.shape == second.shape
        assert not torch.equal(first, second)
        assert torch.equal(first, getattr(same.member(0).model.own.choice, name))
    assert not torch.equal(one.member(0).model.own.choice.item, other.member(0).model.own.choice.item)


def test_members_do_without_the_features_they_are_told_to(log: ShopLog, encoder: MeanEncoder) -> None:
    few = log.part(np.arange(300))
    held = fit_shopper(few, encoder, config=FitConfig(members=2, left_out=0.4))
    for number in range(2):
        choice, gone = held.member(number).model.own.choice, left_out(0.4, 0, number)
        assert len(gone) >= 3
        assert not gone & set(NEEDED)
        for names, weights in ((ITEM_FEATURES, choice.item), (OUTSIDE_FEATURES, choice.outside)):
            out = torch.tensor([name in gone for name in names])
            assert not weights[out].any()
            # Weights of what a small log shows no spread of are 0 as well.
            assert weights[~out].count_nonzero() >= (~out).sum() / 2
    assert left_out(0.4, 0, 0) != left_out(0.4, 0, 1)
    assert not left_out(0.0, 0, 0)
    with pytest.raises(ValueError, match="left_out must be in"):
        FitConfig(left_out=1.0)


def test_shoppers_count_as_often_as_they_are_drawn(log: ShopLog) -> None:
    weights = list(resampled(log, 3, seed=0))
    shoppers = log.sessions["shopper_id"].nunique()
    for weight in weights:
        by_shopper = log.sessions["shopper_id"].to_frame().assign(weight=weight).groupby("shopper_id")["weight"]
        assert (by_shopper.nunique() == 1).all()
        assert by_shopper.first().sum() == shoppers
        assert np.mean(weight == 0) == pytest.approx(np.exp(-1), abs=0.05)
    assert not np.array_equal(weights[0], weights[1])


def test_arrivals_of_a_member_come_as_often_as_their_shoppers_count(fitted: FittedShopper) -> None:
    often = np.array([0.0, 2.0, 1.0, 0.0, 3.0, 0.0])
    whole = fitted.model.own
    rest = type(
        "Rest",
        (),
        {
            "funnel": whole,
            "leaving": whole,
            "returning": whole,
            "quantities": whole,
            "dwell": LearnedPauses(whole.dwell, None, []),
        },
    )
    assert parts_of(whole.choice, rest, often).arrivals.tolist() == [1, 1, 2, 4, 4, 4]  # pyright: ignore[reportArgumentType]


def test_a_drawn_shopper_does_what_its_member_does(fitted: FittedShopper) -> None:
    drawn = fitted.ensemble()
    seeds = torch.arange(400)
    state = drawn.reset(seeds)
    assert state.member is not None
    who = state.member.clone()
    assert who.bincount().tolist() == pytest.approx([100] * 4, abs=35)
    slate = random_slates(400, 6, fitted.n_items)
    _, state = drawn.respond(state, slate)
    response, state = drawn.respond(state, slate)
    for number in range(4):
        member = fitted.member(number)
        alone = member.reset(seeds)
        _, alone = member.respond(alone, slate)
        same, alone = member.respond(alone, slate)
        mine = who == number
        for name in ("examined", "clicked", "carted", "purchased", "left", "revenue"):
            assert torch.equal(getattr(response, name)[mine], getattr(same, name)[mine]), name
        torch.testing.assert_close(response.dwell[mine], same.dwell[mine])


def test_drawn_shoppers_keep_the_promises_of_simulators(fitted: FittedShopper) -> None:
    check_shopper(fitted.ensemble(), k=6)


def test_what_members_foretell_is_what_they_do(fitted: FittedShopper) -> None:
    rows = 6_000
    slate, seeds = random_slates(rows, 6, fitted.n_items), torch.arange(rows)
    for number in (0, 3):
        state = fitted.member(number).reset(seeds)
        expected = fitted.expect(state, slate)
        response, _ = fitted.member(number).respond(state, slate)
        found = {
            "click": (response.clicked >= 0).float(),
            "cart": response.carted.float(),
            "purchase": response.purchased.float(),
            "revenue": response.revenue,
        }
        for name, happened in found.items():
            mean = getattr(expected, name)[number].mean()
            error = float(happened.std()) / np.sqrt(rows)
            assert float(mean) == pytest.approx(float(happened.mean()), abs=4 * error), name


def test_more_shoppers_leave_less_open(fitted: FittedShopper, log: ShopLog, encoder: MeanEncoder) -> None:
    sure = fit_shopper(log, encoder, config=FitConfig(members=4))
    slate, seeds = random_slates(300, 6, fitted.n_items), torch.arange(300)
    doubt = [one.expect(one.reset(seeds), slate).click.std(0).mean() for one in (fitted, sure)]
    assert doubt[1] < 0.8 * doubt[0]


def test_without_an_ensemble_there_is_the_shopper_alone(log: ShopLog, encoder: MeanEncoder) -> None:
    alone = fit_shopper(log.part(np.arange(200)), encoder, config=FitConfig(members=0))
    assert alone.members == 0
    state = alone.reset(torch.arange(5))
    assert state.member is None
    assert alone.expect(state, random_slates(5, 6, alone.n_items)).click.shape == (1, 5)
    with pytest.raises(EvidenceError, match="without an ensemble"):
        alone.ensemble()
    with pytest.raises(IndexError, match="no member 0 in an ensemble of 0"):
        alone.member(0)


def test_an_ensemble_is_read_back_as_it_was(log: ShopLog, encoder: MeanEncoder, tmp_path: Path) -> None:
    made = fit(log.part(np.arange(250)), encoder, tmp_path / "shopper", config=FitConfig(members=3))
    read = load_shopper(tmp_path / "shopper")
    assert isinstance(read, FittedShopper)
    assert read.members == 3
    slate = random_slates(50, 6, made.n_items)
    one, other = (shopper.ensemble() for shopper in (made, read))
    ours, _ = one.respond(one.reset(torch.arange(50)), slate)
    theirs, _ = other.respond(other.reset(torch.arange(50)), slate)
    for name in ours.__slots__:
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_assumed_click_rates_hold_for_every_member(log: ShopLog, encoder: MeanEncoder) -> None:
    clicked = log.slates.clicked >= 0
    kept = log.events[log.events["slate_id"].isna() | log.events["slate_id"].isin(_clicked_slates(log, clicked))]
    only = ShopLog(kept.reset_index(drop=True), log.catalogue, log.facts)
    shopper = fit_shopper(only.part(np.arange(400)), encoder, config=FitConfig(members=2))
    popular = shopper.model.facts.popularity[1:].topk(10).indices + 1
    for number in range(2):
        member = shopper.member(number)
        state = member.reset(torch.arange(512))
        rate = member.expect(state, popular.expand(512, -1)).click.mean()
        assert float(rate) == pytest.approx(0.10, abs=0.005)


def _clicked_slates(log: ShopLog, clicked: np.ndarray) -> list[str]:
    shown = log.events[log.events["slate_id"].notna()]
    hits = shown[shown["event"] == "click"]["slate_id"]
    assert clicked.sum() <= len(hits)
    return hits.unique().tolist()


def test_members_must_not_be_negative() -> None:
    with pytest.raises(ValueError, match="members must be at least 0"):
        FitConfig(members=-1)
