"""Other people's worlds: what passes between the processes, and what our agents make of what they are told."""

import importlib
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of `benchmarks/` as scripts there do."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


class Counting:
    """A world whose shopper of seed s leaves after three slates, and tells s and how many it has seen."""

    def __init__(self) -> None:
        self.seed, self.seen = [0, 0], [0, 0]

    def reset(self, row: int, seed: int | None) -> dict[str, np.ndarray]:
        self.seed[row] = self.seed[row] + 100 if seed is None else seed
        self.seen[row] = 0
        return self._told(row)

    def step(self, row: int, slate: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool]:
        self.seen[row] += 1
        return self._told(row), float(slate.sum()), self.seen[row] == 3 - row

    def _told(self, row: int) -> dict[str, np.ndarray]:
        return {"who": np.array([self.seed[row], self.seen[row]])}


def test_rows_are_served_and_who_leaves_is_followed_by_another(rivals: Any) -> None:
    process = rivals("rivals.world_process")
    asked, answered = io.BytesIO(), io.BytesIO()
    process.send(asked, {"seeds": np.array([7, 8])})
    for slate in ([1, 2], [3, 4], [5, 6]):
        process.send(asked, {"slates": np.array([slate, [0, 1]]), "idle": np.array([False, False])})
    process.send(asked, {"slates": np.array([[1, 2], [3, 4]]), "idle": np.array([False, True])})
    asked.seek(0)
    process.serve(Counting(), asked, answered)
    answered.seek(0)
    first, one, two, three, four = (process.receive(answered) for _ in range(5))
    assert process.receive(answered) is None
    assert first["who"].tolist() == [[7, 0], [8, 0]]
    assert one["reward"].tolist() == [3, 1]
    assert two["ended"].tolist() == [False, True]
    assert two["last_who"].tolist() == [[7, 2], [8, 2]]  # the last view of who left
    assert two["who"].tolist() == [[7, 2], [108, 0]]
    assert three["ended"].tolist() == [True, False]
    assert four["reward"].tolist() == [3, 0]
    assert four["who"].tolist() == [[107, 1], [108, 1]]  # idle, the second sees nothing more


def sardine_told(slate: list[int], clicks: list[int], hist: list[float]) -> dict[str, np.ndarray]:
    return {"slate": np.array([slate]), "clicks": np.array([clicks]), "hist": np.array([hist])}


def test_a_taste_is_the_ridge_regression_of_clicks_and_rests_while_a_topic_is_full(rivals: Any) -> None:
    reader = rivals("rivals.sardine_shoppers").SardineReader(1, np.tile(np.eye(3, dtype=np.float32), (4, 1)))
    ten = [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]  # the first topic once, the second in all other slots
    reader.begin(sardine_told(ten, [1, 1] + [0] * 8, [0.2, 0.2, 0.0]), np.array([True]))
    passed = (0.85 ** np.arange(2, 10)).sum()
    taste = np.array([1 / 2, 1 / (1 + 1 + passed), 0])
    np.testing.assert_allclose(reader.observe()[0, :3], taste / np.linalg.norm(taste), rtol=1e-5)
    np.testing.assert_allclose(reader.observe()[0, 3:6], [-0.2, -0.2, 0], rtol=1e-5)
    reader.read(sardine_told(ten, [1] * 10, [1.0, 1.0, 0.0]))
    before = reader.observe()[0, :3]
    for left in (4, 3, 2, 1, 0):  # nobody clicks now, which tells nothing of the taste
        reader.read(sardine_told(ten, [0] * 10, [1.0, 0.0, 0.0] if left else [0.0, 0.0, 0.0]))
        np.testing.assert_array_equal(reader.observe()[0, :3], before)
    reader.read(sardine_told(ten, [0] * 10, [0.0, 0.0, 0.0]))
    assert (reader.observe()[0, :3] != before).any()


def test_a_slate_is_filled_down_a_ranking_by_the_rule_and_clicks_are_told_by_place(rivals: Any) -> None:
    shoppers = rivals("rivals.sardine_shoppers")
    vectors = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)  # items 1 to 5 of the first topic, and so on
    reader = shoppers.SardineReader(1, vectors, ranked=14, most=3)
    ranking = np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17]])
    shown = reader.to_world(ranking)
    assert (shown + 1).tolist() == [[1, 2, 3, 6, 7, 8, 11, 12, 13, 16]]
    clicks = np.zeros((1, 10), int)
    clicks[0, [3, 9]] = 1  # items 6 and 16
    (info,) = reader.infos({"clicks": clicks})
    assert np.flatnonzero(info["clicks"]).tolist() == [5, 12]
    assert info["clicked"] == 5


def test_recsim_shows_candidates_by_their_topics(rivals: Any) -> None:
    reader = rivals("rivals.recsim_shoppers").RecSimReader(1, np.eye(20, dtype=np.float32))
    interests = np.linspace(-1, 1, 20, dtype=np.float32)
    told = {"interests": interests[None], "topics": np.arange(10)[None] + 5, "clicked": np.array([-1])}
    reader.begin(told, np.array([True]))
    seen = reader.observe()
    assert seen["candidates"].tolist() == [[0, *range(6, 16)]]
    assert reader.observation_space.contains({name: one[0] for name, one in seen.items()})
    np.testing.assert_array_equal(reader.item_vectors[6] @ seen["state"][0], interests[5])
    assert reader.to_world(np.array([[1, 10, 2]])).tolist() == [[0, 9, 1]]
    assert reader.infos(told) == [{"clicked": -1}]


def test_intervals_hold_the_spread_of_seeds(rivals: Any) -> None:
    worlds = rivals("other_worlds")
    rng = np.random.default_rng(0)
    shoppers = rng.normal(size=200)
    alike, apart = np.tile(shoppers, (5, 1)), shoppers + 10 * np.arange(5)[:, None]
    widths = [np.ptp(np.percentile(worlds.bootstrap(one), (2.5, 97.5))) for one in (alike, apart)]
    assert widths[0] == pytest.approx(2 * 1.96 * shoppers.std() / 200**0.5, rel=0.1)
    assert widths[1] == pytest.approx(2 * 2.776 * (10 * np.arange(5)).std(ddof=1) / 5**0.5, rel=0.15)
