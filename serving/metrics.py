"""What the server counts, for Prometheus."""

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .bundle import Bundle
from .records import Accepted
from .runtime import ServedSlate

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters of one app, in a registry of its own."""

    def __init__(self, bundle: Bundle) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "slatewise_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "slatewise_request_seconds", "Time to answer.", ("route",), registry=registry, buckets=_SECONDS
        )
        self.slates = Counter("slatewise_slates_served", "Slates served.", ("explored",), registry=registry)
        self.impressions = Counter("slatewise_impressions", "Items shown.", registry=registry)
        self.short = Counter("slatewise_slates_short", "Slates with fewer items than asked for.", registry=registry)
        self.clicked = Counter(
            "slatewise_slates_clicked", "Served slates that got their first click.", registry=registry
        )
        self.events = Counter("slatewise_events", "Events kept.", ("event",), registry=registry)
        self.duplicates = Counter("slatewise_events_duplicate", "Events sent again.", registry=registry)
        self.unknown = Counter(
            "slatewise_unknown_items", "Events on items that the catalogue lacks.", ("source",), registry=registry
        )
        model = Gauge("slatewise_model_info", "The policy that answers.", ("bundle", "n_items", "k"), registry=registry)
        model.labels(bundle.id, str(bundle.catalogue.n_items), str(bundle.k)).set(1)
        for explored in ("true", "false"):
            self.slates.labels(explored)
        for source in ("history", "events"):
            self.unknown.labels(source)

    def served(self, slate: ServedSlate, explore: float) -> None:
        """Count a slate that a shopper sees."""
        self.slates.labels("true" if explore else "false").inc()
        self.impressions.inc(len(slate))
        self.short.inc(slate.notice is not None)

    def accepted(self, batch: Accepted, unknown: int) -> None:
        """Count a batch of events."""
        kinds: Sequence[str] = [event.event for event in batch.stored]
        for kind in set(kinds):
            self.events.labels(kind).inc(kinds.count(kind))
        self.duplicates.inc(batch.duplicates)
        self.clicked.inc(batch.slates_clicked)
        self.unknown.labels("events").inc(unknown)

    def text(self) -> bytes:
        """All of it, in the format that Prometheus reads."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts and times requests by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and watch its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # set by the router; no label per unknown address
            self.metrics.requests.labels(scope["method"] if route != "other" else "other", route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)
