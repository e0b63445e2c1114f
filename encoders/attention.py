"""Attention of one token on a ring of keys and values that query heads share, as a step needs it, compiled or not.

transformers lets every query head read the keys that it shares with others anew, and copies these where it is compiled;
and a compiled write into part of a tensor copies the tensor. Both would cost a step more than all else.

Shapes: B rows, L layers, G key/value heads, W window, H width of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "slatewise"
"""Name under which transformers knows `attend`."""


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Scaled dot-product attention as transformers has it; see there for the arguments."""
    if query.shape[2] > 1 or attention_mask is None or module.training:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    # The heads that share keys ask as if they were tokens of one head, so that keys are read once.
    rows, heads, _, width = query.shape
    asked = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    if key.shape[1] == 1 and attention_mask.dtype == query.dtype:
        # So small a product is faster by itself than in the operator for long ones.
        scores = torch.bmm(asked[:, 0] * settings["scaling"], key[:, 0].transpose(1, 2)).add_(attention_mask[:, 0])
        output = torch.bmm(scores.softmax(-1), value[:, 0])
    else:
        output = F.scaled_dot_product_attention(asked, key, value, attention_mask, scale=settings["scaling"])
    return output.reshape(rows, 1, heads, width), None


def write(ring: Tensor, layer: int, place: Tensor, fresh: Tensor, active: Tensor, every: bool) -> None:
    """Put one token of each active row into a ring, in place.

    Args:
        ring: (B, L, G, W, H).
        layer: the layer written.
        place: (B,) int64.
        fresh: (B, G, H).
        active: (B, 1, 1) bool; the other rows are left bit for bit as they are.
        every: whether all are known to be active.
    """
    rows = torch.arange(len(place), device=place.device)
    if not every:
        fresh = torch.where(active, fresh, ring[rows, layer, :, place])
    ring[rows, layer, :, place] = fresh


compiled_write = torch.library.custom_op("slatewise::write", write, mutates_args=("ring",))
"""`write` as an operator that a compiler does not look into."""

ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)
