"""Plackett-Luce: probabilities and entropies worked out by hand, and exactness over all slates."""

import itertools
import math

import pytest
import torch

from slatewise.agents.plackett_luce import (
    PlackettLuce,
    sample_slates,
    seeded,
    slate_entropy,
    slot_entropies,
    slot_log_probs,
)
from slatewise.agents.slate_choice import NEVER


def all_slates(n: int, k: int) -> torch.Tensor:
    return torch.tensor(list(itertools.permutations(range(n), k)))


def test_log_probabilities_are_those_worked_out_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 3.0]]))  # chances 1/6, 2/6, 3/6
    slots = slot_log_probs(logits, torch.tensor([[2, 0]]))
    # First item 2 of all three: 3/6. Then item 0 of items 0 and 1: 1/3.
    torch.testing.assert_close(slots.exp(), torch.tensor([[1 / 2, 1 / 3]]))
    assert PlackettLuce(2).proba_distribution(logits).log_prob(torch.tensor([[2, 0]])).exp().item() == pytest.approx(
        1 / 6
    )


@pytest.mark.parametrize(("n", "k"), [(3, 1), (4, 2), (5, 3), (4, 4)])
def test_probabilities_of_all_ordered_slates_sum_to_one(n: int, k: int) -> None:
    logits = 3 * torch.randn(1, n, generator=seeded(0), dtype=torch.float64)
    slates = all_slates(n, k)
    total = slot_log_probs(logits.expand(len(slates), -1), slates).sum(1).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_extreme_scores_keep_their_log_probability() -> None:
    logits = torch.tensor([[200.0, 0.0, -200.0, NEVER]])
    slots = slot_log_probs(logits, torch.tensor([[2, 0]]))
    torch.testing.assert_close(slots, torch.tensor([[-400.0, 0.0]]))


def test_slot_entropies_are_those_worked_out_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 3.0]]))
    entropies, _ = slot_entropies(logits, torch.tensor([[2, 0]]))
    first = -(1 / 6 * math.log(1 / 6) + 2 / 6 * math.log(2 / 6) + 3 / 6 * math.log(3 / 6))
    second = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    torch.testing.assert_close(entropies, torch.tensor([[first, second]]))


def test_entropy_estimate_and_its_gradient_are_unbiased() -> None:
    slates = all_slates(4, 3)
    logits = torch.tensor([[0.3, -1.0, 0.8, 0.1]], dtype=torch.float64, requires_grad=True)
    log_probs = slot_log_probs(logits.expand(len(slates), -1), slates).sum(1)
    exact = -(log_probs.exp() * log_probs).sum()
    (wanted,) = torch.autograd.grad(exact, logits, retain_graph=True)
    estimates = slate_entropy(logits.expand(len(slates), -1), slates)
    mean = (log_probs.exp().detach() * estimates).sum()
    (found,) = torch.autograd.grad(mean, logits)
    torch.testing.assert_close(mean, exact)
    torch.testing.assert_close(found, wanted)


def test_sampled_slates_hold_no_repeats_nor_what_may_not_be_shown() -> None:
    logits = torch.zeros(2_000, 6)
    logits[:, [0, 4]] = NEVER
    slates = sample_slates(logits, 4, seeded(0))
    assert slates.sort(1).values.tolist() == [[1, 2, 3, 5]] * 2_000


def test_sampled_slates_come_as_often_as_they_should() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    slates = sample_slates(logits.expand(40_000, -1), 2, seeded(1))
    every = all_slates(3, 2)
    share = (slates[:, None] == every).all(2).float().mean(0)
    wanted = slot_log_probs(logits.expand(6, -1), every).sum(1).exp()
    assert (share - wanted).abs().max() < 0.01  # three standard errors of the commonest


def test_candidates_change_names_of_items_only() -> None:
    items = torch.tensor([[7, 3, 5]])
    policy = PlackettLuce(2, seed=0).proba_distribution(torch.tensor([[0.0, 1.0, 2.0]]), items)
    assert policy.mode().tolist() == [[5, 3]]
    expected = slot_log_probs(policy.logits, torch.tensor([[2, 1]])).sum()
    assert policy.log_prob(torch.tensor([[5, 3]])).item() == pytest.approx(expected.item())
    assert set(policy.sample()[0].tolist()) <= {3, 5, 7}
    assert policy.entropy().shape == (1,)
