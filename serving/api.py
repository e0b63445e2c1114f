"""What the server's requests and answers look like."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from .settings import Temperature

Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Words = Annotated[str, StringConstraints(max_length=1_000)]
Money = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC))]


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [value]})


class HistoryEvent(BaseModel):
    """Something the shopper did or was shown earlier in this visit."""

    model_config = _example({"item_id": "mug-1", "event": "view", "time": "2026-11-23T10:00:00Z"})

    item_id: Id
    event: Literal["impression", "view", "click", "cart", "purchase", "uncart"] = "view"
    time: Moment | None = None
    """Where it is left out, that of the event before; at the start, that of the first event that has one."""
    slate_id: Id | None = None
    position: int | None = Field(None, ge=0, le=10_000)


class FilterSpec(BaseModel):
    """What the slate may hold."""

    model_config = _example({"category": ["Drinkware"], "max_price": 25})

    category: list[Words] = Field([], max_length=100)
    """Any of these; all when empty."""
    brand: list[Words] = Field([], max_length=100)
    min_price: Money | None = None
    max_price: Money | None = None


class RecommendRequest(BaseModel):
    """A shopper by id (the store knows the visit), or by the events of the visit, or neither: a new shopper."""

    model_config = _example(
        {"shopper_id": "shopper-7", "k": 4, "exclude": ["mug-2"], "filters": {"max_price": 25}, "explore": 0.5}
    )

    shopper_id: Id | None = None
    history: list[HistoryEvent] | None = None
    """The visit so far; without it, the events this server holds of `shopper_id`."""
    k: int | None = Field(None, ge=1, strict=True)
    """Places; as many as the policy was trained for by default."""
    exclude: list[Id] = Field([], max_length=10_000)
    filters: FilterSpec | None = None
    explore: Temperature | None = None
    """Temperature: 0 shows the best slate, above 0 the slate is drawn; the server's setting by default."""
    strict: StrictBool = False
    """Refuse item ids that the catalogue lacks instead of passing over them."""
    query: Words | None = None
    """The shopper's search; kept in the log, not read by the policy."""
    preview: StrictBool = False
    """Answer without recording the slate, for pages that no shopper sees."""


class Place(BaseModel):
    """One place of a slate."""

    position: int
    """From 0, the best."""
    item_id: str
    score: float
    propensity: float
    """Chance that the item came to this place, given those above it."""
    reason: str
    because_of: str | None
    """The item of the history that the reason names."""
    text: str
    category: str
    brand: str
    price: float | None


class HistoryNote(BaseModel):
    """What was read of the history."""

    tokens: int
    unknown_items: list[str]
    """Ids that the catalogue lacks; their events were passed over."""


class RecommendResponse(BaseModel):
    """A slate."""

    slate_id: str | None
    """To be sent with the events that follow from the slate; none for a preview."""
    items: list[Place]
    notice: str | None
    """Says why the slate is shorter than asked for."""
    explore: float
    history: HistoryNote
    bundle: str
    """Id of the policy bundle that answered."""


class FeedbackIn(BaseModel):
    """Something a shopper did. Send it again with the same `event_id` until it is accepted."""

    model_config = _example(
        {"event_id": "5f0c1e", "shopper_id": "shopper-7", "item_id": "mug-1", "event": "click", "slate_id": "9b2d"}
    )

    event_id: Id
    item_id: Id
    event: Literal["view", "click", "cart", "purchase", "uncart"]
    shopper_id: Id | None = None
    """May be left out where `slate_id` names a slate of this server."""
    slate_id: Id | None = None
    time: Moment | None = None
    """When it is received by default."""
    price: Money | None = None
    quantity: int | None = Field(None, ge=1, le=1_000_000)
    query: Words | None = None


class FeedbackBatch(BaseModel):
    """Events in the order in which they happened; all are kept, or none."""

    model_config = _example({"events": [FeedbackIn.model_config["json_schema_extra"]["examples"][0]]})  # type: ignore[index]

    events: list[FeedbackIn] = Field(min_length=1)


class FeedbackResponse(BaseModel):
    """What became of a batch; all of it is on disk."""

    accepted: int
    duplicates: int
    """Events that were known already, with the same content."""
    unknown_items: int
    """New events on items that the catalogue lacks; they are kept."""
    foreign_slates: int
    """New events that name a slate of another server; they are kept."""


class ItemSummary(BaseModel):
    """An item of the catalogue."""

    item_id: str
    text: str
    category: str
    brand: str
    price: float | None
    available: bool


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
    """What is wrong where, for a request that does not fit the schema."""
