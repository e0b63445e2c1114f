"""What goes together, seasons, memory, coming again, and items that come and go: each acts as said, and 0 is off."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from slatewise.datasets.known_shop import YEAR, KnownShop, KnownShopConfig
from slatewise.simulators.known_truth import KnownTruthShopper, KnownTruthState, visit_seed
from slatewise.testing import check_shopper

SMALL = KnownShopConfig.small()
ON = {"complements": 1.2, "seasonality": 0.9, "turnover": 0.5, "come_back": 0.4, "owned": 2.0}

# What the first six shoppers of the small shop bring along, and click in the oracle's slates of five.
PINNED_ARRIVALS = [[54, 63, 0], [147, 57, 0], [92, 0, 0], [112, 10, 7], [52, 165, 190], [64, 98, 159]]
PINNED_CLICKS = [
    [-1, -1, 0, -1, -1, 3],
    [-1, -1, -1, -1, 0, 1],
    [-1, -1, 3, -1, 0, -1],
    [-1, 0, -1, -1, 2, 0],
    [0, -1, -1, -1, -1, -1],
]


def shopper_of(**settings: Any) -> KnownTruthShopper:
    return KnownTruthShopper(KnownShop.make(replace(SMALL, **settings)))


def walk(shopper: KnownTruthShopper, slates: int = 4, rows: int = 200, **reset: Any) -> list[Tensor]:
    """All that shoppers bring along, show and do over a few slates."""
    state = shopper.reset(torch.arange(rows), **reset)
    told = [state.arrival.items, state.arrival.gaps, state.gap.clone(), shopper.utilities(state)]
    for step in range(slates):
        response, state = shopper.respond(state, torch.arange(1 + 5 * step, 6 + 5 * step).expand(rows, 5))
        told += [getattr(response, one.name) for one in fields(response)]
    return [*told, shopper.utilities(state)]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# ------------------------------------------------------------------------------------------------------ off is off


def test_with_the_new_mechanisms_off_shoppers_do_what_they_did_before_there_were_any() -> None:
    shopper = shopper_of()
    state = shopper.reset(torch.arange(6))
    assert state.arrival.items.tolist() == PINNED_ARRIVALS
    for expected in PINNED_CLICKS:
        response, state = shopper.respond(state, shopper.oracle_slates(state, 5))
        assert response.clicked.tolist() == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"shelf_days": 3.0},  # with a turnover of 0
        {"come_back_after": 30.0, "delight": 4.0},  # with nobody coming back
        {"come_back": 0.8},  # which is about other visits, not this one
        {"owned": 5.0},  # by shoppers who have bought nothing yet
        {"turnover": 1e-9},
    ],
)
def test_what_is_off_or_has_no_occasion_changes_nothing(settings: dict[str, float]) -> None:
    assert same(walk(shopper_of(), day=100.0), walk(shopper_of(**settings), day=100.0))


def test_without_seasons_and_comings_the_day_does_not_matter() -> None:
    off, on = shopper_of(), shopper_of(seasonality=0.9)
    assert same(walk(off), walk(off, day=200.0))
    assert not same(walk(on), walk(on, day=200.0))


def test_before_the_first_click_nothing_goes_with_anything() -> None:
    off, on = shopper_of(outside_option=1e12), shopper_of(outside_option=1e12, complements=3.0)
    assert same(walk(off), walk(on))


def test_a_shopper_with_every_mechanism_keeps_the_contract() -> None:
    check_shopper(shopper_of(**ON))


# --------------------------------------------------------------------------------------------------- what goes with


def gains(shopper: KnownTruthShopper, item: int, rows: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (rows, N) that items have gained after a click on one, whether it was carted, whether bought."""
    state = shopper.reset(torch.arange(rows))
    before = shopper.utilities(state).clone()
    response, state = shopper.respond(state, torch.full((rows, 1), item))
    return (shopper.utilities(state) - before)[:, 1:], response.carted, response.purchased


def test_what_goes_with_a_clicked_item_gains_by_how_far_it_went() -> None:
    calm = {"satiation": 0.0, "familiarity": 0.0, "outside_option": 0.0, "cart_rate": 0.5, "purchase_rate": 0.5}
    shopper = shopper_of(**calm, complements=0.8)
    gained, carted, purchased = gains(shopper, 9)
    depth = 1.0 + 0.5 * carted + 0.5 * purchased
    assert sorted(depth.unique().tolist()) == [1.0, 1.5, 2.0]
    goes = torch.as_tensor(shopper.shop.companions)[int(shopper.shop.category[9])]
    assert sorted(goes.tolist())[-3:] == [0.0, 0.5, 1.0]
    expected = 0.8 * depth[:, None] * goes[torch.as_tensor(shopper.shop.category)[1:]]
    torch.testing.assert_close(gained, expected, atol=1e-5, rtol=0)


def test_a_second_click_adds_nothing_to_the_gain_and_the_gain_lasts() -> None:
    shopper = shopper_of(satiation=0.0, outside_option=0.0, cart_rate=0.0, complements=0.8)
    state = shopper.reset(torch.arange(20))
    _, state = shopper.respond(state, torch.full((20, 1), 9))
    once = state.gain.clone()
    _, state = shopper.respond(state, torch.full((20, 1), 9))
    _, state = shopper.respond(state, torch.zeros((20, 1), dtype=torch.int64))
    assert torch.equal(state.gain, once)
    assert float(once.max()) == pytest.approx(0.8)


def test_companions_are_clicked_more_after_a_click_the_stronger_the_more() -> None:
    chances = []
    for strength in (0.0, 0.7, 1.4):
        shopper = shopper_of(complements=strength, outside_option=0.0)
        state = shopper.reset(torch.arange(500))
        _, state = shopper.respond(state, torch.full((500, 1), 9))
        partner = int(shopper.shop.companions[shopper.shop.category[9]].argmax())
        slate = torch.as_tensor(shopper.shop.category[1:] == partner).nonzero()[:4, 0] + 1
        judge = shopper_of(complements=strength, outside_option=50.0)
        chances.append(float(judge.click_chances(state, slate.expand(500, -1)).sum(1).mean()))
    assert chances[0] * 1.2 < chances[1]
    assert chances[1] * 1.2 < chances[2]


# ---------------------------------------------------------------------------------------------------------- seasons


def test_a_category_swings_by_its_strength_between_peak_and_half_a_year_later() -> None:
    shopper = shopper_of(seasonality=0.6, intent=0.0)
    for category in (0, 3):
        peak = float(shopper.shop.season_peak[category])
        best, worst, mean, later = (
            shopper.reset(torch.arange(5), day=peak + part * YEAR).liking[:, category] for part in (0, 0.5, 0.25, 3)
        )
        torch.testing.assert_close(best - worst, torch.full((5,), 1.2), atol=1e-4, rtol=0)
        torch.testing.assert_close(best - mean, torch.full((5,), 0.6), atol=1e-4, rtol=0)
        torch.testing.assert_close(best, later, atol=1e-3, rtol=0)


def test_shoppers_come_for_what_is_in_season() -> None:
    shopper, seeds = shopper_of(seasonality=1.0), torch.arange(4_000)
    category = torch.as_tensor(shopper.shop.category)

    def share(day: float) -> float:
        first = shopper.reset(seeds, day=day).arrival.items[:, 0]
        return float((category[first] == 2).double().mean())

    peak = float(shopper.shop.season_peak[2])
    assert share(peak) > 1.8 * share(peak + YEAR / 2)


def test_shoppers_who_are_told_no_day_come_all_the_year_round_or_on_the_day_of_the_simulator() -> None:
    shop = KnownShop.make(replace(SMALL, seasonality=0.5))
    day = KnownTruthShopper(shop).reset(torch.arange(4_000)).day
    assert day.min() >= 0
    assert day.max() < YEAR
    assert day.mean().item() == pytest.approx(YEAR / 2, abs=8)
    assert KnownTruthShopper(shop, day=12.5).reset(torch.arange(3)).day.tolist() == [12.5] * 3


# ----------------------------------------------------------------------------------------- memory, and coming again


def test_an_item_bought_before_and_its_category_are_wanted_less() -> None:
    shopper, seeds = shopper_of(owned=3.0), torch.arange(50)
    owned = torch.tensor([[9, 4, 0, 0, 0, 0]]).expand(50, 6)
    fresh, back = shopper.reset(seeds, day=1.0), shopper.reset(seeds, day=1.0, owned=owned)
    lost = (shopper.utilities(fresh) - shopper.utilities(back))[:, 1:]
    category = torch.as_tensor(shopper.shop.category)
    alike = (category[1:, None] == category[[9, 4]]).any(1)
    expected = 1.0 * alike + 3.0 * torch.isin(torch.arange(1, 201), torch.tensor([9, 4]))
    torch.testing.assert_close(lost, expected.expand(50, -1), atol=1e-5, rtol=0)
    some = torch.arange(1, 21).expand(50, -1)
    torch.testing.assert_close(shopper.utilities(back, some), shopper.utilities(back)[:, 1:21])


def test_purchases_are_taken_home_the_latest_first_and_once_each() -> None:
    sure = {"outside_option": 0.0, "cart_rate": 0.999_999, "purchase_rate": 0.999_999, "match": 0.0, "patience": 0}
    shopper = shopper_of(**sure, owned=1.0)
    state = shopper.reset(torch.arange(3), owned=torch.tensor([[7, 3, 0, 0, 0, 0]]).expand(3, 6))
    for item in (11, 3, 12):
        _, state = shopper.respond(state, torch.full((3, 1), item))
    assert state.belongings().tolist() == [[12, 3, 11, 7, 0, 0]] * 3
    assert (state.pleasure == 1).all()
    forgetful = shopper_of(**sure)
    _, state = forgetful.respond(forgetful.reset(torch.arange(3)), torch.full((3, 1), 11))
    assert state.belongings().shape == (3, 0)


def after(shopper: KnownTruthShopper, pleasure: int, rows: int = 20_000) -> KnownTruthState:
    state = shopper.reset(visit_seed(torch.arange(rows), 1))
    state.pleasure = torch.full((rows,), pleasure)
    return state


def test_shoppers_come_again_as_often_as_their_chances_say_and_sooner_or_later() -> None:
    shopper = shopper_of(come_back=0.3, delight=1.5, come_back_after=4.0)
    odds = 0.3 / 0.7
    for pleasure in (-1, 0, 1):
        state = after(shopper, pleasure)
        chance = float(shopper.return_chances(state)[0])
        swing = float(torch.tensor(1.5 * pleasure).exp())
        assert chance == pytest.approx(odds * swing / (1 + odds * swing), rel=1e-5)
        coming, days = shopper.returns(state)
        assert float(coming.double().mean()) == pytest.approx(chance, abs=0.015)
        assert float(days.median()) == pytest.approx(4.0, rel=0.05)
        assert days.min() > 0


def test_nobody_comes_again_where_that_is_off_and_everybody_alike_without_delight() -> None:
    assert not shopper_of().returns(after(shopper_of(), 1))[0].any()
    even = shopper_of(come_back=0.3, delight=0.0)
    assert {round(float(even.return_chances(after(even, pleasure, 2))[0]), 6) for pleasure in (-1, 0, 1)} == {0.3}


def test_pleasure_is_the_best_thing_that_happened() -> None:
    shopper = shopper_of(outside_option=1e12)
    _, state = shopper.respond(shopper.reset(torch.arange(9)), torch.arange(1, 4).expand(9, 3))
    assert (state.pleasure == -1).all()
    shopper = shopper_of(outside_option=0.0, cart_rate=0.5, purchase_rate=0.5)
    response, state = shopper.respond(shopper.reset(torch.arange(300)), torch.arange(1, 4).expand(300, 3))
    assert torch.equal(state.pleasure, response.purchased.long())
    _, later = shopper.respond(state, torch.zeros((300, 3), dtype=torch.int64))
    assert torch.equal(later.pleasure, response.purchased.long())


# ----------------------------------------------------------------------------------------- items that come and go


def test_items_come_and_go_as_often_and_as_long_as_said() -> None:
    shop = KnownShop.make(replace(KnownShopConfig(seed=1), turnover=0.4, shelf_days=20.0))
    days = [0.5 * half for half in range(800)]
    there = torch.stack([torch.as_tensor(shop.there(day)) for day in days])[:, 1:]
    goes = ~there.all(0)
    assert float(goes.double().mean()) == pytest.approx(0.4, abs=0.05)
    assert float(there[:, goes].double().mean()) == pytest.approx(0.5, abs=0.03)
    changes = (there[1:, goes] != there[:-1, goes]).double().sum(0)
    stretch = 400 / changes
    assert 9 < float(stretch.min()) < 11
    assert 27 < float(stretch.max()) < 34
    shopper = KnownTruthShopper(shop)
    some = torch.tensor([0.0, 3.25, 77.0])
    assert torch.equal(shopper.there(some), torch.stack([torch.as_tensor(shop.there(float(day))) for day in some]))
    assert KnownShop.make(SMALL).there(33.0)[1:].all()


def test_arriving_shoppers_have_viewed_only_what_is_there() -> None:
    shopper = shopper_of(turnover=1.0, shelf_days=10.0)
    state = shopper.reset(torch.arange(2_000))
    brought = state.arrival
    held = torch.arange(3) < brought.lengths[:, None]
    assert shopper.there(state.day, brought.items)[held].all()
    assert held.sum() > 3_000


def test_a_shopper_who_finds_nothing_there_comes_without_a_history() -> None:
    shopper = KnownTruthShopper(KnownShop.make(KnownShopConfig(n_items=2, n_categories=1, n_brands=1, turnover=1.0)))
    state = shopper.reset(torch.arange(300))
    there = shopper.there(state.day)[:, 1:].sum(1)
    assert there.min() == 0
    assert (state.arrival.lengths <= there).all()
    assert (state.gap[there == 0] == 0).all()
    check_shopper(shopper, k=2)


# ------------------------------------------------------------------------------------------------------------- size


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, Tensor):
                self.numbers = max(self.numbers, one.numel())
        return out


def test_fifty_thousand_items_cost_a_shopper_no_more_than_two_hundred() -> None:
    largest = []
    for config in (SMALL, KnownShopConfig.large()):
        shopper = KnownTruthShopper(KnownShop.make(replace(config, n_categories=6, **ON)))
        with _Largest() as seen:
            state = shopper.reset(torch.arange(64))
            shopper.respond(state, torch.arange(1, 9).expand(64, 8))
        largest.append(seen.numbers)
    assert largest[0] == largest[1] < 64 * 50_000 / 10
