"""Next-item data sets cut into prefixes, and the ranking code that every model in a benchmark is measured with.

The file is an `.npz` with `train_items` (T,) and `train_offsets` (S + 1,), sessions end to end and in order of time,
and `test_items`, `test_offsets` (M + 1,), `test_target` (M,): prefixes of the later sessions, each with the item that
came next. Items are 1..N. Session-based papers share their splits (Diginetica, YooChoose) in this form.

Imports nothing but NumPy, so that rivals in environments of their own rank with the same code.

Shapes: S training sessions, M test prefixes, G test sessions, N items, R seeds.
"""

import hashlib
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

KEYS = ("train_items", "train_offsets", "test_items", "test_offsets", "test_target")
TAIL = 0.05  # share of the training sessions, the latest, by which every model is chosen
K = 20


class PrefixFileError(ValueError):
    """A file is not a data set of prefixes; the message says where."""


@dataclass(frozen=True, slots=True)
class PrefixData:
    """A data set in order of time.

    Attributes:
        train_items: (T,) items of the training sessions, end to end.
        train_offsets: (S + 1,) session s owns entries `train_offsets[s]:train_offsets[s + 1]`.
        test_items: items of the test prefixes, end to end.
        test_offsets: (M + 1,) as for training.
        test_target: (M,) the item that came after each prefix.
        n_items: items are 1..n_items.
    """

    train_items: Ints
    train_offsets: Ints
    test_items: Ints
    test_offsets: Ints
    test_target: Ints
    n_items: int

    @property
    def n_train(self) -> int:
        """Training sessions."""
        return len(self.train_offsets) - 1

    @property
    def cut(self) -> int:
        """Number of the first session of the validation tail."""
        return max(1, min(round(self.n_train * (1 - TAIL)), self.n_train - 1))

    def validation(self, most: int | None = None, seed: int = 0) -> tuple[Ints, Ints, Ints]:
        """Every prefix of the validation tail: items, offsets and targets, laid out as those of the test.

        Args:
            most: draw this many of them when there are more.
            seed: of the draw.
        """
        session = np.repeat(np.arange(self.n_train), np.diff(self.train_offsets))
        place = np.arange(len(session)) - self.train_offsets[session]
        asked = np.flatnonzero((session >= self.cut) & (place > 0))
        if most is not None and len(asked) > most:
            asked = np.sort(np.random.default_rng(seed).choice(asked, most, replace=False))
        lengths = place[asked]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        begin = np.repeat(self.train_offsets[session[asked]], lengths)
        return self.train_items[begin + inside], offsets, self.train_items[asked]

    def before_tail(self) -> "PrefixData":
        """The data set without its validation tail; the test stays."""
        return self._latest(0, self.cut)

    def latest(self, share: float) -> "PrefixData":
        """A small data set of the same kind: the latest sessions, the first test sessions, and their items renumbered.

        As in the making of such sets, test items that training never showed are dropped, and prefixes left empty.

        Args:
            share: of the training sessions and of the test sessions, in (0, 1].
        """
        small = self._latest(self.n_train - max(2, round(self.n_train * share)), self.n_train)
        known = np.unique(small.train_items)
        number = np.zeros(self.n_items + 1, np.int64)
        number[known] = np.arange(1, len(known) + 1)
        owner = np.repeat(np.arange(len(self.test_target)), np.diff(self.test_offsets))
        group = sessions_of_test(self)
        early = group < max(1, round((int(group[-1]) + 1) * share))
        kept_item = number[self.test_items] > 0
        left = np.bincount(owner[kept_item], minlength=len(self.test_target))
        kept = early & (number[self.test_target] > 0) & (left > 0)
        if not kept.any():
            raise PrefixFileError(f"no test prefix is left in the latest {share:.0%} of the sessions; take more")
        return PrefixData(
            number[small.train_items],
            small.train_offsets,
            number[self.test_items[kept_item & kept[owner]]],
            np.concatenate([[0], np.cumsum(left[kept])]).astype(np.int64),
            number[self.test_target[kept]],
            len(known),
        )

    def _latest(self, begin: int, end: int) -> "PrefixData":
        low, high = self.train_offsets[begin], self.train_offsets[end]
        return replace(
            self, train_items=self.train_items[low:high], train_offsets=self.train_offsets[begin : end + 1] - low
        )

    def content(self) -> str:
        """A short hash of the whole data set."""
        digest = hashlib.sha256()
        for key in KEYS:
            digest.update(np.ascontiguousarray(getattr(self, key)).tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write what `read_prefixes` reads."""
        np.savez(path, **{key: getattr(self, key) for key in KEYS}, n_items=np.int64(self.n_items))


def read_prefixes(path: Path) -> PrefixData:
    """Read a data set and check all of it.

    Raises:
        PrefixFileError: the file is missing, not an `.npz`, lacks a key, or its arrays do not fit together.
    """
    arrays = _arrays(path)
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise PrefixFileError(f"{path} lacks {missing[0]!r}; it has {sorted(arrays)}, needed are {list(KEYS)}")
    said = int(arrays.pop("n_items", np.zeros(1)).max())
    for key, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise PrefixFileError(f"{path}: {key} must be a row of integers, got shape {array.shape} of {array.dtype}")
    whole = {key: array.astype(np.int64) for key, array in arrays.items()}
    _check_offsets(path, "train", whole["train_items"], whole["train_offsets"])
    _check_offsets(path, "test", whole["test_items"], whole["test_offsets"])
    if len(whole["train_offsets"]) < 3:
        raise PrefixFileError(f"{path} has {len(whole['train_offsets']) - 1} training session; two are needed at least")
    if len(whole["test_target"]) != len(whole["test_offsets"]) - 1:
        raise PrefixFileError(
            f"{path} has {len(whole['test_target'])} test targets for {len(whole['test_offsets']) - 1} test prefixes"
        )
    items = ("train_items", "test_items", "test_target")
    for key in items:
        if whole[key].min() < 1:
            raise PrefixFileError(f"{path}: {key} has item {whole[key].min()}; items count from 1")
    return PrefixData(**whole, n_items=max(said, *(int(whole[key].max()) for key in items)))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Those of a file's arrays that are read."""
    try:
        held = np.load(path, allow_pickle=False)
        if not isinstance(held, np.lib.npyio.NpzFile):
            raise PrefixFileError(f"{path} holds one array; an .npz with {list(KEYS)} is needed")
        with held:
            return {key: held[key] for key in held if key in {*KEYS, "n_items"}}
    except FileNotFoundError as error:
        raise PrefixFileError(f"there is no file {path}") from error
    except PrefixFileError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise PrefixFileError(f"{path} is not an .npz file that can be read: {error}") from error


def _check_offsets(path: Path, part: str, items: Ints, offsets: Ints) -> None:
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(items):
        ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "nowhere"
        raise PrefixFileError(f"{path}: {part}_offsets run from {ends}; they must run from 0 to {len(items)}")
    short = np.flatnonzero(np.diff(offsets) < 1)
    if len(short):
        raise PrefixFileError(f"{path}: {part} row {short[0]} is empty; every row needs an item")


def last_items(items: Ints, offsets: Ints, width: int) -> tuple[Ints, Ints]:
    """The last items of each row, padded at the end.

    Returns:
        (M, width) int64, 0 where padded, and (M,) lengths in [1, width].
    """
    start = np.maximum(offsets[:-1], offsets[1:] - width)
    lengths = offsets[1:] - start
    place = np.arange(width)
    held = place < lengths[:, None]
    return np.where(held, items[np.where(held, start[:, None] + place, 0)], 0), lengths


def sessions_of_test(data: PrefixData) -> Ints:
    """(M,) which session each test prefix was cut from, counted from 0.

    Prefixes of one session follow each other, and one is the other and its target. Files have the longest first, or the
    shortest; which, the file itself tells.
    """
    rows = [data.test_items[a:b] for a, b in zip(data.test_offsets[:-1], data.test_offsets[1:], strict=True)]
    lengths = np.diff(data.test_offsets)

    def grows(shorter: int, longer: int) -> bool:
        return (
            lengths[longer] == lengths[shorter] + 1
            and rows[longer][-1] == data.test_target[shorter]
            and bool((rows[longer][:-1] == rows[shorter]).all())
        )

    down = np.array([grows(m + 1, m) for m in range(len(rows) - 1)], dtype=bool)
    up = np.array([grows(m, m + 1) for m in range(len(rows) - 1)], dtype=bool)
    together = down if down.sum() >= up.sum() else up
    return np.concatenate([[0], np.cumsum(~together)]).astype(np.int64)


def rank_of(scores: NDArray[np.floating], target: Ints) -> Ints:
    """(B,) rank of the target among all items, best 1; items with an equal score stand before it.

    Args:
        scores: (B, N + 1); column 0 is not read. A score that is not a number counts against the model.
        target: (B,) items in 1..N.
    """
    own = scores[np.arange(len(target)), target][:, None]
    return (~(scores[:, 1:] < own)).sum(1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one model in per cent, means over its seeds.

    Attributes:
        recall: share of the prefixes whose target is among the first 20. mrr: mean of 1 / rank, 0 beyond 20.
        recall_interval, mrr_interval: (low, high), 95 %, over test sessions and seeds.
        per_seed: [(recall, mrr)].
        drawn: (2, resamples) recall and mrr of each bootstrap sample; the same sessions for every model, so that
            differences between models are paired.
    """

    recall: float
    mrr: float
    recall_interval: tuple[float, float]
    mrr_interval: tuple[float, float]
    per_seed: list[tuple[float, float]]
    drawn: NDArray[np.float64]

    def ahead_of(self, other: "Figures") -> dict[str, list[float]]:
        """How far this model leads, in percentage points: recall and mrr as [difference, low, high]."""
        leads = zip((self.recall - other.recall, self.mrr - other.mrr), self.drawn - other.drawn, strict=True)
        return {name: [lead, *_interval(drawn)] for name, (lead, drawn) in zip(("recall", "mrr"), leads, strict=True)}


def figures(ranks: Ints, sessions: Ints, *, k: int = K, resamples: int = 1_000, seed: int = 0) -> Figures:
    """Recall and mean reciprocal rank among the first `k`, with bootstrap intervals.

    Whole sessions are resampled, for predictions within one hang together, and seeds with them.

    Args:
        ranks: (R, M) rank of the target, one row a seed.
        sessions: (M,) session numbers 0..G-1, from `sessions_of_test`.
        k: length of the list that counts.
        resamples: bootstrap samples.
        seed: of the resampling.
    """
    if ranks.ndim != 2 or ranks.shape[1] != len(sessions) or ranks.shape[1] == 0 or ranks.min() < 1:
        raise ValueError(f"need ranks from 1, one row a seed, one column a prefix; got shape {ranks.shape}")
    hit = ranks <= k
    n_seeds, n_sessions = len(ranks), int(sessions.max()) + 1
    gains = np.stack([100.0 * hit, 100.0 * hit / ranks])  # (2, R, M)
    sums = np.stack([[np.bincount(sessions, row, n_sessions) for row in rows] for rows in gains])  # (2, R, G)
    count = np.bincount(sessions, minlength=n_sessions)
    by_session, by_seed = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    drawn = np.empty((2, resamples))
    for sample in range(resamples):
        weight = np.bincount(by_session.integers(0, n_sessions, n_sessions), minlength=n_sessions)
        chosen = by_seed.integers(0, n_seeds, n_seeds)
        drawn[:, sample] = (sums @ weight)[:, chosen].mean(1) / (count @ weight)
    means = gains.mean(2)  # (2, R)
    recall, mrr = means.mean(1)
    per_seed = [(float(a), float(b)) for a, b in means.T]
    return Figures(float(recall), float(mrr), _interval(drawn[0]), _interval(drawn[1]), per_seed, drawn)


def _interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def cpu_seconds() -> float:
    """User and system seconds that this process and the children it waited for have used."""
    return sum(os.times()[:4])
