"""The classics that a session model should beat: popularity, item-kNN, session-kNN, tuned on the validation tail.

Each is tuned on the sessions before the tail, then counts all training sessions, the tail included: that costs nothing.

Shapes: B prefixes, N items, S sessions, M test prefixes.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefixes import PrefixData, cpu_seconds, last_items, rank_of

from slatewise.datasets.schema import Event
from slatewise.datasets.tokens import History, Ints, Tokens
from slatewise.encoders.neighbours import item_similarities, neighbour_scores

Scores = NDArray[np.floating]
Scorer = Callable[[Ints, Ints], Scores]
"""(B, L) items padded at the end, and (B,) lengths -> (B, N + 1) scores."""

LAST = 20  # items of a prefix that are read
_TUNED_ON = 4_000  # prefixes of the validation tail that each setting is tried on


def popularity(data: PrefixData) -> Scorer:
    """The items that occur most often, whatever the session."""
    counts = np.bincount(data.train_items, minlength=data.n_items + 1).astype(np.float32)
    return lambda items, lengths: np.broadcast_to(counts, (len(items), len(counts)))  # noqa: ARG005


def tokens_of(data: PrefixData) -> Tokens:
    """The training sessions as Slatewise's tokens: views, without times."""
    views = np.full(len(data.train_items), int(Event.VIEW), np.int64)
    gaps = np.zeros(len(views), np.float32)
    return Tokens(data.train_items, views, gaps, data.train_offsets)


def item_knn(data: PrefixData, *, neighbours: int, damping: float, decay: float) -> Scorer:
    """`slatewise.encoders.neighbours`; popularity breaks ties."""
    similar = item_similarities(tokens_of(data), data.n_items, neighbours=neighbours, damping=damping)
    tie_break = _tie_break(data)

    def scores(items: Ints, lengths: Ints) -> Scores:
        events = np.where(items > 0, int(Event.VIEW), 0)
        history = History(items, events, np.zeros(items.shape, np.float32), lengths)
        return neighbour_scores(similar, history, decay=decay) + tie_break

    return scores


@dataclass(frozen=True, kw_only=True)
class SessionKNN:
    """Settings of the sequence- and time-aware session-kNN (STAN).

    Sessions that share items with the prefix vote for their items. A vote counts more when the shared items are recent
    in the prefix, when the session is recent, and for items near to the shared one.

    Source: Garg et al., "Sequence and time aware neighborhood for session-based recommendations", SIGIR 2019. Their
    ages are days; data sets of prefixes have no times, so ages are shares of the training sessions.
    """

    neighbours: int = 500
    """Sessions that vote, the likest."""
    recent: int = 1_000
    """Sessions that an item finds, the latest (Jannach and Ludewig 2017)."""
    in_prefix: float = 2.0
    """Items back in the prefix after which a shared item counts 1 / e."""
    in_time: float = 0.5
    """Share of the training sessions after which a session counts 1 / e."""
    in_session: float = 2.0
    """Items away from the shared one after which a neighbour's item counts 1 / e."""


class _Index:
    """Which sessions hold an item, and where."""

    def __init__(self, data: PrefixData, recent: int) -> None:
        lengths = np.diff(data.train_offsets)
        session = np.repeat(np.arange(data.n_train), lengths)
        place = np.arange(len(session)) - data.train_offsets[session]
        # The last place of an item in a session is the one that counts; latest sessions first for each item.
        order = np.lexsort((-place, -session, data.train_items))
        item, session, place = data.train_items[order], session[order], place[order]
        first = np.ones(len(item), bool)
        first[1:] = (item[1:] != item[:-1]) | (session[1:] != session[:-1])
        item, self.session, self.place = item[first], session[first], place[first]
        bounds = np.searchsorted(item, np.arange(data.n_items + 2))
        self.begin = bounds[:-1]
        self.count = np.minimum(np.diff(bounds), recent)
        self.items, self.offsets, self.lengths = data.train_items, data.train_offsets, lengths


def _expand(begin: Ints, count: Ints) -> tuple[Ints, Ints]:
    """For ranges `begin[r]:begin[r] + count[r]`, end to end: which range, and which entry."""
    owner = np.repeat(np.arange(len(count)), count)
    inside = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, begin[owner] + inside


def session_knn(data: PrefixData, settings: SessionKNN) -> Scorer:
    """Session-kNN; popularity breaks ties."""
    index, tie_break = _Index(data, settings.recent), _tie_break(data)
    freshness = np.exp((np.arange(data.n_train) - data.n_train) / data.n_train / settings.in_time)

    def scores(items: Ints, lengths: Ints) -> Scores:
        row, session, place, weight = _shared(index, items, lengths, settings.in_prefix)
        likeness = weight * freshness[session] / np.sqrt(lengths[row] * index.lengths[session])
        order = np.lexsort((-likeness, row))
        begin = np.searchsorted(row[order], np.arange(len(items)))
        kept = order[np.arange(len(order)) - begin[row[order]] < settings.neighbours]
        voter, entry = _expand(index.offsets[session[kept]], index.lengths[session[kept]])
        away = np.abs(entry - index.offsets[session[kept]][voter] - place[kept][voter])
        vote = likeness[kept][voter] * np.exp(-away / settings.in_session)
        cell = row[kept][voter] * len(tie_break) + index.items[entry]
        total = np.bincount(cell, vote, len(items) * len(tie_break)).reshape(len(items), -1)
        return total + 1e-6 * total.max(1, keepdims=True, initial=1e-9) * tie_break

    return scores


def _shared(index: _Index, items: Ints, lengths: Ints, fading: float) -> tuple[Ints, Ints, Ints, NDArray[np.float64]]:
    """Sessions that share items with each prefix: row, session, place there of the latest shared item, weight."""
    row, column = np.nonzero(items)
    back = lengths[row] - 1 - column
    # Of an item seen twice, the later time.
    order = np.lexsort((back, items[row, column], row))
    row, column, back = row[order], column[order], back[order]
    item = items[row, column]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
    row, back, item = row[first], back[first], item[first]
    owner, entry = _expand(index.begin[item], index.count[item])
    row, back, session = row[owner], back[owner], index.session[entry]
    order = np.lexsort((back, session, row))
    row, back, session, entry = row[order], back[order], session[order], entry[order]
    starts = np.ones(len(row), bool)
    starts[1:] = (row[1:] != row[:-1]) | (session[1:] != session[:-1])
    begin = np.flatnonzero(starts)
    weight = np.add.reduceat(np.exp(-back / fading), begin) if len(begin) else np.zeros(0)
    return row[begin], session[begin], index.place[entry[begin]], weight


def _tie_break(data: PrefixData) -> NDArray[np.float32]:
    """Popularity, smaller than any vote can differ by."""
    counts = np.bincount(data.train_items, minlength=data.n_items + 1)
    return (1e-6 * counts / counts.max()).astype(np.float32)


def ranks(scorer: Scorer, items: Ints, offsets: Ints, target: Ints, last: int = LAST) -> Ints:
    """(M,) rank of each target among the whole catalogue."""
    padded, lengths = last_items(items, offsets, last)
    found = [
        rank_of(scorer(padded[begin : begin + 256], lengths[begin : begin + 256]), target[begin : begin + 256])
        for begin in range(0, len(target), 256)
    ]
    return np.concatenate(found)


def _validated(scorer: Scorer, asked: tuple[Ints, Ints, Ints]) -> float:
    found = ranks(scorer, *asked)
    hit = found <= 20
    return float(100 * (hit.mean() + (hit / found).mean()))


def tuned_item_knn(data: PrefixData, budget: float) -> tuple[Scorer, dict[str, Any]]:
    """Item-kNN with the neighbours, damping and decay that the validation tail prefers."""
    before, asked = data.before_tail(), data.validation(_TUNED_ON)
    tried: dict[tuple[int, float, float], float] = {}
    grid = itertools.product((100, 500), (0.0, 20.0, 80.0, 320.0), (0.05, 0.3, 0.5, 0.7))
    for neighbours, damping, decay in grid:
        if cpu_seconds() > budget / 2 and tried:
            break
        scorer = item_knn(before, neighbours=neighbours, damping=damping, decay=decay)
        tried[neighbours, damping, decay] = _validated(scorer, asked)
    neighbours, damping, decay = max(tried, key=lambda one: tried[one])
    chosen = {"neighbours": neighbours, "damping": damping, "decay": decay}
    return item_knn(data, **chosen), chosen | {"tried": len(tried)}


def tuned_session_knn(data: PrefixData, budget: float) -> tuple[Scorer, dict[str, Any]]:
    """Session-kNN tuned one setting after another on the validation tail."""
    before, asked = data.before_tail(), data.validation(_TUNED_ON)
    best, tried = SessionKNN(), 1
    score = _validated(session_knn(before, best), asked)
    choices: dict[str, tuple[float, ...]] = {
        "in_time": (0.1, 0.25, 1.0, 4.0),
        "in_prefix": (0.7, 1.2, 4.0),
        "in_session": (1.0, 4.0, 16.0),
        "neighbours": (100, 250, 1_000),
        "recent": (300, 3_000),
    }
    for name, values in choices.items():
        for value in values:
            if cpu_seconds() > budget / 2:
                break
            other = replace(best, **{name: value})
            found, tried = _validated(session_knn(before, other), asked), tried + 1
            if found > score:
                best, score = other, found
    return session_knn(data, best), {name: getattr(best, name) for name in choices} | {"tried": tried}
