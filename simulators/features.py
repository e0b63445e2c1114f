"""Named features of an item for a shopper: all that a fitted shopper's choices may depend on.

Shapes: B shoppers, K items looked at together, F features, O outside features, N items, D width of a state.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..datasets.catalogue import Catalogue
from .draw import Draw
from .trail import SHOWN_KEPT, TAKEN_KEPT, Trail

ITEM_FEATURES = (
    "match",
    "match_high",
    "price",
    "price_in_category",
    "dearer",
    "cheaper",
    "popularity",
    "popularity_low",
    "popularity_high",
    "shown_before",
    "viewed_before",
    "clicked_before",
    "bought_before",
    "same_category",
    "category_share",
    "category_clicks",
    "category_shown",
    "category_draw",
)
"""Columns of `item_features`, in order:

- `match`: cosine of the shopper's state and the item's vector.
- `match_high`: how far `match` lies above its 90th percentile in the log, so that the effect may bend there.
- `price`: log price, standardised over the catalogue.
- `price_in_category`: log price, standardised within the item's category.
- `dearer`, `cheaper`: how far `price_in_category` lies above or below its mean over the items taken so far, else 0.
- `popularity`: log of how often the log shows the item (without slates: views it) over the mean item, smoothed.
- `popularity_low`, `popularity_high`: how far it lies below, or above, `ItemFacts.knots`, so that its effect may bend.
- `shown_before`: looks that the latest slots which held the item were worth, see `Draw`.
- `viewed_before`, `clicked_before`, `bought_before`: whether the item was viewed but not clicked, clicked, bought.
- `same_category`: whether the item is of the category of the latest item taken.
- `category_share`: share of the latest items taken that are of the item's category, older ones counting less where
  interests fade (`HalfLives`).
- `category_clicks`: log(1 + latest items clicked that are of the item's category), counted likewise.
- `category_shown`: looks that the latest slots which held an item of its category were worth, older slates counting
  less where saturation fades.
- `category_draw`: clicks that these slots would have brought whoever saw them, see `Draw`.
"""
FADING = ("category_share", "category_clicks", "category_shown")
"""Features in which what lies further back may count less."""
SCALED = ("match", "match_high", "price", "price_in_category", "popularity", "popularity_low", "popularity_high")
"""Features measured in standard deviations of the log; the others keep their own unit."""
OUTSIDE_FEATURES = (
    "nothing",
    "nothing_by_slate",
    "nothing_when_idle",
    "nothing_when_new",
    "nothing_after_first",
    "nothing_by_clicks",
    "nothing_by_draw",
    "nothing_by_size",
)
"""Columns of `outside_features`: 1, log(1 + slates so far), log(1 + slates since the latest interest), whether nothing
was taken yet, whether a slate was shown before, how many of the latest items taken were clicked, clicks that the latest
slots shown would have brought whoever saw them (see `Draw`), and log of how many items the slate holds; scaled, that
over the log's usual slate."""


@dataclass(frozen=True, slots=True)
class HalfLives:
    """After how many further ones what lies back counts half in `FADING` features; infinity: it lasts.

    Attributes:
        interests: items taken. saturation: slates shown.
    """

    interests: float = math.inf
    saturation: float = math.inf


LASTING = HalfLives()
"""Nothing fades."""
_CELLS = 2**17  # numbers worked out at once
_TABLE = 32  # categories to an item asked about, up to which a table of all is faster than comparing


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What is known of the items, by dense index; row 0 is 0.

    Attributes:
        price: (N + 1,) float32 log price, standardised over the catalogue.
        price_in_category: (N + 1,) float32 log price, standardised within the category.
        category: (N + 1,) int64 number of the category, from 1.
        popularity: (N + 1,) float32, see `ITEM_FEATURES`.
        knots: (2,) float32 popularity at which its effect may bend.
        draw: of the log's slots.
    """

    price: Tensor
    price_in_category: Tensor
    category: Tensor
    popularity: Tensor
    knots: Tensor
    draw: Draw

    def to(self, device: torch.device) -> "ItemFacts":
        """The same on a device."""
        return ItemFacts(*(getattr(self, name).to(device) for name in self.__slots__))


def item_facts(
    catalogue: Catalogue,
    popularity: NDArray[np.float32],
    knots: tuple[float, float] = (-math.inf, math.inf),
    draw: Draw | None = None,
) -> ItemFacts:
    """Prices and categories of a catalogue as features need them, and what else is told, see `ItemFacts`."""
    price = log_prices(catalogue.prices[1:])
    category = np.unique(catalogue.frame["category"].to_numpy(dtype=object).astype(str), return_inverse=True)[1]
    mean, spread = price.mean(), max(float(price.std()), 1e-6)
    # Means of small categories are drawn towards the catalogue's, as if five more items of its mean price were there.
    level = (np.bincount(category, price) + 5 * mean) / (np.bincount(category) + 5)
    within = price - level[category]
    columns = [(price - mean) / spread, within / max(float(within.std()), 1e-6)]
    price_z, within_z = (torch.from_numpy(np.concatenate([[0.0], one]).astype(np.float32)) for one in columns)
    codes = torch.from_numpy(np.concatenate([[0], category + 1]).astype(np.int64))
    bends = torch.tensor(knots, dtype=torch.float32)
    slots = draw or Draw.alike(len(catalogue))
    return ItemFacts(price_z, within_z, codes, torch.from_numpy(popularity), bends, slots)


def log_prices(prices: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log prices; what is free counts as a cent, or as the lowest price where that is less."""
    exact = prices.astype(np.float64)
    return np.log(np.maximum(exact, np.min(exact, initial=0.01, where=exact > 0)))


@dataclass(frozen=True, slots=True)
class Scaling:
    """How raw features become the numbers that weights multiply.

    Attributes:
        bend: cosine above which `match_high` counts.
        centre: (F,) subtracted. scale: (F,) divided by.
        low: (F,) and high: (F,) raw range seen in the log; simulated features are held within it, for beyond it the log
            has said nothing, and an agent would soon live there.
        half_lives: with which features are made.
        slots: how many items slates held.
    """

    bend: float
    centre: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    half_lives: HalfLives
    slots: "Slots"

    @classmethod
    def of(cls, raw: Tensor, filled: Tensor, bend: float, half_lives: HalfLives = LASTING) -> "Scaling":
        """Scaling of raw features (S, K, F) of the filled slots (S, K), made with this bend and these half-lives."""
        rows = raw[filled].to(torch.float64)
        scaled = torch.tensor([name in SCALED for name in ITEM_FEATURES])
        spread = rows.std(0, unbiased=False)
        # What hardly varies in the log says nothing: it is left at scale 1, where its centre makes it 0.
        return cls(
            bend=bend,
            centre=torch.where(scaled, rows.mean(0), 0.0).to(torch.float32),
            scale=torch.where(scaled & (spread > 1e-6), spread, 1.0).to(torch.float32),
            low=rows.amin(0).to(torch.float32),
            high=rows.amax(0).to(torch.float32),
            half_lives=half_lives,
            slots=Slots.of(filled),
        )

    def outside(self, raw: Tensor) -> Tensor:
        """(B, O) features of clicking nothing, of raw ones."""
        slots = self.slots
        size = raw[:, -1:].clamp(math.log(slots.least), math.log(slots.most)) - math.log(slots.usual)
        return torch.cat([raw[:, :-1], size], 1)

    def __call__(self, raw: Tensor) -> Tensor:
        """Scaled features of raw ones (..., F)."""
        return (raw.clamp(self.low, self.high) - self.centre) / self.scale

    def to(self, device: torch.device) -> "Scaling":
        """The same on a device."""
        centre, scale, low, high = (part.to(device) for part in (self.centre, self.scale, self.low, self.high))
        return Scaling(self.bend, centre, scale, low, high, self.half_lives, self.slots)


@dataclass(frozen=True, slots=True)
class Slots:
    """How many items a log's slates held.

    Attributes:
        usual: geometric mean. least, most: the extremes.
    """

    usual: float
    least: float
    most: float

    @classmethod
    def of(cls, filled: Tensor) -> "Slots":
        """Of slates with these slots filled, (S, K) bool; of one item each where there are none."""
        many = filled.sum(1)[filled.any(1)].double()
        if not len(many):
            return cls(1.0, 1.0, 1.0)
        return cls(float(many.log().mean().exp()), float(many.min()), float(many.max()))


def item_features(
    state: Tensor,
    trail: Trail,
    items: Tensor,
    vectors: Tensor,
    facts: ItemFacts,
    bend: float,
    half_lives: HalfLives = LASTING,
) -> Tensor:
    """Raw features of items for shoppers.

    Args:
        state: (B, D) states of the shopper's encoder.
        trail: of the B shoppers.
        items: (B, K) int64 items, 0 in empty slots; or (K,) items that all shoppers are asked about.
        vectors: (N + 1, D) item vectors of the shopper's encoder.
        facts: of the items.
        bend: cosine above which `match_high` counts.
        half_lives: of what features remember.

    Returns:
        (B, K, F) float32, columns as `ITEM_FEATURES`; those of empty slots mean nothing.
    """
    if items.dim() == 1:
        match, items = state @ vectors[items].T, items.expand(len(state), -1)
        among = _among_many
    else:
        match, among = _match(state, items, vectors), _among_few
    price, within, popularity = (_at(one, items) for one in (facts.price, facts.price_in_category, facts.popularity))
    known = trail.interests > 0
    usual = (trail.price_sum / trail.interests.clamp(min=1))[:, None]
    away = torch.where(known[:, None], within - usual, 0.0)
    category, latest = _at(facts.category, items), facts.category[trail.taken[:, :1]]  # 0 where nothing was taken
    n = len(vectors)
    seen, clicked, bought = (among(items, kept, n).clamp(max=1) for kept in (trail.taken, trail.clicked, trail.bought))
    columns = [
        match,
        (match - bend).clamp(min=0),
        price,
        within,
        away.clamp(min=0),
        (-away).clamp(min=0),
        popularity,
        *bent_popularity(popularity, facts.knots),
        among(items, trail.shown, n, trail.looks),
        (seen - clicked).clamp(min=0),
        clicked,
        bought,
        (category == latest).to(match.dtype),
        *_category_columns(trail, category, facts, half_lives),
    ]
    return torch.stack(columns, -1)


def bent_popularity(popularity: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """How far popularities lie below the first of the (2,) knots, and above the second, 0 otherwise."""
    return (knots[0] - popularity).clamp(min=0), (popularity - knots[1]).clamp(min=0)


def fading_columns(
    trail: Trail, category: Tensor, facts: ItemFacts, half_lives: HalfLives
) -> tuple[Tensor, Tensor, Tensor]:
    """Raw `FADING` features, (B, K) each.

    Args:
        trail: of the B shoppers.
        category: (B, K) int64 categories asked about.
        facts: of the items.
        half_lives: of what is remembered.
    """
    return _category_columns(trail, category, facts, half_lives)[:3]


def _category_columns(
    trail: Trail, category: Tensor, facts: ItemFacts, half_lives: HalfLives
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `fading_columns`, and raw `category_draw`."""
    lately, looks = None, trail.looks
    if not math.isinf(half_lives.interests):
        lately = torch.exp2(-torch.arange(TAKEN_KEPT, device=category.device) / half_lives.interests)
    if not math.isinf(half_lives.saturation):
        ago = trail.slates[:, None] - 1 - trail.shown_at
        looks = looks * torch.exp2(-ago / half_lives.saturation)
    counts = trail.interests.clamp(1, TAKEN_KEPT)
    whole = counts.to(torch.float32) if lately is None else lately.cumsum(0)[counts - 1]
    held = _at(facts.category, torch.cat([trail.taken, trail.clicked, trail.shown], 1))
    size = 1 + max(int(category.max()), int(held.max())) if category.numel() else 1
    # A table of all categories, where they are not so many that it takes longer than comparing.
    among = _among_many if size <= _TABLE * category.shape[1] else _among_few
    taken, clicked, shown = held.split((TAKEN_KEPT, TAKEN_KEPT, SHOWN_KEPT), 1)
    counted = (taken, lately), (clicked, lately), (shown, looks), (shown, trail.draws)
    taken, clicked, shown, draw = (among(category, kept, size, weight) for kept, weight in counted)
    return taken / whole[:, None], clicked.log1p(), shown, draw


def _at(column: Tensor, items: Tensor) -> Tensor:
    """(B, K) what a column (N + 1,) says of items (B, K)."""
    return column.index_select(0, items.flatten()).view(items.shape)


def _match(state: Tensor, items: Tensor, vectors: Tensor) -> Tensor:
    """(B, K) products of states (B, D) with the vectors (N + 1, D) of items (B, K)."""
    pieces = _pieces(items, items.shape[1] * vectors.shape[1])
    found = [torch.bmm(F.embedding(items[rows], vectors), state[rows].unsqueeze(2)).squeeze(2) for rows in pieces]
    return found[0] if len(found) == 1 else torch.cat(found)


def _among_few(wanted: Tensor, kept: Tensor, _: int, weight: Tensor | None = None) -> Tensor:
    """(B, K) how often each of a few wanted numbers (B, K) is among those kept (B, R).

    Each kept weighs 1, or as `weight` says, (R,) or (B, R).
    """
    each = None if weight is None else weight.expand(kept.shape).unsqueeze(2)
    # Floats are subtracted many at a time, while integers are compared one by one; numbers up to 2^24 stay exact.
    wanted, kept, found = wanted.to(torch.float32).unsqueeze(2), kept.to(torch.float32).unsqueeze(1), []
    for rows in _pieces(wanted, wanted.shape[1] * kept.shape[2]):
        apart = (wanted[rows] - kept[rows]).abs_().clamp_(max=1.0)
        found.append(kept.shape[2] - apart.sum(2) if each is None else ((1.0 - apart) @ each[rows]).squeeze(2))
    return found[0] if len(found) == 1 else torch.cat(found)


def _pieces(of: Tensor, width: int) -> list[slice]:
    """Rows to work out at once, so that as many times `width` numbers stay in a processor's cache."""
    whole = max(1, len(of))
    size = max(1, _CELLS // width) if of.device.type == "cpu" else whole
    return [slice(begin, begin + size) for begin in range(0, whole, size)]


def _among_many(wanted: Tensor, kept: Tensor, size: int, weight: Tensor | None = None) -> Tensor:
    """As `_among_few` for numbers below `size`, in memory of B x size instead of B x K x R."""
    counts = torch.zeros(len(kept), size, device=kept.device)
    each = torch.ones_like(kept, dtype=counts.dtype) if weight is None else weight.expand(kept.shape)
    counts.scatter_add_(1, kept, each)
    return counts.gather(1, wanted)


def outside_features(trail: Trail, size: Tensor) -> Tensor:
    """(B, O) float32 raw features of clicking nothing on slates of (B,) items, columns as `OUTSIDE_FEATURES`."""
    slates, idle = torch.log1p(trail.slates.float()), torch.log1p(trail.idle.float())
    told = (trail.interests == 0).float(), (trail.slates > 0).float()
    clicks, draw = (trail.clicked > 0).sum(1).float(), trail.draws.sum(1)
    return torch.stack([torch.ones_like(slates), slates, idle, *told, clicks, draw, size.clamp(min=1).float().log()], 1)
