"""The model that a run explained, found by the run's own config, and a second one beside it."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from cfexp import evaluate
from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.evaluation.run_folder import RunFolder
from cfexp.run.stage_names import compose_stage
from tests.commands import InProcess, Main
from tests.evaluation.run_writer import painted, picture, record, square

LIGHT = square(0, 0, 16)


class Bright(nn.Module):
    """Two heads: the second says how far the left upper quarter is above middle grey."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        logit = self.scale * images[..., :16, :16].mean((1, 2, 3))
        return torch.stack([-7 * torch.ones_like(logit), logit], dim=1)


class BrightAnswer(Bright):
    """The same of a question, as classes that exclude each other."""

    def forward(self, images: Tensor, question: Tensor, length: Tensor) -> Tensor:  # type: ignore[override]
        assert question.shape == (len(images), 26)
        assert length.tolist() == [2] * len(images)
        logits = super().forward(images)
        return torch.stack([torch.zeros(len(images)), logits[:, 1]], dim=1)


@pytest.fixture
def main(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Main:
    monkeypatch.setenv("COLUMNS", "160")
    return partial(in_process, evaluate.main)


def checkpoint(folder: Path, name: str, scale: float = 100.0) -> Path:
    torch.save({"scale": torch.tensor([scale])}, folder / f"{name}.ckpt")
    return folder / f"{name}.ckpt"


def explained_run(folder: Path, network: type[nn.Module], **config: Any) -> Path:
    """Four explanations that lit the light, with the config that such a run leaves."""
    run = RunFolder(folder)
    with run.writer() as store:
        for key in range(4):
            known = record(
                key, "dark", "bright", truth="dark", image_id=key, query_class=0, stored_class=1
            )
            known |= {"question": "how bright", "has_truth_mask": True, "counter_class": 1}
            images = {
                "query": picture(),
                "reconstruction": picture(),
                "truth_mask": LIGHT.astype(bool),
            }
            store.add(
                known, {**images, "counterfactual": painted(picture(), LIGHT, (250, 250, 250))}
            )
    model = {
        "_target_": "cfexp.models.loading.pretrained.load_network",
        "checkpoint": str(checkpoint(folder, "explained")),
    }
    model["network"] = {"_target_": f"{__name__}.{network.__name__}"}  # type: ignore[assignment]
    content = {
        "name": "tiny",
        "explainer": {"decision_model": model, "head": 1},
        "checkpoints": {},
        "requires": {},
    }
    OmegaConf.save(OmegaConf.create({**content, **config}), folder / "config.yaml")
    return folder


ATTACK = ["attack=pgd", "attack.epsilons=[32]", "attack.num_steps=4", "num_threads=1"]


def test_the_block_of_a_classifiers_run(main: Main, tmp_path: Path) -> None:
    run = explained_run(tmp_path, Bright)
    second = checkpoint(tmp_path, "second")
    code, stdout, stderr = main(f"run={run}", *ATTACK, f"+checkpoints.second_model={second}")
    assert code == 0, stderr
    assert any(
        "explanation or attack? % of the successes, beside PGD of 32" in line for line in stdout
    )
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["what color"]
    names = ["counterfactual_transfer", "counterfactual_jpeg_50", "pgd_success", "query_transfer"]
    assert rows.loc[[f"attack_{name}" for name in names], "value"].tolist() == [100] * 4
    assert (
        "attack_pgd_epsilon"
        in json.loads((run / "metrics.json").read_text())["groups"]["what color"]
    )
    contrary = checkpoint(tmp_path, "contrary", -100)
    assert main(f"run={run}", *ATTACK, f"+checkpoints.second_model={contrary}")[0] == 0
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["what color"]
    assert rows.loc["attack_query_transfer", "value"] == 0
    assert (
        "attack_counterfactual_transfer" not in rows.index
    )  # of queries that both decide alike there is none


def test_a_student_from_a_file(main: Main, tmp_path: Path) -> None:
    run, student = explained_run(tmp_path, Bright), tmp_path / "student" / "model.ckpt"
    student.parent.mkdir()
    checkpoint(student.parent, "model", 3.0)
    (student.parent / "metrics.json").write_text('{"test/agreement": 90.0}')
    code, stdout, stderr = main(f"run={run}", *ATTACK, f"student={student}")
    assert code == 0, stderr
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["what color"]
    for name in ("non_adversarial_rate", "attack_pgd_non_adversarial_rate"):
        assert rows.loc[name, ["value", "n"]].tolist() == [100, 4]
    assert "flips its student, too" in " ".join(stdout)
    code, _, stderr = main(f"run={run}", "student=astronaut_student")
    assert code == 2
    assert "student=astronaut_student: no such experiment or file; there are" in stderr[-1]
    code, _, stderr = main(f"run={run}", f"student={tmp_path}/none.ckpt")
    assert stderr == [f"error: student={tmp_path}/none.ckpt: no such file"]


def test_the_student_of_a_run_learns_from_the_very_model_on_its_own_images(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the experiment that trains it says of its teacher, and of its world."""
    stages: list[Any] = []

    def provide(config: Any) -> None:
        for requirement in config.requires.values():
            stages.append(compose_stage(requirement, config)[0])
        config.checkpoints.student = str(checkpoint(tmp_path, "student"))

    decision = {
        "experiment": "street_decision",
        "overrides": ["data.world.seed=3", "trainer.max_epochs=1"],
        "share": ["data.world.planted_bias"],
    }
    run = explained_run(
        tmp_path,
        Bright,
        data={"world": {"planted_bias": 0.5, "seed": 9}, "_target_": "any"},
        seed=4,
        requires={"decision": decision},
        checkpoints={"decision": str(tmp_path / "explained.ckpt")},
    )
    monkeypatch.setattr("cfexp.run.explained.provide_stages", provide)
    code, _, stderr = main(f"run={run}", "student=street_student")
    assert code == 0, stderr
    (stage,) = stages
    assert (stage.network.num_outputs, stage.module.exclusive, stage.seed) == (2, False, 4)
    assert (stage.data.world.planted_bias, stage.data.world.seed) == (0.5, 3)
    assert stage.trainer.max_epochs == 4  # the student's own
    assert stage.module.teacher.checkpoint == str(tmp_path / "explained.ckpt")
    assert stage.module.teacher.network._target_.endswith("Bright")


def test_the_block_of_a_run_about_questions(main: Main, tmp_path: Path) -> None:
    vocabulary = Vocabulary(("how", "bright", "UNK"), ("dark", "bright"))
    vocabulary.save(tmp_path / "vocabulary.json")
    data = {"max_question_length": 26, "vocabulary_path": str(tmp_path / "vocabulary.json")}
    run = explained_run(tmp_path, BrightAnswer, data=data)
    second = checkpoint(tmp_path, "second")
    code, _, stderr = main(f"run={run}", *ATTACK, f"+checkpoints.second_model={second}")
    assert code == 0, stderr
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["what color"]
    assert rows.loc["attack_counterfactual_transfer", "value"] == 100
    other = tmp_path / "other"
    other.mkdir()
    Vocabulary(("how", "bright", "UNK"), ("bright", "dark")).save(other / "vocabulary.json")
    code, _, stderr = main(
        f"run={run}", *ATTACK, f"+checkpoints.second_model={checkpoint(other, 'second')}"
    )
    assert code == 2
    assert stderr[-1].endswith("second.ckpt gives other answers than the model that was explained")


@pytest.mark.parametrize(
    ("broken", "arguments", "said"),
    [
        ("config.yaml", [], "config.yaml does not say which model was explained"),
        ("explained.ckpt", [], "is not there: give checkpoints.explained=PATH"),
        (None, ["attack.epsilons=[]"], "attack: epsilons and max_queries must not be empty or 0"),
        (None, ["+attack.strength=3"], "attack: got an unexpected keyword argument 'strength'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    main: Main, tmp_path: Path, broken: str | None, arguments: list[str], said: str
) -> None:
    run = explained_run(tmp_path, Bright)
    if broken is not None:
        (run / broken).unlink()
    given = (
        [f"+checkpoints.second_model={checkpoint(tmp_path, 'second')}"]
        if "strength" in said
        else []
    )
    code, _, stderr = main(f"run={run}", *ATTACK, *given, *arguments)
    assert code == 2
    (line,) = [line for line in stderr if line.startswith("error: ")]
    assert line.endswith(said)


class ThreeBright(Bright):
    """Three classes that exclude each other, of which the second is so bright."""

    def forward(self, images: Tensor) -> Tensor:
        logit = super().forward(images)[:, 1]
        return torch.stack([torch.zeros_like(logit), logit, torch.full_like(logit, -50)], dim=1)


class OneBright(Bright):
    """One output."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, 1:]


def own_run(
    folder: Path, kind: str, network: nn.Module | None = None, head: int | None = None
) -> Path:
    """A run that explained a classifier of a user's own, opened by `kind`."""
    network, path, example = network or OneBright(), folder / "model.pt2", torch.rand(2, 3, 32, 32)
    network.scale.data.fill_(100)  # type: ignore[operator]
    opener: dict[str, Any] = {
        "_target_": f"cfexp.models.own.classifier.{kind}_classifier",
        "path": str(path),
    }
    if kind == "torchscript":
        torch.jit.save(torch.jit.trace(network, example), path)  # type: ignore[no-untyped-call]
    elif kind == "exported":
        sizes = ({0: torch.export.Dim("batch", min=1, max=64)},)
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=sizes), path)
    elif kind == "onnx":
        pytest.importorskip("onnx2torch")
        axes = {"images": {0: "batch"}}
        torch.onnx.export(
            network,
            (example,),
            str(path),
            input_names=["images"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    else:  # of a class, with its weights in a file or in itself
        torch.save(network.state_dict(), path)
        made = {"_target_": f"{__name__}.{type(network).__name__}"}
        checkpoint = None if kind == "own without a file" else str(path)
        opener = {
            "_target_": "cfexp.models.loading.pretrained.load_network",
            "network": made,
            "checkpoint": checkpoint,
        }
    model: dict[str, Any] = {
        "_target_": "cfexp.models.own.classifier.OwnClassifier",
        "network": opener,
    }
    model |= {"value_range": [-1, 1], "output": head, "image_size": [32, 32]}
    given = {} if kind == "own without a file" else {"decision": str(path)}
    explainer = {"decision_model": model, "head": head}
    run = explained_run(
        folder,
        Bright,
        explainer=explainer,
        checkpoints=given,
        requires={"decision": None},
        label=None,
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    weights = {name: {"path": each, "sha256": digest} for name, each in given.items()}
    (run / "provenance.json").write_text(json.dumps({"checkpoints": weights}))
    return run


def values_of(run: Path) -> dict[str, float]:
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["what color"]
    return dict(rows["value"])


@pytest.mark.parametrize("kind", ["torchscript", "exported", "onnx", "own", "own without a file"])
def test_a_run_of_ones_own_classifier_is_asked_as_any(
    main: Main, tmp_path: Path, kind: str
) -> None:
    run = own_run(tmp_path, kind)
    code, stdout, stderr = main(f"run={run}", *ATTACK, "cout=true")
    assert code == 0, stderr
    found = values_of(run)
    assert -1 <= found["cout"] <= 1
    assert found["attack_pgd_success"] == found["attack_counterfactual_jpeg_50"] == 100
    assert "attack_query_transfer" not in found
    said = " ".join(" ".join(stdout).split())
    why = "the run names no stage that trains a second model: give +checkpoints.second"
    assert f"attack_query_transfer ({why}" in said


def test_a_second_classifier_of_ones_own(main: Main, tmp_path: Path) -> None:
    run = own_run(tmp_path, "torchscript")
    code, _, stderr = main(
        f"run={run}", *ATTACK, f"+checkpoints.second_model={tmp_path / 'model.pt2'}"
    )
    assert code == 0, stderr
    assert values_of(run)["attack_counterfactual_transfer"] == 100


@pytest.mark.parametrize(
    ("network", "head", "second", "reason"),
    [
        (
            ThreeBright(),
            None,
            OneBright(),
            "checkpoints.second_model decides between 2 classes, the explained model bet",
        ),
        (ThreeBright(), 1, Bright(), None),
        (
            OneBright(),
            None,
            ThreeBright(),
            "checkpoints.second_model decides between 3 classes, the explained model bet",
        ),
        (Bright(), 1, OneBright(), None),  # one output decides what the head does
    ],
)
def test_a_second_model_of_other_classes_is_left_out(
    main: Main,
    tmp_path: Path,
    network: nn.Module,
    head: int | None,
    second: nn.Module,
    reason: str | None,
) -> None:
    run, other = own_run(tmp_path, "torchscript", network, head), tmp_path / "second.pt"
    second.scale.data.fill_(100)  # type: ignore[operator]
    torch.jit.save(torch.jit.trace(second, torch.rand(2, 3, 32, 32)), other)  # type: ignore[no-untyped-call]
    if head is not None and isinstance(second, OneBright):  # as a stage leaves one, of any name
        (tmp_path / "stage").mkdir()
        other = checkpoint(tmp_path / "stage", "model")
        OmegaConf.save(
            {"network": {"_target_": f"{__name__}.OneBright"}}, tmp_path / "stage" / "config.yaml"
        )
    code, stdout, stderr = main(
        f"run={run}", *ATTACK, "cout=true", f"+checkpoints.second_model={other}"
    )
    assert code == 0, stderr
    found = values_of(run)
    assert "cout" in found
    assert ("attack_query_transfer" in found) == (reason is None)
    assert reason is None or reason in " ".join(" ".join(stdout).split())


def test_a_model_that_was_moved_or_changed_is_one_line(main: Main, tmp_path: Path) -> None:
    run, path = own_run(tmp_path, "torchscript"), tmp_path / "model.pt2"
    moved = path.rename(tmp_path / "moved.pt")
    for asked in (["cout=true"], ATTACK):
        code, _, stderr = main(f"run={run}", *asked)
        assert (code, stderr[-1].endswith("is not there: give checkpoints.explained=PATH")) == (
            2,
            True,
        )
        code, _, stderr = main(f"run={run}", *asked, f"+checkpoints.explained={moved}")
        assert code == 0, stderr
    contrary = OneBright()
    contrary.scale.data.fill_(-100)
    torch.jit.save(torch.jit.trace(contrary, torch.rand(2, 3, 32, 32)), path)  # type: ignore[no-untyped-call]
    code, _, stderr = main(f"run={run}", "cout=true")
    assert code == 2
    assert "model.pt2 has changed since" in stderr[-1]
    assert stderr[-1].endswith("give checkpoints.explained=PATH")
    code, _, stderr = main(f"run={run}", "cout=true", f"+checkpoints.explained={path}")
    assert code == 2
    assert "checkpoints.explained decides 4 of 4 queries otherwise than the run says" in stderr[-1]
