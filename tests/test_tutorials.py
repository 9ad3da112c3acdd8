"""The tutorials run from the first cell to the last, and are shown with the pictures of a run."""

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

TUTORIALS = sorted(Path("docs/tutorials").glob("*.ipynb"))
MEGABYTE = 2**20


def notebook_of(path: Path) -> Any:
    """A tutorial's cells, with what they gave when it was stored."""
    return nbformat.read(path, nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]


def test_there_are_three() -> None:
    assert len(TUTORIALS) == 3


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_stored_with_its_pictures(path: Path) -> None:
    notebook = notebook_of(path)
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert not [output for output in outputs if output.output_type == "error"]
    told = "".join(output.get("text", "") for output in outputs)
    assert "/root" not in told
    assert "/tmp" not in told
    assert path.stat().st_size < MEGABYTE


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path: Path, tmp_path: Path) -> None:
    where = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        notebook_of(path), timeout=600, kernel_name="python3", resources=where
    )
    client.execute()
