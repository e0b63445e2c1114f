"""What all tests share: where real logs lie, and one-thread arithmetic, so that results repeat."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real logs beside the checkout, or `SLATEWISE_DATA`; without it the test skips and says so."""
    folder = Path(os.environ.get("SLATEWISE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real logs at {folder}; set SLATEWISE_DATA to run the tests on real logs")
    return folder
