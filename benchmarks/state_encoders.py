"""The states of `states.py`: what a policy may be told of a history, over the same item vectors.

Shapes: B shoppers, T tokens, N items, E width of the item vectors, R width of a raw state, D = E + R.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slatewise.datasets import ShopLog
from slatewise.datasets.schema import Event
from slatewise.encoders import MeanEncoder, RecallEncoder, StateEncoder
from slatewise.simulators import KnownTruthShopper

Floats = NDArray[np.float64]
NAMES = ("nothing", "last item", "raw ids", "mean", "mean + recall", "transformer", "transformer + recall")
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Of the linear maps, in mean squares of an entry of what they read; every fifth row chooses."""


@dataclass(slots=True)
class StateMemory:
    """Memory of an encoder whose state is all that it carries."""

    state: Tensor

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows, in place, with all rows of `other`."""
        self.state[rows] = other.state


class LastItemEncoder:
    """`StateEncoder` whose state is the vector of the item that was viewed or clicked last; ignored slates pass by.

    With `reads=False` it is the control that is told nothing: the same state whatever happens.
    """

    def __init__(self, item_vectors: Tensor, *, reads: bool = True) -> None:
        self.item_vectors, self.reads = item_vectors, reads
        self.n_items, self.dim = len(item_vectors) - 1, item_vectors.shape[1]

    def start(self, rows: int) -> StateMemory:
        """Memory of `rows` shoppers who have done nothing; their state is zero, or equal entries if nothing is told."""
        return StateMemory(torch.full((rows, self.dim), 0.0 if self.reads else self.dim**-0.5))

    def step(self, memory: StateMemory, items: Tensor, events: Tensor, gaps: Tensor) -> StateMemory:
        """Append one token to each row; a row whose item is 0 is left exactly as it was."""
        del gaps
        taken = (items > 0) & _chosen(events) & self.reads
        memory.state = torch.where(taken[:, None], self.item_vectors[items], memory.state)
        return memory

    def encode(self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        """(B, E) states of whole histories, (B, T) each, zeros after `lengths`."""
        del lengths
        memory = self.start(len(items))
        for place in range(items.shape[1]):
            memory = self.step(memory, items[:, place], events[:, place], gaps[:, place])
        return memory.state

    def scores(self, states: Tensor, *, items: Tensor | None = None, events: Tensor | None = None) -> Tensor:
        """(B, N + 1) how near each item lies to (B, E) states, -inf for index 0; histories are not read."""
        del items, events
        return _scores(states, self.item_vectors)


@dataclass(slots=True)
class AlignedMemory:
    """Memory of `AlignedEncoder`: its (B, D) state, and the inner encoder's memory."""

    state: Tensor
    inner: Any

    def put(self, rows: Tensor, other: Self) -> None:
        """Overwrite some rows, in place, with all rows of `other`."""
        self.state[rows] = other.state
        self.inner.put(rows, other.inner)


class AlignedEncoder:
    """`StateEncoder` that shows another one's state beside what one linear map makes of it in the item vectors' space.

    The state is `[state @ matrix, state]`, both of unit length at most and scaled by the root of a half. Items are
    their vectors with zeros behind. So all agents see the same item vectors, begin from the best linear ranking that
    their state allows, and nothing of the state is lost.

    Args:
        encoder: whose state it is.
        item_vectors: (N + 1, E).
        matrix: (R, E).
    """

    def __init__(self, encoder: StateEncoder, item_vectors: Tensor, matrix: Tensor) -> None:
        self.encoder, self.matrix, self._vectors = encoder, matrix, item_vectors
        self.n_items, self.dim = len(item_vectors) - 1, item_vectors.shape[1] + encoder.dim
        self.item_vectors = F.pad(item_vectors, (0, encoder.dim))

    def _state(self, inner: Tensor) -> Tensor:
        return torch.cat([F.normalize(inner @ self.matrix, dim=1), inner], 1) * math.sqrt(0.5)

    @torch.no_grad()
    def start(self, rows: int) -> AlignedMemory:
        """Memory of `rows` shoppers who have done nothing."""
        inner = self.encoder.start(rows)
        return AlignedMemory(self._state(inner.state), inner)

    @torch.no_grad()
    def step(self, memory: AlignedMemory, items: Tensor, events: Tensor, gaps: Tensor) -> AlignedMemory:
        """Append one token to each row; a row whose item is 0 is left exactly as it was."""
        memory.inner = self.encoder.step(memory.inner, items, events, gaps)
        memory.state = self._state(memory.inner.state)
        return memory

    def encode(self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        """(B, D) states of whole histories, (B, T) each, zeros after `lengths`."""
        return self._state(self.encoder.encode(items, events, gaps, lengths))

    def scores(self, states: Tensor, *, items: Tensor | None = None, events: Tensor | None = None) -> Tensor:
        """(B, N + 1) how near each item lies to (B, D) states, -inf for index 0; histories are not read."""
        del items, events
        return _scores(states, self.item_vectors)


def _chosen(events: Any) -> Any:
    """Whether the shopper viewed, clicked, put into the cart or bought."""
    return (events >= int(Event.VIEW)) & (events <= int(Event.PURCHASE))


def _scores(states: Tensor, vectors: Tensor) -> Tensor:
    scores = states @ vectors.T
    scores[:, 0] = -torch.inf
    return scores


def raw_states(transformer: StateEncoder, seed: int) -> dict[str, StateEncoder]:
    """What is compared, by `NAMES`; all but the ids are made of the Transformer's own item vectors."""
    vectors = transformer.item_vectors.detach()
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.normal(size=tuple(vectors.shape)).astype(np.float32))
    mean = MeanEncoder(vectors)
    encoders = (
        LastItemEncoder(vectors, reads=False),
        LastItemEncoder(vectors),
        MeanEncoder(ids),
        mean,
        RecallEncoder(mean),
        transformer,
        RecallEncoder(transformer),
    )
    return dict(zip(NAMES, encoders, strict=True))


@torch.no_grad()
def before_choices(encoder: StateEncoder, log: ShopLog) -> tuple[Tensor, Tensor, Tensor]:
    """(M, R) states before each item of a log that a shopper chose, (M,) the items, and (M,) tokens before."""
    order = np.argsort(-log.tokens.lengths, kind="stable")
    begins, lengths = log.tokens.offsets[:-1][order], log.tokens.lengths[order]
    memory = encoder.start(len(order))
    states, items, depth = [], [], []
    for place in range(int(lengths.max())):
        here = np.flatnonzero(lengths > place)
        at = begins[here] + place
        item, event = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
        gap = np.zeros(len(order), np.float32)
        item[here], event[here], gap[here] = log.tokens.items[at], log.tokens.events[at], log.tokens.gaps[at]
        chosen = torch.from_numpy(here[_chosen(event[here])])
        states.append(memory.state[chosen].clone())
        items.append(torch.from_numpy(item)[chosen])
        depth.append(torch.full_like(items[-1], place))
        memory = encoder.step(memory, *(torch.from_numpy(column) for column in (item, event, gap)))
    return torch.cat(states), torch.cat(items), torch.cat(depth)


def ridge(x: Tensor, y: Tensor) -> Tensor:
    """(R, E) the linear map from (M, R) to (M, E) of least squares, with the one of `PENALTIES` that foretells best."""
    fifth = torch.arange(len(x)) % 5 == 0
    tried = [float((x[fifth] @ _map(x[~fifth], y[~fifth], size) - y[fifth]).square().sum()) for size in PENALTIES]
    return _map(x, y, PENALTIES[int(np.argmin(tried))])


def _map(x: Tensor, y: Tensor, size: float) -> Tensor:
    gram = (x.T @ x).double() / len(x)
    penalty = size * gram.diagonal().mean().clamp(min=1e-9) * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram + penalty, (x.T @ y).double() / len(x)).float()


def aligned(encoder: StateEncoder, vectors: Tensor, log: ShopLog) -> AlignedEncoder:
    """An encoder whose states are mapped, as well as the log tells, to the vector of the next item chosen."""
    states, items, _ = before_choices(encoder, log)
    return AlignedEncoder(encoder, vectors, ridge(states, vectors[items]))


def foreseen(encoder: AlignedEncoder, log: ShopLog, k: int = 10) -> float:
    """Share of the items chosen in a log that are among the k nearest to the state before."""
    states, items, depth = before_choices(encoder, log)
    states, items = states[depth > 0], items[depth > 0]
    best = encoder.scores(states).topk(k, dim=1).indices
    return float((best == items[:, None]).any(1).float().mean())


@torch.no_grad()
def told_of_taste(
    encoders: dict[str, StateEncoder], truth: KnownTruthShopper, slates: Any, shoppers: int, depths: tuple[int, ...]
) -> dict[str, dict[int, Floats]]:
    """How much of what items are worth to each shopper, beyond what they are to all, each state tells linearly.

    Shoppers meet a logging policy's slates, and none leaves. After so many of them, half of the shoppers teach a linear
    map from state to the true utilities of all items, by which those of the other half are told.

    Args:
        encoders: states by name.
        truth: the shoppers.
        slates: (seeds, step) -> slates, a logging policy's.
        shoppers: how many.
        depths: numbers of slates.

    Returns:
        By name and number of slates, for each shopper of the other half, (shoppers / 2, 2): squared error of the
        utilities told, summed over items, and what it would be by the items' means. See `share_told`.
    """
    told: dict[str, dict[int, Floats]] = {name: {} for name in encoders}
    seeds = torch.arange(shoppers) + 2**33
    state = truth.reset(seeds)
    memories = {name: encoder.start(shoppers) for name, encoder in encoders.items()}
    came = state.arrival
    for place in range(int(came.lengths.max())):
        token = came.items[:, place], came.events[:, place], came.gaps[:, place]
        memories = {name: encoder.step(memories[name], *token) for name, encoder in encoders.items()}
    for depth in range(max(depths) + 1):
        if depth in depths:
            worth = truth.utilities(state)[:, 1:]
            worth = worth - worth.mean(1, keepdim=True)
            for name, memory in memories.items():
                told[name][depth] = _explained(memory.state, worth)
        shown, _ = slates(seeds, state.step)
        gap = state.gap.clone()
        response, state = truth.respond(state, shown)
        items, events = response.tokens(shown)
        memories = {name: encoder.step(memories[name], items, events, gap) for name, encoder in encoders.items()}
    return told


def _explained(x: Tensor, y: Tensor) -> Floats:
    half = len(x) // 2
    centre_x, centre_y = x[:half].mean(0), y[:half].mean(0)
    matrix = ridge(x[:half] - centre_x, y[:half] - centre_y)
    wanted = y[half:] - centre_y
    left = wanted - (x[half:] - centre_x) @ matrix
    return torch.stack([left.square().sum(1), wanted.square().sum(1)], 1).double().numpy()


def share_told(errors: Floats, others: Floats | None = None) -> list[float]:
    """Share of the variance of utilities that is told, 0 by the items' means and 1 all, with its 95 % interval.

    Args:
        errors: (n, 2) of `told_of_taste`, a row a shopper; shoppers are resampled.
        others: another state's of the same shoppers; what comes back is then how much more is told than by that one.
    """

    def share(rows: Any) -> Any:  # (..., n) -> (...)
        told = 1 - errors[rows, 0].sum(-1) / errors[rows, 1].sum(-1)
        return told if others is None else told - (1 - others[rows, 0].sum(-1) / others[rows, 1].sum(-1))

    drawn = np.random.default_rng(0).integers(len(errors), size=(1_000, len(errors)))
    return [round(float(one), 4) for one in (share(np.arange(len(errors))), *np.quantile(share(drawn), [0.025, 0.975]))]
