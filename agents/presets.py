"""Settings of the learners by the size of the catalogue.

Each differs from the defaults only where five trainings, in one shop that chose nothing, earned more beyond the
interval, or took clearly less time with no difference beyond it. Shares are of the defaults' reward, with
95 % intervals:

    small, medium,  after 98,304 slates, about as many as `train` shows, 10.0 % more [2.7, 18.2] at 200 items and 13.5 %
      dqn           [4.7, 23.3] at 1,000: less exploring, a shorter memory, and a learning rate that ends at nothing
    small, ppo      the defaults: with a rate that ends at nothing, after as many slates, -0.8 % [-4.1, 2.5]
    medium, ppo     the defaults: not measured at that length
    large, ppo      for speed: 8.2 processor seconds a training against 17.6 at 10,000 items, and -1.6 % [-8.5, 6.5]: a
                    loss of some per cent is not ruled out
    large, dqn      the defaults: not measured

In trainings of 16,384 slates (SlatePPO: 32,768) the best of what was tried earned, for SlateDQN, 3.5 % more
[-8.9, 18.7] at 200 items and 4.4 % [-5.3, 16.5] at 1,000; for SlatePPO 0.0 % [-1.9, 1.9] and 1.7 % [-4.8, 8.0]. Those
at 10,000 items saw 6,144.

Source: `benchmarks/presets.py`, `benchmarks/results/2026-11-27-presets.txt`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from .artefact import AgentConfig
from .dqn_config import DQNConfig
from .ppo import PPOConfig

SIZES = ("small", "medium", "large")
SMALL, MEDIUM = 500, 5_000
"""Items up to which a catalogue is small, and medium: round numbers between the sizes that were measured."""

_LONG = DQNConfig(schedule="linear", buffer_size=60_000, exploration_start=0.2, exploration_end=0.02)
"""Of trainings long enough to wear a large memory out."""
PRESETS: Mapping[str, Mapping[str, AgentConfig]] = MappingProxyType(
    {
        "dqn": MappingProxyType({"small": _LONG, "medium": _LONG, "large": DQNConfig()}),
        "ppo": MappingProxyType({"small": PPOConfig(), "medium": PPOConfig(), "large": PPOConfig(max_candidates=300)}),
    }
)


def size_of(n_items: int) -> str:
    """The size of a catalogue of so many items.

    Raises:
        ValueError: there is no item.
    """
    if n_items < 1:
        raise ValueError(f"a catalogue has at least 1 item, got {n_items}")
    return "small" if n_items <= SMALL else "medium" if n_items <= MEDIUM else "large"


def preset(agent: str, size: str | int) -> AgentConfig:
    """The settings of a learner for a size of catalogue; `dataclasses.replace` changes some of them.

    Args:
        agent: "dqn" or "ppo".
        size: "small", "medium" or "large"; or the catalogue's number of items.

    Raises:
        ValueError: the learner has no presets, or the size is none.
    """
    if agent not in PRESETS:
        raise ValueError(f"{agent!r} has no presets; there are some of {', '.join(PRESETS)}")
    named = size if isinstance(size, str) else size_of(size)
    if named not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, or a number of items; got {size!r}")
    return PRESETS[agent][named]
