"""Modules of `benchmarks/`, which are scripts' neighbours and no part of the package."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmark_module() -> Callable[[str], ModuleType]:
    """Imports a module of that folder by its name, and what it imports from there."""

    def load(name: str) -> ModuleType:
        sys.path.insert(0, str(BENCHMARKS))
        try:
            return import_module(name)
        finally:
            sys.path.remove(str(BENCHMARKS))

    return load
