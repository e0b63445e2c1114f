"""The HTTP server: slates out, feedback in.

A slate is worked out on the event loop itself: it takes a millisecond, less than handing it to a thread and back under
load. Only writing happens elsewhere, in the store's own thread, for a disk may take its time.
"""

import asyncio
import hmac
import itertools
import secrets
import signal
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Query, Response
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException

from ..errors import SlatewiseError
from .api import (
    FeedbackBatch,
    FeedbackIn,
    FeedbackResponse,
    HistoryEvent,
    HistoryNote,
    ItemSummary,
    Place,
    Problem,
    RecommendRequest,
    RecommendResponse,
)
from .bundle import Bundle
from .history import ShopperEvent
from .metrics import Measured, Metrics
from .page import Page
from .problems import BodyLimit, add_problem_handlers, describe_problems
from .records import FeedbackEvent, SlateRecord
from .runtime import Filters, Recommendation, Runtime, ServedSlate
from .settings import ServerSettings
from .store import EventStore

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Shop:
    """What the handlers share: the policy, the store and the counters."""

    def __init__(self, bundle: Bundle, store: EventStore, settings: ServerSettings) -> None:
        self.bundle, self.store, self.settings = bundle, store, settings
        self.runtime = Runtime(bundle, settings.threads)
        self.metrics = Metrics(bundle)
        self._seed = secrets.randbits(64) if settings.seed is None else settings.seed
        self._draws = itertools.count()

    async def recommend(self, request: RecommendRequest) -> RecommendResponse:
        """Work out a slate, and keep it before anyone sees it."""
        self._check_size("history", len(request.history or ()), self.settings.max_history)
        self._check_size("k", request.k or 1, self.settings.max_k)
        now = _now()
        gap = self.settings.session_gap
        built = self.runtime.history(self._events(request, now), strict=request.strict, session_gap=gap)
        explore = self.settings.explore if request.explore is None else request.explore
        slate = self.runtime.recommend(
            built.history,
            request.k,
            exclude=request.exclude,
            filters=_filters(request),
            explore=explore,
            rng=np.random.default_rng([self._seed, next(self._draws)]) if explore else None,
            strict=request.strict,
        )
        slate_id = None if request.preview else await self._keep(slate, request, explore, now)
        if not request.preview:
            self.metrics.served(slate, explore)
            self.metrics.unknown.labels("history").inc(len(built.unknown))
        return RecommendResponse(
            slate_id=slate_id,
            items=[self._place(position, place) for position, place in enumerate(slate)],
            notice=slate.notice,
            explore=explore,
            history=HistoryNote(tokens=int(built.history.lengths[0]), unknown_items=list(built.unknown)),
            bundle=self.bundle.id,
        )

    async def feedback(self, batch: FeedbackBatch) -> FeedbackResponse:
        """Keep events; they are on disk when this returns."""
        self._check_size("events", len(batch.events), self.settings.max_history)
        events = [_feedback(event) for event in batch.events]
        accepted = await asyncio.wrap_future(self.store.submit_events(events, received=_now()))
        unknown = int((self.runtime.items.index_of(event.item_id for event in accepted.stored) == 0).sum())
        self.metrics.accepted(accepted, unknown)
        return FeedbackResponse(
            accepted=len(accepted.stored),
            duplicates=accepted.duplicates,
            unknown_items=unknown,
            foreign_slates=accepted.foreign,
        )

    def _place(self, position: int, place: Recommendation) -> Place:
        item = self.runtime.items[place.item]
        return Place(
            position=position,
            item_id=item.item_id,
            score=place.score,
            propensity=place.propensity,
            reason=place.reason,
            because_of=place.because_of,
            text=item.text,
            category=item.category,
            brand=item.brand,
            price=item.price,
        )

    def _events(self, request: RecommendRequest, now: int) -> Sequence[ShopperEvent]:
        if request.history is not None:
            return list(_timed(request.history, now))
        return self.store.session_of(request.shopper_id, now) if request.shopper_id else ()

    async def _keep(self, slate: ServedSlate, request: RecommendRequest, explore: float, now: int) -> str:
        slate_id = uuid.uuid4().hex
        shopper = request.shopper_id or f"anonymous-{slate_id}"
        items = tuple((p.item_id, p.score, p.propensity, self.runtime.items[p.item].price) for p in slate)
        record = SlateRecord(slate_id, shopper, now, items, self.bundle.id, explore, request.query)
        await asyncio.wrap_future(self.store.submit_slate(record))
        return slate_id

    @staticmethod
    def _check_size(name: str, size: int, most: int) -> None:
        if size > most:
            raise HTTPException(422, f"{name} is {size}, this server takes at most {most}; ask for less at once")


def create_app(bundle: str | Path, store: str | Path, settings: ServerSettings | None = None) -> FastAPI:
    """The app: `/v1/recommend`, `/v1/events`, `/v1/items`, `/healthz`, `/readyz`, `/metrics`, and a page at `/`.

    Args:
        bundle: folder of a policy bundle.
        store: SQLite file of the event store, made if it does not exist; closed when the app shuts down.
        settings: from the environment by default.

    Raises:
        BundleError: the bundle is not whole.
        ArtefactError: the store cannot be opened.
    """
    settings = settings or ServerSettings()
    loaded = Bundle.load(bundle)
    kept = EventStore(store, session_gap=settings.session_gap)
    try:
        shop = Shop(loaded, kept, settings)
    except BaseException:
        kept.close()
        raise

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        kept.close()

    app = FastAPI(title="Slatewise", summary="Slates for shoppers.", version=_version(), lifespan=lifespan)
    app.state.shop = shop
    app.include_router(_shop_routes(shop))
    app.include_router(_operations(shop))
    if settings.page:
        page = Page(loaded, needs_key=settings.api_key is not None)
        app.add_api_route("/", page.answer, include_in_schema=False)
    add_problem_handlers(app)
    describe_problems(app)
    app.add_middleware(BodyLimit, most=settings.max_body_bytes)
    app.add_middleware(Measured, metrics=shop.metrics)
    return app


def _shop_routes(shop: Shop) -> APIRouter:
    """What a shop calls; with a key, if one is set."""
    errors: dict[int | str, dict[str, Any]] = {
        code: {"model": Problem, "description": words}
        for code, words in {
            400: "The request cannot be read.",
            401: "The key is missing or wrong.",
            413: "The request is too long.",
            422: "The request does not fit.",
            503: "The store cannot be used now.",
        }.items()
    }
    key = shop.settings.api_key
    guards = [] if key is None else [Depends(_key_check(key.get_secret_value()))]
    routes = APIRouter(prefix="/v1", dependencies=guards, responses=errors)

    @routes.post("/recommend")
    async def recommend(request: RecommendRequest) -> RecommendResponse:
        """The slate for one shopper, recorded with its propensities before it is answered."""
        return await shop.recommend(request)

    conflict: dict[int | str, dict[str, Any]] = {
        409: {"model": Problem, "description": "An event id is known with other content."}
    }

    @routes.post("/events", status_code=202, responses=conflict)
    async def events(batch: FeedbackBatch) -> FeedbackResponse:
        """Feedback; on disk when this answers. The same event may be sent any number of times."""
        return await shop.feedback(batch)

    @routes.get("/items")
    def items(
        search: Annotated[str, Query(max_length=256)] = "", limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> list[ItemSummary]:
        """Items of the catalogue whose text, category, brand or id holds all words of `search`."""
        return [ItemSummary(**asdict(item)) for item in shop.runtime.items.find(search, limit)]

    return routes


def _operations(shop: Shop) -> APIRouter:
    """What those who run the server call; open, so keep them inside the network."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @routes.get("/readyz", responses={503: {"model": Problem}})
    def readyz() -> dict[str, str | int]:
        """The policy is loaded, and the store reads and takes writes."""
        if not shop.store.writable:
            raise HTTPException(503, "the event store takes no writes")
        return {"status": "ready", "bundle": shop.bundle.id, **shop.store.counts()}

    @routes.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Counters in the format that Prometheus reads."""
        return Response(shop.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes


def _key_check(key: str) -> Callable[..., Awaitable[None]]:
    """A dependency that lets requests with the right key pass, comparing in constant time."""
    wanted = key.encode()
    header = APIKeyHeader(name="X-API-Key", auto_error=False)

    async def check(told: Annotated[str | None, Depends(header)]) -> None:
        if not hmac.compare_digest((told or "").encode(), wanted):
            raise HTTPException(401, "send the server's key in the header X-API-Key")

    return check


def _filters(request: RecommendRequest) -> Filters | None:
    spec = request.filters
    if spec is None:
        return None
    return Filters(
        categories=tuple(spec.category), brands=tuple(spec.brand), min_price=spec.min_price, max_price=spec.max_price
    )


def _timed(events: Sequence[HistoryEvent], now: int) -> Iterator[ShopperEvent]:
    """Events of a request; one without a time happens with the one before it, the first ones with the first timed."""
    told = (_microseconds(event.time) for event in events if event.time is not None)
    latest = next(told, now) / 1e6
    for event in events:
        latest = latest if event.time is None else _microseconds(event.time) / 1e6
        yield ShopperEvent(event.item_id, event.event, latest, event.slate_id, event.position)


def _feedback(event: FeedbackIn) -> FeedbackEvent:
    moment = None if event.time is None else _microseconds(event.time)
    return FeedbackEvent(**event.model_dump(exclude={"time"}), time=moment)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _now() -> int:
    return time.time_ns() // 1_000


def _version() -> str:
    try:
        return version("slatewise")
    except PackageNotFoundError:
        return "0"


def serve(
    bundle: str | Path,
    store: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: ServerSettings | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Run the server until SIGINT or SIGTERM, then let requests under way finish and close the store.

    Args:
        bundle: folder of a policy bundle.
        store: SQLite file of the event store.
        host: address to listen on; 0.0.0.0 for all.
        port: 0 picks a free one.
        settings: from the environment by default.
        announce: told the server's address once it listens; uvicorn logs it by default.

    Raises:
        BundleError: the bundle is not whole.
        ArtefactError: the store cannot be opened.
        SlatewiseError: the address cannot be listened on.
    """
    app = create_app(bundle, store, settings)
    shop: Shop = app.state.shop
    try:
        listener = _listener(host, port)
    except OSError as error:
        shop.store.close()
        raise SlatewiseError(f"cannot listen on {host}:{port}: {error}; choose another --host or --port") from error
    with listener, _quiet_end():
        if announce is not None:
            shown = f"[{host}]" if ":" in host else host
            announce(f"http://{shown}:{listener.getsockname()[1]}")
        level = "warning" if announce else "info"  # uvicorn then names the address itself
        config = uvicorn.Config(app, log_level=level, access_log=False, timeout_graceful_shutdown=10)
        uvicorn.Server(config).run(sockets=[listener])
    shop.store.close()


def _listener(host: str, port: int) -> socket.socket:
    # The protocol is named because asyncio turns Nagle's delay off only for sockets that say TCP: 40 ms an answer.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1_024)
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Let the signals that end the server end it quietly: uvicorn raises them once more when it is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, lambda *_: None) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
