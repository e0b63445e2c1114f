"""Encoders: item text to vector, history of tokens to state.

Names are loaded when asked for: transformers takes seconds to import, and `MeanEncoder` needs none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load_encoder
    from .lora import FineTuneConfig, fine_tune_text
    from .mean import MeanEncoder
    from .pretrain import PretrainConfig
    from .recall import RecallEncoder
    from .session import ShopSessionConfig, ShopSessionModel
    from .state import Memory, StateEncoder
    from .text import TextEncoder
    from .tracking import Tracker
    from .transfer import grow

_HOME = {
    "FineTuneConfig": "lora",
    "MeanEncoder": "mean",
    "Memory": "state",
    "PretrainConfig": "pretrain",
    "RecallEncoder": "recall",
    "ShopSessionConfig": "session",
    "ShopSessionModel": "session",
    "StateEncoder": "state",
    "TextEncoder": "text",
    "Tracker": "tracking",
    "fine_tune_text": "lora",
    "grow": "transfer",
    "load_encoder": "loading",
}
__all__ = [
    "FineTuneConfig",
    "MeanEncoder",
    "Memory",
    "PretrainConfig",
    "RecallEncoder",
    "ShopSessionConfig",
    "ShopSessionModel",
    "StateEncoder",
    "TextEncoder",
    "Tracker",
    "fine_tune_text",
    "grow",
    "load_encoder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
