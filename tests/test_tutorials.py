"""The tutorials run from the first cell to the last, and are shown with the pictures of a run."""

from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
import torch

TUTORIALS = sorted((Path(__file__).parents[1] / "docs/tutorials").glob("*.ipynb"))
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


# What a cell says, and what is said in its place where it only matters that the cell runs.
SMALLER = {
    "find_and_repair_a_bias": {
        "train_scenes=400, val_scenes=116": "train_scenes=64, val_scenes=24",
        "epochs=7": "epochs=4",
        "explainer.num_steps=20": "explainer.num_steps=2",
        "explained_of, held_out = slice(0, 16), slice(16, None)": (
            "explained_of, held_out = slice(0, 8), slice(8, None)"
        ),
        "images[:32], labels[:32]": "images[:8], labels[:8]",
    },
    "own_classifier": {
        "train_scenes=500, val_scenes=60": "train_scenes=64, val_scenes=8",
        '"decision.value_range=[0,1]",': ('"decision.value_range=[0,1]", "explainer.num_steps=2",'),
    },
    "vqa_question": {},
}


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_in_small(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell, in this process, from an empty namespace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cells = [cell.source for cell in notebook_of(path).cells if cell.cell_type == "code"]
    for said, smaller in SMALLER[path.stem].items():
        assert sum(cell.count(said) for cell in cells) == 1, said
        cells = [cell.replace(said, smaller) for cell in cells]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with torch.random.fork_rng():
        for number, cell in enumerate(cells):
            exec(compile(cell, f"{path.name}, cell {number}", "exec"), namespace)


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path: Path, tmp_path: Path) -> None:
    """As a reader runs it."""
    where = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        notebook_of(path), timeout=600, kernel_name="python3", resources=where
    )
    client.execute()
