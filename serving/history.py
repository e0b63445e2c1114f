"""From a shopper's raw events to the history a policy reads, by the rules the encoder was trained with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets.schema import EVENT_CODES
from ..datasets.tokens import History, tokenise
from ..errors import LogFormatError, UnknownItemError
from .items import Items

SESSION_GAP = 30 * 60.0  # seconds without an event that end a session


@dataclass(frozen=True, slots=True)
class ShopperEvent:
    """One thing a shopper did or was shown.

    Attributes:
        item_id: the shop's own id.
        event: a name of `datasets.schema.Event`, for instance `"view"`.
        time: seconds since 1970, UTC.
        slate_id: the slate it belongs to, if any.
        position: 0-based place of an impression in its slate.
    """

    item_id: str
    event: str
    time: float
    slate_id: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class BuiltHistory:
    """A history and what became of the events it was built from.

    Attributes:
        history: one row.
        unknown: the item ids that the catalogue lacks, once each; their events were passed over.
    """

    history: History
    unknown: tuple[str, ...] = ()


def current_session(events: Sequence[ShopperEvent], session_gap: float = SESSION_GAP) -> list[ShopperEvent]:
    """The events after the last pause longer than `session_gap` seconds, by time; ties keep their order."""
    ordered = sorted(events, key=lambda event: event.time)
    if not ordered:
        return []
    pauses = np.diff([event.time for event in ordered]) > session_gap
    return ordered[int(np.flatnonzero(pauses)[-1]) + 1 if pauses.any() else 0 :]


def build_history(
    events: Sequence[ShopperEvent],
    known: Items,
    *,
    last: int | None = None,
    strict: bool = False,
    session_gap: float = SESSION_GAP,
) -> BuiltHistory:
    """The history of a shopper's current session.

    Args:
        events: of one shopper, in any order; of events at the same time the first given comes first.
        known: the catalogue's items.
        last: keep only this many of the latest tokens.
        strict: refuse unknown items instead of passing over their events.
        session_gap: seconds; events before a longer pause belong to an earlier session and are left out.

    Raises:
        LogFormatError: an event has a name that the schema lacks.
        UnknownItemError: `strict`, and an item is not in the catalogue.
    """
    events = current_session(events, session_gap)
    wrong = [event.event for event in events if event.event not in EVENT_CODES]
    if wrong:
        raise LogFormatError(f"there is no event {wrong[0]!r}; use one of {', '.join(EVENT_CODES)}")
    items = known.index_of(event.item_id for event in events)
    unknown = tuple(dict.fromkeys(event.item_id for event, item in zip(events, items, strict=True) if not item))
    if unknown and strict:
        raise UnknownItemError(
            f"{len(unknown)} items of the history are not in the catalogue, first {unknown[0]!r}; "
            "leave them out, or ask without strict to pass over them"
        )
    if not events:
        return BuiltHistory(History.empty(1), unknown)
    slates = dict.fromkeys(event.slate_id for event in events if event.slate_id)
    number = {slate: place for place, slate in enumerate(slates)}
    tokens, _ = tokenise(
        np.zeros(len(events), np.int64),
        items,
        np.array([EVENT_CODES[event.event] for event in events], np.int64),
        np.array([event.time for event in events], np.float64),
        np.array([number.get(event.slate_id or "", -1) for event in events], np.int64),
        np.array([-1 if event.position is None else event.position for event in events], np.int64),
    )
    return BuiltHistory(tokens.histories(np.zeros(1, np.int64), last=last), unknown)
