"""The chance of a click, worked out by hand, and the fit of examination and choice."""

import math

import numpy as np
import pytest
import torch

from slatewise.simulators.choice import NEVER, ChoiceWeights, next_view_log_chance
from slatewise.simulators.choice_fit import ChoiceData, ChoicePrior, fit_choice, log_likelihood
from slatewise.simulators.examination import depth_log_chances, slate_log_chances
from slatewise.simulators.features import ITEM_FEATURES, OUTSIDE_FEATURES
from slatewise.simulators.logistic import ItemEffects, fit_logistic, logit, sigmoid


def logits(*chances: float) -> torch.Tensor:
    return torch.tensor([logit(chance) for chance in chances], dtype=torch.float64)


def test_the_chance_of_a_depth_is_going_on_until_it_and_not_further() -> None:
    # Going on with 0.5, then 0.8: 1 place with 0.5, 2 with 0.5 x 0.2, 3 with 0.5 x 0.8.
    np.testing.assert_allclose(depth_log_chances(logits(0.5, 0.8), 3).exp(), [0.5, 0.1, 0.4])
    # The last logit holds for all further places.
    np.testing.assert_allclose(depth_log_chances(logits(0.5), 4).exp(), [0.5, 0.25, 0.125, 0.125])


def test_a_slate_of_two_is_chosen_from_as_worked_out_by_hand() -> None:
    # Looks at both with 0.25. Utilities: first log 1, second log 2, nothing log 3.
    utility = torch.tensor([[0.0, math.log(2)]], dtype=torch.float64)
    nothing = torch.tensor([math.log(3)], dtype=torch.float64)
    chances = slate_log_chances(utility, nothing, depth_log_chances(logits(0.25), 2)).exp()
    first = 0.75 * 1 / (3 + 1) + 0.25 * 1 / (3 + 1 + 2)
    second = 0.25 * 2 / (3 + 1 + 2)
    neither = 0.75 * 3 / 4 + 0.25 * 3 / 6
    np.testing.assert_allclose(chances, [[first, second, neither]], rtol=1e-12)


def test_a_slate_of_three_with_an_empty_slot_sums_over_all_depths() -> None:
    utility = torch.tensor([[0.3, NEVER, -0.7]], dtype=torch.float64)
    nothing = torch.tensor([1.1], dtype=torch.float64)
    chances = slate_log_chances(utility, nothing, depth_log_chances(logits(0.6, 0.9), 3)).exp()[0]
    a, c, n = math.exp(0.3), math.exp(-0.7), math.exp(1.1)
    expected = [
        (0.4 + 0.06) * a / (n + a) + 0.54 * a / (n + a + c),
        0.0,
        0.54 * c / (n + a + c),
        (0.4 + 0.06) * n / (n + a) + 0.54 * n / (n + a + c),
    ]
    np.testing.assert_allclose(chances, expected, rtol=1e-12, atol=1e-300)
    assert float(chances.sum()) == pytest.approx(1)


def test_huge_utilities_and_empty_slots_leave_chances_and_gradients_finite() -> None:
    utility = torch.tensor([[900.0, NEVER, -900.0]], dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros(1, dtype=torch.float64)
    chances = slate_log_chances(utility, nothing, depth_log_chances(logits(0.5), 3))
    (gradient,) = torch.autograd.grad(chances[0, 0], utility)
    assert chances[0, 0].exp().item() == pytest.approx(1)
    assert torch.isfinite(gradient).all()


def test_places_are_looked_at_less_and_less() -> None:
    weights = ChoiceWeights(torch.zeros(1), torch.zeros(1), logits(0.5, 0.8), torch.zeros(1))
    np.testing.assert_allclose(weights.looked(4), [1, 0.5, 0.4, 0.32])
    np.testing.assert_allclose(weights.looked(1), [1])


def test_the_correction_undoes_how_alternatives_were_sampled() -> None:
    # Item 2 is sampled twice as often, so each time it stands for half as many: 1 / (1 + 2 x e^0.5 / 2).
    utility = torch.tensor([[0.0, 0.5, 0.5]], dtype=torch.float64)
    correction = -torch.tensor([[0.25, 0.5, 0.5]], dtype=torch.float64).log()
    chance = next_view_log_chance(utility, correction).exp()
    assert float(chance[0]) == pytest.approx(4 / (4 + 2 * math.exp(0.5) * 2))


def slates_of_a_known_model(n: int, seed: int) -> tuple[ChoiceData, ChoiceWeights]:
    """Slates of five among 40 items, clicked as known weights say, by the exact chances and not by a simulator."""
    rng = torch.Generator().manual_seed(seed)
    item = torch.zeros(len(ITEM_FEATURES), dtype=torch.float64)
    item[ITEM_FEATURES.index("price")], item[ITEM_FEATURES.index("match")] = -0.6, 0.9
    outside = torch.zeros(len(OUTSIDE_FEATURES), dtype=torch.float64)
    outside[0] = 1.0
    effects = 0.4 * torch.randn(41, generator=rng, dtype=torch.float64)
    effects[0] = 0
    weights = ChoiceWeights(item, outside, logits(0.6, 0.85), effects)
    items = torch.rand(n, 40, generator=rng).topk(5).indices + 1
    features = torch.randn(n, 5, len(ITEM_FEATURES), generator=rng, dtype=torch.float64)
    utility = features @ item + effects[items]
    nothing = torch.ones(n, dtype=torch.float64)
    chances = slate_log_chances(utility, nothing, depth_log_chances(weights.proceed, 5)).exp()
    drawn = torch.multinomial(chances, 1, generator=rng).squeeze(1)
    sides = torch.zeros(n, len(OUTSIDE_FEATURES), dtype=torch.float64)
    sides[:, 0] = 1
    clicked = torch.where(drawn == 5, -1, drawn)
    ones = torch.ones(n, dtype=torch.float64)
    return ChoiceData(features, items, sides, clicked, torch.arange(n) // 4, ones), weights


def test_a_fit_finds_the_weights_that_made_the_clicks() -> None:
    data, truth = slates_of_a_known_model(8_000, seed=0)
    prior = ChoicePrior(effects=ItemEffects(np.eye(41)[:, :3] * 0, 0.5, 0.3))
    found = fit_choice(data, prior, n_items=40)
    away = ((found.weights.item - truth.item) / torch.from_numpy(found.errors["item"])).abs()
    assert float(away.max()) < 3.5
    for name in ("price", "match"):
        assert found.errors["item"][ITEM_FEATURES.index(name)] < 0.05
    np.testing.assert_allclose(found.weights.looked(5), truth.looked(5), atol=0.12)
    assert np.corrcoef(found.weights.effects[1:], truth.effects[1:])[0, 1] > 0.85
    assert found.effects_sd[1] == pytest.approx(0.4, abs=0.12)
    assert log_likelihood(found.weights, data).sum() > log_likelihood(truth, data).sum() - 30


def test_features_that_are_switched_off_stay_at_zero() -> None:
    data, _ = slates_of_a_known_model(500, seed=1)
    found = fit_choice(data, ChoicePrior(item_features=("price",), outside_features=("nothing",)), n_items=40)
    used = found.weights.item != 0
    assert [name for name, on in zip(ITEM_FEATURES, used, strict=True) if on] == ["price"]
    assert not found.weights.effects.any()
    assert not found.errors["item"][~used.numpy()].any()


def test_logistic_regression_finds_weights_and_item_effects() -> None:
    rng = np.random.default_rng(0)
    item = rng.integers(0, 31, 12_000)
    effects = np.append(0.0, rng.normal(size=30))
    x = np.column_stack([np.ones(12_000), rng.normal(size=12_000)])
    y = rng.random(12_000) < sigmoid(x @ [-1.0, 0.7] + effects[item])
    prior = ItemEffects(np.zeros((31, 2)), 0.5, 1.0)
    found = fit_logistic(x, y, np.ones(12_000), item, centre=np.zeros(2), spread=np.full(2, 3.0), prior=prior)
    assert found.weights[1] == pytest.approx(0.7, abs=3 * found.errors[1])
    assert np.corrcoef(found.effects, effects)[0, 1] > 0.95
    assert found.effects[0] == 0


def test_without_data_logistic_regression_stays_at_its_prior() -> None:
    prior = ItemEffects(np.zeros((3, 1)), 0.5, 1.0)
    nothing = np.zeros((0, 1))
    found = fit_logistic(
        nothing,
        np.zeros(0, bool),
        np.zeros(0),
        np.zeros(0, np.int64),
        centre=np.array([-2.0]),
        spread=np.ones(1),
        prior=prior,
    )
    np.testing.assert_allclose(found.weights, [-2])
    np.testing.assert_allclose(found.errors, [1])
