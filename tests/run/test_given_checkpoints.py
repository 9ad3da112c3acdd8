"""A checkpoint that is given and fits no network is refused before any stage is trained."""

from pathlib import Path

import pytest
import torch

import cfexp.run.stages
from cfexp import explain
from cfexp.errors import InputError
from cfexp.models.classifiers import SmoothClassifier
from tests.commands import InProcess
from tests.data.own.own_writer import write_own


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def trained(*_: object) -> None:
        raise InputError("a stage was trained")

    monkeypatch.setattr(cfexp.run.stages, "_make_stage", trained)
    return write_own(tmp_path / "set")


def command(root: Path, name: str, *more: str) -> list[str]:
    where = [f"data.root={root}", f"cache_dir={root.parent}/cache", "decision.label=state"]
    return [f"+experiment={name}", *where, "num_threads=1", *more]


def saved(root: Path, classes: int) -> Path:
    path = root.parent / f"of_{classes}.pt"
    torch.save(SmoothClassifier(classes, (16, 32, 64, 96), "logsumexp").state_dict(), path)
    return path


def test_a_classifier_of_another_number_of_classes(in_process: InProcess, root: Path) -> None:
    given = f"checkpoints.decision={saved(root, 3)}"
    code, _, stderr = in_process(explain.main, *command(root, "own_steex", given))
    assert (code, stderr[-1][:7]) == (2, "error: ")
    assert f"{given} does not fit SmoothClassifier: " in stderr[-1]
    assert "[6] instead of [2]" in stderr[-1]
    assert stderr[-1].endswith("; leave checkpoints.decision= out, and it is trained")


def test_another_network_in_a_stage_of_a_stage(in_process: InProcess, root: Path) -> None:
    path = root.parent / "other.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    overrides = f"+requires.autoencoder.overrides=['checkpoints.features={path}']"
    code, _, stderr = in_process(explain.main, *command(root, "own_steex", overrides))
    assert code == 2
    assert f"checkpoints.features={path} does not fit SmoothClassifier: " in stderr[-1]
    path.write_text("nothing")
    code, _, stderr = in_process(explain.main, *command(root, "own_steex", overrides))
    assert (code, "is no readable checkpoint" in stderr[-1]) == (2, True)


def test_an_explainer_that_is_none(in_process: InProcess, root: Path) -> None:
    given = f"checkpoints.explainer={saved(root, 1)}"
    code, _, stderr = in_process(explain.main, *command(root, "own_pe", given))
    assert (code, f"{given} does not fit" in stderr[-1]) == (2, True), stderr


def test_one_that_fits_is_taken(in_process: InProcess, root: Path) -> None:
    given = f"checkpoints.decision={saved(root, 1)}"
    code, _, stderr = in_process(explain.main, *command(root, "own_steex", given))
    assert (code, stderr[-1]) == (2, "error: a stage was trained")


def test_a_region_and_a_counter_class_are_looked_at_first(
    in_process: InProcess, root: Path
) -> None:
    code, _, stderr = in_process(explain.main, *command(root, "own_steex", "regions=[disk]"))
    assert (code, "'disk'" in stderr[-1], "disc" in stderr[-1]) == (2, True, True), stderr
    code, _, stderr = in_process(explain.main, *command(root, "own_pe", "decision.label=size"))
    line = "error: explainer.counter_class must be given: of 3 classes PE is trained for one"
    assert (code, stderr[-1]) == (2, line)
