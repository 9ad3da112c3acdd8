"""`load_explainer` of an explainer that is trained and asked questions, held against what the
command leaves.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cfexp import explain, load_explainer, train
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.library import LoadedExplainer
from tests.commands import InProcess
from tests.test_explain_trained import SMALL

COLOR = [*SMALL, "data.eval_batch_size=1", "trainer.limit_predict_batches=1.0"]
QUESTION = "What color is the circle?"


@pytest.fixture(scope="module")
def settings(cache: Path) -> list[str]:
    return [*COLOR, f"cache_dir={cache}"]


@pytest.fixture(scope="module")
def explainer(settings: list[str]) -> LoadedExplainer:
    return load_explainer("vqa_color", settings)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photographs") / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(
        path
    )
    return path


def test_a_result_is_what_the_command_stores(
    explainer: LoadedExplainer,
    settings: list[str],
    photo: Path,
    in_process: InProcess,
    tmp_path: Path,
) -> None:
    command = [
        "+experiment=vqa_color",
        *settings,
        f"image={photo}",
        f"question={QUESTION}",
        "hydra.run.dir=run",
    ]
    code, _, stderr = in_process(explain.main, *command)
    assert code == 0, stderr
    run = RunFolder(tmp_path / "run")
    (record,) = run.records()
    for result in (
        explainer.explain(photo, questions=QUESTION),
        load_explainer(tmp_path / "run").explain(Image.open(photo), questions=[QUESTION]),
        explainer.explain(run.images("query", [0]), questions=QUESTION),
    ):
        for name in ("query", "reconstruction", "counterfactual"):
            torch.testing.assert_close(
                getattr(result, name), run.images(name, [0]), atol=1.01 / 127.5, rtol=0
            )
        assert (result.before, result.after) == (
            (record["answer_before"],),
            (record["answer_after"],),
        )
        assert result.success.tolist() == [record["stored_success"]]
        assert result.counter_class.tolist() == [-1]
        assert set(result.extras) == {"edit_mask"}
    with pytest.raises(
        InputError, match=r"^this explainer tells no style_codes; its extras are edit_mask$"
    ):
        _ = result.codes


def test_a_run_of_cfexp_train_is_loaded_with_its_own_weights(
    explainer: LoadedExplainer,
    settings: list[str],
    photo: Path,
    in_process: InProcess,
    tmp_path: Path,
) -> None:
    code, _, stderr = in_process(
        train.main,
        "+experiment=vqa_color",
        *settings,
        "seed=1",
        "logger=csv",
        "hydra.run.dir=trained",
    )
    assert code == 0, stderr
    theirs = load_explainer(tmp_path / "trained").explain(photo, questions=QUESTION)
    given = load_explainer(
        "vqa_color", [*settings, "seed=1", f"checkpoints.explainer={tmp_path / 'trained'}"]
    ).explain(photo, questions=QUESTION)
    assert torch.equal(theirs.counterfactual, given.counterfactual)
    assert not torch.equal(
        theirs.counterfactual, explainer.explain(photo, questions=QUESTION).counterfactual
    )


def test_questions_go_with_images(explainer: LoadedExplainer, photo: Path) -> None:
    two = ["What color is it?", "How many circles are there?"]
    assert (explainer.asks_questions, explainer.region_names, explainer.image_size) == (
        True,
        (),
        (32, 32),
    )
    assert explainer.class_names is not None
    several = explainer.explain(photo, questions=two)
    assert several.query.shape == (2, 3, 32, 32)
    assert torch.equal(several.query[0], several.query[1])
    each = explainer.explain([photo, photo], questions=two)
    assert torch.equal(each.counterfactual, several.counterfactual)
    assert set(each.before) <= set(explainer.class_names)
    with pytest.warns(
        UserWarning,
        match=r"^questions: the model does not know zorp of 'What color is the zorp\?'$",
    ):
        explainer.explain(photo, questions="What color is the zorp?")


def test_what_cannot_be_asked_is_one_line(explainer: LoadedExplainer, photo: Path) -> None:
    for asked, line in (
        ({}, "questions must be a text, or one for each image, got None"),
        ({"questions": " "}, "questions must be a text"),
        ({"questions": ["Is it?", 3]}, "questions must be a text"),
        ({"questions": "Zorp?"}, "questions: the model knows no word of 'Zorp"),
        (
            {"questions": QUESTION, "label_maps": photo},
            "label_maps: this explainer takes images alone",
        ),
        (
            {"questions": QUESTION, "regions": ["road"]},
            r"regions=\['road'\]: VQACounterfactualGAN changes whole images",
        ),
        (
            {"questions": QUESTION, "counter_class": 1},
            "counter_class=1: VQACounterfactualGAN asks for what it was made",
        ),
    ):
        with pytest.raises(InputError, match=f"^{line}"):
            explainer.explain(photo, **asked)
    with pytest.raises(InputError, match=r"^questions must be one for each image: 3 for 2"):
        explainer.explain([photo, photo], questions=["Is it?"] * 3)
