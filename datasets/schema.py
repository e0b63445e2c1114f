"""The event schema: one row an event, the same columns for every source, Arrow types on disk."""

from enum import IntEnum

import pyarrow as pa

SCHEMA_VERSION = 1


class Event(IntEnum):
    """What happened. The order is the depth reached on one item; `IMPRESSION` is an item shown, 0 is padding."""

    PADDING = 0
    IMPRESSION = 1
    VIEW = 2
    CLICK = 3
    CART = 4
    PURCHASE = 5
    UNCART = 6

    @property
    def label(self) -> str:
        """The name used in files and requests, for instance `"purchase"`."""
        return self.name.lower()


EVENT_CODES = {event.label: int(event) for event in Event if event}
"""Event name -> code, in the order of `Event`, without padding."""
N_EVENTS = len(Event)
"""Size of an embedding table over event codes, padding included."""

EVENT_SCHEMA = pa.schema(
    [
        pa.field("shopper_id", pa.string(), nullable=False),
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("slate_id", pa.string()),
        pa.field("position", pa.int32()),
        pa.field("propensity", pa.float64()),
        pa.field("price", pa.float64()),
        pa.field("quantity", pa.int32()),
        pa.field("query", pa.string()),
    ]
)
"""Columns of an event log. `position` is 0-based from the best place. `propensity` is the chance, in (0, 1], that
the logging policy put this item at this place given the places above it; the slate's propensity is the product."""

CATALOGUE_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("brand", pa.string(), nullable=False),
        pa.field("price", pa.float64()),
        pa.field("available", pa.bool_(), nullable=False),
    ]
)
"""Columns of a catalogue; row i is the item of dense index i + 1, and index 0 is padding (an empty slot)."""
