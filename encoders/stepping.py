"""What a step does with one more token of each row: the model's weights, put together for speed.

Whole histories are left to transformers' Llama. A step has so little to do that most of its time would go into small
operators there, so the same function is worked out here in few: products that read the same vectors are one, the
weights of a norm are multiplied into the product that follows it, what event and gap add is one table, and pairs of
channels that a position turns lie side by side, as complex numbers.

Shapes: B rows, D width of the state, A query heads, G key/value heads, H width of a head, W window, F width inside a
block's second half, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from .memory import SessionMemory
from .readout import Readout
from .settings import GAP_EDGES


@dataclass(frozen=True, slots=True)
class _Block:
    """Weights of one block, each to multiply from the right.

    Attributes:
        reads: (D, (A + 2 G) H) queries, scaled, keys and values.
        heard: (A H, D).
        opens: (D, 2 F) the gate, and what it lets through.
        closes: (F, D).
    """

    reads: Tensor
    heard: Tensor
    opens: Tensor
    closes: Tensor

    @classmethod
    def of(cls, layer: Any) -> "_Block":
        """The weights of a layer of `LlamaModel`, as they are."""
        attention, mlp = layer.self_attn, layer.mlp
        head = attention.head_dim
        asks, keys = _paired(attention.q_proj.weight, head) * head**-0.5, _paired(attention.k_proj.weight, head)
        return cls(
            reads=_joined(layer.input_layernorm, [asks, keys, attention.v_proj.weight]),
            heard=attention.o_proj.weight.T.contiguous(),
            opens=_joined(layer.post_attention_layernorm, [mlp.gate_proj.weight, mlp.up_proj.weight]),
            closes=mlp.down_proj.weight.T.contiguous(),
        )


class Stepper:
    """Reads one more token of each row; made of a model's weights as they are, and good until they change."""

    def __init__(self, backbone: LlamaModel, readout: Readout, project: nn.Linear, added: Tensor) -> None:
        """Put the weights of a model together.

        Args:
            backbone: the blocks.
            readout: of the model.
            project: what makes a state of what the blocks say.
            added: (events, len(GAP_EDGES) + 1, D) what an event's code and a gap add to a token; or (events, 1, D)
                where gaps are not read.
        """
        config = backbone.config
        self.kv_heads = config.num_key_value_heads or config.num_attention_heads
        self.head = config.hidden_size // config.num_attention_heads
        self.eps = torch.tensor(backbone.norm.variance_epsilon, device=added.device)
        self.turns = backbone.rotary_emb.inv_freq
        self.blocks = [_Block.of(layer) for layer in backbone.layers]
        asks = readout.asks.weight * self.head**-0.5
        self.last = _joined(backbone.norm, [project.weight, asks, readout.marks.weight])
        self.share = readout.share.clone()
        self.edges = torch.tensor(GAP_EDGES, device=added.device)
        self.buckets, self.added = added.shape[1], added.flatten(0, 1)

    def when(self, events: Tensor, gaps: Tensor) -> Tensor:
        """(B, D) what (B,) int64 codes of events and (B,) float32 gaps, seconds, add to their tokens."""
        if self.buckets == 1:
            return self.added.index_select(0, events)
        buckets = torch.bucketize(gaps.contiguous(), self.edges, right=True)
        return self.added.index_select(0, events * self.buckets + buckets)

    def read(self, memory: SessionMemory, tokens: Tensor, items: Tensor, table: Tensor) -> Tensor:
        """(B, D) the states after one more token of each row, which is written into its memory.

        Args:
            memory: of B shoppers; where they stand, `length`, is left as it is.
            tokens: (B, D) as the blocks read them.
            items: (B,) int64 their items.
            table: (N + 1, D) vectors of items, row 0 zero.
        """
        spots, unseen = memory.spots(), memory.unseen()
        angles = memory.length[:, None] * self.turns
        turn = torch.polar(torch.ones_like(angles), angles)[:, None]  # (B, 1, H / 2)
        hidden, planes = tokens, 2 * self.kv_heads
        for number, block in enumerate(self.blocks):
            mine = slice(number * planes, (number + 1) * planes)
            asks = self._keep(memory, spots[mine], self._normed(hidden) @ block.reads, turn)
            hidden = torch.addmm(hidden, attend(asks, memory.ring[mine], unseen), block.heard)
            gate, through = (self._normed(hidden) @ block.opens).chunk(2, 1)
            hidden = torch.addmm(hidden, F.silu(gate).mul_(through), block.closes)
        said, asks, mark = (self._normed(hidden) @ self.last).split([tokens.shape[1], self.head, self.head], 1)
        memory.write(spots[-1:], mark[None])
        memory.note(spots[0], items)
        weights = torch.bmm(asks[:, None], memory.ring[-1].transpose(1, 2))[:, 0].add_(unseen).softmax(-1)
        mean = F.embedding_bag(memory.items, table, per_sample_weights=weights, mode="sum")
        share = self.share / torch.linalg.vector_norm(mean, dim=1, keepdim=True).clamp_min_(1e-12)  # as `F.normalize`
        return F.normalize(torch.addcmul(said, mean, share), dim=1)

    def _keep(self, memory: SessionMemory, spots: Tensor, read: Tensor, turn: Tensor) -> Tensor:
        """(B, A, H) the queries in (B, (A + 2 G) H), which has keys and values too: these go into the ring."""
        rows, shared, values = len(read), self.kv_heads, self.kv_heads * self.head
        turned = torch.view_as_complex(read[:, :-values].view(rows, -1, self.head // 2, 2)) * turn
        asks_keys = torch.view_as_real(turned).view(rows, -1, self.head)
        memory.write(spots[:shared], asks_keys[:, -shared:].transpose(0, 1))
        memory.write(spots[shared:], read[:, -values:].view(rows, shared, self.head).transpose(0, 1))
        return asks_keys[:, :-shared]

    def _normed(self, hidden: Tensor) -> Tensor:
        """(B, D) over their root mean square, as Llama has it but for the weights, which are in what follows."""
        length = torch.linalg.vector_norm(hidden, dim=1, keepdim=True)
        return hidden * torch.addcmul(self.eps, length, length, value=1 / hidden.shape[1]).rsqrt_()


def attend(asks: Tensor, ring: Tensor, unseen: Tensor) -> Tensor:
    """(B, A H) scaled dot-product attention of one token.

    Query heads that share keys ask together, so that keys are read once; and so small a product is faster by itself
    than in the operator for long ones.

    Args:
        asks: (B, A, H) queries, scaled.
        ring: (2 G, B, W, H) keys, then values.
        unseen: (B, W) 0 where a place may be attended to, -inf elsewhere.
    """
    shared = len(ring) // 2
    heard: list[Tensor] = []
    for keys, values, of_group in zip(ring[:shared], ring[shared:], asks.chunk(shared, 1), strict=True):
        scores = torch.baddbmm(unseen[:, None], of_group, keys.transpose(1, 2))
        heard.append(torch.bmm(scores.softmax(-1), values))
    return (heard[0] if shared == 1 else torch.cat(heard, 1)).view(len(asks), -1)


def _paired(weight: Tensor, head: int) -> Tensor:
    """The rows of (n H, D) weights in an order in which the two channels that turn together are neighbours."""
    return weight.view(-1, 2, head // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _joined(norm: LlamaRMSNorm, weights: Sequence[Tensor]) -> Tensor:
    """(D, n) the weights of all products of what a norm gives, and its own."""
    return (torch.cat(list(weights)) * norm.weight).T.contiguous()
