import hashlib
import json
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from slatewise.datasets.log import ShopLog
from slatewise.datasets.tokens import History
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import ArtefactError, BundleError
from slatewise.serving.bundle import HASHED, RECORD, Bundle
from slatewise.serving.export import write_bundle
from slatewise.serving.graph import export_policy
from slatewise.serving.parity import compare
from slatewise.serving.runtime import Runtime

from .conftest import N_ITEMS, K, NearState


@pytest.fixture
def copied(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "policy"))


def test_a_bundle_says_how_it_was_made_and_that_it_shows_what_was_trained(bundle: Bundle) -> None:
    parity = bundle.record["parity"]
    assert parity["histories"] == 100
    assert parity["equal"] + parity["tied"] == 100
    assert parity["different"] == 0
    assert parity["held_out"]
    assert bundle.record["export"]["max_abs_difference"] < 1e-4
    assert (bundle.k, bundle.catalogue.n_items) == (K, N_ITEMS)
    card = (bundle.folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: slatewise\n")
    assert f"{parity['equal']} of 100 visits of later sessions" in card


def test_the_graph_takes_any_batch_and_time_and_exports_without_a_word(
    encoder: MeanEncoder,
    scorer: NearState,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        worst = export_policy(encoder, scorer, tmp_path / "policy.onnx")
    assert worst < 1e-4
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert capfd.readouterr() == ("", "")
    inputs = onnx.load(tmp_path / "policy.onnx").graph.input
    shapes = {one.name: [size.dim_param for size in one.type.tensor_type.shape.dim] for one in inputs}
    assert shapes == {
        "items": ["batch", "time"],
        "events": ["batch", "time"],
        "gaps": ["batch", "time"],
        "lengths": ["batch"],
    }
    assert [path.name for path in tmp_path.iterdir()] == ["policy.onnx"]


@pytest.mark.parametrize("name", [*HASHED, RECORD])
def test_an_altered_file_is_named(copied: Path, name: str) -> None:
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=rf"{name} was altered.*export the bundle again"):
        Bundle.load(copied)


@pytest.mark.parametrize("name", [*HASHED, RECORD, "config.json"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(copied)


def test_a_bundle_of_another_schema_is_refused(copied: Path) -> None:
    path = copied / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    config = json.loads((copied / "config.json").read_text())
    config["slatewise_artefact"]["facts"]["bundle_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="schema 99, this version reads 1 and 2"):
        Bundle.load(copied)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no finished bundle"):
        Bundle.load(tmp_path / "nowhere")


def test_a_finished_bundle_is_replaced_only_by_force(
    copied: Path, encoder: MeanEncoder, scorer: NearState, log: ShopLog
) -> None:
    with pytest.raises(ArtefactError, match="--force"):
        write_bundle(copied, encoder, scorer, log, k=K, settings={}, inputs={}, histories=5)
    write_bundle(copied, encoder, scorer, log, k=K, settings={}, inputs={}, histories=5, force=True)
    assert Bundle.load(copied).record["parity"]["histories"] == 5


def test_a_policy_that_shows_other_slates_than_its_graph_is_not_sealed(
    tmp_path: Path, encoder: MeanEncoder, scorer: NearState, log: ShopLog
) -> None:
    def backwards(state: np.ndarray) -> np.ndarray:
        return scorer(torch.from_numpy(state)).topk(K, dim=1).indices.numpy()[:, ::-1]

    with pytest.raises(BundleError, match="are not the trained policy's"):
        write_bundle(tmp_path / "b", encoder, scorer, log, k=K, predict=backwards, settings={}, inputs={}, histories=5)
    assert not (tmp_path / "b").exists()


def test_equal_scores_in_another_order_count_as_ties(runtime: Runtime, encoder: MeanEncoder) -> None:
    def alike(states: np.ndarray) -> np.ndarray:
        return np.ones((len(states), N_ITEMS + 1), np.float32)

    def rising(states: np.ndarray) -> np.ndarray:
        return alike(states) + np.arange(N_ITEMS + 1, dtype=np.float32) * 1e-4

    def last_ones(states: np.ndarray) -> np.ndarray:
        return np.tile(np.arange(N_ITEMS, N_ITEMS - K, -1), (len(states), 1))

    report = compare(runtime, encoder, alike, last_ones, History.empty(5), held_out=False)
    assert (report.equal, report.tied, report.different) == (0, 5, 0)
    nearly = compare(runtime, encoder, rising, last_ones, History.empty(5), held_out=False)
    assert (nearly.equal, nearly.tied, nearly.different) == (0, 0, 5)
    assert nearly.first_difference is not None
    assert nearly.first_difference["trained"] == [40, 39, 38, 37, 36]


def test_a_catalogue_that_is_not_the_policys_is_refused(
    tmp_path: Path, encoder: MeanEncoder, scorer: NearState, log: ShopLog, bundle: Bundle
) -> None:
    smaller = MeanEncoder(encoder.item_vectors[:-1].clone())
    with pytest.raises(BundleError, match="the encoder knows 39 items, the log 40"):
        write_bundle(tmp_path / "b", smaller, scorer, log, k=K, settings={}, inputs={})
    cut = type(bundle.catalogue)(bundle.catalogue.frame.iloc[:-1])
    with pytest.raises(BundleError, match="scores 40 items, the catalogue has 39"):
        Runtime(Bundle(bundle.folder, "", bundle.record, cut, bundle.item_vectors[:-1]))
