"""The notebooks: kept without outputs, and run from top to bottom in a folder of their own."""

import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS, f"no notebook lies in {FOLDER}"


@each_notebook
def test_a_notebook_is_valid_and_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kept = [cell["id"] for cell in code if cell.outputs or cell.execution_count is not None]
    assert not kept, f"strip the outputs of {path.name}: cells {kept}"


@each_notebook
def test_a_notebook_asks_first_and_explains_each_step(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert "?" in cells[0].source
    kinds = [cell.cell_type for cell in cells]
    bare = [cells[place]["id"] for place in range(1, len(cells)) if kinds[place - 1] == kinds[place] == "code"]
    assert not bare, f"say in a sentence what these cells are for: {bare}"


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    # Neither the user's start-up files nor texts encoded before decide whether it runs.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("SLATEWISE_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(path, as_version=4)
    # Without folders to search, the only kernel is that of the running interpreter.
    kernels = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    assert kernels.get_kernel_spec("python3").argv[0] == sys.executable
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    client = NotebookClient(notebook, km=manager, timeout=600, resources={"metadata": {"path": str(work)}})
    client.execute(cleanup_kc=True)  # raises CellExecutionError, with the cell and its traceback
    assert notebook.cells[-1].outputs, "the last cell shows no answer"
    assert not list(work.iterdir()), "the notebook leaves files where it was started"
