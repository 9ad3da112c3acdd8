"""The model that a run explained, found by the run's own config, and a second one beside it."""

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
from cfexp.data.vqa_vocabulary import Vocabulary
from cfexp.evaluation.run_folder import RunFolder
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
            known = record(key, "dark", "bright", truth="dark", image_id=key, query_class=0, stored_class=1)
            known |= {"question": "how bright", "has_truth_mask": True, "counter_class": 1}
            images = {"query": picture(), "reconstruction": picture(), "truth_mask": LIGHT.astype(bool)}
            store.add(known, {**images, "counterfactual": painted(picture(), LIGHT, (250, 250, 250))})
    model = {"_target_": "cfexp.models.pretrained.load_network", "checkpoint": str(checkpoint(folder, "explained"))}
    model["network"] = {"_target_": f"{__name__}.{network.__name__}"}  # type: ignore[assignment]
    content = {"name": "tiny", "explainer": {"decision_model": model, "head": 1}, "checkpoints": {}, "requires": {}}
    OmegaConf.save(OmegaConf.create({**content, **config}), folder / "config.yaml")
    return folder


ATTACK = ["attack=pgd", "attack.epsilons=[32]", "attack.num_steps=4", "num_threads=1"]


def test_the_block_of_a_classifiers_run(main: Main, tmp_path: Path) -> None:
    run = explained_run(tmp_path, Bright)
    second = checkpoint(tmp_path, "second")
    code, stdout, stderr = main(f"run={run}", *ATTACK, f"+checkpoints.second_model={second}")
    assert code == 0, stderr
    assert any("explanation or attack? % of the successes, beside PGD of 32" in line for line in stdout)
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["what color"]
    names = ["counterfactual_transfer", "counterfactual_jpeg_50", "pgd_success", "query_transfer"]
    assert rows.loc[[f"attack_{name}" for name in names], "value"].tolist() == [100] * 4
    assert "attack_pgd_epsilon" in json.loads((run / "metrics.json").read_text())["groups"]["what color"]
    contrary = checkpoint(tmp_path, "contrary", -100)
    assert main(f"run={run}", *ATTACK, f"+checkpoints.second_model={contrary}")[0] == 0
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["what color"]
    assert rows.loc["attack_query_transfer", "value"] == 0
    assert "attack_counterfactual_transfer" not in rows.index  # of queries that both decide alike there is none


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
    code, _, stderr = main(f"run={run}", *ATTACK, f"+checkpoints.second_model={checkpoint(other, 'second')}")
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
    given = [f"+checkpoints.second_model={checkpoint(tmp_path, 'second')}"] if "strength" in said else []
    code, _, stderr = main(f"run={run}", *ATTACK, *given, *arguments)
    assert code == 2
    (line,) = [line for line in stderr if line.startswith("error: ")]
    assert line.endswith(said)
