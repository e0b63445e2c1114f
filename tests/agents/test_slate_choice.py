"""The best slate, against every slate there is."""

import itertools

import pytest
import torch

from slatewise.agents.plackett_luce import seeded
from slatewise.agents.slate_choice import NEVER, BestSlate, best_shown_slate, best_slate, ranking, slate_value

Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def random_case(seed: int) -> Case:
    rng = seeded(seed)
    utility, gain = 2 * torch.randn(1, 8, generator=rng), 2 * torch.randn(1, 8, generator=rng) + 0.5
    place = torch.cat([torch.zeros(1), -torch.rand(2, generator=rng).cumsum(0)])
    allowed = torch.rand(8, generator=rng) > 0.2
    allowed[:3] = True
    return utility, gain, torch.randn(1, generator=rng), place, allowed


def value_of(case: Case, slate: torch.Tensor) -> float:
    utility, gain, outside, place, _ = case
    return slate_value(utility.gather(1, slate), gain.gather(1, slate), outside, place).item()


def test_two_items_worked_out_by_hand() -> None:
    # Both attract as much as nothing does. Gains 4 and 1: alone the first earns 4/2 = 2, with the second (4 + 1)/3.
    utility, gain, outside = torch.zeros(1, 2), torch.tensor([[4.0, 1.0]]), torch.zeros(1)
    everything = torch.ones(2, dtype=torch.bool)
    assert best_slate(utility, gain, outside, torch.zeros(1), everything).value.item() == pytest.approx(2)
    best = best_slate(utility, gain, outside, torch.zeros(2), everything)
    assert best.value.item() == pytest.approx(5 / 3)
    assert best.slate.tolist() == [[0, 1]]


def test_no_slate_is_better_and_plain_top_k_often_is_worse() -> None:
    behind = 0
    for seed in range(200):
        case = random_case(seed)
        best = best_slate(*case)
        columns = case[4].nonzero().flatten().tolist()
        top = max(value_of(case, torch.tensor([slate])) for slate in itertools.permutations(columns, 3))
        assert value_of(case, best.slate) == pytest.approx(top, abs=1e-5)
        assert best.value.item() == pytest.approx(top, abs=1e-5)
        plain = (case[0].exp() * case[1]).masked_fill(~case[4], NEVER).topk(3).indices
        behind += value_of(case, plain) < top - 1e-4
    assert behind > 20


def test_what_is_shown_counts_worked_out_by_hand() -> None:
    # Of three items that attract as nothing does and gain 2, the third costs 1 by being shown: 4/3 of the first two.
    utility, gain, outside = torch.zeros(1, 3), torch.full((1, 3), 2.0), torch.zeros(1)
    everything, shown = torch.ones(3, dtype=torch.bool), torch.tensor([[0.0, 0.0, -1.0]])
    best = best_shown_slate(utility, gain, outside, torch.zeros(2), everything, shown)
    assert best.slate.sort().values.tolist() == [[0, 1]]
    assert best.value.item() == pytest.approx(4 / 3)
    best = best_shown_slate(utility, gain, outside, torch.zeros(2), everything, -shown)
    assert best.value.item() == pytest.approx(4 / 3 + 1)
    assert 2 in best.slate


def test_slates_with_what_is_shown_are_nearly_always_the_best() -> None:
    behind, lost = 0, 0.0
    for seed in range(200):
        case, shown = random_case(seed), torch.randn(1, 8, generator=seeded(1_000 + seed)) / 2
        best = best_shown_slate(*case, shown)
        columns = torch.tensor(list(itertools.permutations(case[4].nonzero().flatten().tolist(), 3)))
        utility, gain, outside, place, _ = case
        gained = slate_value(utility[0, columns], gain[0, columns], outside.expand(len(columns)), place)
        top = (gained + shown[0, columns].sum(1)).max().item()
        told = value_of(case, best.slate) + shown.gather(1, best.slate).sum().item()
        assert best.value.item() == pytest.approx(told, abs=1e-5)
        assert case[4][best.slate].all()
        assert ranking(best.worth).topk(3).indices.tolist() == best.slate.tolist()
        behind += best.value.item() < top - 1e-4
        lost += top - best.value.item()
    assert behind < 24
    assert lost / 200 < 0.02


def test_twelve_steps_are_enough_for_a_thousand_items() -> None:
    rng = seeded(0)
    utility, gain = 3 * torch.randn(200, 1_000, generator=rng), torch.randn(200, 1_000, generator=rng) + 1
    rest = (3 * torch.randn(200, generator=rng) + 6, -0.1 * torch.arange(8), torch.ones(1_000, dtype=torch.bool))
    torch.testing.assert_close(
        best_slate(utility, gain, *rest).value, best_slate(utility, gain, *rest, iterations=60).value
    )


def test_ranking_keeps_the_order_of_worth_and_logs_what_is_positive() -> None:
    worth = torch.tensor([[NEVER, -2.0, 0.5, 0.0, 1.0, -0.1]])
    scores = ranking(worth)
    assert scores.argsort(1, descending=True).tolist() == [[4, 2, 3, 5, 1, 0]]
    torch.testing.assert_close(scores[:, [2, 4]].exp(), worth[:, [2, 4]])
    assert scores[0, 0] == NEVER


def test_ranking_tells_small_losses_apart() -> None:
    worth = -torch.logspace(2, -11, 27)[None]  # from a loss of 100 to next to none
    assert (ranking(worth).diff() > 0).all()
    assert (ranking(worth) < -29).all()


def test_the_best_slate_is_the_top_of_its_ranking() -> None:
    best: BestSlate = best_slate(*random_case(3))
    assert ranking(best.worth).topk(3).indices.tolist() == best.slate.tolist()
