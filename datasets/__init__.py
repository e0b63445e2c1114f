"""Logged events: their schema, readers, cleaning, catalogue, sessions and splits, and the known-truth shop."""

from .artefact import artefact_id, building, is_finished, read_config
from .catalogue import Catalogue
from .cleaning import IngestConfig
from .ingest import ingest, write_log
from .known_shop import KnownShop, KnownShopConfig
from .log import ShopLog, Slates
from .quarantine import read_quarantine
from .readers import SOURCES, describe_sources
from .schema import CATALOGUE_SCHEMA, EVENT_CODES, EVENT_SCHEMA, N_EVENTS, Event
from .tokens import History, Tokens

__all__ = [
    "CATALOGUE_SCHEMA",
    "EVENT_CODES",
    "EVENT_SCHEMA",
    "N_EVENTS",
    "SOURCES",
    "Catalogue",
    "Event",
    "History",
    "IngestConfig",
    "KnownShop",
    "KnownShopConfig",
    "ShopLog",
    "Slates",
    "Tokens",
    "artefact_id",
    "building",
    "describe_sources",
    "ingest",
    "is_finished",
    "read_config",
    "read_quarantine",
    "write_log",
]
