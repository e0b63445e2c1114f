"""The soak sees a leak where there is one, and none where there is none."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def soak(benchmark_module: Callable[[str], ModuleType]) -> Any:
    return benchmark_module("soak")


@pytest.mark.parametrize("leak", [0.0, 5.0])
def test_the_slope_of_memory_is_found_with_an_interval(soak: Any, leak: float) -> None:
    minutes = np.arange(0, 10, 1 / 30)
    noise = np.random.default_rng(1).normal(0, 2, len(minutes))
    noise = np.convolve(noise, np.ones(5) / 5, mode="same")  # readings close to each other go together
    found, low, high = soak.slope(minutes, 700 + leak * minutes + noise)
    assert low < leak < high
    assert low < found < high
    assert high - low < 1.0


def test_too_few_readings_tell_nothing(soak: Any) -> None:
    with pytest.raises(SystemExit, match="3 readings"):
        soak.slope(np.arange(3.0), np.arange(3.0))


def test_the_same_seed_is_the_same_run_and_other_slates_are_another(soak: Any) -> None:
    def hashed(agent: bool) -> str:
        return soak.fingerprint(lambda: soak.Shop(4, "history", agent))[1]

    assert hashed(False) == hashed(False) != hashed(True) == hashed(True)


def test_another_process_tells_the_same(soak: Any) -> None:
    assert soak.told_elsewhere(4, "state", False) == soak.fingerprint(lambda: soak.Shop(4, "state", False))[1]


def test_a_value_that_is_not_finite_is_noticed(soak: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = soak.Shop(4, "state", agent=False)
    step = shop.env.step

    def broken(slates: Any) -> Any:
        seen, rewards, *rest = step(slates)
        return seen, rewards * np.nan, *rest

    monkeypatch.setattr(shop.env, "step", broken)
    with pytest.raises(AssertionError, match="not finite"):
        shop.step()
