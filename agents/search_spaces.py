"""What is searched when an agent's settings are tuned: plain data, with the default of every setting inside.

Ranges follow rl-baselines3-zoo's `hyperparams_opt` (Raffin 2020), narrowed to what a scorer can stand that starts from
an encoder's ranking: there is no use in forgetting it at once.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where both are whole numbers."""

    low: float
    high: float
    log: bool = False
    """Whether factors count, and not differences."""

    def __post_init__(self) -> None:
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError(f"a range goes from low to high, above 0 where factors count; got {self}")

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (by factors)' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """One of some values."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether it is one of them."""
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(str(value) for value in self.values)


Space = Mapping[str, Range | Choices]
"""Setting -> the values that are tried."""

_SCORER: dict[str, Range | Choices] = {
    "schedule": Choices(("constant", "linear")),
    "hidden": Choices((64, 128, 256)),
    "scale": Range(low=0.5, high=15.0, log=True),
}
SPACES: dict[str, dict[str, Range | Choices]] = {
    "ppo": {
        "learning_rate": Range(low=3e-5, high=3e-3, log=True),
        "gamma": Choices((0.0, 0.5, 0.8, 0.9, 0.95, 0.98)),
        "gae_lambda": Choices((0.8, 0.9, 0.95, 1.0)),
        "rollout": Choices((512, 1_024, 2_048, 4_096)),
        "minibatches": Choices((2, 4, 8)),
        "n_epochs": Range(low=1, high=10),
        "clip_range": Choices((0.1, 0.2, 0.3)),
        "ent_coef": Range(low=1e-4, high=0.1, log=True),
        **_SCORER,
    },
    "dqn": {
        "learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "gamma": Choices((0.0, 0.5, 0.8, 0.9, 0.95)),
        "n_steps": Range(low=1, high=5),
        "batch_size": Choices((128, 256, 512)),
        "gradient_steps": Choices((1, 2, 4)),
        "tau": Range(low=2e-3, high=0.1, log=True),
        "exploration_start": Range(low=0.1, high=0.6),
        "exploration_end": Range(low=0.01, high=0.1, log=True),
        "uniform_share": Range(low=0.0, high=1.0),
        "priority": Choices((0.0, 0.4, 0.6)),
        **_SCORER,
    },
}
"""What is searched of each learner on simulated shoppers. What is not named stays as it is given, or at its default."""


def space_of(agent: str, given: Mapping[str, Any], defaults: Any, space: Space | None = None) -> dict[str, Any]:
    """The settings that are left to search, each with its default inside.

    Args:
        agent: name of a learner.
        given: settings that are fixed.
        defaults: a config, with `given`.
        space: what is searched; `SPACES[agent]` by default.

    Raises:
        ValueError: nothing is left, a setting is unknown, or a default lies outside its values.
    """
    if space is None and agent not in SPACES:
        raise ValueError(f"{agent} learns from the log alone; settings are searched of {', '.join(SPACES)}")
    left = {name: one for name, one in (SPACES[agent] if space is None else space).items() if name not in given}
    if not left:
        raise ValueError("every setting that would be searched is given; leave some out")
    for name, one in left.items():
        if not hasattr(defaults, name):
            raise ValueError(f"{agent} has no setting {name!r} to search")
        if not one.holds(getattr(defaults, name)):
            raise ValueError(f"the default {name}={getattr(defaults, name)} is none of what is searched, {one}")
    return left


def as_plain(space: Space) -> dict[str, Any]:
    """A space as plain values, for an artefact's settings."""
    return {name: asdict(one) if isinstance(one, Range) else list(one.values) for name, one in space.items()}
