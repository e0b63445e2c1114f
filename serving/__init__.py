"""From a trained policy to a running service: the bundle, the runtime, the event store and the server.

Names load when they are first used, so that a process that only serves never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import Bundle
    from .export import export_bundle, write_bundle
    from .graph import export_policy
    from .history import BuiltHistory, ShopperEvent, build_history
    from .parity import ParityReport
    from .records import FeedbackEvent, SlateRecord
    from .runtime import Filters, Recommendation, Runtime, ServedSlate
    from .server import create_app, serve
    from .settings import ServerSettings
    from .store import EventStore

_HOME = {
    "Bundle": "bundle",
    "BuiltHistory": "history",
    "EventStore": "store",
    "FeedbackEvent": "records",
    "Filters": "runtime",
    "ParityReport": "parity",
    "Recommendation": "runtime",
    "Runtime": "runtime",
    "ServedSlate": "runtime",
    "ServerSettings": "settings",
    "ShopperEvent": "history",
    "SlateRecord": "records",
    "build_history": "history",
    "create_app": "server",
    "export_bundle": "export",
    "export_policy": "graph",
    "serve": "server",
    "write_bundle": "export",
}

__all__ = [
    "BuiltHistory",
    "Bundle",
    "EventStore",
    "FeedbackEvent",
    "Filters",
    "ParityReport",
    "Recommendation",
    "Runtime",
    "ServedSlate",
    "ServerSettings",
    "ShopperEvent",
    "SlateRecord",
    "build_history",
    "create_app",
    "export_bundle",
    "export_policy",
    "serve",
    "write_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
