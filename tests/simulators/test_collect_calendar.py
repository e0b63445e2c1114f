"""Logs kept over days: seasons show, only what is on sale is shown, and shoppers come again as their visits went."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from slatewise.datasets.known_shop import DAY_ZERO, YEAR, KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.simulators.collect import collect_log
from slatewise.simulators.known_truth import KnownTruthShopper, KnownTruthState, visit_seed
from slatewise.simulators.logging_policies import PlackettLucePolicy, StickyPolicy

SMALL = KnownShopConfig.small()
DAY = pd.Timedelta(days=1)


def log_of(sessions: int, seed: int = 3, config: KnownShopConfig = SMALL, **settings: Any) -> ShopLog:
    kept = {name: settings.pop(name) for name in ("k", "days", "start", "batch", "again") if name in settings}
    shop = KnownShop.make(replace(config, **settings))
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=sessions, seed=seed, **{"k": 4, **kept})


# ---------------------------------------------------------------------------------------------------------- seasons


def test_a_log_of_a_year_shows_the_seasons() -> None:
    shop = KnownShop.make(replace(SMALL, seasonality=1.0))
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=3_000, k=2, seed=3, days=365)
    views = log.events[log.events["event"] == "view"]
    category = shop.category[log.catalogue.index_of(views["item_id"])]
    day = ((views["time"] - pd.Timestamp(DAY_ZERO, tz="UTC")) / DAY).to_numpy()
    for number in np.argsort(shop.category_share)[-3:]:
        nearness = np.cos(2 * np.pi / YEAR * (day - shop.season_peak[number]))
        summer, winter = ((category == number)[part].mean() for part in (nearness > 0.5, nearness < -0.5))
        assert summer > 1.4 * winter, number


# ----------------------------------------------------------------------------------------- items that come and go


def test_only_what_is_on_sale_is_shown_and_what_is_gone_at_the_end_is_marked() -> None:
    config = replace(SMALL, turnover=0.6, shelf_days=8.0)
    shop = KnownShop.make(config)
    log = log_of(400, config=config, start="2026-03-01", days=30, again=0.3)
    began = ((log.sessions["start"] - pd.Timestamp(DAY_ZERO, tz="UTC")) / DAY).to_numpy()
    there = np.stack([shop.there(float(day)) for day in began])
    slates = log.slates
    assert there[slates.session[:, None], slates.items].all()
    np.testing.assert_array_equal(log.catalogue.available, shop.there(31 + 28 + 30))
    day = began[slates.session] - (31 + 28)
    shown = [set(slates.items[part].ravel().tolist()) for part in (day < 4, (day >= 8) & (day < 12))]
    assert len(shown[1] - shown[0]) > 10  # items that came
    assert len(shown[0] - shown[1]) > 10  # items that went


def test_where_all_is_on_sale_the_log_is_as_without_turnover() -> None:
    plain, moving = log_of(100), log_of(100, turnover=1e-9)
    for name in plain.events.columns.drop("propensity"):
        pd.testing.assert_series_equal(plain.events[name], moving.events[name])
    np.testing.assert_allclose(plain.events["propensity"], moving.events["propensity"], rtol=1e-9)


def test_propensities_among_what_is_there_are_worked_out_by_hand() -> None:
    policy = PlackettLucePolicy(torch.log(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])), k=2)
    there = torch.tensor([[False, True, True, False, True], [False, False, True, False, False]])
    given = policy.propensities(torch.tensor([[4, 1], [2, 0]]), there)
    np.testing.assert_allclose(given, [[4 / 7, 1 / 3], [1.0, 1.0]], rtol=1e-6)
    seeds, step = torch.arange(40_000), torch.zeros(40_000, dtype=torch.int64)
    slate, chance = policy.sample(seeds, step, there[:1].expand(40_000, -1))
    assert set(slate.unique().tolist()) == {1, 2, 4}
    weights = torch.stack([(1 / chance.prod(1))[(slate == pair).all(1)].sum() for pair in slate.unique(dim=0)])
    torch.testing.assert_close(weights / 40_000, torch.ones(6, dtype=torch.float64), atol=0.06, rtol=0)
    few, sure = StickyPolicy(policy, 0.5).sample(seeds[:9], step[:9] + 1, there[1:].expand(9, -1))
    assert few.tolist() == [[2, 0]] * 9
    assert sure.eq(1).all()


# ------------------------------------------------------------------------------------------- shoppers who come again


class Doorman(KnownTruthShopper):
    """The known-truth shopper, of whom is written down what it owned on arrival."""

    def __init__(self, shop: KnownShop) -> None:
        super().__init__(shop)
        self.owned: dict[int, list[int]] = {}

    def reset(self, seeds: Tensor, day: Tensor | float | None = None, owned: Tensor | None = None) -> KnownTruthState:
        if owned is not None:
            self.owned |= dict(zip(seeds.tolist(), owned.tolist(), strict=True))
        return super().reset(seeds, day, owned)


def test_returning_shoppers_bring_what_they_bought_before() -> None:
    buying = {"outside_option": 5.0, "cart_rate": 0.4, "purchase_rate": 0.5, "leave_bought": 0.3, "familiarity": 4.0}
    shop = KnownShop.make(replace(SMALL, come_back=0.6, owned=2.0, **buying))
    doorman = Doorman(shop)
    log = collect_log(doorman, shop.catalogue, sessions=250, k=4, seed=8)
    base, checked = int(np.random.default_rng(8).integers(2**40)), 0
    events = log.events.assign(item=log.catalogue.index_of(log.events["item_id"]))
    for shopper, whole in events.groupby("shopper_id"):
        owned: list[int] = []
        for visit, (_, session) in enumerate(whole.groupby("session_id", sort=False)):
            seed = int(visit_seed(torch.tensor((base + int(str(shopper)[1:])) % 2**40), visit))
            if visit:
                assert [item for item in doorman.owned[seed] if item] == owned
                checked += bool(owned)
            bought = session.loc[session["event"] == "purchase", "item"].tolist()
            owned = list(dict.fromkeys([*reversed(bought), *owned]))[:6]
    assert checked > 40


def test_shoppers_come_again_more_after_a_purchase_and_less_after_nothing() -> None:
    log = log_of(3_000, come_back=0.35, delight=1.2, outside_option=60.0, cart_rate=0.4, days=2_000)
    assert len(log) == 3_000
    sessions = log.sessions.sort_values(["shopper_id", "start"])
    depth = log.events["event"].map({"click": 1, "purchase": 2}).fillna(0).astype(int)
    best = sessions["session_id"].map(depth.groupby(log.events["session_id"]).max())
    again = sessions["shopper_id"].duplicated(keep="last")
    share = again.groupby(best).mean()
    odds = np.exp(1.2) * 0.35 / 0.65
    assert share[2] == pytest.approx(odds / (1 + odds), abs=0.06)
    assert share[1] == pytest.approx(0.35, abs=0.04)
    assert share[0] == pytest.approx(0.14, abs=0.04)


def test_the_days_between_visits_are_as_said_and_stay_within_the_log() -> None:
    log = log_of(2_000, come_back=0.5, come_back_after=3.0, days=90)
    start = log.sessions["start"]
    assert start.is_monotonic_increasing
    assert start.min() >= pd.Timestamp("2026-01-05", tz="UTC")
    assert start.max() < pd.Timestamp("2026-01-05", tz="UTC") + 90 * DAY
    gap = log.sessions.groupby("shopper_id")["start"].diff().dropna().dt.total_seconds() / 86_400
    assert 2.0 < gap.median() < 3.6
    assert gap.min() >= 2 / 24
    assert gap.quantile(0.9) > 7
    hours = start.dt.hour
    assert hours.isin([19, 20, 21]).mean() > 5 * hours.isin([3, 4, 5]).mean()


def test_such_a_log_does_not_depend_on_the_batch_and_a_shorter_one_has_the_same_shoppers() -> None:
    on: dict[str, Any] = {"come_back": 0.5, "owned": 2.0, "seasonality": 0.5, "turnover": 0.3, "complements": 1.0}
    one, two = (log_of(60, batch=batch, k=3, **on) for batch in (7, 1_024))
    pd.testing.assert_frame_equal(one.events, two.events)
    shorter = log_of(30, k=3, **on)
    assert len(shorter) == 30
    assert set(shorter.sessions["shopper_id"]) <= set(one.sessions["shopper_id"])
    assert one.sessions["shopper_id"].nunique() < 55


def test_how_often_shoppers_come_is_theirs_to_say() -> None:
    shop = KnownShop.make(replace(SMALL, come_back=0.5))
    with pytest.raises(ValueError, match="leave out visits, got visits=2"):
        collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=5, visits=2.0)


def test_progress_of_visits_in_turn_ends_at_the_number_of_sessions() -> None:
    told: list[int] = []
    shop = KnownShop.make(replace(SMALL, come_back=0.5))
    collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=40, k=2, progress=lambda done, *_: told.append(done))
    assert told[-1] == 40
    assert told == sorted(told)


# ------------------------------------------------------------------------------------------------ near real shops


def test_the_realistic_shop_has_rates_near_real_shops() -> None:
    logs = [log_of(1_500, seed=1, config=KnownShopConfig.realistic(seed), k=12) for seed in (0, 1, 4)]
    slates = [log.slates for log in logs]
    clicked, carted, bought = (
        np.concatenate([taken(one) for one in slates])
        for taken in (lambda one: one.clicked >= 0, lambda one: one.carted, lambda one: one.purchased)
    )
    again = np.concatenate([log.sessions["shopper_id"].duplicated() for log in logs])
    # Google's store: 18.0 % of slates and 1.7 % of impressions, 25.9 % and 10.9 %; JD: 17.1 % and 3.6 %.
    assert 0.14 < clicked.mean() < 0.23
    assert 0.011 < clicked.sum() / sum((one.items > 0).sum() for one in slates) < 0.020
    assert 0.17 < carted[clicked].mean() < 0.29
    assert 0.036 < bought[carted].mean() < 0.12
    assert 0.27 < again.mean() < 0.39  # 32.7 % in Google's store
    at = np.bincount(np.concatenate([one.clicked[one.clicked >= 0] for one in slates]), minlength=12)
    assert 0.25 < at[11] / at[0] < 0.55  # 0.35 in Google's store
