"""Learners by name, and their settings as a command line gives them."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import typer

from ..datasets.rules import SlateRules
from .console import Reporter

OFFLINE = ("bc", "reinforce")
"""Learners that read the log alone."""


def learner_config(agent: str, settings: Mapping[str, Any] | None = None, base: Any = None) -> Any:
    """The config of a learner, with some settings given: as text, or as a settings file holds them.

    What is not given is as in `base`, a config of that learner; the defaults, if there is none.

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
    found = {name: _value(name, given, defaults[name]) for name, given in (settings or {}).items()}
    return replace(base or kind(), **found)


def preset_for(agent: str, asked: str | None, n_items: int, reporter: Reporter) -> tuple[Any, dict[str, str]]:
    """The config that `--preset` names, for `learner_config`, and what to keep of the choice; says what it sets.

    A finished run with an equal config is not done anew, and keeps what it says of its choice.

    Args:
        agent: name of a learner.
        asked: a size, `auto`, or None for no preset.
        n_items: of the catalogue, for `auto`.
        reporter: told of the settings that are not the defaults.
    """
    if asked is None:
        return None, {}
    from ..agents import preset
    from ..agents.presets import size_of

    size = size_of(n_items) if asked == "auto" else asked
    config = preset(agent, size)
    given = ", ".join(f"{name}={value}" for name, value in changed(config).items())
    reporter.tell(f"preset {size} of {agent}, where nothing else is given: {given or 'the defaults'}")
    return config, {"preset": size}


def changed(config: Any) -> dict[str, Any]:
    """The settings of a config that are not the defaults."""
    values = {one.name: (getattr(config, one.name), one.default) for one in fields(config)}
    return {name: value for name, (value, default) in values.items() if value != default}


def settings_of(path: Path, agent: str) -> tuple[dict[str, Any], str | None]:
    """The settings in a file that `slatewise tune` wrote, and the id of the judge who chose them.

    Or those of a file of the same form by hand, JSON or TOML: `{"agent": "ppo", "settings": {"gamma": 0.9}}`.

    Raises:
        typer.BadParameter: the file cannot be read, is of another form, or is of another agent.
    """
    found = read_table(path, "--settings")
    known = isinstance(found.get("settings"), dict) and isinstance(found.get("judge", ""), str)
    if not known or set(found) - {"agent", "settings", "judge"}:
        raise typer.BadParameter(
            f'--settings {path} must hold {{"agent": "{agent}", "settings": {{NAME: VALUE}}}}; it holds {sorted(found)}'
        )
    if found.get("agent", agent) != agent:
        raise typer.BadParameter(f"--settings {path} is of {found['agent']!r}, and --agent is {agent!r}")
    return found["settings"], found.get("judge")


def rules_of(path: Path) -> SlateRules:
    """The rules in a JSON or TOML file, for instance `{"most_of_brand": 2, "hide_categories": ["gift cards"]}`.

    Raises:
        typer.BadParameter: the file cannot be read, holds something else, or asks nothing.
    """
    try:
        found = SlateRules.of(read_table(path, "--rules"))
    except ValueError as error:
        raise typer.BadParameter(f"--rules {path}: {error}") from error
    if not found.to_dict():
        raise typer.BadParameter(f"--rules {path} asks nothing of a slate; leave it out, or name a rule")
    return found


def read_table(path: Path, option: str) -> dict[str, Any]:
    """A JSON or TOML file (by its ending) whose top is a table.

    Raises:
        typer.BadParameter: it is missing, or cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{option} {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise typer.BadParameter(f"{option} {path} is not valid {kind}: {error}") from error
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{option} {path} must hold names and values, got {type(found).__name__}")
    return found


def _value(name: str, given: Any, default: Any) -> Any:
    """A setting of the kind of its default, from text or a number; one that is off by default is a number."""
    text = str(given).lower() if isinstance(given, bool) else str(given)
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise typer.BadParameter(f"the setting {name} is true or false, got {text!r}")
        return text == "true"
    whole = isinstance(default, int)
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        what = "a whole number" if whole else "a number"
        raise typer.BadParameter(f"the setting {name} takes {what}, got {text!r}") from error
