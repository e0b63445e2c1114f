"""Judging: same shoppers, same luck, every session to its end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.agents import RandomPolicy
from slatewise.encoders.mean import MeanEncoder
from slatewise.envs.defaults import default_shop
from slatewise.errors import EvidenceError
from slatewise.evaluation import EvaluationConfig, compare, summarise
from slatewise.evaluation.diary import Diary, slate_spread, tally
from slatewise.evaluation.judge import judge
from slatewise.evaluation.outcomes import FIXED, Outcomes
from slatewise.simulators.known_truth import KnownTruthShopper

K = 5


class Same:
    """Shows everyone the same slate."""

    def __init__(self, slate: list[int]) -> None:
        self.slate, self.k, self.asked = np.array(slate), len(slate), 0

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, None]:
        self.asked += 1
        return np.tile(self.slate, (len(observation["state"]), 1)), None


class Drawn(Same):
    """Shows items drawn at random."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, None]:
        rng = np.random.default_rng([self.asked, int(self.slate[0])])
        self.asked += 1
        rows = len(observation["state"])
        return np.argsort(rng.random((rows, default_shop().n_items)), axis=1)[:, : self.k] + 1, None


@pytest.fixture(scope="module")
def parts() -> tuple[KnownTruthShopper, MeanEncoder]:
    shop = default_shop()
    return KnownTruthShopper(shop), MeanEncoder.from_catalogue(shop.catalogue)


def best_sellers() -> list[int]:
    """Items that shoppers like on the whole, by the shop's own hidden quality."""
    return (np.argsort(-default_shop().quality[1:])[:K] + 1).tolist()


def test_identical_policies_have_identical_outcomes(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    outcomes = judge({"a": Same([3, 1, 4, 5, 9]), "b": Same([3, 1, 4, 5, 9])}, *parts, shoppers=60, k=K, batch=16)
    frame = outcomes.frame.set_index("shopper").drop(columns=["training_seed", "simulator"])
    a, b = (frame[frame["policy"] == name].drop(columns="policy") for name in "ab")
    assert a.equals(b)
    assert compare(outcomes, "a", "b").p == 1


def test_outcomes_do_not_depend_on_how_many_are_served_at_once(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    whole = judge({"a": Same([3, 1, 4, 5, 9])}, *parts, shoppers=40, k=K, batch=64)
    one = judge({"a": Same([3, 1, 4, 5, 9])}, *parts, shoppers=40, k=K, batch=7)
    np.testing.assert_allclose(whole.frame.iloc[:, 3:].astype(float), one.frame.iloc[:, 3:].astype(float), rtol=1e-5)


def test_what_sells_beats_chance_beyond_the_interval(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    policies = {"popular": Same(best_sellers()), "random": [Drawn([seed] * K) for seed in range(3)]}
    outcomes = judge(policies, *parts, shoppers=400, seed=1, k=K)
    found = compare(outcomes, "popular", "random", "reward")
    assert found.low > 0
    assert found.seeds == 0
    assert found.reference_seeds == 3
    table = summarise(outcomes).set_index(["policy", "metric"])
    assert table.loc[("random", "coverage"), "mean"] == 1.0
    assert table.loc[("popular", "coverage"), "mean"] == pytest.approx(K / 200)


def test_the_sums_agree_with_each_other(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    reward = {"click": 1.0, "purchase": 5.0}
    outcomes = judge({"a": Same(best_sellers())}, *parts, shoppers=50, k=K, reward=reward, max_slates=6)
    frame = outcomes.frame
    assert len(frame) == 50
    assert frame["slates"].between(1, 6).all()
    assert (frame["slots"] == K * frame["slates"]).all()
    np.testing.assert_allclose(frame["reward"], frame["clicks"] + 5 * frame["purchases"])
    assert outcomes.places["clicked"].sum() == frame["clicks"].sum() == outcomes.items["clicked"].sum()
    assert outcomes.places["examined"].sum() == frame["examined"].sum()
    assert outcomes.items["shown"].sum() == frame["slots"].sum()
    assert (frame["training_seed"] == FIXED).all()
    assert outcomes.facts["simulator"]["reward"] == {
        "click": 1.0,
        "cart": 0.0,
        "purchase": 5.0,
        "revenue": 0.0,
        "returned": 0.0,
    }


def test_a_diary_is_summed_by_hand() -> None:
    diary = Diary(2)
    diary.who = [np.array([0, 1]), np.array([0])]
    diary.slate = [np.array([[1, 2], [3, 0]]), np.array([[2, 3]])]
    diary.examined = [np.array([[True, True], [True, True]]), np.array([[True, False]])]
    diary.clicked = [np.array([1, -1]), np.array([0])]
    diary.carted = [np.array([True, False]), np.array([False])]
    diary.purchased = [np.array([True, False]), np.array([False])]
    diary.revenue = [np.array([7.5, 0.0]), np.array([0.0])]
    diary.reward = [np.array([6.0, 0.0]), np.array([1.0])]
    vectors = np.array([[0, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    frame, places, items = tally(diary, vectors, np.array([0, 0, 0, 1]))
    first = frame.iloc[0]
    assert dict(first[["slates", "clicks", "carts", "purchases", "revenue", "reward", "slots", "examined"]]) == {
        "slates": 2, "clicks": 2, "carts": 1, "purchases": 1, "revenue": 7.5, "reward": 7, "slots": 4, "examined": 3,
    }  # fmt: skip
    assert first["distinct_items"] == 3  # 1, 2 and 3
    assert first["distinct_categories"] == 2
    assert first["spread"] == pytest.approx(1 + 1)  # two slates of orthogonal items
    assert frame.loc[1, "slots"] == 1
    assert frame.loc[1, "examined"] == 1  # the empty slot is not counted as looked at
    assert places["shown"].tolist() == [3, 2]
    assert places["clicked"].tolist() == [1, 1]
    assert items.set_index("item")["clicked"].to_dict() == {1: 0, 2: 2, 3: 0}
    assert items.set_index("item")["purchased"].to_dict() == {1: 0, 2: 1, 3: 0}


def test_spread_is_the_mean_distance_of_pairs() -> None:
    vectors = torch.nn.functional.normalize(
        torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1
    ).numpy()
    vectors[0] = 0
    slate = np.array([[1, 2, 3], [4, 5, 0], [1, 0, 0]])
    distance = 1 - vectors @ vectors.T
    expected = [(distance[1, 2] + distance[1, 3] + distance[2, 3]) / 3, distance[4, 5], 0]
    np.testing.assert_allclose(slate_spread(slate, vectors), expected, atol=1e-6)


def test_what_was_judged_already_is_read_not_judged_again(
    parts: tuple[KnownTruthShopper, MeanEncoder], tmp_path: Path
) -> None:
    first, again, other = Same(best_sellers()), Same(best_sellers()), Same(best_sellers())
    before = judge({"a": [first]}, *parts, shoppers=20, k=K, folder=tmp_path)
    after = judge({"a": [again]}, *parts, shoppers=20, k=K, folder=tmp_path)
    judge({"a": [other]}, *parts, shoppers=20, seed=1, k=K, folder=tmp_path)
    assert first.asked > 0
    assert again.asked == 0
    assert other.asked > 0
    assert before.frame.equals(after.frame)
    assert after.facts == before.facts


def test_what_a_policy_draws_does_not_depend_on_what_was_judged_before(
    parts: tuple[KnownTruthShopper, MeanEncoder], tmp_path: Path
) -> None:
    def policies() -> dict[str, Any]:
        return {"random": RandomPolicy(np.ones(201), K), "also": [RandomPolicy(np.ones(201), K)] * 2}

    def judged(whom: dict[str, Any], simulator: str, folder: Path | None = None) -> Outcomes:
        return judge(whom, *parts, shoppers=20, k=K, shopper_name=simulator, folder=folder)

    straight = policies()
    whole = [judged(straight, simulator) for simulator in ("one", "two")]
    judged(policies(), "one", tmp_path)  # killed here; a new process goes on with new policies
    fresh = policies()
    resumed = [judged(fresh, simulator, tmp_path) for simulator in ("one", "two")]
    for uninterrupted, again in zip(whole, resumed, strict=True):
        assert uninterrupted.frame.equals(again.frame)
        assert uninterrupted.items.equals(again.items)
    drawn = [rows["item"].tolist() for part in whole for _, rows in part.items.groupby(["policy", "training_seed"])]
    assert len(drawn) == 6
    assert all(one != other for place, one in enumerate(drawn) for other in drawn[:place])  # luck of their own
    assert not judge(straight, *parts, shoppers=20, seed=1, k=K).items.equals(whole[0].items)


def test_histories_hold_whole_sessions_by_default(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    assert (
        judge({"a": Same(best_sellers())}, *parts, shoppers=2, k=K, max_slates=6).facts["simulator"]["history_len"]
        == 14
    )
    assert EvaluationConfig(max_slates=30).settings()["history_len"] == 38
    assert EvaluationConfig(history_len=5).settings()["history_len"] == 5


def test_outcomes_survive_a_round_trip(parts: tuple[KnownTruthShopper, MeanEncoder], tmp_path: Path) -> None:
    outcomes = judge({"a": Same(best_sellers())}, *parts, shoppers=10, k=K)
    outcomes.save(tmp_path)
    back = Outcomes.load(tmp_path)
    assert back.frame.equals(outcomes.frame)
    assert back.places.equals(outcomes.places)
    assert back.items.equals(outcomes.items)
    assert back.facts == outcomes.facts


def test_progress_is_told_up_to_the_last_session(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    told: list[tuple[int, int, str]] = []
    judge({"a": Same(best_sellers())}, *parts, shoppers=30, k=K, batch=8, progress=lambda *one: told.append(one))
    assert told[-1][:2] == (30, 30)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_policies_that_cannot_be_judged_are_refused(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    with pytest.raises(ValueError, match="fills slates of 2, and k is 5"):
        judge({"a": Same([1, 2])}, *parts, shoppers=5, k=K)
    with pytest.raises(EvidenceError, match="no training"):
        judge({"a": []}, *parts, shoppers=5, k=K)
    with pytest.raises(EvidenceError, match="no policy"):
        judge({}, *parts, shoppers=5, k=K)
