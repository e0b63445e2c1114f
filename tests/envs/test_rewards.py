"""Rewards, on responses written out by hand."""

import pytest
import torch

from slatewise.envs import REWARDS, RewardMix
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
