"""The study of fitted shoppers: its rivals, its figures, its pictures, and the whole on a small shop's log."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.datasets import KnownShop, KnownShopConfig, ShopLog
from slatewise.simulators import FitConfig, Foretold, KnownTruthShopper, collect_log
from slatewise.simulators.occasions import Occasions, next_views
from slatewise.simulators.visits import logged_visits
from slatewise.testing import check_shopper, only_views

Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def log() -> ShopLog:
    shop = KnownShop.make(KnownShopConfig.small(3))
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=400, k=5, seed=3, again=0.3)


@pytest.fixture
def two_slates() -> Foretold:
    """Shopper 0 clicked the second of three, shopper 1 nothing of two."""
    items, clicked = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([1, -1])
    chances = torch.tensor([[0.2, 0.3, 0.1], [0.4, 0.05, 0.0]], dtype=torch.float64).log()
    choices = {"one": (torch.tensor([0.3, 0.55], dtype=torch.float64).log(), chances)}
    return Foretold(np.array([0, 1]), np.array([0, 1]), items, clicked, choices)


def test_the_first_of_independent_clicks_comes_by_chance(benchmark_module: Load) -> None:
    first = benchmark_module("independent_clicks").first_click_chances
    found = first(torch.tensor([[0.5, 0.2], [1.0, 1.0], [0.3, 0.0]]))
    # One alone is clicked, or both and either comes first.
    assert found[0].tolist() == pytest.approx([0.5 * 0.8 + 0.05, 0.2 * 0.5 + 0.05, 0.5 * 0.8])
    assert found[1].tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)
    assert found[2].tolist() == pytest.approx([0.3, 0.0, 0.7])
    assert first(torch.rand(4, 25, generator=torch.Generator().manual_seed(0))).sum(1).tolist() == pytest.approx(
        [1] * 4
    )


def test_independent_clicks_keep_the_contract_and_the_logs_click_rate(benchmark_module: Load, log: ShopLog) -> None:
    peers = benchmark_module("independent_clicks")
    shopper = peers.IndependentClicks(log)
    check_shopper(shopper)
    seen = shopper.foretell(log)
    none = 1 - seen.choices["fitted"][1].exp().sum(1)
    assert float(1 - none.mean()) == pytest.approx(float((log.slates.clicked >= 0).mean()), abs=0.02)
    rate = [row["rate"] for row in benchmark_module("foretelling").rates([logged_visits(log)[0]], 0)]
    assert seen.cart is not None
    assert float(seen.cart[seen.clicked >= 0].mean()) == pytest.approx(rate[1], abs=0.01)


def test_independent_clicks_on_next_views_are_drawn_among_the_alternatives(
    benchmark_module: Load, log: ShopLog
) -> None:
    views = only_views(log)
    shopper = benchmark_module("independent_clicks").IndependentClicks(
        views, config=FitConfig(held_out=0, alternatives=9)
    )
    seen = shopper.foretell(views)
    done, utility = seen.choices["fitted"]
    assert seen.correction is not None
    assert done.tolist() == pytest.approx(torch.log_softmax(utility + seen.correction, 1)[:, 0].tolist())
    assert float(done.mean()) > -np.log(float((seen.items > 0).sum(1).double().mean()))  # better than by chance


def test_item_rates_are_drawn_to_the_mean_as_far_as_the_log_says(benchmark_module: Load) -> None:
    rates = benchmark_module("simple_choice").ItemRates
    items = np.tile([[1, 2]], (200, 1))
    alike, apart = np.tile([0, 1, -1, -1], 50), np.tile([0, 0, 0, -1], 50)
    same, differ = rates.of(items, alike, 3), rates.of(np.flip(items, 1) * 0 + items, apart, 3)
    assert np.abs(same.log_rate).max() < 0.01
    assert differ.log_rate[3] == 0  # never shown: as the mean
    shown = np.where(np.arange(400)[:, None] % 2 == 0, [[1, 2]], [[2, 1]])  # each item at each place
    told = rates.of(shown, np.where(np.arange(400) % 2 == 0, 0, 1), 2)  # item 1 always, item 2 never
    assert told.log_rate[1] > 0.5 > -0.5 > told.log_rate[2]
    assert told.strength < same.strength


def test_the_simple_model_of_slates_finds_the_places_worth(benchmark_module: Load, log: ShopLog) -> None:
    model = benchmark_module("simple_choice").PlaceSizeItem.fit(log, 7)
    items, clicked = torch.from_numpy(log.slates.items), torch.from_numpy(log.slates.clicked)
    done, chances = model.foretell(items, clicked)
    by_place = chances.exp().mean(0)
    really = (clicked[:, None] == torch.arange(5)).double().mean(0)
    assert by_place.tolist() == pytest.approx(really.tolist(), abs=0.02)
    assert float(model.rate) > 0
    none = torch.log1p(-chances.exp().sum(1))
    assert torch.allclose(done[clicked < 0], none[clicked < 0])
    assert len(model.place) == 7  # and what the log never showed stays near the places before it
    assert abs(float(model.place[6] - model.place[4])) < 0.1


def test_what_follows_the_last_item_is_counted_and_drawn_to_popularity(benchmark_module: Load, log: ShopLog) -> None:
    simple, views = benchmark_module("simple_choice"), only_views(log)
    occasions = next_views(views, alternatives=20, most=500, rng=np.random.default_rng(0))
    found = simple.next_view_models(views, views, occasions)
    (popular, _), (follows, utility) = found[simple.POPULAR], found[simple.FOLLOWS]
    assert float(follows.mean()) > float(popular.mean())
    assert float(found[simple.AGAIN][0].mean()) >= float(follows.mean()) - 0.01  # at worst it mixes nothing in
    assert torch.isfinite(utility[torch.from_numpy(occasions.items > 0)]).all()
    counted = simple._followed(
        np.array([1, 1, 2]), np.array([2, 3, 3]), np.full(4, 0.25), 2.0, np.array([1]), np.array([3])
    )
    assert counted.tolist() == [(1 + 2 * 0.25) / (2 + 2)]


def test_earlier_items_count_the_more_the_later_and_the_last_one_not(benchmark_module: Load, log: ShopLog) -> None:
    simple = benchmark_module("simple_choice")
    viewed = log.catalogue.frame["item_id"].to_numpy()[[4, 6, 4, 5, 7]]  # items 5, 7, 5, 6, 8
    events = log.events.head(5).assign(item_id=viewed, event="view", session_id="a", slate_id=None)
    events["time"] = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(5), unit="s")
    asked = Occasions(np.array([0]), np.array([4]), np.array([[8, 5, 6, 7]]), np.array([0]))
    counted = (np.array([5]), np.array([7]), np.full(log.catalogue.n_items + 1, 0.1), 1.0)
    _, again = simple._shares(ShopLog(events, log.catalogue, {}), asked, counted)
    ages = {5: 0.8 + 0.8**3, 7: 0.8**2}
    total = sum(ages.values())
    assert again.tolist()[0] == pytest.approx([0.0, ages[5] / total, 0.0, ages[7] / total])


def test_aucs_by_hand(benchmark_module: Load, two_slates: Foretold) -> None:
    table = benchmark_module("foretelling").model_table
    (row,) = table(two_slates, two_slates.choices, "one", every_slot=True, seed=0)
    assert row["auc_within"] == 1.0
    assert row["auc_all"] == 0.75  # of the four slots not clicked, one has a higher chance
    assert row["gain"] == row["auc_all_more"] == 0.0
    low, high = row["auc_all_interval"]
    assert low <= 0.75 <= high
    assert row["log_likelihood"] == pytest.approx((np.log(0.3) + np.log(0.55)) / 2)


def test_given_a_click_chances_of_a_slate_sum_to_one(benchmark_module: Load, two_slates: Foretold) -> None:
    given = benchmark_module("foretelling").given_a_click(two_slates)
    done, chances = given.choices["one"]
    assert given.clicked.tolist() == [1]
    assert chances.exp().tolist()[0] == pytest.approx([1 / 3, 1 / 2, 1 / 6])
    assert done.tolist() == pytest.approx([np.log(1 / 2)])


def test_place_curves_and_funnels_are_drawn_as_they_are(benchmark_module: Load, two_slates: Foretold) -> None:
    foretelling, pictures = benchmark_module("foretelling"), benchmark_module("shopper_pictures")
    rows = foretelling.place_curve(two_slates, two_slates.choices, 0)
    assert [row["slates"] for row in rows] == [2, 2, 1]
    assert [row["observed"] for row in rows] == [0.0, 0.5, 0.0]
    assert rows[0]["foretold"]["one"] == pytest.approx(0.3)
    figure = pictures.place_curves(rows, ["one"])
    real, drawn = figure.axes[0].lines
    assert real.get_ydata().tolist() == [0.0, 50.0, 0.0]
    assert drawn.get_ydata().tolist() == pytest.approx([30.0, 17.5, 10.0])
    steps = [{"step": "carts a click", "tried": 8, "rate": 0.25, "interval": [0.1, 0.5]}]
    (axis,) = (one for one in pictures.funnel(steps, {"fitted": [{"step": "carts a click", "rate": 0.5}]}).axes[:1])
    assert [line.get_xdata()[0] for line in axis.lines] == [25.0, 50.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [pictures.REAL, "fitted"]


def test_returns_count_only_visits_whose_return_could_be_seen(benchmark_module: Load, log: ShopLog) -> None:
    day = pd.Timestamp("2026-01-01", tz="UTC")
    # Shopper a comes on days 0, 1, 9 and b on days 0, 40; they view item 1, and a buys it on day 1.
    visits = [("a", 0, "view"), ("b", 0, "view"), ("a", 1, "purchase"), ("a", 9, "view"), ("b", 40, "purchase")]
    rows = log.events.head(len(visits)).assign(
        shopper_id=[one for one, _, _ in visits],
        session_id=[f"{one}/{at}" for one, at, _ in visits],
        time=[day + pd.Timedelta(days=at) for _, at, _ in visits],
        event=[event for _, _, event in visits],
        item_id=log.catalogue.frame["item_id"][0],
    )
    made = ShopLog(rows.reset_index(drop=True), log.catalogue, {})
    repeats = benchmark_module("repeat_purchases")
    found = {row["days"]: row for row in repeats.returns(made)}
    assert (found[1]["visits"], found[1]["observed"]) == (4, 0.25)
    assert (found[30]["visits"], found[30]["observed"]) == (4, 0.5)
    early, later = made.part(np.arange(3)), made.part(np.arange(3, 5))
    again = {row["before"]: row for row in repeats.bought_again(early, later)}
    assert again["bought"]["observed"] == 0.0  # a bought it, and not again
    assert again["only viewed"]["observed"] == 1.0


@pytest.mark.slow
def test_the_whole_study_of_a_small_shop(benchmark_module: Load, log: ShopLog, tmp_path: Path) -> None:
    study = benchmark_module("real_shoppers")
    plan = study.Study(pretraining={"epochs": 1}, views=300, runs=2)
    early, later = study.cut(log, plan)
    found = study.of_slates("small", early, later, plan, tmp_path)
    told = benchmark_module("telling")
    found["telling"] = told.telling(study.peers(early, plan), later, study.PEERS, 0)
    names = [row["model"] for row in found["models"]]
    assert {study.ENCODER, study.APART, study.BOOSTED, study.SIMPLE, study.PEERS, study.PEERS_ITEM} <= set(names)
    tried = {model: rows[0]["tried"] for model, rows in found["rates"].items()}
    assert tried["real"] == len(later.slates)
    assert 1.4 < tried[study.BOOSTED] / tried["real"] < 2.8  # of two runs
    peers, item, floor = found["telling"]
    assert (peers["model"], item["model"], floor["model"]) == (study.PEERS, study.PEERS_ITEM, told.FLOOR)
    assert (peers["less"], peers["less_interval"]) == (0.0, [0.0, 0.0])
    assert item["less_interval"][0] < item["less"] < item["less_interval"][1]
    assert abs(item["less"] - (peers["auc"] - item["auc"])) < 0.05
    tables = benchmark_module("shopper_tables")
    ours = (study.ENCODER, study.APART, study.BOOSTED)
    tables.draw("small", found, ours, (study.SIMPLE, study.PEERS), tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").glob("small-*.png"))) == 5
    assert "told from real" in tables.printed("small", found)
    views = study.of_views("views", *study.cut(only_views(log), plan), plan, tmp_path)
    assert {row["step"] for row in views["funnel"][study.BOOSTED]} == {"cart", "purchase"}
    assert "bought, of views" in tables.printed("views", views)
