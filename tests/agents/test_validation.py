"""Trainings valued by shoppers they do not learn from: the best version kept, an early end, and a kill between."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slatewise.agents import DQNConfig, PPOConfig, Validation, load_agent, train
from slatewise.agents.artefact import AgentConfig
from slatewise.datasets.artefact import read_config

CONFIGS: list[AgentConfig] = [PPOConfig(rollout=256, hidden=16), DQNConfig(learning_starts=200, hidden=16)]


class KilledError(Exception):
    """Stands for a kill."""


class Shown:
    """Values a policy by how many tastes are shown their favourite, and remembers what it valued."""

    def __init__(self, shop: Any, valued: list[float] | None = None) -> None:
        self.shop, self.slates, self.valued = shop, [], valued

    def __call__(self, policy: Any) -> list[float]:
        slates, _ = policy.predict(self.shop.states)
        self.slates.append(slates)
        if self.valued is not None:  # what the test wants it to be worth
            return [self.valued[len(self.slates) - 1]] * 2
        return (slates == self.shop.favourites[:, None]).any(1).astype(float).tolist()


def rows_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "valuations.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_best_version_is_kept_and_training_ends_without_gains(
    taste_shop: Any, config: AgentConfig, tmp_path: Path
) -> None:
    shop = taste_shop()
    value = Shown(shop, [1.0, 5.0, 3.0, 4.0, 2.0, 9.0])
    settings: dict[str, Any] = {"config": config, "item_vectors": shop.item_vectors, "seeds": (3,)}
    settings |= {"total_timesteps": 20_000, "validation": Validation(value=value, every=512, patience=3)}
    (agent,) = train(lambda seed: taste_shop(), tmp_path / "agent", **settings)
    rows = rows_of(tmp_path / "agent" / "seed-3")
    assert [row["value"] for row in rows] == [1.0, 5.0, 3.0, 4.0, 2.0]  # the 9 is never reached
    assert [row["timesteps"] for row in rows] == [0, 512, 1024, 1536, 2048]
    np.testing.assert_array_equal(agent.predict(shop.states)[0], value.slates[1])
    record = read_config(tmp_path / "agent", "agent")["slatewise_artefact"]
    found = record["facts"]["learning"]["3"]
    assert (found["value"], found["best_at"], found["stopped_at"]) == (5.0, 512, 2048)
    assert record["settings"]["validation"] == {"every": 512, "patience": 3}
    assert not list((tmp_path / "agent").glob("**/checkpoint*"))


def test_without_patience_all_is_shown_and_the_last_version_is_valued_too(taste_shop: Any, tmp_path: Path) -> None:
    shop = taste_shop()
    value = Shown(shop)
    validation = Validation(value=value, every=1_000, patience=None)
    settings: dict[str, Any] = {"item_vectors": shop.item_vectors, "seeds": (0,), "total_timesteps": 6_000}
    config = PPOConfig(rollout=256, hidden=32, learning_rate=3e-3)
    (agent,) = train(lambda seed: taste_shop(), tmp_path / "agent", config=config, validation=validation, **settings)
    rows = rows_of(tmp_path / "agent" / "seed-0")
    assert rows[0]["timesteps"] == 0
    assert rows[-1]["timesteps"] >= 6_000
    assert rows[0]["value"] == 0  # favourites lie far from the state
    best = max(row["value"] for row in rows)
    assert best == 1  # and are learnt
    assert Shown(shop)(agent) == [1.0, 1.0]
    found = read_config(tmp_path / "agent", "agent")["slatewise_artefact"]["facts"]["learning"]["0"]
    assert "stopped_at" not in found
    assert found["best_at"] == next(row["timesteps"] for row in rows if row["value"] == best)


def test_validation_changes_nothing_of_what_is_learnt(taste_shop: Any, tmp_path: Path) -> None:
    shop = taste_shop()
    for config in CONFIGS:
        settings: dict[str, Any] = {"config": config, "item_vectors": shop.item_vectors, "seeds": (0,)}
        value = Shown(shop, list(range(100)))  # each version better than the one before
        validation = Validation(value=value, every=300)
        name = type(config).__name__
        settings |= {"total_timesteps": 1_500}
        (plain,) = train(lambda seed: taste_shop(), tmp_path / f"{name}-plain", **settings)
        (valued,) = train(lambda seed: taste_shop(), tmp_path / f"{name}-valued", validation=validation, **settings)
        np.testing.assert_array_equal(plain.scores(shop.states), valued.scores(shop.states))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("when", [2, 4])
def test_a_killed_training_keeps_its_valuations_and_its_best_version(
    taste_shop: Any, config: AgentConfig, when: int, tmp_path: Path
) -> None:
    shop = taste_shop()
    worth = [1.0, 5.0, 3.0, 4.0, 2.0, 9.0]
    first = Shown(shop, worth)
    settings: dict[str, Any] = {"config": config, "item_vectors": shop.item_vectors, "seeds": (0,)}
    settings |= {"total_timesteps": 9_000, "checkpoint_every": 10**6}
    every = {"every": 512, "patience": 3}

    def killed(done: int, total: int, words: str) -> None:
        if len(first.slates) > when:
            raise KilledError

    with pytest.raises(KilledError):
        train(
            lambda seed: taste_shop(),
            tmp_path / "agent",
            validation=Validation(value=first, **every),
            progress=killed,
            **settings,
        )
    second = Shown(shop, worth[when + 1 :])
    (agent,) = train(
        lambda seed: taste_shop(), tmp_path / "agent", validation=Validation(value=second, **every), **settings
    )
    rows = rows_of(tmp_path / "agent" / "seed-0")
    assert [row["value"] for row in rows] == [1.0, 5.0, 3.0, 4.0, 2.0]
    assert len(second.slates) == 4 - when  # killed at its last valuation, nothing is left to learn
    np.testing.assert_array_equal(agent.predict(shop.states)[0], first.slates[1])
    np.testing.assert_array_equal(load_agent(tmp_path / "agent").predict(shop.states)[0], first.slates[1])


@pytest.mark.parametrize(("wrong", "says"), [({"every": 0}, "every=0"), ({"patience": 0}, "got 0")])
def test_validations_that_are_none_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Validation(value=lambda policy: [0.0], **wrong)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_training_tells_tensorboard_what_it_does(taste_shop: Any, config: AgentConfig, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shop = taste_shop()
    settings: dict[str, Any] = {"config": config, "item_vectors": shop.item_vectors, "seeds": (0, 1)}
    settings |= {"total_timesteps": 1_500, "validation": Validation(value=Shown(shop), every=500)}
    train(lambda seed: taste_shop(), tmp_path / "agent", tensorboard=tmp_path / "runs", **settings)
    for seed in (0, 1):
        events = accumulator.EventAccumulator(str(tmp_path / "runs" / f"seed-{seed}"))
        events.Reload()
        names = set(events.Tags()["scalars"])
        assert names >= {"validation/value", "validation/error"}
        assert any(name.startswith("train/") for name in names)
        rows = rows_of(tmp_path / "agent" / f"seed-{seed}")
        told = [(one.step, one.value) for one in events.Scalars("validation/value")]
        assert told == [(row["timesteps"], pytest.approx(row["value"])) for row in rows]
