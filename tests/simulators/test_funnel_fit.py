"""Steps of the funnel: how far features and items may move them, what carts tell of purchases, whose clicks count."""

import numpy as np
import pytest

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import EvidenceError
from slatewise.simulators import FitConfig, FittedShopper, KnownTruthShopper, collect_log, fit, fit_shopper
from slatewise.simulators.features import ITEM_FEATURES
from slatewise.simulators.funnel import FUNNEL_FEATURES, FUNNEL_WEIGHTS
from slatewise.simulators.funnel_fit import LOOSE, SHARE, StageFit, columns, fit_stage
from slatewise.simulators.logistic import ItemEffects, fit_logistic, sigmoid

ALONE = FitConfig(members=0, held_out=0)
ITEMS = 40


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of clicks, their items, and whose they are."""
    rng = np.random.default_rng(seed)
    x = columns(rng.normal(size=(n, len(ITEM_FEATURES))), rng.normal(size=n))
    return x, rng.integers(1, ITEMS + 1, n), rng.integers(0, n // 3, n)


def effects() -> ItemEffects:
    return ItemEffects(np.zeros((ITEMS + 1, 2)), 0.5, 0.3)


def stage(x: np.ndarray, items: np.ndarray, who: np.ndarray, passed: np.ndarray, **more: object) -> StageFit:
    return fit_stage(x, items, passed, np.ones(len(x)), who, effects=effects(), **more)  # pyright: ignore


def test_a_step_is_as_loose_as_its_events_can_tell() -> None:
    rng = np.random.default_rng(0)
    x, items, who = rows(400, 0)
    plain = rng.random(400) < 0.1
    assert stage(x, items, who, plain).chances[LOOSE.index(max(LOOSE))] < 0.2  # where nothing moves it
    x, items, who = rows(12_000, 1)
    own = np.append(0.0, np.random.default_rng(2).normal(scale=0.8, size=ITEMS))
    passed = rng.random(12_000) < sigmoid(-1.5 + own[items])
    found = stage(x, items, who, passed)
    assert LOOSE[int(found.chances.argmax())] == max(LOOSE)
    assert np.corrcoef(found.effects[1:], own[1:])[0, 1] > 0.9
    assert found.chances.sum() == pytest.approx(1)


def test_what_moves_carts_is_expected_to_move_purchases() -> None:
    """Of eighty carts nobody learns forty items; the share by which carts foretell purchases can be."""
    rng = np.random.default_rng(3)
    x, items, who = rows(6_000, 4)
    own = np.append(0.0, np.random.default_rng(5).normal(scale=1.0, size=ITEMS))
    carted = rng.random(6_000) < sigmoid(-1.5 + own[items])
    cart = stage(x, items, who, carted)
    few = np.flatnonzero(carted)[:300]
    bought = rng.random(300) < sigmoid(-0.5 + own[items[few]])
    purchase = stage(x[few], items[few], who[few], bought, before=cart)
    alone = stage(x[few], items[few], who[few], bought)
    assert purchase.own.weights[-1] > SHARE[0]
    assert np.corrcoef(purchase.effects[1:], own[1:])[0, 1] > np.corrcoef(alone.effects[1:], own[1:])[0, 1] + 0.1
    # As one regression it says what its two parts say.
    z = np.column_stack([x[few], cart.score(x[few], items[few])]) @ purchase.own.weights
    np.testing.assert_allclose(purchase.score(x[few], items[few]), z + purchase.own.effects[items[few]], rtol=1e-9)
    assert np.all(purchase.errors >= purchase.own.errors[:-1])


def test_members_differ_by_what_the_clicks_do_not_tell() -> None:
    x, items, who = rows(600, 6)
    items = np.minimum(items, ITEMS - 1)  # the last item was never clicked
    passed = np.random.default_rng(7).random(600) < 0.2
    whole = stage(x, items, who, passed)
    looser = StageFit(whole.weights, whole.effects, whole.errors, np.array([1.0, 0.0, 0.0]), whole.own)

    def members() -> list[StageFit]:
        return [stage(x, items, who, passed, start=looser, luck=np.random.default_rng(one)) for one in range(80)]

    drawn = members()
    assert np.std([one.effects[ITEMS] for one in drawn]) == pytest.approx(0.3, rel=0.25)  # as wide as the prior
    assert np.std([one.effects[1] for one in drawn]) < 0.29
    same = stage(x, items, who, passed, start=looser, luck=np.random.default_rng(0))
    np.testing.assert_array_equal(same.weights, drawn[0].weights)


def test_means_drawn_from_the_prior_give_the_spread_of_the_posterior() -> None:
    """In a regression with nothing to learn from, fits are draws of the prior; with much, they agree."""
    prior = ItemEffects(np.zeros((2, 1)), 0.01, 0.01)
    how = {"centre": np.array([-1.0]), "spread": np.array([0.5]), "prior": prior}
    nothing = np.zeros((0, 1)), np.zeros(0, bool), np.zeros(0), np.zeros(0, np.int64)
    much = np.ones((9_000, 1)), np.arange(9_000) % 4 == 0, np.ones(9_000), np.zeros(9_000, np.int64)
    empty, full = (
        [fit_logistic(*data, **how, luck=np.random.default_rng(one)).weights[0] for one in range(200)]
        for data in (nothing, much)
    )
    assert np.mean(empty) == pytest.approx(-1, abs=0.1)
    assert np.std(empty) == pytest.approx(0.5, rel=0.15)
    assert np.std(full) < 0.01


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=2_000, k=6, seed=1)


def evidence(shopper: FittedShopper, words: str) -> dict[str, object]:
    return next(row for row in shopper.report["evidence"] if row["quantity"] == words)


def test_carts_and_purchases_are_learnt_from_the_other_half_too(shop: KnownShop, log: ShopLog) -> None:
    encoder = MeanEncoder.from_catalogue(shop.catalogue)
    ours, theirs = log.shopper_half(0), log.shopper_half(1)
    alone = fit_shopper(ours, encoder, config=ALONE)
    both = fit_shopper(ours, encoder, config=ALONE, others=theirs)
    clicks = [int((part.slates.clicked >= 0).sum()) for part in (ours, theirs)]
    words = "chance of a cart given a click"
    assert f"of {clicks[0]} clicks" in str(evidence(alone, words)["evidence"])
    assert f"of {sum(clicks)} clicks" in str(evidence(both, words)["evidence"])
    for part in ("choice", "leaving"):  # nothing else is learnt from them
        first, second = (
            [row["value"] for row in one.report["parameters"] if row["part"] == part] for one in (alone, both)
        )
        assert first == second
    weights = {row["name"]: row for row in both.report["parameters"] if row["part"] == "cart"}
    assert set(weights) == set(FUNNEL_WEIGHTS)
    assert (
        weights["always"]["error"]
        < {row["name"]: row for row in alone.report["parameters"] if row["part"] == "cart"}["always"]["error"]
    )
    assert len(FUNNEL_FEATURES) == len(FUNNEL_WEIGHTS) - 2


def test_other_sessions_that_come_after_what_judges_are_not_learnt_from(shop: KnownShop, log: ShopLog) -> None:
    encoder = MeanEncoder.from_catalogue(shop.catalogue)
    ours, theirs = log.shopper_half(0), log.shopper_half(1)
    judged = fit_shopper(ours, encoder, config=FitConfig(members=0, held_out=0.3), others=theirs)
    first = ours.split_at(0.7)[1].sessions["start"].min()
    early = [part.part(np.flatnonzero((part.sessions["start"] < first).to_numpy())) for part in (ours, theirs)]
    clicks = sum(int((part.slates.clicked >= 0).sum()) for part in early)
    told = str(evidence(judged, "chance of a cart given a click")["evidence"])
    assert abs(int(told.split(" of ")[1].split()[0]) - clicks) <= 5  # a session that began at the very moment


def test_others_of_another_catalogue_are_refused(shop: KnownShop, log: ShopLog) -> None:
    bigger = KnownShop.make(KnownShopConfig.small(1).__class__(n_items=shop.n_items + 5))
    other = collect_log(KnownTruthShopper(bigger), bigger.catalogue, sessions=60, k=6, seed=1)
    with pytest.raises(EvidenceError, match="of the same catalogue"):
        fit_shopper(log, MeanEncoder.from_catalogue(shop.catalogue), config=ALONE, others=other)


def test_boosted_shoppers_take_no_other_log(log: ShopLog, tmp_path: object) -> None:
    with pytest.raises(ValueError, match="leave `others` out"):
        fit(log, None, f"{tmp_path}/shopper", family="boosted", others=log)  # pyright: ignore
