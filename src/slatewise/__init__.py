"""Slatewise: a reinforcement-learning recommendation agent for shops."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("slatewise")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
