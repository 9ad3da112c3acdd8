"""A VQA model of one's own through the doors: the command, the doctor and the library."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cfexp import doctor, evaluate, explain, load_explainer
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from tests.commands import InProcess, Main
from tests.models.own.test_vqa import ByColor
from tests.test_explain_trained import SMALL

OWN = ["+decision=own_vqa", "decision.class._target_=tests.models.own.test_vqa.ByColor"]
COLOR = ["+experiment=vqa_color", *SMALL, "data.eval_batch_size=1", *OWN]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(ByColor(gain=8.0).state_dict(), path)
    Image.fromarray(np.full((40, 60, 3), (200, 40, 40), np.uint8)).save(tmp_path / "photo.png")
    return path


@pytest.fixture
def main(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    return partial(in_process, explain.main)


def test_it_is_explained_by_a_generator_of_its_own(
    main: Main, in_process: InProcess, weights: Path, cache: Path, tmp_path: Path
) -> None:
    own = [*COLOR, f"decision.path={weights}"]
    code, stdout, stderr = main(
        *own, "image=photo.png", "question=Which colour has the zorp?", "hydra.run.dir=run"
    )
    assert code == 0, stderr
    assert any(line.startswith("stage explainer is trained first (once): ") for line in stdout)
    assert not list(cache.glob("stages/vqa_model-*"))  # the experiment's own model is not needed
    (record,) = RunFolder(tmp_path / "run").records()
    assert record["answer_before"] == "red"
    assert record["query_logits"] == pytest.approx(
        ByColor(gain=8.0)(RunFolder(tmp_path / "run").images("query", [0]), ["Which colour"])[
            0
        ].tolist(),
        abs=1e-4,
    )
    asked = ["attack=pgd", "attack.max_queries=1", "cout=true", "num_threads=1"]
    code, _, stderr = in_process(evaluate.main, "run=run", *asked)
    assert code == 0, stderr
    loaded = load_explainer(
        "vqa_color", [*COLOR[1:], f"decision.path={weights}", f"cache_dir={cache}"]
    )
    assert loaded.class_names == ("red", "green", "blue")
    result = loaded.explain(tmp_path / "photo.png", questions="Which colour has the zorp?")
    stored = RunFolder(tmp_path / "run").images("counterfactual", [0])
    torch.testing.assert_close(result.counterfactual, stored, atol=1.01 / 127.5, rtol=0)
    assert result.before == ("red",)
    other = tmp_path / "other.pth"
    torch.save(ByColor(gain=2.0).state_dict(), other)
    code, stdout, stderr = main(
        *own[:-1], f"decision.path={other}", "data.max_test_questions=3", "hydra.run.dir=other"
    )
    assert code == 0, stderr
    assert any(line.startswith("stage explainer is trained first (once): ") for line in stdout)


def test_the_doctor_asks_it(in_process: InProcess, weights: Path, tmp_path: Path) -> None:
    command = ["+facts.height=32", *OWN]
    code, stdout, stderr = in_process(doctor.main, *command, f"decision.path={weights}")
    assert (code, stdout) == (0, [f"checked decision, {weights}: errors of 0 kinds, notes of 0"]), (
        stderr
    )
    deaf = [
        "+facts.height=32",
        OWN[0],
        "decision.class._target_=tests.models.own.test_vqa.Deaf",
        "decision.path=null",
    ]
    code, stdout, _ = in_process(doctor.main, *deaf)
    assert (code, "says exactly the same to two different questions" in stdout[1]) == (0, True)
    constant = [each.replace("Deaf", "Constant") for each in deaf]
    code, stdout, _ = in_process(doctor.main, *constant)
    assert (
        code,
        "decision: the model says exactly the same of two different images" in stdout[1],
    ) == (1, True)


def test_what_is_wrong_with_it_is_said_before_anything_is_trained(
    main: Main, weights: Path, cache: Path
) -> None:
    before = set(cache.glob("stages/*"))
    for given, message in (
        (
            [*COLOR[:-1], OWN[1].replace("ByColor", "Detached"), "decision.path=null"],
            "decision: no gradient reaches",
        ),
        ([*COLOR, "decision.path=/nowhere.pth"], "/nowhere.pth"),
        ([*COLOR], "decision.path must be given: decision.path=VALUE"),
        (
            [*OWN, f"decision.path={weights}", *COLOR[:-2]],
            "+decision=NAME must come after +experiment=NAME",
        ),
    ):
        code, _, stderr = main(*given, "hydra.run.dir=wrong")
        (line,) = [line for line in stderr if line.startswith("error: ")]
        assert (code, message in line) == (2, True), line
    assert set(cache.glob("stages/*")) == before
    with pytest.raises(InputError, match="decision: no gradient reaches the image"):
        load_explainer(
            "vqa_color", [*COLOR[1:-1], OWN[1].replace("ByColor", "Detached"), "decision.path=null"]
        )


def test_a_folder_of_hugging_face_s_is_one(main: Main, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests.models.own.test_hugging_face_vqa import write_vilt

    folder = write_vilt(tmp_path / "vilt")
    command = [
        "+experiment=vqa_color",
        *SMALL,
        "+decision=hugging_face_vqa",
        f"decision.path={folder}",
    ]
    command.append("data.batch_size=8")
    code, _, stderr = main(*command, "data.max_test_questions=3", "hydra.run.dir=run")
    assert code == 0, stderr
    records = RunFolder(tmp_path / "run").records()
    assert {record["answer_before"] for record in records} <= {"red", "blue", "2"}
    assert all(len(record["query_logits"]) == 3 for record in records)
