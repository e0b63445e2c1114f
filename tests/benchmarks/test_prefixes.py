"""The ranking code and the reader that every model of a benchmark is measured with."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slatewise.encoders.next_item import rank_of

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def prefixes() -> ModuleType:
    """`benchmarks/prefixes.py`, which is a script's neighbour and no part of the package."""
    spec = importlib.util.spec_from_file_location("benchmark_prefixes", BENCHMARKS / "prefixes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def arrays() -> dict[str, np.ndarray]:
    """Training sessions 1 2 3, 2 3, 4 1; test sessions 1 2 3 and 4 2, longest prefix first."""
    return {
        "train_items": np.array([1, 2, 3, 2, 3, 4, 1]),
        "train_offsets": np.array([0, 3, 5, 7]),
        "test_items": np.array([1, 2, 1, 4]),
        "test_offsets": np.array([0, 2, 3, 4]),
        "test_target": np.array([3, 2, 2]),
    }


def written(folder: Path, **changed: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, allow_pickle=False, **{**arrays(), **changed})
    return path


def test_figures_are_those_worked_out_by_hand(prefixes: ModuleType) -> None:
    # Seed 0: ranks 1, 4, 30, so recall 2/3 and MRR (1 + 1/4 + 0) / 3. Seed 1: ranks 2, 21, 20: recall 2/3, MRR
    # (1/2 + 0 + 1/20) / 3.
    found = prefixes.figures(np.array([[1, 4, 30], [2, 21, 20]]), np.array([0, 0, 1]))
    assert found.per_seed[0] == pytest.approx((100 * 2 / 3, 100 * 1.25 / 3))
    assert found.per_seed[1] == pytest.approx((100 * 2 / 3, 100 * 0.55 / 3))
    assert found.recall == pytest.approx(100 * 2 / 3)
    assert found.mrr == pytest.approx(100 * 0.9 / 3)


def test_intervals_resample_whole_sessions(prefixes: ModuleType) -> None:
    # Session 0 has three hits, session 1 one miss: a sample holds both, session 0 twice, or session 1 twice.
    found = prefixes.figures(np.array([[1, 1, 1, 99]]), np.array([0, 0, 0, 1]))
    assert set(np.round(found.drawn[0])) == {0.0, 75.0, 100.0}
    assert found.recall_interval == (0.0, 100.0)


def test_a_model_leads_itself_by_nothing_in_every_sample(prefixes: ModuleType) -> None:
    ranks, sessions = np.random.default_rng(0).integers(1, 40, (1, 200)), np.repeat(np.arange(50), 4)
    found = prefixes.figures(ranks, sessions)
    assert found.ahead_of(found) == {"recall": [0, 0, 0], "mrr": [0, 0, 0]}
    better = prefixes.figures(np.maximum(ranks - 5, 1), sessions)
    lead, low, high = better.ahead_of(found)["recall"]
    assert 0 < low < lead < high


def test_ranks_put_equal_scores_first_and_agree_with_the_package(prefixes: ModuleType) -> None:
    scores = np.array([[9.0, 0.5, 0.7, 0.5], [9.0, 0.1, 0.2, 0.3], [9.0, 0.0, 0.0, 0.0]], np.float32)
    target = np.array([1, 3, 2])
    assert prefixes.rank_of(scores, target).tolist() == [3, 1, 3]
    assert rank_of(scores, target).tolist() == [3, 1, 3]


def test_scores_that_are_no_numbers_never_help(prefixes: ModuleType) -> None:
    scores = np.array([[0, np.nan, 0.2, 0.1], [0, 0.3, np.nan, 0.1]])
    assert prefixes.rank_of(scores, np.array([1, 1])).tolist() == [3, 2]


def test_test_sessions_are_rebuilt_from_their_prefixes(prefixes: ModuleType, tmp_path: Path) -> None:
    data = prefixes.read_prefixes(written(tmp_path))
    assert prefixes.sessions_of_test(data).tolist() == [0, 0, 1]
    shortest_first = {
        "test_items": np.array([1, 1, 2, 4]),
        "test_offsets": np.array([0, 1, 3, 4]),
        "test_target": np.array([2, 3, 2]),
    }
    data = prefixes.read_prefixes(written(tmp_path, **shortest_first))
    assert prefixes.sessions_of_test(data).tolist() == [0, 0, 1]


def test_validation_holds_every_prefix_of_the_latest_sessions(prefixes: ModuleType, tmp_path: Path) -> None:
    data = prefixes.read_prefixes(written(tmp_path))
    items, offsets, target = data.validation()  # of three sessions the last
    assert (items.tolist(), offsets.tolist(), target.tolist()) == ([4], [0, 1], [1])
    assert data.before_tail().train_items.tolist() == [1, 2, 3, 2, 3]


def test_a_small_part_is_a_data_set_of_known_items(prefixes: ModuleType, tmp_path: Path) -> None:
    small = prefixes.read_prefixes(written(tmp_path)).latest(0.67)  # sessions 2 3 and 4 1; test session 1 2 3
    assert small.train_items.tolist() == [2, 3, 4, 1]
    assert (small.test_items.tolist(), small.test_target.tolist()) == ([1, 2, 1], [3, 2])
    small.save(tmp_path / "small.npz")
    assert prefixes.read_prefixes(tmp_path / "small.npz").content() == small.content()


def test_last_items_are_padded_at_the_end(prefixes: ModuleType) -> None:
    items, lengths = prefixes.last_items(np.array([5, 6, 7, 8]), np.array([0, 3, 4]), 2)
    assert items.tolist() == [[6, 7], [8, 0]]
    assert lengths.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"test_target": np.array([3, 2])}, "2 test targets for 3 test prefixes"),
        ({"train_items": np.array([0, 2, 3, 2, 3, 4, 1])}, "train_items has item 0; items count from 1"),
        ({"train_items": np.array([1.0, 2, 3, 2, 3, 4, 1])}, "train_items must be a row of integers"),
        ({"train_offsets": np.array([0, 3, 5, 9])}, "run from 0 to 9; they must run from 0 to 7"),
        ({"train_offsets": np.array([0, 5, 3, 7])}, "train row 1 is empty"),
        ({"train_offsets": np.array([0, 7])}, "1 training session; two are needed"),
    ],
)
def test_data_sets_that_do_not_fit_together_are_refused(
    prefixes: ModuleType, tmp_path: Path, changed: dict[str, np.ndarray], words: str
) -> None:
    with pytest.raises(prefixes.PrefixFileError, match=words):
        prefixes.read_prefixes(written(tmp_path, **changed))


def test_files_that_are_no_data_set_are_refused(prefixes: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(prefixes.PrefixFileError, match="there is no file"):
        prefixes.read_prefixes(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("1 2 3")
    with pytest.raises(prefixes.PrefixFileError, match="that can be read"):
        prefixes.read_prefixes(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.arange(3))
    with pytest.raises(prefixes.PrefixFileError, match="holds one array"):
        prefixes.read_prefixes(tmp_path / "one.npy")
    np.savez(tmp_path / "half.npz", train_items=np.arange(3))
    with pytest.raises(prefixes.PrefixFileError, match="lacks 'train_offsets'"):
        prefixes.read_prefixes(tmp_path / "half.npz")
