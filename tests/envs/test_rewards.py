"""Rewards, on responses written out by hand."""

import numpy as np
import pytest
import torch

from slatewise.envs import REWARDS, RewardMix, ShopEnv, ShopVectorEnv, SlateOutcome
from slatewise.envs.rewards import paid, reward_of
from slatewise.simulators.shopper import Response

RESPONSE = Response(  # nothing, a click, a click into the cart, a purchase at 12.50
    examined=torch.ones((4, 2), dtype=torch.bool),
    clicked=torch.tensor([-1, 0, 1, 0]),
    carted=torch.tensor([False, False, True, True]),
    purchased=torch.tensor([False, False, False, True]),
    left=torch.zeros(4, dtype=torch.bool),
    dwell=torch.ones(4),
    revenue=torch.tensor([0.0, 0.0, 0.0, 12.5]),
    quantity=torch.tensor([0, 0, 0, 1]),
)


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("clicks", [0.0, 1.0, 1.0, 1.0]),
        ("purchases", [0.0, 0.0, 0.0, 1.0]),
        ("revenue", [0.0, 0.0, 0.0, 12.5]),
        ("clicks_and_purchases", [0.0, 1.0, 1.0, 6.0]),
        ({"click": 1, "cart": 2, "revenue": 0.1}, [0.0, 1.0, 3.0, 4.25]),
        (RewardMix(click=-1.0, purchase=3.0), [0.0, -1.0, -1.0, 2.0]),
    ],
)
def test_a_reward_is_the_weighted_sum_of_what_happened(reward: object, expected: list[float]) -> None:
    paid = RewardMix.of(reward)(RESPONSE)  # pyright: ignore[reportArgumentType]
    assert paid.dtype == torch.float32
    torch.testing.assert_close(paid, torch.tensor(expected))


def outcome(returned: list[bool]) -> SlateOutcome:
    came = torch.tensor(returned)
    return SlateOutcome(torch.tensor([[3, 4]] * 4), RESPONSE, came, came.float())


def test_the_long_term_counts_visits_that_are_followed_by_another() -> None:
    assert paid(REWARDS["long_term"], outcome([True, False, True, False])).tolist() == [5.0, 1.0, 6.0, 6.0]
    assert paid(RewardMix(returned=2.0), outcome([True, False, False, True])).tolist() == [2.0, 0.0, 0.0, 2.0]


def test_a_function_of_one_s_own_pays_what_it_gives() -> None:
    def best_place(what: SlateOutcome) -> torch.Tensor:
        return (what.response.clicked == 0) * what.slate[:, 0] + 10 * what.returned

    assert paid(reward_of(best_place), outcome([False, False, False, True])).tolist() == [0.0, 3.0, 0.0, 13.0]
    env, plain = (ShopVectorEnv(16, k=3, reward=reward) for reward in (lambda what: what.response.dwell, "clicks"))
    env.reset(seed=0)
    plain.reset(seed=0)
    slates = np.array([[1, 2, 3]] * 16)
    rewards, infos = env.step(slates)[1], plain.step(slates)[4]
    np.testing.assert_allclose(rewards, infos["dwell"])
    assert rewards.dtype == np.float64


def test_a_function_of_one_s_own_cannot_change_what_happened() -> None:
    def grasping(what: SlateOutcome) -> torch.Tensor:
        paid = what.response.revenue
        paid += 100.0
        for tensor in (what.slate, what.response.clicked, what.response.purchased, what.returned, what.days_away):
            tensor.fill_(1)
        return paid

    settings = {"k": 3, "visits": True, "max_slates": 40}
    env, plain = (ShopVectorEnv(16, **settings, reward=reward) for reward in (grasping, "revenue"))
    env.reset(seed=0)
    plain.reset(seed=0)
    for _ in range(8):
        _, rewards, *ends, figures = env.step(np.array([[1, 2, 3]] * 16))
        _, revenue, *expected, told = plain.step(np.array([[1, 2, 3]] * 16))
        np.testing.assert_allclose(rewards[figures["_clicked"]], revenue[told["_clicked"]] + 100)
        np.testing.assert_array_equal(ends, expected)
        for name, values in told.items():
            np.testing.assert_array_equal(figures[name], values, err_msg=name)
        assert env.batch.last is not None
        assert plain.batch.last is not None
        torch.testing.assert_close(env.batch.last.response.clicked, plain.batch.last.response.clicked)


def test_what_a_function_may_not_give_is_refused() -> None:
    for reward, words in (
        (lambda what: what.response.dwell.sum(), r"shape \(1,\), got \(\)"),
        (lambda what: what.response.dwell / 0, "finite, got inf"),
    ):
        env = ShopEnv(k=2, reward=reward)
        env.reset(seed=0)
        with pytest.raises(ValueError, match=words):
            env.step(np.array([1, 2]))


def test_every_named_reward_pays_nothing_for_nothing() -> None:
    for mix in REWARDS.values():
        assert mix(RESPONSE)[0] == 0


def test_a_misspelt_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"'click'.*clicks_and_purchases, clicks"):
        RewardMix.of("click")
    with pytest.raises(ValueError, match=r"'clicks'.*click, cart, purchase, revenue"):
        RewardMix.of({"clicks": 1.0})


@pytest.mark.parametrize(
    "weights", [{"click": float("nan")}, {"revenue": float("inf")}, {"cart": "much"}, {"click": 0.0}, {}]
)
def test_weights_that_make_no_reward_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        RewardMix.from_mapping(weights)
