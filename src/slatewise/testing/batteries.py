"""One battery for each kind of part: what the `Shopper`, `StateEncoder` and policy contracts promise, checked.

Each raises AssertionError naming the broken promise. Shapes: B rows, K slots, T tokens, N items, D state width.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.schema import N_EVENTS
from ..encoders.state import StateEncoder
from ..simulators.shopper import Response, Shopper, ShopperState, without_repeats

_ROWS, _SLATES = 24, 4
_CLOSE = 1e-5


class Policy(Protocol):
    """What recommends slates; see `docs/architecture.md`."""

    k: int

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.int64], Any]:
        """Slates (B, k), and None."""
        ...


def check_shopper(shopper: Shopper, k: int = 5, *, seed: int = 0) -> None:
    """Check that a simulator keeps the `Shopper` contract.

    Args:
        shopper: any simulator over at least `k` items.
        k: slots in the slates shown.
        seed: of the slates.
    """
    with torch.no_grad():
        _check_prices(shopper)
        seeds = torch.arange(_ROWS, dtype=torch.int64, device=shopper.device) * 7_919 + seed
        slates = _slates(_SLATES, _ROWS, k, shopper.n_items, seed).to(shopper.device)
        _check_arrival(shopper.reset(seeds), seeds, shopper.n_items)
        told = _told(shopper, seeds, slates)
        _require_same(told, _told(shopper, seeds, slates), "the same seeds and slates give the same responses")
        _check_rows(shopper, seeds, slates, told)
        _check_replacement(shopper, seeds, slates, told)


def _slates(steps: int, rows: int, k: int, n_items: int, seed: int) -> Tensor:
    """(steps, rows, k) slates without repeats, with empty slots here and there; the first row's are all empty."""
    rng = torch.Generator().manual_seed(seed)
    drawn = without_repeats(torch.randint(0, n_items + 1, (steps * rows, k), generator=rng)).view(steps, rows, k)
    drawn[:, 0] = 0
    return drawn


def _told(shopper: Shopper, seeds: Tensor, slates: Tensor) -> list[Response]:
    """What shoppers do with slates (steps, B, K) one after the other, each response checked."""
    state = shopper.reset(seeds)
    responses = []
    for number, slate in enumerate(slates):
        response, state = shopper.respond(state, slate.clone())
        _check_response(response, slate)
        _require(bool((state.seed == seeds).all()), "a shopper keeps its seed")
        _require(bool((state.step == number + 1).all()), "step counts the slates shown")
        _check_gap(state.gap, len(seeds))
        responses.append(response)
    return responses


def _check_prices(shopper: Shopper) -> None:
    prices = shopper.prices
    _require_tensor(prices, "prices", (shopper.n_items + 1,), torch.float32)
    _require(bool(prices[0] == 0), f"prices[0], of an empty slot, is 0, got {float(prices[0])}")
    _require(bool((torch.isfinite(prices) & (prices >= 0)).all()), "prices are finite and not negative")


def _check_gap(gap: Tensor, rows: int) -> None:
    _require_tensor(gap, "gap", (rows,), torch.float32)
    _require(bool((torch.isfinite(gap) & (gap >= 0)).all()), "gaps are finite and not negative")


def _check_arrival(state: ShopperState, seeds: Tensor, n_items: int) -> None:
    rows, arrival = len(seeds), state.arrival
    _require_tensor(state.seed, "seed", (rows,), torch.int64)
    _require(bool((state.seed == seeds).all()), "reset keeps the seeds it is given")
    _require_tensor(state.step, "step", (rows,), torch.int64)
    _require(not state.step.any(), "a shopper who arrives has seen no slate")
    _check_gap(state.gap, rows)
    width = arrival.items.shape[1]
    _require_tensor(arrival.lengths, "arrival.lengths", (rows,), torch.int64)
    for name, kind in (("items", torch.int64), ("events", torch.int64), ("gaps", torch.float32)):
        _require_tensor(getattr(arrival, name), f"arrival.{name}", (rows, width), kind)
    held = torch.arange(width, device=seeds.device) < arrival.lengths[:, None]
    inside = (arrival.items >= 1) & (arrival.items <= n_items) & (arrival.events >= 1) & (arrival.events < N_EVENTS)
    _require(bool((inside | ~held).all()), "arrival tokens name existing items and events")
    for name in ("items", "events", "gaps"):
        _require(not getattr(arrival, name)[~held].any(), f"arrival.{name} is 0 after a row's length")
    _require(bool((torch.isfinite(arrival.gaps) & (arrival.gaps >= 0)).all()), "arrival gaps are finite and >= 0")
    _require(not arrival.gaps[:, :1].any(), "the gap of a first token is 0")
    _require(not state.gap[arrival.lengths == 0].any(), "without a history the gap is 0")


def _check_response(response: Response, slate: Tensor) -> None:
    rows, k = slate.shape
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "examined": ((rows, k), torch.bool),
        "clicked": ((rows,), torch.int64),
        "carted": ((rows,), torch.bool),
        "purchased": ((rows,), torch.bool),
        "left": ((rows,), torch.bool),
        "dwell": ((rows,), torch.float32),
        "revenue": ((rows,), torch.float32),
        "quantity": ((rows,), torch.int64),
    }
    for name, (shape, kind) in shapes.items():
        _require_tensor(getattr(response, name), name, shape, kind)
    clicked = response.clicked
    _require(bool(((clicked >= -1) & (clicked < k)).all()), f"clicked is a slot in [0, {k}) or -1")
    place, hit = clicked.clamp(min=0)[:, None], clicked >= 0
    _require(bool((slate.gather(1, place)[:, 0] > 0)[hit].all()), "an empty slot is never clicked")
    _require(bool(response.examined.gather(1, place)[:, 0][hit].all()), "what is clicked was looked at")
    _require(not response.carted[~hit].any(), "nothing goes into the cart without a click")
    _require(not response.purchased[~hit].any(), "nothing is bought without a click")
    _require(bool((torch.isfinite(response.dwell) & (response.dwell > 0)).all()), "dwell is finite and above 0")
    _require(not response.revenue[~response.purchased].any(), "there is no revenue without a purchase")
    _require(bool(((response.quantity > 0) == response.purchased).all()), "quantity is 1 or more exactly when bought")
    _require(
        bool((torch.isfinite(response.revenue) & (response.revenue >= 0)).all()), "revenue is finite, not negative"
    )


def _check_rows(shopper: Shopper, seeds: Tensor, slates: Tensor, told: list[Response]) -> None:
    for row in range(0, len(seeds), 5):
        alone = _told(shopper, seeds[row : row + 1], slates[:, row : row + 1])
        chosen = [_rows(response, slice(row, row + 1)) for response in told]
        _require_same(chosen, alone, "a shopper in a batch is the shopper alone")
    backwards = _told(shopper, seeds.flip(0), slates.flip(1))
    turned = [_rows(response, slice(None)) for response in backwards]
    order = torch.arange(len(seeds) - 1, -1, -1, device=seeds.device)
    _require_same(told, [_rows(response, order) for response in turned], "the order of shoppers does not matter")


def _check_replacement(shopper: Shopper, seeds: Tensor, slates: Tensor, told: list[Response]) -> None:
    """Rows that `put` overwrites are new shoppers; the others are as if nothing had happened."""
    state = shopper.reset(seeds)
    _, state = shopper.respond(state, slates[0].clone())
    rows = torch.arange(1, len(seeds), 3, device=seeds.device)
    fresh = seeds[rows] + 1
    state.put(rows, shopper.reset(fresh))
    mixed, state = shopper.respond(state, slates[1].clone())
    new, _ = shopper.respond(shopper.reset(fresh), slates[1][rows])
    _require_same([_rows(mixed, rows)], [new], "shoppers put into a batch are the shoppers alone")
    kept = torch.ones(len(seeds), dtype=torch.bool, device=seeds.device)
    kept[rows] = False
    _require_same([_rows(mixed, kept)], [_rows(told[1], kept)], "put leaves the other rows as they were")


def _rows(response: Response, rows: Any) -> Response:
    return Response(*(getattr(response, one.name)[rows] for one in fields(response)))


def _require_same(one: list[Response], two: list[Response], promise: str) -> None:
    for number, (first, second) in enumerate(zip(one, two, strict=True)):
        for field in fields(first):
            a, b = getattr(first, field.name), getattr(second, field.name)
            same = torch.allclose(a, b, rtol=1e-4, atol=_CLOSE) if a.is_floating_point() else torch.equal(a, b)
            _require(same, f"{promise}; {field.name} differs at slate {number + 1}")


def check_encoder(encoder: StateEncoder, *, rows: int = 7, length: int = 6, seed: int = 0) -> None:
    """Check that a state encoder keeps the `StateEncoder` contract.

    Args:
        encoder: in evaluation mode, so that equal histories give equal states.
        rows: histories to try, B, at least 3; their lengths run from 0 to `length`.
        length: tokens of the longest history, T.
        seed: of the histories.
    """
    with torch.no_grad():
        _check_vectors(encoder)
        items, events, gaps, lengths = _histories(encoder, rows, length, seed)
        stepped = _stepped(encoder, items, events, gaps)
        whole = encoder.encode(items, events, gaps, lengths)
        _require_tensor(whole, "encode", (rows, encoder.dim), torch.float32)
        _require_unit(whole, "states")
        _require_close(stepped.state, whole, "stepping through a history gives the state of the whole")
        alone = torch.cat(
            [encoder.encode(*(part[row : row + 1] for part in (items, events, gaps, lengths))) for row in range(rows)]
        )
        _require_close(alone, whole, "a history in a batch is the history alone")
        _check_padding(encoder, items, events, gaps)
        _check_put(encoder, items, events, gaps)


def _histories(encoder: StateEncoder, rows: int, length: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.arange(rows) * length // max(rows - 1, 1)
    held = torch.arange(length) < lengths[:, None]
    items = torch.randint(1, encoder.n_items + 1, (rows, length), generator=rng) * held
    events = torch.randint(1, N_EVENTS, (rows, length), generator=rng) * held
    gaps = torch.rand((rows, length), generator=rng) * 300.0 * held
    gaps[:, 0] = 0.0
    device = encoder.item_vectors.device
    return items.to(device), events.to(device), gaps.to(device), lengths.to(device)


def _stepped(encoder: StateEncoder, items: Tensor, events: Tensor, gaps: Tensor) -> Any:
    memory = encoder.start(len(items))
    for place in range(items.shape[1]):
        memory = encoder.step(memory, items[:, place], events[:, place], gaps[:, place])
    return memory


def _check_vectors(encoder: StateEncoder) -> None:
    vectors = encoder.item_vectors
    _require_tensor(vectors, "item_vectors", (encoder.n_items + 1, encoder.dim), torch.float32)
    _require(not vectors[0].any(), "the vector of item 0 (padding) is zero")
    _require_unit(vectors, "item vectors")


def _check_padding(encoder: StateEncoder, items: Tensor, events: Tensor, gaps: Tensor) -> None:
    memory = _stepped(encoder, items, events, gaps)
    before = memory.state.clone()
    none = torch.zeros_like(items[:, 0])
    none[0] = 1  # one row goes on, so that the step is not idle
    memory = encoder.step(memory, none, none * 3, torch.full_like(gaps[:, 0], 9.0))
    _require(torch.equal(memory.state[1:], before[1:]), "a row whose item is 0 is left exactly as it was")


def _check_put(encoder: StateEncoder, items: Tensor, events: Tensor, gaps: Tensor) -> None:
    """Rows put into a memory go on as those they came from, the others as if nothing had happened."""
    rows = torch.tensor([0, len(items) - 1], device=items.device)
    memory, other = (
        _stepped(encoder, items, events, gaps),
        _stepped(encoder, items[[2, 1]], events[[2, 1]], gaps[[2, 1]]),
    )
    expected = _stepped(encoder, items, events, gaps).state.clone()
    expected[rows] = other.state
    memory.put(rows, other)
    _require(torch.equal(memory.state, expected), "put overwrites the rows it names, and no other")
    sources = torch.arange(len(items), device=items.device)
    sources[rows] = torch.tensor([2, 1], device=items.device)
    plain = _stepped(encoder, items[sources], events[sources], gaps[sources])
    one = torch.ones_like(items[:, 0])
    after, wanted = (encoder.step(each, one, one * 3, gaps[:, 0] + 5.0) for each in (memory, plain))
    _require_close(after.state, wanted.state, "a row that was put goes on as the row it came from")


def check_policy(policy: Policy, observation: Any, n_items: int, *, repeatable: bool = True) -> None:
    """Check that a policy recommends legal slates.

    Args:
        policy: anything with `k` and `predict`.
        observation: of B shoppers: a (B, D) array, or the dict of a history observation.
        n_items: items in the catalogue.
        repeatable: whether the same observation twice must give the same slates; False for a random policy.
    """
    rows = len(next(iter(observation.values()))) if isinstance(observation, Mapping) else len(observation)
    slates, state = policy.predict(observation, deterministic=True)
    _require(state is None, f"predict returns no state, got {type(state).__name__}")
    _check_slates(slates, rows, policy.k, n_items)
    again, _ = policy.predict(observation, None, np.ones(rows, bool), deterministic=True)
    _require(not repeatable or np.array_equal(slates, again), "the same observation gives the same slates")
    _check_slates(policy.predict(observation, deterministic=False)[0], rows, policy.k, n_items)
    if repeatable and rows > 1:
        first = (
            {name: part[:1] for name, part in observation.items()}
            if isinstance(observation, Mapping)
            else observation[:1]
        )
        alone, _ = policy.predict(first, deterministic=True)
        _require(np.array_equal(alone, slates[:1]), "a shopper's slate does not depend on who else is in the batch")


def _check_slates(slates: Any, rows: int, k: int, n_items: int) -> None:
    _require(isinstance(slates, np.ndarray), f"slates are a numpy array, got {type(slates).__name__}")
    _require(slates.shape == (rows, k), f"slates have shape ({rows}, {k}), got {slates.shape}")
    _require(slates.dtype == np.int64, f"slates are int64, got {slates.dtype}")
    _require(bool(((slates >= 0) & (slates <= n_items)).all()), f"items are in [0, {n_items}], 0 an empty slot")
    ordered = np.sort(slates, axis=1)
    _require(not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)).any(), "no item is on a slate twice")


def _require(kept: bool, promise: str) -> None:
    if not kept:
        raise AssertionError(f"broken promise: {promise}")


def _require_tensor(value: Any, name: str, shape: tuple[int, ...], kind: torch.dtype) -> None:
    _require(isinstance(value, Tensor), f"{name} is a tensor, got {type(value).__name__}")
    _require(tuple(value.shape) == shape, f"{name} has shape {shape}, got {tuple(value.shape)}")
    _require(value.dtype == kind, f"{name} is {kind}, got {value.dtype}")


def _require_unit(vectors: Tensor, name: str) -> None:
    length = vectors.norm(dim=1)
    _require(bool(((length - 1).abs().lt(1e-3) | (length == 0)).all()), f"{name} have length 1 or are zero")


def _require_close(one: Tensor, two: Tensor, promise: str) -> None:
    apart = float((one - two).abs().max())
    _require(apart <= 1e-4, f"{promise}; they are {apart:.2g} apart")
