"""The known-truth shopper: chances on numbers worked out by hand, frequencies, mechanisms on and off, and headroom."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.schema import Event
from slatewise.simulators.known_truth import KnownTruthShopper, KnownTruthState, depth_choice
from slatewise.simulators.shopper import Response, TokenBatch

SMALL = KnownShopConfig.small()


def shopper_of(**settings: Any) -> KnownTruthShopper:
    return KnownTruthShopper(KnownShop.make(replace(SMALL, **settings)))


def copies(shopper: KnownTruthShopper, rows: int, seed: int = 5) -> KnownTruthState:
    """One shopper many times over, with different luck."""
    state = shopper.reset(torch.full((rows,), seed))
    state.seed = torch.arange(rows) + 1_000
    return state


def fields_of(state: KnownTruthState | Response | TokenBatch) -> dict[str, Any]:
    return {name: getattr(state, name) for kind in type(state).__mro__ for name in getattr(kind, "__slots__", ())}


# ---------------------------------------------------------------------------------------------------------- chances


def test_choice_over_two_places_and_nothing_is_worked_out_by_hand() -> None:
    # Attractions 2 and 3, nothing 1. Half of the shoppers see the first place alone: 2 / 3 of them click it.
    # The others compare 2, 3 and 1.
    utility = torch.tensor([[math.log(2), math.log(3)]])
    chances = depth_choice(utility, torch.ones(1, 2, dtype=torch.bool), torch.tensor([1.0, 0.5]), outside=1.0)
    expected = [0.5 * 2 / 3 + 0.5 * 2 / 6, 0.5 * 3 / 6]
    torch.testing.assert_close(chances, torch.tensor([expected]))


def test_an_empty_slot_draws_nothing_and_keeps_its_place() -> None:
    utility = torch.tensor([[math.log(2), 50.0, math.log(3)]])
    filled = torch.tensor([[True, False, True]])
    chances = depth_choice(utility, filled, torch.tensor([1.0, 0.5, 0.25]), outside=1.0)
    # A quarter of the shoppers gets to the third place.
    expected = [0.75 * 2 / 3 + 0.25 * 2 / 6, 0.0, 0.25 * 3 / 6]
    torch.testing.assert_close(chances, torch.tensor([expected]))


def test_an_empty_slate_is_never_clicked_even_where_nothing_has_no_pull() -> None:
    shopper = shopper_of(outside_option=0.0)
    state = shopper.reset(torch.arange(100))
    slate = torch.zeros((100, 4), dtype=torch.int64)
    assert shopper.click_chances(state, slate).eq(0).all()
    before = state.gap.clone()
    response, state = shopper.respond(state, slate)
    assert response.clicked.eq(-1).all()
    assert not response.examined.any()
    torch.testing.assert_close(state.gap, before + response.dwell)  # no token was added


@pytest.mark.parametrize("attraction", [-80.0, 0.0, 80.0])
def test_chances_stay_chances_at_extreme_utilities(attraction: float) -> None:
    utility = torch.full((1, 3), attraction)
    filled = torch.ones(1, 3, dtype=torch.bool)
    chances = depth_choice(utility, filled, torch.ones(3), outside=1.0)
    assert chances.isfinite().all()
    torch.testing.assert_close(chances.sum(), torch.sigmoid(torch.tensor(attraction + math.log(3))))


def test_clicks_come_as_often_as_their_chances_say() -> None:
    shopper, rows = shopper_of(outside_option=60.0, position_decay=0.3), 40_000
    state = copies(shopper, rows)
    slate = torch.cat([shopper.oracle_slates(state, 5), torch.zeros((rows, 1), dtype=torch.int64)], 1)
    chances = shopper.click_chances(state, slate)[0]
    response, _ = shopper.respond(state, slate)
    seen = torch.stack([(response.clicked == place).double().mean() for place in range(6)])
    bar = 4 * (chances.double() * (1 - chances.double()) / rows).sqrt() + 1e-12
    assert ((seen - chances).abs() <= bar).all()
    assert chances[0] > 0.1 > chances[5] == 0


def test_looking_down_is_geometric_in_the_place() -> None:
    shopper, rows = shopper_of(position_decay=0.25), 40_000
    state = copies(shopper, rows)
    response, _ = shopper.respond(state, torch.arange(1, 5).expand(rows, 4))
    seen = response.examined.double().mean(0)
    torch.testing.assert_close(seen, 0.75 ** torch.arange(4, dtype=torch.float64), atol=0.01, rtol=0)
    assert (response.examined.long().diff(dim=1) <= 0).all()
    assert response.examined.gather(1, response.clicked.clamp(min=0)[:, None])[response.clicked >= 0].all()


def test_carts_and_purchases_come_as_often_as_their_chances_say() -> None:
    shopper, rows = shopper_of(outside_option=0.0, cart_rate=0.3), 60_000
    state = copies(shopper, rows)
    slate = shopper.oracle_slates(state, 1)
    cart, purchase = (chance[0, 0] for chance in shopper.funnel_chances(state, slate))
    response, _ = shopper.respond(state, slate)
    assert (response.clicked == 0).all()
    assert abs(response.carted.double().mean() - cart) < 0.01
    assert abs(response.purchased.sum() / response.carted.sum() - purchase) < 0.015
    assert (response.revenue > 0).equal(response.purchased)
    assert (response.revenue[response.purchased] == shopper.prices[slate[0, 0]]).all()


def test_a_middling_match_has_the_configured_rates() -> None:
    shopper = shopper_of(cart_rate=0.2, purchase_rate=0.4)
    cart, purchase = shopper._funnel(torch.tensor([shopper._middling]), torch.zeros(1))
    assert float(cart) == pytest.approx(0.2)
    assert float(purchase) == pytest.approx(0.4)


# ------------------------------------------------------------------------------------------------- one row, any batch


def test_a_batch_behaves_like_its_rows_run_alone() -> None:
    shopper = shopper_of()
    seeds = torch.tensor([3, 2**41, -7, 12, 99])
    generator = torch.Generator().manual_seed(0)
    slates = torch.rand(6, 5, shopper.n_items, generator=generator).topk(4).indices + 1
    together = shopper.reset(seeds)
    alone = [shopper.reset(seeds[row : row + 1]) for row in range(5)]
    for slate in slates:
        response, together = shopper.respond(together, slate)
        for row in range(5):
            single, alone[row] = shopper.respond(alone[row], slate[row : row + 1])
            for name, value in fields_of(single).items():
                torch.testing.assert_close(value, getattr(response, name)[row : row + 1], msg=name)
    for row in range(5):
        for name, value in fields_of(alone[row]).items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(value, getattr(together, name)[row : row + 1], msg=name)


def test_luck_does_not_depend_on_the_length_of_the_slate() -> None:
    shopper = shopper_of()
    long, _ = shopper.respond(shopper.reset(torch.arange(500)), torch.arange(1, 9).expand(500, 8))
    short, _ = shopper.respond(shopper.reset(torch.arange(500)), torch.arange(1, 4).expand(500, 3))
    torch.testing.assert_close(long.examined[:, :3], short.examined)
    within = (long.clicked < 3) & (long.clicked >= 0)
    assert torch.equal(long.clicked[within], short.clicked[within])


def test_a_place_taken_over_holds_the_newcomer_alone() -> None:
    shopper = shopper_of()
    state = shopper.reset(torch.arange(4))
    _, state = shopper.respond(state, torch.arange(1, 5).expand(4, 4))
    state.put(torch.tensor([2]), shopper.reset(torch.tensor([50])))
    fresh = shopper.reset(torch.tensor([50]))
    for name, value in fields_of(fresh).items():
        if isinstance(value, Tensor):
            assert torch.equal(getattr(state, name)[2:3], value), name
    assert torch.equal(state.arrival.items[2:3], fresh.arrival.items)
    assert state.step.tolist() == [1, 1, 0, 1]


def test_arrivals_are_one_to_three_different_views_the_shopper_likes() -> None:
    shopper = shopper_of()
    state = shopper.reset(torch.arange(3_000))
    brought = state.arrival
    assert brought.items.shape == (3_000, 3)
    assert sorted(brought.lengths.unique().tolist()) == [1, 2, 3]
    held = torch.arange(3) < brought.lengths[:, None]
    assert (brought.items[held] > 0).all()
    assert (brought.items[~held] == 0).all()
    assert (brought.events == int(Event.VIEW) * held).all()
    assert (brought.gaps[:, 0] == 0).all()
    assert (brought.gaps[held] >= 0).all()
    assert (state.gap > 0).all()
    full = brought.items[brought.lengths == 3]
    assert ((full[:, 0] != full[:, 1]) & (full[:, 1] != full[:, 2]) & (full[:, 0] != full[:, 2])).all()
    liked = shopper.utilities(state, brought.items[:, :1]).mean()
    assert liked > shopper.utilities(state)[:, 1:].mean() + 1.0


def test_a_shop_of_two_items_has_shoppers_too() -> None:
    shopper = KnownTruthShopper(KnownShop.make(KnownShopConfig(n_items=2, n_categories=1, n_brands=1, style_width=1)))
    state = shopper.reset(torch.arange(50))
    assert state.arrival.items.shape == (50, 2)
    response, _ = shopper.respond(state, torch.tensor([[1, 2]]).expand(50, 2))
    assert response.dwell.gt(0).all()


# ------------------------------------------------------------------------------------------------------- mechanisms


def test_a_category_satiates_as_worked_out_by_hand_and_recovers() -> None:
    shopper = shopper_of(satiation=0.9, satiation_kept=0.5, position_decay=0.0, outside_option=1e9)
    state = shopper.reset(torch.tensor([1]))
    slate = torch.tensor([[1, 2, 3]])
    category = torch.as_tensor(shopper.shop.category)[slate[0]]
    _, state = shopper.respond(state, slate)
    expected = torch.zeros(SMALL.n_categories).index_add(0, category, torch.full((3,), 0.3))
    torch.testing.assert_close(state.satiation[0], expected)
    _, state = shopper.respond(state, torch.zeros((1, 3), dtype=torch.int64))
    torch.testing.assert_close(state.satiation[0], expected / 2)
    shopper = shopper_of(satiation=0.9, position_decay=0.0, outside_option=0.0)
    _, state = shopper.respond(shopper.reset(torch.tensor([1])), torch.tensor([[7]]))
    assert float(state.satiation[0, shopper.shop.category[7]]) == pytest.approx(0.9)


def test_a_clicked_item_loses_by_familiarity_and_a_bought_one_twice_that() -> None:
    shopper = shopper_of(satiation=0.0, outside_option=0.0, familiarity=1.5, cart_rate=0.5, purchase_rate=0.5)
    state = copies(shopper, 400)
    before = shopper.utilities(state).clone()
    response, state = shopper.respond(state, torch.full((400, 1), 9))
    lost = before - shopper.utilities(state)
    torch.testing.assert_close(lost[:, 9], 1.5 * (1.0 + response.purchased))
    assert lost[:, [1, 8, 10]].abs().max() < 1e-5
    torch.testing.assert_close(shopper.utilities(state, torch.full((400, 1), 9))[:, 0], shopper.utilities(state)[:, 9])


def test_patience_runs_out_after_useless_slates_and_a_click_on_an_honest_item_refills_it() -> None:
    shopper = shopper_of(outside_option=1e12, patience=3, leave=0.0, leave_bought=0.0)
    state = shopper.reset(torch.arange(20))
    for left in (False, False, True):
        response, state = shopper.respond(state, torch.arange(1, 5).expand(20, 4))
        assert (response.left == left).all()
    shopper = shopper_of(outside_option=0.0, patience=3, leave=0.0, leave_bought=0.0, letdown=1.0)
    honest, flashy = int(shopper.shop.allure[1:].argmin()) + 1, int(shopper.shop.allure.argmax())
    state = shopper.reset(torch.arange(2))
    _, state = shopper.respond(state, torch.tensor([[honest], [flashy]]))
    assert state.patience.tolist() == pytest.approx([3.0, 3.0 - shopper.shop.allure[flashy]])


def test_leaving_follows_its_chances() -> None:
    shopper = shopper_of(outside_option=0.0, patience=0, leave=0.1, leave_bought=0.6, cart_rate=0.6, purchase_rate=0.6)
    response, _ = shopper.respond(shopper.reset(torch.arange(40_000)), torch.arange(1, 5).expand(40_000, 4))
    assert response.left[~response.purchased].double().mean() == pytest.approx(0.1, abs=0.01)
    assert response.left[response.purchased].double().mean() == pytest.approx(0.6, abs=0.03)


def test_with_every_mechanism_off_shoppers_do_not_change_and_do_not_leave() -> None:
    changing = ("satiation", "familiarity", "patience", "letdown", "leave", "leave_bought", "position_decay")
    off = dict.fromkeys(changing, 0)
    shopper = shopper_of(**off)
    state = shopper.reset(torch.arange(500))
    before = shopper.utilities(state).clone()
    for _ in range(5):
        response, state = shopper.respond(state, torch.arange(1, 9).expand(500, 8))
        assert not response.left.any()
        assert response.examined.all()
    assert torch.equal(shopper.utilities(state), before)
    liking = ("category_taste", "intent", "style_taste", "quality", "allure", "price_sensitivity")
    indifferent = dict.fromkeys(liking, 0)
    shopper = shopper_of(**off, **indifferent, cart_rate=0.0)
    state = shopper.reset(torch.arange(500))
    assert shopper.utilities(state)[:, 1:].abs().max() == 0
    response, _ = shopper.respond(state, torch.arange(1, 9).expand(500, 8))
    assert not response.carted.any()


def test_dearer_items_are_worth_less_to_those_who_mind() -> None:
    minding, careless = shopper_of(price_sensitivity=1.0), shopper_of(price_sensitivity=0.0)
    seeds = torch.arange(200)
    lost = (careless.utilities(careless.reset(seeds)) - minding.utilities(minding.reset(seeds)))[:, 1:]
    z = torch.as_tensor(minding.shop.log_price)[1:]
    assert (lost[:, z > 0.1] > 0).all()
    assert (lost[:, z < -0.1] < 0).all()
    assert float((lost / z)[:, z.abs() > 0.1].mean()) == pytest.approx(1.0, abs=0.1)  # the mean over shoppers


# --------------------------------------------------------------------------------------------- headroom and oracles


def clicks_and_purchases(shopper: KnownTruthShopper, slates: Any, rows: int = 1_000) -> tuple[float, float, float]:
    """Clicks a session, purchases a session and clicks a slate of a policy (state, step) -> slates."""
    state, here = shopper.reset(torch.arange(rows)), torch.ones(rows, dtype=torch.bool)
    clicks = bought = shown = 0.0
    for step in range(50):
        response, state = shopper.respond(state, slates(state, step))
        clicks += float((here & (response.clicked >= 0)).sum())
        bought += float((here & response.purchased).sum())
        shown += float(here.sum())
        here &= ~response.left
    return clicks / rows, bought / rows, clicks / shown


@pytest.mark.parametrize("seed", [0, 1])
def test_knowing_the_taste_beats_the_popular_and_the_popular_beats_the_random(seed: int) -> None:
    shopper = KnownTruthShopper(KnownShop.make(KnownShopConfig.demo(seed)))
    generator = torch.Generator().manual_seed(seed)
    top = torch.as_tensor(shopper.shop.popularity[1:]).topk(8).indices + 1
    popular = clicks_and_purchases(shopper, lambda state, _: top.expand(len(state.seed), 8))
    chance = clicks_and_purchases(
        shopper, lambda state, _: torch.rand(len(state.seed), shopper.n_items, generator=generator).topk(8).indices + 1
    )
    oracle = clicks_and_purchases(shopper, lambda state, _: shopper.oracle_slates(state, 8))

    def calm(state: KnownTruthState, _: int) -> Tensor:
        """As the oracle, but shunning items that draw a click and disappoint."""
        dull = shopper.utilities(state) - 0.5 * torch.as_tensor(shopper.shop.allure)
        return dull.topk(8).indices

    patient = clicks_and_purchases(shopper, calm)
    assert popular[0] > 1.5 * chance[0]
    assert oracle[0] > 2.5 * popular[0]
    assert oracle[1] > 2.5 * popular[1]
    assert patient[0] > 1.08 * oracle[0]  # looking further than the next click pays
    assert 0.05 < chance[2] < popular[2] < 0.4


def test_the_oracle_shows_the_slate_with_the_most_clicks() -> None:
    shopper = shopper_of()
    state = shopper.reset(torch.arange(300))
    best = shopper.oracle_slates(state, 3)
    most = shopper.click_chances(state, best).sum(1)
    for other in (best.flip(1), best[:, [0, 2, 1]], torch.randint(1, 201, (300, 3), generator=torch.Generator())):
        assert (shopper.click_chances(state, other).sum(1) <= most + 1e-6).all()


def test_oracles_of_purchase_and_revenue_earn_more_of_theirs() -> None:
    shopper = shopper_of()
    state = shopper.reset(torch.arange(2_000))

    def earned(slate: Tensor, price: Tensor) -> float:
        cart, purchase = shopper.funnel_chances(state, slate)
        return float((shopper.click_chances(state, slate) * cart * purchase * price[slate]).sum(1).mean())

    one, prices = torch.ones_like(shopper.prices), shopper.prices
    values = ("click", "purchase", "revenue")
    clicks, purchases, revenue = (shopper.oracle_slates(state, 4, value=value) for value in values)
    assert earned(purchases, one) > earned(clicks, one)
    assert earned(revenue, prices) > earned(clicks, prices)


def test_the_oracle_keeps_to_what_is_available() -> None:
    shopper = shopper_of()
    available = torch.zeros(201, dtype=torch.bool)
    available[[4, 6]] = True
    slate = shopper.oracle_slates(shopper.reset(torch.arange(20)), 3, available=available)
    assert slate.sort(1).values.eq(torch.tensor([0, 4, 6])).all()
    with pytest.raises(ValueError, match="'likes'"):
        shopper.oracle_slates(shopper.reset(torch.arange(2)), 3, value="likes")  # pyright: ignore[reportArgumentType]
