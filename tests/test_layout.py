"""The layout: real code in top-level folders, one relative link each inside `src/slatewise`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ["agents", "datasets", "encoders", "envs", "evaluation", "serving", "simulators"]

needs_checkout = pytest.mark.skipif(not (ROOT / "src" / "slatewise").is_dir(), reason="not run from a checkout")


@needs_checkout
@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_is_linked_into_the_package(folder: str) -> None:
    link = ROOT / "src" / "slatewise" / folder
    assert (ROOT / folder / "__init__.py").is_file(), f"{folder}/ is missing from the checkout"
    assert link.is_symlink(), (
        f"src/slatewise/{folder} is not a link. The checkout lost its links (on Windows: enable developer mode, then "
        f"`git config core.symlinks true && git checkout -- src`); it should point to ../../{folder}"
    )
    assert os.readlink(link) == f"../../{folder}"


@needs_checkout
def test_no_folder_is_left_without_a_link() -> None:
    with_code = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert with_code == set(FOLDERS), "a new part needs a link, a line in the import contract and a README row"


@pytest.mark.parametrize(
    "module", ["slatewise", "slatewise.datasets", "slatewise.errors", "slatewise.serving", "slatewise.cli"]
)
def test_light_modules_do_not_load_torch(module: str) -> None:
    code = f"import {module}, sys; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_part_is_importable_from_the_one_package(folder: str) -> None:
    module = __import__(f"slatewise.{folder}", fromlist=["__all__"])
    assert module.__doc__
    for name in getattr(module, "__all__", []):
        assert getattr(module, name) is not None
