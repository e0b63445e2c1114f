"""Environments of their own for rivals, which need older libraries than we do: built once, kept in a cache folder."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# RecBole 1.2.1 breaks with NumPy 2 and pandas 3. Ray, which it imports, has wheels up to Python 3.11.
REQUIREMENTS = ("recbole==1.2.1", "numpy==1.26.4", "pandas==2.2.3", "scipy==1.14.1")
TORCH = (
    ("torch==2.13.0+cpu",),
    ("torch==2.13.0+cpu", "--extra-index-url", "https://download.pytorch.org/whl/cpu"),
    ("torch==2.13.0",),
)
"""Ways to a torch, tried in turn; the first two do without CUDA's libraries."""


def recbole_python(cache: Path) -> Path:
    """The interpreter of the environment, which is built when it is not there yet.

    Args:
        cache: folder to keep it in; some two GB.
    """
    base = _base_python()
    name = hashlib.sha256(json.dumps([base, REQUIREMENTS, TORCH]).encode()).hexdigest()[:8]
    try:
        return environment(cache / f"recbole-{name}", base, [[(*REQUIREMENTS, *torch)] for torch in TORCH])
    except NotInstalledError as error:
        sys.exit(f"RecBole could not be installed; leave SASRec and GRU4Rec out with --rivals.\n{error}")


class NotInstalledError(RuntimeError):
    """What pip said of an environment that could not be built."""


def environment(folder: Path, base: str, ways: Sequence[Sequence[Sequence[str]]]) -> Path:
    """The interpreter of an environment, which is built when it is not there yet.

    Args:
        folder: to keep it in.
        base: the interpreter that it is made of.
        ways: to fill it, tried in turn; each is what pip is called with, one call after another.

    Raises:
        NotInstalledError: no way was open.
    """
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.is_file():
        return python
    print(f"building an environment in {folder}", flush=True)
    subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
    said = ""
    for calls in ways:
        for asked in calls:
            command = [str(python), "-m", "pip", "install", "--quiet", *asked]
            installed = subprocess.run(command, capture_output=True, text=True)
            if installed.returncode:
                said = installed.stderr[-2000:]
                break
        else:
            ready.touch()
            return python
    raise NotInstalledError(said)


def _base_python() -> str:
    if sys.version_info[:2] in {(3, 10), (3, 11)}:
        return sys.executable
    found = shutil.which("python3.11") or shutil.which("python3.10")
    if found is None:
        sys.exit("RecBole needs Python 3.10 or 3.11 on the path; leave SASRec and GRU4Rec out with --rivals")
    return found
