"""What the event store is given: slates served, and what shoppers did."""

import hashlib
import json
from dataclasses import astuple, dataclass

from ..datasets.schema import EVENT_CODES, Event
from ..errors import SlatewiseError

FEEDBACK = tuple(name for name, code in EVENT_CODES.items() if code != Event.IMPRESSION)
"""Names of events that shoppers cause; impressions are written by serving itself."""


class EventConflictError(SlatewiseError, ValueError):
    """An event id came again with other content."""


class EventRejectedError(SlatewiseError, ValueError):
    """An event contradicts what was served."""


@dataclass(frozen=True, slots=True)
class SlateRecord:
    """A slate as it is about to be shown. `items` are (item_id, score, propensity, price or None), best place first."""

    slate_id: str
    shopper_id: str
    time: int  # microseconds since 1970, UTC
    items: tuple[tuple[str, float, float, float | None], ...]
    bundle: str
    explore: float = 0.0
    query: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """Something a shopper did.

    Attributes:
        event_id: made by the sender, the same when it sends the event again.
        item_id: the shop's own id.
        event: one of `FEEDBACK`.
        shopper_id: may be None where `slate_id` names a slate of this store, which knows its shopper.
        slate_id: the slate on which the item was; of another server, too.
        time: microseconds since 1970, UTC; when it is received by default.
        price: what an item cost, in the shop's currency.
        quantity: how many.
        query: the search that led to it.
    """

    event_id: str
    item_id: str
    event: str
    shopper_id: str | None = None
    slate_id: str | None = None
    time: int | None = None
    price: float | None = None
    quantity: int | None = None
    query: str | None = None

    def content(self) -> bytes:
        """Hash of all that the sender said; the same for the same event sent again."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).digest()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a batch of events.

    Attributes:
        stored: the new ones.
        duplicates: how many were known already.
        foreign: how many of the new ones name a slate that this store has not served.
        slates_clicked: how many slates got their first click.
    """

    stored: tuple[FeedbackEvent, ...]
    duplicates: int
    foreign: int
    slates_clicked: int
