"""Items that follow each other in sessions: what a text model is fine-tuned on, and how well it foretells them.

Shapes: C candidate items, E width of vectors, N items, P pairs, S sessions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from ..datasets.schema import Event
from ..datasets.tokens import Ints, Tokens
from ..errors import EvidenceError

_FEWEST_PAIRS, _FEWEST_LATER = 200, 20
_RESAMPLES = 1_000


def item_pairs(tokens: Tokens) -> tuple[Ints, Ints]:
    """Items that follow each other, (P, 2), and (P,) their sessions.

    Ignored slates are passed over, and so are pairs of an item with itself.
    """
    chosen = tokens.events != Event.IMPRESSION
    session = np.repeat(np.arange(len(tokens)), tokens.lengths)[chosen]
    items = tokens.items[chosen]
    follows = (session[1:] == session[:-1]) & (items[1:] != items[:-1])
    return np.stack([items[:-1], items[1:]], axis=1)[follows], session[1:][follows].astype(np.int64)


@dataclass(frozen=True)
class PairParts:
    """Pairs to learn from, and those of later sessions: one half chooses when to stop, the other judges.

    Attributes:
        train: (P, 2) pairs of the earlier sessions.
        choosing: (P, 2) pairs of every other later session. judging: those of the others.
        judging_session: the session of each pair in `judging`.
        candidates: (C,) sorted items among which the next one is looked for.
        chance: (N + 1,) how often an item is the second of a pair in `train`.
    """

    train: Ints
    choosing: Ints
    judging: Ints
    judging_session: Ints
    candidates: Ints
    chance: NDArray[np.float64]

    @classmethod
    def of(cls, log: ShopLog, *, later: float, most: int, candidates: int, seed: int) -> "PairParts":
        """The pairs of a log.

        Args:
            log: the sessions.
            later: share of the sessions, the latest, that is not learnt from.
            most: pairs in each half of the later ones, at most.
            candidates: items to look among, at most, but all that the later pairs name.
            seed: of what is drawn.

        Raises:
            EvidenceError: a part has too few pairs.
        """
        rng = np.random.default_rng([seed, 0])
        begun = log.sessions["start"].to_numpy(dtype="datetime64[us]")
        pairs, session = item_pairs(log.tokens.part(np.argsort(begun, kind="stable")))
        learnt = session < round(len(log) * (1 - later))
        train = pairs[learnt]
        choosing, judging = (
            _drawn(np.flatnonzero(~learnt & (session % 2 == half)), most, rng) for half in (0, 1)
        )  # places among the pairs
        fewest = min(len(choosing), len(judging))
        if len(train) < _FEWEST_PAIRS or fewest < _FEWEST_LATER:
            raise EvidenceError(
                f"fine-tuning needs {_FEWEST_PAIRS} pairs of items that follow each other in the earlier sessions, and "
                f"{_FEWEST_LATER} in each half of the later ones; this log has {len(train)} and {fewest}"
            )
        n_items = log.catalogue.n_items
        asked = np.unique(pairs[np.concatenate([choosing, judging])])
        others = rng.permutation(np.setdiff1d(np.arange(1, n_items + 1), asked))
        return cls(
            train,
            pairs[choosing],
            pairs[judging],
            session[judging],
            np.sort(np.concatenate([asked, others[: max(candidates - len(asked), 0)]])),
            np.bincount(train[:, 1], minlength=n_items + 1) / len(train),
        )

    def content(self, texts: Sequence[str]) -> str:
        """A hash of the pairs and of the items' texts."""
        digest = hashlib.sha256("\0".join(texts).encode())
        for part in (self.train, self.choosing, self.judging):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]


def _drawn(places: Ints, most: int, rng: np.random.Generator) -> Ints:
    return np.sort(rng.choice(places, most, replace=False)) if len(places) > most else places


def pair_ranks(vectors: Tensor, items: Ints, pairs: Ints) -> Ints:
    """(P,) rank of each pair's second item among the items nearest to its first, best 1; ties count against it.

    Args:
        vectors: (C, E) unit vectors of `items`.
        items: (C,) sorted items; each has all items of the pairs.
        pairs: (P, 2).
    """
    place = torch.from_numpy(np.searchsorted(items, pairs)).to(vectors.device)
    alike = vectors[place[:, 0]] @ vectors.T  # (P, C)
    own = alike.gather(1, place[:, 1:])
    alike.scatter_(1, place[:, :1], -2.0)  # an item is nearest to itself, and is not asked for
    return (alike >= own).sum(1).cpu().numpy().astype(np.int64)


def gain(
    before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]], session: Ints, seed: int
) -> dict[str, Any]:
    """Means of a figure of each pair before and after, and what was gained with its 95 % interval.

    Args:
        before: (P,) the figure before.
        after: (P,) and after.
        session: (P,) sessions of the pairs; they are resampled whole, for what is in one hangs together.
        seed: of the resampling.
    """
    _, group = np.unique(session, return_inverse=True)
    size, gained = np.bincount(group), np.bincount(group, after - before)
    drawn = np.random.default_rng(seed).integers(0, len(size), (_RESAMPLES, len(size)))
    low, high = np.quantile(gained[drawn].sum(1) / size[drawn].sum(1), [0.025, 0.975])
    return {
        "before": round(float(before.mean()), 4),
        "after": round(float(after.mean()), 4),
        "gain": round(float((after - before).mean()), 4),
        "gain_interval": (round(float(low), 4), round(float(high), 4)),
    }
