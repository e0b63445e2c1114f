"""The study of presets: which changes it puts together."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

from slatewise.agents import DQNConfig, preset


def row(earned: float, **change: float) -> dict[str, object]:
    return {"change": change, "earned": earned}


def test_changes_that_are_worth_it_are_put_together_the_better_one_first(
    benchmark_module: Callable[[str], ModuleType],
) -> None:
    study = benchmark_module("presets")
    base = row(1.0, n_steps=3)
    tried = [row(1.2, n_steps=3, scale=1.0), row(1.1, n_steps=3, scale=2.0), row(1.005, n_steps=3, hidden=64)]
    assert study.together(base, tried) == {"n_steps": 3, "scale": 1.0}
    assert study.together(base, [row(0.5, n_steps=3, scale=1.0)]) == {"n_steps": 3}


def test_settings_of_long_trainings_are_the_presets_that_were_taken_from_them(
    benchmark_module: Callable[[str], ModuleType],
) -> None:
    study = benchmark_module("presets")
    assert replace(DQNConfig(), **study.LONG["dqn"]) == preset("dqn", "small") == preset("dqn", "medium")
