"""The policy at work: from a shopper's history to a slate, with NumPy and ONNX Runtime alone.

Shapes: B shoppers, T tokens, K places, N items, D width of the item vectors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..datasets.schema import Event
from ..datasets.tokens import Floats, History, Ints
from ..errors import BundleError, UnknownItemError
from .bundle import Bundle
from .history import SESSION_GAP, BuiltHistory, ShopperEvent, build_history
from .items import Items
from .ruled import RulesAtWork
from .sampling import check_temperature, draw_slate, top_k
from .valued import best_scores

INPUTS = ("items", "events", "gaps", "lengths")
SCORES = ("scores",)
PARTS = ("utility", "gain", "outside", "place")
"""What a graph gives: scores, or, of a SlateQ policy under rules, what they are made from."""
UNSHOWABLE = -1e8  # a score this low says that the policy may not show the item
_TRIED = "tried out: not among the best, drawn to learn about it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a slate may hold. Items whose price is unknown pass no bound on the price.

    Attributes:
        categories: any of these; all by default.
        brands: any of these; all by default.
        min_price: lowest price, in the shop's currency.
        max_price: highest price.
    """

    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One place of a slate.

    Attributes:
        item: dense index.
        item_id: the shop's own id.
        score: the policy's score of the item after this history.
        propensity: chance, in (0, 1], that the item came to this place given those above it.
        reason: how it was chosen, in words.
        because_of: id of the item of the history that the reason names, if any.
    """

    item: int
    item_id: str
    score: float
    propensity: float
    reason: str
    because_of: str | None = None


@dataclass(frozen=True, slots=True)
class ServedSlate:
    """A slate, best place first.

    Attributes:
        places: the items; fewer than asked for where filters and exclusions left no more.
        asked: places asked for.
        notice: says why the slate is shorter than asked for; None where it is not.
    """

    places: tuple[Recommendation, ...]
    asked: int
    notice: str | None = None

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def items(self) -> Ints:
        """(K',) dense indices."""
        return np.array([place.item for place in self.places], np.int64)


class Runtime:
    """A loaded policy. Safe to use from several threads at once."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Load the graph of a bundle.

        Args:
            bundle: verified.
            threads: of ONNX Runtime within one request; more than one lengthens the tail under load.

        Raises:
            BundleError: the graph cannot be run, is no policy for this catalogue, or has rules that are not known here.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.policy_path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises classes of its own for every kind of failure
            raise BundleError(f"{bundle.policy_path} cannot be run: {error}; export the bundle again") from error
        self._outputs = tuple(entry.name for entry in self._session.get_outputs())
        if self._outputs not in (SCORES, PARTS):
            raise BundleError(f"{bundle.policy_path} gives {self._outputs}, not {SCORES}; export the bundle again")
        found = tuple(entry.name for entry in self._session.get_inputs())
        if found != INPUTS:
            raise BundleError(f"{bundle.policy_path} reads {found}, not {INPUTS}; export the bundle again")
        self.bundle = bundle
        catalogue = bundle.catalogue
        self.items = Items(catalogue)
        try:
            rules = bundle.rules
            self._rules = None if rules is None else RulesAtWork(rules, catalogue, bundle.item_vectors)
        except ValueError as error:
            raise BundleError(f"{bundle.folder} has rules that cannot be kept: {error}; export it again") from error
        width = self._run(History.empty(1))[0].shape[1]
        if width != catalogue.n_items + 1:
            raise BundleError(
                f"{bundle.policy_path} scores {width - 1} items, the catalogue has {catalogue.n_items}; export it again"
            )

    def history(
        self, events: Sequence[ShopperEvent], *, strict: bool = False, session_gap: float = SESSION_GAP
    ) -> BuiltHistory:
        """The part of a shopper's events that the policy reads; see `history.build_history`."""
        limit = self.bundle.history_limit
        return build_history(events, self.items, last=limit, strict=strict, session_gap=session_gap)

    def scores(self, history: History) -> Floats:
        """(B, N + 1) scores of all items; -inf at index 0 and at items that may not be shown."""
        return self._scores_among(history, self.bundle.catalogue.available)

    def _scores_among(self, history: History, allowed: NDArray[np.bool_]) -> Floats:
        """(B, N + 1) scores of the items that are `allowed`, (N + 1,); -inf of all others."""
        first, *more = self._run(history)
        showable = allowed & (first > UNSHOWABLE)
        if not more:
            return np.where(showable, first, np.float32(-np.inf))
        gain, outside, place = (part.astype(np.float64) for part in more)
        rows = zip(first.astype(np.float64), gain, outside.tolist(), showable, strict=True)
        found = [best_scores(likes, gains, nothing, place, may, self.best) for likes, gains, nothing, may in rows]
        return np.stack(found).astype(np.float32)

    def best(self, scores: NDArray[np.floating], k: int) -> Ints:
        """(K',) the best slate of (N + 1,) scores; one that keeps the bundle's rules, if it has any."""
        return top_k(scores, k) if self._rules is None else self._rules.best(scores.astype(np.float64), k)

    def _run(self, history: History) -> list[Floats]:
        values = (history.items, history.events, history.gaps, history.lengths)
        return [np.asarray(one) for one in self._session.run(None, dict(zip(INPUTS, values, strict=True)))]

    def recommend(
        self,
        history: History | Sequence[ShopperEvent],
        k: int | None = None,
        *,
        exclude: Sequence[str] = (),
        filters: Filters | None = None,
        explore: float = 0.0,
        rng: np.random.Generator | None = None,
        strict: bool = False,
    ) -> ServedSlate:
        """The slate for one shopper.

        Args:
            history: one row, or the shopper's events.
            k: places; as many as the policy was trained for by default.
            exclude: item ids to leave out; ids that the catalogue lacks are passed over.
            filters: what the slate may hold.
            explore: temperature. 0 shows the best slate, with propensity 1 at every place; above 0 the slate is drawn
                by Plackett-Luce with weights exp(score / explore), among the items that filters, exclusions and, place
                by place, the bundle's rules leave.
            rng: luck for exploring.
            strict: refuse ids of the history or of `exclude` that the catalogue lacks.

        Raises:
            UnknownItemError: `strict`, and an id is not in the catalogue.
            ValueError: `k` or `explore` is out of range, or exploring without `rng`.
        """
        k = self.bundle.k if k is None else k
        if k < 1:
            raise ValueError(f"need k >= 1, got k={k}")
        check_temperature(explore)
        if explore and rng is None:
            raise ValueError(f"explore={explore} draws slates: pass rng, for instance np.random.default_rng(seed)")
        if not isinstance(history, History):
            history = self.history(history, strict=strict).history
        allowed = self.bundle.catalogue.available & self._allowed(exclude, filters, strict)
        scores = self._scores_among(history, allowed)[0].astype(np.float64)
        best = self.best(scores, k)
        items, chances = best, np.ones(len(best))
        if explore and rng is not None:
            drawn = draw_slate if self._rules is None else self._rules.draw
            items, chances = drawn(scores / explore, k, rng)
        reasons = self._reasons(history, items, best)
        places = tuple(
            Recommendation(item, self.items[item].item_id, float(scores[item]), float(chance), *reason)
            for item, chance, reason in zip(items.tolist(), chances, reasons, strict=True)
        )
        notice = None
        if len(places) < k:
            named = "filters, exclusions" if self._rules is None else "rules, filters, exclusions"
            notice = f"{len(places)} of {k} places filled: {named} and availability leave no more items"
        return ServedSlate(places, k, notice)

    def _allowed(self, exclude: Sequence[str], filters: Filters | None, strict: bool) -> NDArray[np.bool_]:
        """(N + 1,) items that a request lets pass."""
        allowed = np.ones(self.bundle.catalogue.n_items + 1, dtype=bool)
        if exclude:
            left_out = self.items.index_of(exclude)
            if strict and not left_out.all():
                unknown = [item for item, index in zip(exclude, left_out, strict=True) if not index]
                raise UnknownItemError(f"{len(unknown)} excluded items are not in the catalogue, first {unknown[0]!r}")
            allowed[left_out] = False
        if filters is None:
            return allowed
        if filters.categories:
            allowed &= self.items.labelled("category", filters.categories)
        if filters.brands:
            allowed &= self.items.labelled("brand", filters.brands)
        if filters.min_price is not None:
            allowed &= self.items.prices >= filters.min_price  # nan compares false
        if filters.max_price is not None:
            allowed &= self.items.prices <= filters.max_price
        return allowed

    def _reasons(self, history: History, items: Ints, best: Ints) -> list[tuple[str, str | None]]:
        """Why each item was chosen, and the id of the item of the history that it is most alike."""
        chosen, greedy = items.tolist(), set(best.tolist())
        if not history.lengths[0]:
            return [("a first pick for a new shopper" if item in greedy else _TRIED, None) for item in chosen]
        events = history.events[0]
        touched = np.unique(history.items[0][(events >= Event.VIEW) & (events <= Event.PURCHASE)])
        vectors = self.bundle.item_vectors
        alike = vectors[items] @ vectors[touched].T  # (K, touched)
        nearest = alike.argmax(axis=1).tolist() if len(touched) else []
        reasons: list[tuple[str, str | None]] = []
        for place, item in enumerate(chosen):
            if item not in greedy:
                reasons.append((_TRIED, None))
            elif not nearest or alike[place, nearest[place]] <= 0:
                reasons.append(("fits this visit as a whole", None))
            else:
                source = int(touched[nearest[place]])
                words = "looked at before" if source == item else f"like {self.items[source].title}"
                reasons.append((words, self.items[source].item_id))
        return reasons
