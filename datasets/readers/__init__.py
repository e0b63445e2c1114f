"""Readers of logs, one file per kind of source; a new one needs a file here and an entry in `SOURCES`."""

from .eshop2008 import ESHOP2008
from .events import EVENTS
from .ga360 import GA360
from .reading import Batch, Reading, Source
from .rees46 import REES46
from .retailrocket import RETAILROCKET
from .table import TABLE

SOURCES: dict[str, Source] = {one.name: one for one in (EVENTS, TABLE, GA360, ESHOP2008, REES46, RETAILROCKET)}
"""Every kind of log that can be ingested, by the name that `--source` takes."""


def find_source(name: str) -> Source:
    """The source called `name`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}; got {name!r}")
    return SOURCES[name]


def describe_sources(name: str | None = None) -> str:
    """Help text: one line for each source, or all there is to say of one.

    Raises:
        ValueError: there is no source of that name.
    """
    if name is not None:
        source = find_source(name)
        return f"{source.name}: {source.summary}\n\n{source.about}"
    width = max(map(len, SOURCES))
    return "\n".join(f"{source.name:<{width}}  {source.summary}" for source in SOURCES.values())


__all__ = ["SOURCES", "Batch", "Reading", "Source", "describe_sources", "find_source"]
