"""The tutorials run from the first cell to the last, and are shown with the pictures of a run."""

from pathlib import Path

import nbclient
import nbformat
import pytest

TUTORIALS = sorted(Path("docs/tutorials").glob("*.ipynb"))
HALF_A_MEGABYTE = 2**19


def test_there_are_three() -> None:
    assert len(TUTORIALS) == 3


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_stored_with_its_pictures(path: Path) -> None:
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert not [output for output in outputs if output.output_type == "error"]
    told = "".join(output.get("text", "") for output in outputs)
    assert "/root" not in told
    assert "/tmp" not in told
    assert path.stat().st_size < 2 * HALF_A_MEGABYTE


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
