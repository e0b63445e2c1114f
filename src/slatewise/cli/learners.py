"""Learners by name, and their settings as a command line gives them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import typer

OFFLINE = ("bc", "reinforce")
"""Learners that read the log alone."""


def learner_config(agent: str, settings: Mapping[str, str] | None = None) -> Any:
    """The config of a learner, with some settings given as text.

    Raises:
        typer.BadParameter: a setting is unknown, or its value is none of its kind.
        ValueError: a value is out of range.
    """
    from ..agents import BCConfig, DQNConfig, PPOConfig, ReinforceConfig

    kinds = {"ppo": PPOConfig, "dqn": DQNConfig, "bc": BCConfig, "reinforce": ReinforceConfig}
    kind = kinds[agent]
    defaults = {one.name: one.default for one in fields(kind)}
    for name in settings or {}:
        if name not in defaults:
            raise typer.BadParameter(f"{agent} has no setting {name!r}; it has {', '.join(sorted(defaults))}")
    return kind(**{name: _value(name, text, defaults[name]) for name, text in (settings or {}).items()})


def _value(name: str, text: str, default: Any) -> Any:
    """A setting from its text, of the kind of its default; one that is off by default is a number."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise typer.BadParameter(f"--set {name} is true or false, got {text!r}")
        return text == "true"
    whole = isinstance(default, int)
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        what = "a whole number" if whole else "a number"
        raise typer.BadParameter(f"--set {name} takes {what}, got {text!r}") from error
