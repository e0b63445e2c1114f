"""A search for settings: the defaults first, the same seed the same trials, a kill between, bad trials cut off."""

import csv
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from slatewise.agents import DQNConfig, PPOConfig
from slatewise.agents.learning import DivergedError
from slatewise.agents.search_spaces import SPACES, Choices, Range, space_of
from slatewise.agents.tuning import Search, Tuned, tune

CONFIG = PPOConfig(rollout=256, hidden=16)
SPACE = {
    "learning_rate": Range(low=1e-5, high=1e-2, log=True),
    "gamma": Choices((0.0, 0.5, 0.95)),
    "n_epochs": Range(low=1, high=6),
}
SEARCH = Search(trials=4, total_timesteps=1_024, valuations=2, seed=3, pruner="none")


class KilledError(Exception):
    """Stands for a kill."""


class Liked:
    """Values a policy by the scores of its favourites against all others: finer than what greedy slates show."""

    def __init__(self, shop: Any) -> None:
        self.shop, self.asked = shop, 0

    def __call__(self, policy: Any) -> list[float]:
        self.asked += 1
        scores = policy._scorer(policy._scorer.item_vectors.new_tensor(self.shop.states)).detach()
        picked = scores.softmax(1).gather(1, scores.new_tensor(self.shop.favourites[:, None]).long())
        return picked.squeeze(1).tolist()


def run(shop: Any, folder: Path, search: Search = SEARCH, **more: Any) -> Tuned:
    folder.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"config": CONFIG, "space": SPACE, "value": Liked(shop()), **more}
    return tune(lambda seed: shop(), folder, item_vectors=shop().item_vectors, search=search, **settings)


def proposed(found: Tuned) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found.trials]


def test_the_defaults_are_tried_first_and_the_best_is_kept(taste_shop: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    found = run(taste_shop, tmp_path, progress=lambda *at: told.append(at))
    first = found.trials[0]
    assert {name: first[name] for name in SPACE} == {name: getattr(CONFIG, name) for name in SPACE}
    assert found.defaults == first["value"]
    assert found.value == max(row["value"] for row in found.trials) > found.defaults
    assert found.settings == {name: found.trials[found.number][name] for name in SPACE}
    assert told[-1][:2] == (4 * 1_024, 4 * 1_024)
    assert told[-1][2].startswith("trial 4 of 4, best ")
    with (tmp_path / "trials.csv").open(newline="") as file:
        assert [float(row["value"]) for row in csv.DictReader(file)] == [row["value"] for row in found.trials]


def test_the_same_seed_gives_the_same_trials_with_a_kill_and_without(taste_shop: Any, tmp_path: Path) -> None:
    search = Search(trials=13, total_timesteps=256, valuations=1, seed=3)  # past the random ones
    whole = run(taste_shop, tmp_path / "whole", search)

    def killed(done: int, total: int, words: str) -> None:
        if done > 256 * 11:
            raise KilledError

    with pytest.raises(KilledError):
        run(taste_shop, tmp_path / "killed", search, progress=killed)
    told: list[str] = []
    resumed = run(taste_shop, tmp_path / "killed", search, progress=lambda done, total, words: told.append(words))
    assert told[0].startswith("trial 12 of 13")
    assert proposed(resumed) == proposed(whole)
    other = run(taste_shop, tmp_path / "other", Search(trials=2, total_timesteps=256, valuations=1, seed=4))
    assert proposed(other)[1] != proposed(whole)[1]


def test_more_trials_go_on_from_those_there_are(taste_shop: Any, tmp_path: Path) -> None:
    first = run(taste_shop, tmp_path, Search(trials=2, total_timesteps=256, valuations=1))
    value = Liked(taste_shop())
    more = run(taste_shop, tmp_path, Search(trials=3, total_timesteps=256, valuations=1), value=value)
    assert proposed(more)[:2] == proposed(first)
    assert (len(more.trials), value.asked) == (3, 2)


def test_hopeless_trials_end_early_and_diverging_ones_count_as_bad(taste_shop: Any, tmp_path: Path) -> None:
    class Falling(Liked):
        """Each training worth less than the one before."""

        def __call__(self, policy: Any) -> list[float]:
            self.asked += 1
            return [100.0 / (1 + self.asked)] * 2

    search = Search(trials=7, total_timesteps=1_024, valuations=4)
    value = Falling(taste_shop())
    found = run(taste_shop, tmp_path / "falling", search, value=value)
    assert [row["state"] for row in found.trials] == ["complete"] * 5 + ["pruned"] * 2
    assert value.asked == 5 * 5 + 2 * 3
    assert found.number == 0

    class Diverging(Liked):
        def __call__(self, policy: Any) -> list[float]:
            self.asked += 1
            if self.asked == 4:
                raise DivergedError("the loss became nan")
            return [1.0, 2.0]

    short = Search(trials=3, total_timesteps=256, valuations=1)
    found = run(taste_shop, tmp_path / "diverging", short, value=Diverging(taste_shop()))
    assert [row["state"] for row in found.trials] == ["complete", "diverged", "complete"]


def test_trials_of_several_trainings_are_worth_their_mean(taste_shop: Any, tmp_path: Path) -> None:
    class Counting(Liked):
        def __call__(self, policy: Any) -> list[float]:
            self.asked += 1
            return [float(self.asked)] * 2

    found = run(
        taste_shop, tmp_path, Search(trials=1, seeds=2, total_timesteps=256, valuations=1), value=Counting(taste_shop())
    )
    assert found.value == (2 + 4) / 2  # two valuations a training, the later one the better


def test_no_trial_begins_after_its_time_but_one_beside_the_defaults(taste_shop: Any, tmp_path: Path) -> None:
    search = Search(trials=9, minutes=1e-6, total_timesteps=256, valuations=1)
    assert len(run(taste_shop, tmp_path, search).trials) == 2


def test_every_default_lies_in_its_space_and_every_proposal_is_a_config() -> None:
    for agent, config in (("ppo", PPOConfig()), ("dqn", DQNConfig())):
        space = space_of(agent, {}, config)
        assert space == SPACES[agent]
        for name, one in space.items():
            ends = one.values if isinstance(one, Choices) else (one.low, one.high)
            for end in ends:
                type(config)(**{name: end})
    assert "gamma" not in space_of("ppo", {"gamma": 0.3}, PPOConfig(gamma=0.3))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"agent": "bc"}, "bc learns from the log alone"),
        ({"space": {"learning_rte": Choices((1.0,))}}, "no setting 'learning_rte'"),
        ({"space": {"gamma": Choices((0.1, 0.2))}}, "gamma=0.95 is none of what is searched, 0.1, 0.2"),
        ({"given": {"gamma": 0.5}, "space": {"gamma": Choices((0.5,))}}, "every setting"),
    ],
)
def test_spaces_that_cannot_be_searched_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        space_of(**{"agent": "ppo", "given": {}, "defaults": PPOConfig(), **given})


def test_what_is_searched_is_documented() -> None:
    words = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
    for space in SPACES.values():
        for name, one in space.items():
            assert f"| `{name}` | {one} |" in words
