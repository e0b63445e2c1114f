"""Settings by the size of the catalogue: which size is which, that they are sound, and what is refused."""

import dataclasses
from typing import Any

import pytest

from slatewise.agents import PRESETS, SPACES, DQNConfig, PPOConfig, preset
from slatewise.agents.presets import SIZES, size_of
from slatewise.agents.search_spaces import space_of
from slatewise.cli.options import Sized

KINDS: dict[str, type[Any]] = {"dqn": DQNConfig, "ppo": PPOConfig}


@pytest.mark.parametrize(
    ("n_items", "size"),
    [(1, "small"), (500, "small"), (501, "medium"), (5_000, "medium"), (5_001, "large"), (10**6, "large")],
)
def test_sizes_are_known_by_their_items(n_items: int, size: str) -> None:
    assert size_of(n_items) == size
    for agent in PRESETS:
        assert preset(agent, n_items) is PRESETS[agent][size]


@pytest.mark.parametrize("agent", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_every_learner_on_simulated_shoppers_has_settings_of_its_own_for_every_size(agent: str, size: Any) -> None:
    found = preset(agent, size)
    assert type(found) is KINDS[agent]
    assert space_of(agent, {}, found)  # a search can begin from them
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.gamma = 0.5  # pyright: ignore[reportAttributeAccessIssue]


def test_presets_are_of_what_can_be_searched_and_the_command_line_knows_all_sizes() -> None:
    assert set(PRESETS) == set(SPACES)
    assert {one.value for one in Sized} == {*SIZES, "auto"}


def test_presets_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        PRESETS["ppo"]["small"] = PPOConfig()  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("agent", "size", "says"),
    [
        ("bc", "small", "'bc' has no presets; there are some of dqn, ppo"),
        ("ppo", "huge", "size must be one of small, medium, large, or a number of items; got 'huge'"),
        ("ppo", 0, "a catalogue has at least 1 item, got 0"),
    ],
)
def test_what_there_is_no_preset_for_is_said(agent: str, size: Any, says: str) -> None:
    with pytest.raises(ValueError, match="^" + says):
        preset(agent, size)
