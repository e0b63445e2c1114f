"""What the boosted shopper looks at: features counted by hand from what was seen and done, with nothing encoded.

Shapes: B shoppers, K items looked at together, F item columns, Q shopper columns, N items, P pairs of items.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from ..encoders.neighbours import item_similarities
from .features import item_facts
from .occasions import Occasions, views
from .popularity import SMOOTHING, expected_clicks, shown_popularity, viewed_popularity
from .trail import SHOWN_KEPT, TAKEN_KEPT, Trail

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
ITEM_COLUMNS = (
    "price",
    "price_in_category",
    "dearer",
    "cheaper",
    "popularity",
    "liked",
    "similar",
    "similar_to_last",
    "category_share",
    "brand_share",
    "category_shown",
    "shown_before",
    "taken_before",
    "clicked_before",
    "bought_before",
)
"""Columns of an item for a shopper. "Recent" counts each thing done `RECENT` times as much as the one after it.

- `price`, `price_in_category`: log price, standardised over the catalogue, and within the category.
- `dearer`, `cheaper`: how far `price_in_category` lies above or below its recent mean over the items taken; nan where
  nothing was taken yet.
- `popularity`: log of how often the log shows the item (without slates: views it) over the mean item, smoothed.
- `liked`: log of its clicks over what its places would have brought any item, smoothed; 0 without slates.
- `similar`, `similar_to_last`: how often the item shares a session with the latest `SIMILAR_TO` items taken (recent
  sum), and with the last of them.
- `category_share`, `brand_share`: recent share of its category and its brand among the items taken.
- `category_shown`: recent number of slots that held an item of its category (each slot `SHOWN` times the one after).
- `shown_before`: log(1 + times that the item was on one of the latest slates).
- `taken_before`, `clicked_before`, `bought_before`: recent number of times that it was.
"""
SHOPPER_COLUMNS = ("slates", "idle", "interests", "clicks")
"""Columns of a shopper: log(1 + slates shown), log(1 + slates since something was taken), log(1 + items taken), and
log(1 + items clicked, of the latest)."""
CHOICE_COLUMNS = ("nothing", "size", *ITEM_COLUMNS, *SHOPPER_COLUMNS)
"""Columns of an alternative: whether it is choosing nothing, log of how many items the slate holds, the item's, the
shopper's. Of an item `size` is nan, and of choosing nothing the item's columns are."""
LEAVING_COLUMNS = ("slates", "first", "idle", "clicks", "clicked", "carted", "purchased", "liked", "similar", "shown")
"""Columns of leaving after a slate: log of its number, whether it was the first, log(1 + slates since something was
taken), the shopper's earlier clicks, what came of it, and means over its items of `liked`, `similar` and
`category_shown`."""
RECENT, SHOWN = 0.7, 0.95
SIMILAR_TO = 4
GRAIN = 4096
"""Steps a unit in which the columns are told apart."""
NEIGHBOURS = 50
"""Similar items known of each item."""
_LIKED, _SIMILAR, _SHOWN = (ITEM_COLUMNS.index(name) for name in ("liked", "similar", "category_shown"))


@dataclass(frozen=True)
class ItemTables:
    """What is known of the items, by dense index; row 0 is 0.

    Attributes:
        price, price_in_category, popularity, liked: (N + 1,) float32, see `ITEM_COLUMNS`.
        category, brand: (N + 1,) int64 numbers from 1.
        pairs: (P,) int64 ascending, `one * (N + 1) + other` of items that share sessions; the last is past them all.
        alike: (P,) float32 how often they do, see `encoders.neighbours`; the last is 0.
    """

    price: Tensor
    price_in_category: Tensor
    popularity: Tensor
    liked: Tensor
    category: Tensor
    brand: Tensor
    pairs: Tensor
    alike: Tensor

    def to(self, device: torch.device) -> "ItemTables":
        """The same on a device."""
        return ItemTables(*(getattr(self, one.name).to(device) for one in fields(self)))

    @cached_property
    def n_categories(self) -> int:
        """Numbers of categories, 0 among them."""
        return int(self.category.max()) + 1

    @cached_property
    def n_brands(self) -> int:
        """Numbers of brands, 0 among them."""
        return int(self.brand.max()) + 1


def learn_tables(log: ShopLog, occasions: Occasions, weight: NDArray[np.float64], learn: Bools) -> ItemTables:
    """Tables of a log's items.

    Args:
        log: the sessions.
        occasions: slates or next views of it.
        weight: (sessions,) how often each session counts in what was shown and clicked, or viewed.
        learn: (sessions,) which of them the tables may know.
    """
    n, zeros = log.catalogue.n_items, np.zeros(log.catalogue.n_items + 1, np.float32)
    if occasions.correction is None:
        rows = learn[occasions.session]
        items, clicked, often = occasions.items[rows], occasions.clicked[rows], weight[occasions.session[rows]]
        popularity, liked = shown_popularity(items, clicked, n, often), _liked(items, clicked, often, n)
    else:
        viewer, _, viewed = views(log)
        there = learn[viewer]
        popularity, liked = viewed_popularity(viewed[there], n, weight[viewer[there]]), zeros
    # Not by weight: so the members of an ensemble share the pairs, which are the bulk of the tables.
    similar = item_similarities(log.tokens.part(np.flatnonzero(learn)), n, neighbours=NEIGHBOURS)
    similar.sort_indices()
    one = np.repeat(np.arange(n + 1), np.diff(similar.indptr))
    facts = item_facts(log.catalogue, popularity)
    brand = np.unique(log.catalogue.frame["brand"].to_numpy(dtype=object).astype(str), return_inverse=True)[1]
    return ItemTables(
        price=facts.price,
        price_in_category=facts.price_in_category,
        popularity=facts.popularity,
        liked=torch.from_numpy(liked),
        category=facts.category,
        brand=torch.from_numpy(np.append(0, brand + 1).astype(np.int64)),
        pairs=torch.from_numpy(np.append(one * (n + 1) + similar.indices, (n + 1) ** 2).astype(np.int64)),
        alike=torch.from_numpy(np.append(similar.data, 0).astype(np.float32)),
    )


def _liked(items: NDArray[np.int64], clicked: NDArray[np.int64], weight: NDArray[np.float64], n_items: int) -> Floats:
    """(N + 1,) log of clicks over expected clicks.

    Source: Zhang and Jones, "Comparing click logs and editorial labels for training query rewriting", 2007.
    """
    hit = np.flatnonzero(clicked >= 0)
    clicks = np.bincount(items[hit, clicked[hit]], weight[hit], minlength=n_items + 1)
    table = np.log((clicks + SMOOTHING) / (expected_clicks(items, clicked, n_items, weight) + SMOOTHING))
    table[0] = 0
    return table.astype(np.float32)


def item_columns(trail: Trail, items: Tensor, tables: ItemTables) -> Tensor:
    """(B, K, F) float32 columns of items (B, K), 0 in empty slots, for shoppers; of empty slots they mean nothing."""
    device = items.device
    recent = RECENT ** torch.arange(TAKEN_KEPT, device=device)
    taken, shown = trail.taken, SHOWN ** torch.arange(SHOWN_KEPT, device=device)
    weight = recent * (taken > 0)
    total = weight.sum(1, keepdim=True)
    within = tables.price_in_category[items]
    usual = (weight * tables.price_in_category[taken]).sum(1, keepdim=True) / total  # nan where nothing was taken
    away, category = within - usual, tables.category[items]
    alike = _alike(items, taken[:, :SIMILAR_TO], tables)
    n, categories, brands = len(tables.price), tables.n_categories, tables.n_brands
    columns = [
        tables.price[items],
        within,
        away.clamp(min=0),
        (-away).clamp(min=0),
        tables.popularity[items],
        tables.liked[items],
        (alike * recent[:SIMILAR_TO]).sum(-1),
        alike[..., 0],
        _among(category, tables.category[taken], recent, categories) / total.clamp(min=1e-6),
        _among(tables.brand[items], tables.brand[taken], recent, brands) / total.clamp(min=1e-6),
        _among(category, tables.category[trail.shown], shown, categories),
        _among(items, trail.shown, torch.ones_like(shown), n).log1p(),
        *(_among(items, kept, recent, n) for kept in (taken, trail.clicked, trail.bought)),
    ]
    return _rounded(torch.stack(columns, -1))


def _rounded(columns: Tensor) -> Tensor:
    """To the grain: a batch may sum in another order than a single row, and a tree must not tell the two apart."""
    return torch.round(columns * GRAIN) / GRAIN


def _among(wanted: Tensor, kept: Tensor, weight: Tensor, size: int) -> Tensor:
    """(B, K) weight (R,) of the places kept (B, R) that hold each of the numbers wanted (B, K), all below `size`."""
    weight = weight.to(torch.float32)
    if size > wanted.shape[1] * kept.shape[1]:
        return (wanted[:, :, None] == kept[:, None, :]).to(torch.float32) @ weight
    table = torch.zeros(len(kept), size, device=kept.device)
    return table.scatter_add_(1, kept, weight.expand(len(kept), -1)).gather(1, wanted)


def _alike(items: Tensor, taken: Tensor, tables: ItemTables) -> Tensor:
    """(B, K, R) how often items (B, K) share a session with those taken (B, R)."""
    wanted = taken[:, None, :] * len(tables.price) + items[:, :, None]
    place = torch.searchsorted(tables.pairs, wanted)
    return tables.alike[place] * (tables.pairs[place] == wanted)


def shopper_columns(trail: Trail) -> Tensor:
    """(B, Q) float32 columns of shoppers."""
    counts = (trail.slates, trail.idle, trail.interests, (trail.clicked > 0).sum(1))
    return torch.stack([count.float().log1p() for count in counts], 1)


def alternatives(items: Tensor, shoppers: Tensor, filled: Tensor, size: Tensor | None) -> Floats:
    """(R, 2 + F + Q) rows of `CHOICE_COLUMNS`: the filled slots in order, then choosing nothing, if that is asked for.

    Args:
        items: (B, K, F) columns.
        shoppers: (B, Q) columns.
        filled: (B, K) bool slots.
        size: (B,) items that the slates hold, to add the B rows of choosing nothing; none for no such rows.
    """
    owner, f = torch.nonzero(filled)[:, 0], items.shape[2]
    count = len(owner)
    rows = torch.full((count + (0 if size is None else len(size)), 2 + f + shoppers.shape[1]), torch.nan)
    rows[:count, 0] = 0
    rows[:count, 2:] = torch.cat([items[filled].cpu(), shoppers[owner].cpu()], 1)
    if size is not None:
        rows[count:, 0] = 1
        rows[count:, 1] = size.cpu().clamp(min=1).float().log()
        rows[count:, 2 + f :] = shoppers.cpu()
    return rows.numpy()


def leaving_columns(items: Tensor, shoppers: Tensor, filled: Tensor, outcome: Tensor) -> Floats:
    """(B, 10) rows of `LEAVING_COLUMNS`.

    Args:
        items: (B, K, F) columns before the slate.
        shoppers: (B, Q) columns before the slate.
        filled: (B, K) bool slots.
        outcome: (B,) codes of `funnel.OUTCOMES`.
    """
    slates, idle, _, clicks = shoppers.unbind(1)
    there = filled[:, :, None].to(items.dtype)
    mean = _rounded((items[..., [_LIKED, _SIMILAR, _SHOWN]] * there).sum(1) / there.sum(1).clamp(min=1))
    now = torch.where(outcome > 0, 0.0, idle.exp()).log1p()  # `idle` is log(1 + slates): its exponential is one more
    columns = [slates, slates == 0, now, clicks, *(outcome >= depth for depth in (1, 2, 3))]
    told = torch.stack([column.to(torch.float32) for column in columns], 1)
    return torch.cat([told, mean], 1).cpu().numpy()
