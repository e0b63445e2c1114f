"""The loss of telling the next item from many candidates, at the cost of three matrix products and little else.

A softmax over thousands of candidates moves its table of logits through memory half a dozen times, forth and back. Here
predictions are taken in blocks whose table stays in the processor's cache, and the gradient is worked out on the way:
the table is written once, turned into probabilities, and used.

Shapes: M predictions, C candidates, T tokens of a session, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CELLS = 1_500_000  # of a block's table; some six MB, a share of a processor's last cache
_ROWS = 512  # of a block, at most
_GPU_CELLS = 100_000_000  # of a block on a GPU, where many small ones would wait for each other
_BOUNDED = 0.02  # temperature from which no exponential of a cosine over it can overflow in float32


@dataclass(frozen=True, slots=True)
class Company:
    """Which candidates are there only because the session of a prediction is.

    Where candidates are the targets of a batch and items drawn, an item's logit is corrected by its chance to be
    among them. For items of one's own session that chance is 1. Corrected as if chance had brought them, shoppers would
    seem to come back to an item several times more rarely than they do, the more so the rarer it is.

    Attributes:
        items: (M, T) int64 rows of the candidates, of the session's own items; anything where neither mask is set.
        before: (M, T) bool, items that the shopper has had: candidates for certain, so nothing is corrected.
        after: (M, T) bool, items that come later and that nothing else brought: to leave them in would tell what comes,
            so they are left out, unless the shopper has had them or the next one is among them.
    """

    items: Tensor
    before: Tensor
    after: Tensor

    def apply(self, logits: Tensor, targets: Tensor, bias: Tensor, part: slice) -> None:
        """Set the logits (rows, C) of the session's own items right, in place, for the predictions of `part`."""
        items, before, after, target = self.items[part], self.before[part], self.after[part], targets[part, None]
        known = logits.gather(1, items) - bias[items]
        own = logits.gather(1, target)
        back = (before & (items == target)).any(1, keepdim=True)
        own = torch.where(back, own - bias[target], own)
        logits.scatter_(1, torch.where(after, items, target), -torch.inf)
        # Whatever is not before writes the target's own logit once more, so that the order of writing does not matter.
        logits.scatter_(1, target, own)
        logits.scatter_(1, torch.where(before, items, target), torch.where(before, known, own))


def candidate_loss(
    states: Tensor,
    rivals: Tensor,
    targets: Tensor,
    *,
    temperature: float,
    bias: Tensor,
    weights: Tensor | None = None,
    company: Company | None = None,
) -> Tensor:
    """Mean of -log softmax((states @ rivals.T) / temperature + bias) at the targets.

    Args:
        states: (M, D) unit rows.
        rivals: (C, D) unit rows, the candidates.
        targets: (M,) int64 rows of `rivals`.
        temperature: positive.
        bias: (C,) added to the logits; some units at most.
        weights: (M,) of the predictions in the mean, not negative; all alike when None.
        company: candidates that are there for a prediction's own session; none when None.

    Returns:
        A scalar, 0 where there is no prediction of a positive weight.
    """
    share = states.new_ones(len(states), dtype=torch.float32) if weights is None else weights.float()
    share = share / share.sum().clamp(min=1e-12)
    with torch.autocast(states.device.type, enabled=False):
        scaled, bias = states.to(rivals.dtype) / temperature, bias.to(rivals.dtype)
        return _CandidateLoss.apply(  # pyright: ignore[reportReturnType]
            scaled, rivals, targets, bias, share.to(rivals.dtype), company, temperature >= _BOUNDED
        )


def _blocks(predictions: int, candidates: int, device: torch.device) -> list[slice]:
    """Rows whose tables stay in the processor's cache; a GPU takes what fits in its memory."""
    cells, most = (_CELLS, _ROWS) if device.type == "cpu" else (_GPU_CELLS, _GPU_CELLS)
    rows = max(min(cells // max(candidates, 1), most), 1)
    return [slice(begin, min(begin + rows, predictions)) for begin in range(0, predictions, rows)]


class _CandidateLoss(torch.autograd.Function):
    """The gradient is known as soon as the loss is, so nothing of the size of the table is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        rivals: Tensor,
        targets: Tensor,
        bias: Tensor,
        share: Tensor,
        company: Company | None,
        bounded: bool,
    ) -> Tensor:
        to_states, to_rivals = torch.empty_like(states), torch.zeros_like(rivals)
        loss = states.new_zeros(())
        for part in _blocks(len(states), len(rivals), states.device):
            own, of_all = targets[part, None], share[part, None]
            chances = torch.addmm(bias, states[part], rivals.T)  # (rows, C)
            if company is not None:
                company.apply(chances, targets, bias, part)
            if not bounded:
                chances -= chances.amax(1, keepdim=True)
            hit = chances.gather(1, own)
            total = chances.exp_().sum(1, keepdim=True)
            loss += ((total.log() - hit) * of_all).sum()
            chances *= of_all / total
            chances.scatter_add_(1, own, -of_all)
            torch.mm(chances, rivals, out=to_states[part])
            to_rivals.addmm_(chances.T, states[part])
        ctx.save_for_backward(to_states, to_rivals)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        to_states, to_rivals = ctx.saved_tensors
        return to_states * grad, to_rivals * grad, None, None, None, None, None
