"""The best slate, exactly: values worked out by hand, search equal to trying every slate, and a limit that is told."""

from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.errors import SearchLimitError
from slatewise.simulators.known_truth import KnownTruthShopper, Value
from slatewise.simulators.oracle import best_slate, best_slates, best_slates_by_trying, regrets, slate_values

VALUES = cast(tuple[Value, ...], get_args(Value))


def shopper_of(config: KnownShopConfig, **settings: Any) -> KnownTruthShopper:
    return KnownTruthShopper(KnownShop.make(replace(config, **settings)))


def tried(attraction: np.ndarray, worth: np.ndarray, outside: float, stops: np.ndarray) -> float:
    """The value of the best ordered slate, empty slots anywhere included, in plain loops."""
    best = 0.0

    def deeper(place: int, used: frozenset[int], below: float, above: float, earned: float) -> None:
        nonlocal best
        if place == len(stops):
            best = max(best, earned)
            return
        level = above / below if below > 0 else 0.0
        deeper(place + 1, used, below, above, earned + stops[place] * level)  # this slot stays empty
        for item in range(len(attraction)):
            if item not in used and attraction[item] > 0:
                a, b = above + attraction[item] * worth[item], below + attraction[item]
                deeper(place + 1, used | {item}, b, a, earned + stops[place] * a / b)

    deeper(0, frozenset(), outside, 0.0, 0.0)
    return best


# ----------------------------------------------------------------------------------------------------------- values


def test_a_best_slate_is_worked_out_by_hand() -> None:
    # Attractions 4 and 1, nothing 1, worth 1 and 10; half of the shoppers look at the second place too.
    # (1, 0): 0.5 * 10/2 + 0.5 * 14/6 = 3.667; (1, empty): 5. The first item would draw clicks from the dear one.
    items, earned = best_slate(np.array([4.0, 1.0]), np.array([1.0, 10.0]), 1.0, np.array([0.5, 0.5]))
    assert items == [1]
    assert earned == pytest.approx(5.0)
    # Were the first worth 6, more than the 5 the dear one earns alone, it would be shown below it:
    # (1, 0): 0.5 * 5 + 0.5 * 34/6 = 5.333; (0, 1): 0.5 * 24/5 + 0.5 * 34/6 = 5.233.
    items, earned = best_slate(np.array([4.0, 1.0]), np.array([6.0, 10.0]), 1.0, np.array([0.5, 0.5]))
    assert items == [1, 0]
    assert earned == pytest.approx(0.5 * 5 + 0.5 * 34 / 6)


@pytest.mark.parametrize("value", VALUES)
def test_the_value_of_a_slate_is_that_of_its_click_and_funnel_chances(value: Value) -> None:
    shopper = shopper_of(KnownShopConfig.small())
    state = shopper.reset(torch.arange(40))
    slate = torch.randint(0, 200, (40, 5), generator=torch.Generator().manual_seed(1))
    slate[:, 1] = 0
    slate[:, 3] = 200
    cart, purchase = shopper.funnel_chances(state, slate)
    worth = {"click": 1.0, "purchase": cart * purchase, "revenue": cart * purchase * shopper.prices[slate]}[value]
    expected = (shopper.click_chances(state, slate) * worth).sum(1).double()
    torch.testing.assert_close(slate_values(shopper, state, slate, value), expected, rtol=1e-4, atol=1e-9)


def test_shoppers_buy_as_often_as_the_best_slate_is_said_to_sell() -> None:
    shopper, rows = shopper_of(KnownShopConfig.tiny(), outside_option=5.0, cart_rate=0.4), 40_000
    state = shopper.reset(torch.full((rows,), 5))
    best = best_slates(shopper, shopper.reset(torch.tensor([5])), 3)
    state.seed = torch.arange(rows) + 1_000
    response, _ = shopper.respond(state, best.slates.expand(rows, -1))
    chance = float(best.values[0])
    assert abs(float(response.purchased.double().mean()) - chance) < 4 * (chance * (1 - chance) / rows) ** 0.5


# ----------------------------------------------------------------------------------------------------------- search


def where_order_and_set_pull_apart(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Attraction and worth (n,) of items of which the attractive are worth little, so that the search has to branch."""
    attraction = rng.lognormal(sigma=1.5, size=n)
    return attraction, rng.lognormal(sigma=0.4, size=n) / attraction**0.5


@pytest.mark.parametrize("seed", range(60))
def test_the_search_finds_what_trying_every_slate_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    attraction = rng.lognormal(sigma=rng.choice([0.1, 1.0, 3.0]), size=n) * (rng.random(n) < 0.9)
    worth = rng.lognormal(sigma=rng.choice([0.0, 0.5, 2.0]), size=n) * (rng.random(n) < 0.9)
    outside = float(rng.choice([0.0, 0.1, 1.0, 30.0]))
    reach = np.append(float(rng.choice([1.0, 0.9, 0.4])) ** np.arange(k), 0.0)
    stops = reach[:-1] - reach[1:]
    items, earned = best_slate(attraction, worth, outside, stops)
    assert earned == pytest.approx(tried(attraction, worth, outside, stops), rel=1e-10)
    assert len(items) == len(set(items)) <= k


@pytest.mark.parametrize("outside", [1.0, 3.0])
def test_the_search_is_exact_where_it_has_to_branch(outside: float) -> None:
    stops, branched = np.array([0.3, 0.21, 0.49]), 0
    for seed in range(60):
        attraction, worth = where_order_and_set_pull_apart(np.random.default_rng(seed), 7)
        _, earned = best_slate(attraction, worth, outside, stops)
        assert earned == pytest.approx(tried(attraction, worth, outside, stops), rel=1e-10)
        try:
            best_slate(attraction, worth, outside, stops, max_nodes=1)
        except SearchLimitError:
            branched += 1
    assert branched > 15


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("seed", range(4))
def test_search_and_trial_agree_on_tiny_shops(value: Value, seed: int) -> None:
    decay, outside = ((0.12, 350.0), (0.4, 20.0), (0.0, 5.0), (0.2, 0.0))[seed]
    shopper = shopper_of(KnownShopConfig.tiny(seed), position_decay=decay, outside_option=outside, complements=1.0)
    state = shopper.reset(torch.arange(12))
    _, state = shopper.respond(state, torch.arange(1, 5).expand(12, 4))
    available = torch.ones(9, dtype=torch.bool)
    available[3] = seed != 1
    searched = best_slates(shopper, state, 3, value=value, available=available)
    everything = best_slates_by_trying(shopper, state, 3, value=value, available=available)
    torch.testing.assert_close(searched.values, everything.values, rtol=1e-9, atol=0)
    torch.testing.assert_close(slate_values(shopper, state, searched.slates, value), searched.values, rtol=1e-5, atol=0)
    assert seed != 1 or not (searched.slates == 3).any()


def test_the_best_slate_for_clicks_is_in_order_of_liking() -> None:
    shopper = shopper_of(KnownShopConfig.small())
    state = shopper.reset(torch.arange(20))
    assert torch.equal(best_slates(shopper, state, 4, value="click").slates, shopper.oracle_slates(state, 4))


@pytest.mark.parametrize("value", ["purchase", "revenue"])
def test_on_a_small_shop_nothing_beats_the_best_slate(value: Value) -> None:
    shopper = shopper_of(KnownShopConfig.small(), outside_option=20.0)
    state = shopper.reset(torch.arange(10))
    best = best_slates(shopper, state, 4, value=value, max_nodes=2_000)
    ranked = shopper.oracle_slates(state, 4, value=value)
    lost = regrets(shopper, state, ranked, value=value)
    torch.testing.assert_close(lost, best.values - slate_values(shopper, state, ranked, value), rtol=1e-4, atol=1e-6)
    assert lost.max() > 1e-3 * best.values.mean()  # a good order is not the best set
    assert regrets(shopper, state, best.slates, value=value).max() < 1e-12 * best.values.max()
    for row in range(3):
        slate = best.slates[row]
        # Every slate with one place filled otherwise, and every one with two places swapped.
        others = [slate.clone().index_fill(0, torch.tensor([place]), item) for place in range(4) for item in range(201)]
        others = [one for one in others if len(set(one[one > 0].tolist())) == int((one > 0).sum())]
        others += [slate[list(order)] for order in ((1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (3, 1, 2, 0))]
        alike = shopper.reset(torch.full((len(others),), row))
        assert (slate_values(shopper, alike, torch.stack(others), value) <= best.values[row] * (1 + 1e-5)).all()


# ----------------------------------------------------------------------------------------------------------- limits


def test_a_search_that_proves_nothing_in_time_says_how_near_it_is() -> None:
    attraction, worth = where_order_and_set_pull_apart(np.random.default_rng(4), 30)
    stops = np.array([0.3, 0.21, 0.147, 0.343])
    with pytest.raises(SearchLimitError, match=r"within 1 nodes: one found earns [\d.]+, none earns more than [\d.]+"):
        best_slate(attraction, worth, 3.0, stops, max_nodes=1)
    assert best_slate(attraction, worth, 3.0, stops)[1] > 0


def test_what_cannot_be_asked_is_refused_with_its_value() -> None:
    shopper = shopper_of(KnownShopConfig.small())
    state = shopper.reset(torch.arange(2))
    with pytest.raises(ValueError, match="200 items in 3 slots are 8120601 slates"):
        best_slates_by_trying(shopper, state, 3)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        best_slates(shopper, state, 0)
    with pytest.raises(ValueError, match="'likes'"):
        slate_values(shopper, state, torch.tensor([[1], [2]]), "likes")  # pyright: ignore[reportArgumentType]


def test_a_shelf_with_nothing_on_it_earns_nothing() -> None:
    shopper = shopper_of(KnownShopConfig.tiny())
    state = shopper.reset(torch.arange(3))
    best = best_slates(shopper, state, 2, available=torch.zeros(9, dtype=torch.bool))
    assert best.slates.tolist() == [[0, 0]] * 3
    assert best.values.tolist() == [0.0] * 3
