import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from slatewise.encoders import softmax
from slatewise.encoders.softmax import Company, candidate_loss


def drawn(m: int, c: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states, rivals = (
        F.normalize(torch.randn(n, 5, dtype=dtype, generator=generator), dim=1).requires_grad_() for n in (m, c)
    )
    targets = torch.randint(0, c, (m,), generator=generator)
    return states, rivals, targets, torch.randn(c, dtype=dtype, generator=generator)


@pytest.mark.parametrize("temperature", [0.5, 0.07, 0.005])
def test_the_loss_and_its_gradients_are_those_of_a_softmax(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "_CELLS", 7 * 11)  # 23 predictions in blocks of 7, and a smaller one
    states, rivals, targets, bias = drawn(23, 11)
    loss = candidate_loss(states, rivals, targets, temperature=temperature, bias=bias)
    plain = F.cross_entropy(states @ rivals.T / temperature + bias, targets)
    torch.testing.assert_close(loss, plain)
    found = torch.autograd.grad(3 * loss, (states, rivals))
    torch.testing.assert_close(found, torch.autograd.grad(3 * plain, (states, rivals)))


def test_a_cold_softmax_in_single_precision_stays_finite() -> None:
    states, rivals, targets, bias = drawn(9, 6, torch.float32)
    loss = candidate_loss(states, rivals, targets, temperature=1e-4, bias=bias)
    assert torch.isfinite(torch.autograd.grad(loss, states)[0]).all()
    assert torch.isfinite(loss)


def test_no_prediction_costs_nothing() -> None:
    states, rivals, targets, bias = drawn(4, 6)
    loss = candidate_loss(states[:0], rivals, targets[:0], temperature=0.1, bias=bias)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, rivals)[0].any()


def test_states_of_reduced_precision_are_scored_in_full() -> None:
    states, rivals, targets, bias = drawn(4, 6, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = candidate_loss(states.bfloat16(), rivals, targets, temperature=0.1, bias=bias)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(states.bfloat16().float() @ rivals.T / 0.1 + bias, targets))


def test_items_of_ones_own_session_are_candidates_for_certain() -> None:
    states, rivals, targets, bias = drawn(3, 6)
    targets = torch.tensor([2, 4, 0])
    items = torch.tensor([[1, 2, 5], [4, 1, 4], [3, 3, 0]])
    before = torch.tensor([[True, False, False], [True, True, False], [False, True, False]])
    after = torch.tensor([[False, True, True], [False, False, True], [False, False, True]])
    logits = states @ rivals.T / 0.5 + bias
    # Row 0 has had 1; its target 2 and 5 come later. Row 1 comes back to 4, which comes later once more, and has had 1.
    # Row 2 has had 3; what is masked by neither says nothing.
    for row, known in ((0, [1]), (1, [4, 1]), (2, [3])):
        logits[row, known] = logits[row, known] - bias[known]
    logits[0, 5] = -torch.inf
    plain = F.cross_entropy(logits, targets)
    loss = candidate_loss(states, rivals, targets, temperature=0.5, bias=bias, company=Company(items, before, after))
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (states, rivals)), torch.autograd.grad(plain, (states, rivals))
    )


def test_sampled_candidates_foretell_how_often_shoppers_come_back() -> None:
    """The logits that lose least are those of the true chances, whatever the chances to be a candidate."""
    generator = torch.Generator().manual_seed(1)
    n, m, chance = 8, 40_000, torch.tensor([0.5, 0.5, 0.1, 0.1, 0.1, 0.3, 0.3, 0.9], dtype=torch.float64)
    truth = torch.softmax(torch.linspace(0, 1, n, dtype=torch.float64), 0)
    targets = torch.multinomial(truth, m, replacement=True, generator=generator)
    candidate = torch.rand(m, n, generator=generator, dtype=torch.float64) < chance
    candidate[torch.arange(m), targets] = True
    candidate[:, 2:4] = True  # what every shopper of these has had
    weight = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    rivals = torch.eye(n, dtype=torch.float64)
    had = torch.tensor([[2, 3]]).expand(m, -1)
    for _ in range(60):
        # Items that are no candidates are told apart by a bias that no shopper's logit can overcome.
        logits = (weight - chance.log()).masked_fill(~candidate, -1e9)
        logits = logits.scatter(1, had, (weight[2:4]).expand(m, -1))
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, targets), weight)
        with torch.no_grad():
            weight -= 4 * gradient
    torch.testing.assert_close(torch.softmax(weight.detach(), 0), truth, atol=0.01, rtol=0)
    states = torch.stack([weight.detach()] * 4)
    found = candidate_loss(
        states,
        rivals,
        targets[:4],
        temperature=1.0,
        bias=-chance.log(),
        company=Company(had[:4], torch.ones(4, 2, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.bool)),
    )
    logits = (weight.detach() - chance.log()).repeat(4, 1)
    logits[:, 2:4] = weight.detach()[2:4]
    torch.testing.assert_close(found, F.cross_entropy(logits, targets[:4]))
