"""Errors that a user can act on; every message names what was wrong, with the value, and what to do."""


class SlatewiseError(Exception):
    """Base of all errors raised on purpose, so that one `except` catches them."""


class LogFormatError(SlatewiseError, ValueError):
    """A log file cannot be read as what it was said to be: empty, truncated, or a column missing or of a wrong type."""


class UnknownItemError(SlatewiseError, ValueError):
    """A log or a request names items that the catalogue lacks."""


class ArtefactError(SlatewiseError, RuntimeError):
    """A folder is missing, unfinished, of another kind, or was built with other settings."""


class ModelNotFoundError(SlatewiseError, RuntimeError):
    """A pretrained text model is neither installed nor reachable, or its weights fail their checksum."""


class NotTrainedError(SlatewiseError, RuntimeError):
    """A part that learns was used before it had learnt."""


class BundleError(SlatewiseError, RuntimeError):
    """A policy bundle is incomplete, altered, or of a schema this version does not read."""


class EvidenceError(SlatewiseError, ValueError):
    """A log holds too little of something for what was asked of it."""


class SharedSessionsWarning(UserWarning):
    """An encoder learnt from the very sessions that a shopper is fitted on."""


class SearchLimitError(SlatewiseError, RuntimeError):
    """A search for the best ended at its limit, before anything was proven best."""
