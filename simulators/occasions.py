"""The moments of a log at which a shopper chose: slates shown, or, where none were logged, the next item viewed.

Shapes: S occasions, K slots or alternatives, N items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog, Slates
from ..datasets.schema import Event
from ..datasets.tokens import Ints
from ..encoders.state import StateEncoder
from .choice_fit import ChoiceData
from .features import ITEM_FEATURES, LASTING, HalfLives, ItemFacts, Scaling
from .replay import Progress, Replay, replay

POPULARITY = ITEM_FEATURES.index("popularity")
POPULARITY_BENT = [ITEM_FEATURES.index(name) for name in ("popularity_low", "popularity_high")]
MATCH, MATCH_HIGH = ITEM_FEATURES.index("match"), ITEM_FEATURES.index("match_high")


@dataclass(frozen=True, slots=True)
class Occasions:
    """Moments of choice.

    Attributes:
        session: (S,) session numbers, non-decreasing. before: (S,) how many of the session's tokens came before.
        items: (S, K), 0 in empty slots; of alternatives the one viewed comes first.
        clicked: (S,) slot, -1 for none.
        correction: (S, K) for sampled alternatives, see `choice.next_view_log_chance`; none for slates.
        given_click: whether they are slates of a log that keeps only those that were clicked, see `given_click`.
    """

    session: Ints
    before: Ints
    items: Ints
    clicked: Ints
    correction: NDArray[np.float64] | None = None
    given_click: bool = False

    def __len__(self) -> int:
        return len(self.session)

    @classmethod
    def of_slates(cls, slates: Slates, given_click: bool = False) -> "Occasions":
        """The slates of a log."""
        return cls(slates.session, slates.before, slates.items, slates.clicked, given_click=given_click)

    def replay(
        self,
        log: ShopLog,
        encoder: StateEncoder,
        facts: ItemFacts,
        bend: float,
        progress: Progress | None = None,
        half_lives: HalfLives = LASTING,
    ) -> Replay:
        """What these moments of `log` looked like to the shoppers."""
        shown = self.correction is None
        return replay(
            log.tokens,
            self.session,
            self.before,
            self.items,
            encoder=encoder,
            facts=facts,
            bend=bend,
            half_lives=half_lives,
            shown=shown,
            progress=progress,
        )

    def data(self, seen: Replay, scaling: Scaling, weight: NDArray[np.float64] | None = None) -> ChoiceData:
        """What the likelihood reads; `weight` (S,) is how often each occasion counts, once by default."""
        return ChoiceData(
            features=scaling(seen.raw).to(torch.float64),
            items=torch.from_numpy(self.items),
            outside=scaling.outside(seen.outside.to(torch.float64)),
            clicked=torch.from_numpy(self.clicked),
            session=torch.from_numpy(self.session),
            weight=torch.from_numpy(np.ones(len(self)) if weight is None else weight),
            correction=None if self.correction is None else torch.from_numpy(self.correction),
            given_click=self.given_click,
        )


def views(log: ShopLog) -> tuple[Ints, Ints, Ints]:
    """(E,) session, place among the session's tokens, and item of every token that is a view or deeper."""
    tokens = log.tokens
    session = np.repeat(np.arange(len(tokens)), tokens.lengths)
    place = np.arange(len(tokens.items)) - tokens.offsets[session]
    there = (tokens.events >= Event.VIEW) & (tokens.events <= Event.PURCHASE)
    return session[there], place[there].astype(np.int64), tokens.items[there]


def following_views(log: ShopLog) -> NDArray[np.bool_]:
    """(E,) whether each of `views` follows something else than its own item."""
    session, place, item = views(log)
    before = log.tokens.items[np.maximum(log.tokens.offsets[session] + place - 1, 0)]
    return (place > 0) & (before != item)


def next_views(log: ShopLog, *, alternatives: int, most: int, rng: np.random.Generator) -> Occasions:
    """Views that follow something, each among sampled alternatives.

    Alternatives are drawn half evenly from the catalogue and half as often as they are viewed, and corrected for that.

    Args:
        log: of views, with or without anything else.
        alternatives: items sampled beside the one viewed.
        most: occasions at most; drawn at random where there are more.
        rng: draws occasions and alternatives.
    """
    session, place, item = views(log)
    n_items = log.catalogue.n_items
    kept = np.flatnonzero(following_views(log))
    if len(kept) > most:
        kept = np.sort(rng.choice(kept, most, replace=False))
    seen = np.bincount(item, minlength=n_items + 1)[1:]
    chance = 0.5 / n_items + 0.5 * seen / max(seen.sum(), 1)
    sampled = 1 + rng.choice(n_items, size=(len(kept), alternatives), p=chance / chance.sum())
    items = np.column_stack([item[kept], sampled]).astype(np.int64)
    correction = -np.log(np.append(1.0, chance)[items])
    # The item viewed, drawn again as an alternative, would count twice.
    items[:, 1:][sampled == items[:, :1]] = 0
    return Occasions(session[kept], place[kept], items, np.zeros(len(kept), np.int64), correction)


def bent(raw: torch.Tensor, bend: float) -> torch.Tensor:
    """Raw features (S, K, F) with `match_high` counted from another bend; changes and returns them."""
    raw[..., MATCH_HIGH] = (raw[..., MATCH] - bend).clamp(min=0)
    return raw
