"""Follow logged sessions token by token, and write down what every slate looked like to its shopper.

Shapes: S slates, K slots, F item features, O outside features, C sessions followed at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.tokens import History, Ints, Tokens
from ..encoders.state import StateEncoder
from .draw import Draw
from .features import ITEM_FEATURES, LASTING, OUTSIDE_FEATURES, HalfLives, ItemFacts, item_features, outside_features
from .trail import Trail

SESSIONS_AT_ONCE = 1024
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Replay:
    """What slates looked like to the shoppers they were shown to; on the CPU, in the order asked for.

    Attributes:
        raw: (S, K, F) float32 features of the items, before scaling; of empty slots they mean nothing.
        outside: (S, O) float32 features of clicking nothing, before scaling.
        slates: (S,) int64 slates shown before.
        idle: (S,) int64 slates shown since the latest interest.
        last_clicked: (S,) int64 latest item clicked or deeper, 0 for none.
    """

    raw: Tensor
    outside: Tensor
    slates: Tensor
    idle: Tensor
    last_clicked: Tensor


@torch.no_grad()
def replay(
    tokens: Tokens,
    session: Ints,
    before: Ints,
    items: Ints,
    *,
    encoder: StateEncoder,
    facts: ItemFacts,
    bend: float,
    half_lives: HalfLives = LASTING,
    shown: bool = True,
    progress: Progress | None = None,
) -> Replay:
    """Features of S sets of items, each at its moment of its session.

    Args:
        tokens: of the sessions.
        session: (S,) session numbers, non-decreasing.
        before: (S,) how many of the session's tokens came before.
        items: (S, K) items, 0 in empty slots; those of one session in order of time.
        encoder: the shopper's.
        facts: of the items, on the encoder's device.
        bend: cosine above which `match_high` counts.
        half_lives: of what features remember.
        shown: whether the items were slates, which later features remember; otherwise alternatives nobody was shown.
        progress: told how many slates are done.
    """
    n, k = items.shape
    found = Replay(
        torch.zeros(n, k, len(ITEM_FEATURES)),
        torch.zeros(n, len(OUTSIDE_FEATURES)),
        *(torch.zeros(n, dtype=torch.int64) for _ in range(3)),
    )
    vectors, known = encoder.item_vectors, {"price": facts.price_in_category, "draw": facts.draw}
    for moment in follow(tokens, session, before, items, **known, encoder=encoder, shown=shown, progress=progress):
        rows, trail = moment.rows, moment.trail
        assert moment.state is not None
        found.raw[rows] = item_features(moment.state, trail, moment.items, vectors, facts, bend, half_lives).cpu()
        found.outside[rows] = outside_features(trail, (moment.items > 0).sum(1)).cpu()
        found.slates[rows], found.idle[rows] = trail.slates.cpu(), trail.idle.cpu()
        found.last_clicked[rows] = trail.clicked[:, 0].cpu()
    return found


@dataclass(frozen=True, slots=True)
class Moment:
    """Some of the sets of items, each before the eyes of its shopper.

    Attributes:
        rows: (R,) int64 which sets they are, on the CPU.
        items: (R, K) the items. trail: of the R shoppers. state: (R, D) of the encoder; none without one.
    """

    rows: Tensor
    items: Tensor
    trail: Trail
    state: Tensor | None


@torch.no_grad()
def follow(
    tokens: Tokens,
    session: Ints,
    before: Ints,
    items: Ints,
    *,
    price: Tensor,
    draw: Draw | None = None,
    encoder: StateEncoder | None = None,
    shown: bool = True,
    progress: Progress | None = None,
) -> Iterator[Moment]:
    """Come by S sets of items as their shoppers did; arguments as of `replay`.

    Args:
        tokens: of the sessions.
        session: (S,) session numbers, non-decreasing.
        before: (S,) how many of the session's tokens came before.
        items: (S, K) items, 0 in empty slots; those of one session in order of time.
        price: (N + 1,) standardised price within the category, which trails add up.
        draw: of the shop's slots, which trails remember.
        encoder: of the states, if they are wanted.
        shown: whether the items were slates, which trails remember.
        progress: told how many sets are done.
    """
    done = 0
    for sessions, rows in _chunks(session, before):
        yield from _follow(tokens, sessions, rows, session, before, items, price, draw, encoder, shown)
        done += len(rows)
        if progress:
            progress(done, len(items), "following sessions")


def _chunks(session: Ints, before: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Sessions of about equal length, `SESSIONS_AT_ONCE` at a time, and the rows of their slates."""
    numbers, of_row = np.unique(session, return_inverse=True)
    length = np.zeros(len(numbers), np.int64)
    np.maximum.at(length, of_row, before)
    by_length = np.argsort(length, kind="stable")
    chunk_of = np.empty(len(numbers), np.int64)
    chunk_of[by_length] = np.arange(len(numbers)) // SESSIONS_AT_ONCE
    for chunk in range(int(chunk_of.max(initial=-1)) + 1):
        yield numbers[chunk_of == chunk], np.flatnonzero(chunk_of[of_row] == chunk)


def _moments(session: Ints, before: Ints) -> Iterator[tuple[int, Ints]]:
    """(tokens before, places in the arrays) in order of time, at most one slate a session at a moment."""
    # Several slates may be shown before the session's next token; the i-th of them is the moment's i-th round.
    order = np.lexsort((np.arange(len(before)), before, session))
    s, b = session[order], before[order]
    first = np.append(True, (s[1:] != s[:-1]) | (b[1:] != b[:-1]))
    start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    turn = np.arange(len(order)) - start
    by_time = np.lexsort((s, turn, b))
    edges = np.flatnonzero(np.diff(b[by_time], prepend=-1) | (np.diff(turn[by_time], prepend=-1) != 0))
    for group in np.split(by_time, edges[1:]):
        if len(group):
            yield int(b[group[0]]), order[group]


def _follow(
    tokens: Tokens,
    sessions: Ints,
    rows: Ints,
    session: Ints,
    before: Ints,
    items: Ints,
    price: Tensor,
    draw: Draw | None,
    encoder: StateEncoder | None,
    shown: bool,
) -> Iterator[Moment]:
    """The moments of `rows`, the sets of items of `sessions`."""
    device = price.device
    local = np.searchsorted(sessions, session[rows])
    needed = np.zeros(len(sessions), np.int64)
    np.maximum.at(needed, local, before[rows])
    history = tokens.histories(sessions, upto=needed)
    memory = None if encoder is None else encoder.start(len(sessions))
    trail, at = Trail.start(len(sessions), device), 0
    for moment, group in _moments(local, before[rows]):
        for place in range(at, moment):
            item, event, gap = token_at(history, place, device)
            memory = None if encoder is None else encoder.step(memory, item, event, gap)
            trail.after_token(item, event, price)
        at = moment
        there = torch.from_numpy(local[group]).to(device)
        slate = torch.from_numpy(items[rows[group]]).to(device)
        now = trail.rows(there)
        yield Moment(torch.from_numpy(rows[group]), slate, now, None if memory is None else memory.state[there])
        if shown:
            now.after_slate(slate, draw)
            trail.put(there, now)


def token_at(history: History, place: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens of all rows at one place: items, events (B,) int64 and gaps (B,) float32; zeros after a row's end."""
    columns = (history.items[:, place], history.events[:, place], history.gaps[:, place])
    item, event, gap = (torch.from_numpy(np.ascontiguousarray(column)).to(device) for column in columns)
    return item, event, gap
