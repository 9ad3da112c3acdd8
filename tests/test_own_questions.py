"""`python -m cfexp.explain image=PHOTO question=TEXT` as a user calls it, and mistypes it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfexp import evaluate, explain, gallery
from cfexp.evaluation.run_folder import RunFolder
from tests.commands import InProcess, Main
from tests.test_explain_trained import SMALL, pictures

COLOR = [
    "+experiment=vqa_color",
    *SMALL,
    "data.eval_batch_size=1",
    "trainer.limit_predict_batches=1.0",
]


@pytest.fixture
def main(
    in_process: InProcess, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Main:
    """Runs `python -m cfexp.explain ARGUMENTS` beside photo.png and other.jpg."""
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    draw = np.random.default_rng(0)
    for name, size in (
        ("photo.png", (60, 90, 4)),
        ("other.jpg", (32, 32, 3)),
        ("small.png", (9, 9, 3)),
    ):
        Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / name)
    return partial(in_process, explain.main)


def test_a_question_about_an_image_is_explained_into_a_run_folder(
    main: Main, in_process: InProcess, tmp_path: Path
) -> None:
    command = [
        *COLOR,
        "image=photo.png",
        "question=What color is the zorp, really?",
        "hydra.run.dir=run",
    ]
    code, stdout, stderr = main(*command)
    assert code == 0, stderr
    assert "photo.png: 90x60, RGBA over white, its centred square reduced to 32x32" in stdout
    question = "What color is the zorp, really?"
    lacks = "not in the VQA model's vocabulary, and read as unknown"
    assert f"question={question!r}: {lacks}: zorp, really" in stdout
    run = RunFolder(tmp_path / "run")
    (record,) = run.records()
    assert (record["image_id"], record["question"]) == ("photo", question)
    said = f"photo, {question}: {record['answer_before']} -> {record['answer_after']}"
    assert sum(line.startswith(said) for line in stdout) == 1
    assert stdout[-1].startswith(f"everything lies in {tmp_path / 'run'}: ")
    assert any(
        line.startswith("not computed: accuracy_before, accuracy_after (no questions with")
        for line in stdout
    )
    model = json.loads((tmp_path / "run" / "provenance.json").read_text())["checkpoints"][
        "vqa_model"
    ]["path"]
    asked = [
        "attack=pgd",
        "attack.max_queries=1",
        "cout=true",
        "num_threads=1",
        f"+checkpoints.second_model={model}",
    ]
    code, _, stderr = in_process(evaluate.main, "run=run", *asked)
    assert code == 0, stderr
    assert in_process(gallery.main, "run=run")[0] == 0
    code, stdout, _ = main(*command)
    assert (code, any(line.startswith("goes on after 1 explanations: ") for line in stdout)) == (
        0,
        True,
    )
    Image.new("RGB", (90, 60)).save(tmp_path / "photo.png")
    code, _, stderr = main(*command)
    assert (code, "run holds a run of another config: data.fingerprint=" in stderr[-1]) == (2, True)


def test_each_question_is_asked_about_each_image_and_a_table_says_the_same(
    main: Main, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("photo.png", "other.jpg"):
        (tmp_path / name).rename(folder / name)
    code, _, stderr = main(
        *COLOR, "image=images", "question=[What color is it?, How many circles?]", "hydra.run.dir=a"
    )
    assert code == 0, stderr
    records = RunFolder(tmp_path / "a").records()
    asked = [(record["image_id"], record["question"]) for record in records]
    assert asked == [
        (name, text)
        for name in ("other", "photo")
        for text in ("What color is it?", "How many circles?")
    ]
    lines = [
        "\ufeffquestion,image",
        *(
            f'"{text}",images/{name}'
            for name in ("other.jpg", "photo.png")
            for text in ("What color is it?", "How many circles?")
        ),
    ]
    (tmp_path / "asked.csv").write_text("\r\n".join(lines), encoding="utf-8")
    code, _, stderr = main(*COLOR, "questions=asked.csv", "hydra.run.dir=b")
    assert code == 0, stderr
    assert pictures(tmp_path / "a") == pictures(tmp_path / "b")


def test_an_image_of_the_data_set_is_explained_as_it_is_there(
    main: Main, cache: Path, tmp_path: Path
) -> None:
    few = [*COLOR, "data.max_test_questions=1"]
    assert main(*few, "hydra.run.dir=theirs")[0] == 0
    theirs = RunFolder(tmp_path / "theirs")
    record = theirs.records()[0]
    (file,) = cache.glob(f"scenes-*/val2014/*{record['image_id']:012d}.jpg")
    code, _, stderr = main(
        *COLOR, f"image={file}", f"question={record['question']}", "hydra.run.dir=ours"
    )
    assert code == 0, stderr
    ours = RunFolder(tmp_path / "ours")
    for name in ("query", "reconstruction"):
        assert (
            ours.picture(name, 0).read_bytes() == theirs.picture(name, record["key"]).read_bytes()
        )
    assert ours.records()[0]["query_class"] == record["query_class"]


def test_what_is_killed_or_cannot_be_read_is_left_out(main: Main, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = "image=[broken.png,photo.png]"
    code, _, stderr = main(*COLOR, images, "question=What color is it?", "hydra.run.dir=wrong")
    assert (code, "broken.png: not a readable image" in stderr[-1]) == (2, True)
    skip = "data.on_bad_sample=skip"
    code, _, stderr = main(*COLOR, images, "question=What color is it?", skip, "hydra.run.dir=run")
    assert code == 0, stderr
    assert [record["image_id"] for record in RunFolder(tmp_path / "run").records()] == ["photo"]


def test_a_counter_answer_is_what_the_generator_is_trained_for(main: Main, tmp_path: Path) -> None:
    photo = [*COLOR, "image=photo.png", "question=What color is it?"]
    code, stdout, stderr = main(*photo, "counter_answer=red", "hydra.run.dir=run")
    assert code == 0, "\n".join(stderr)
    assert any(line.startswith("stage explainer is trained first (once): ") for line in stdout)
    (record,) = RunFolder(tmp_path / "run").records()
    code, stdout, _ = main(
        *photo, "explainer.counter_answer=red", "hydra.run.dir=run"
    )  # the same in other words
    assert (code, any(line.startswith("goes on after 1 explanations") for line in stdout)) == (
        0,
        True,
    )
    assert record["counter_class"] >= 0
    code, _, stderr = main(*photo, "counter_answer=mauve", "hydra.run.dir=wrong")
    (line,) = [line for line in stderr if line.startswith("error: ")]
    assert (code, "counter_answer='mauve' is no answer of the VQA model: " in line) == (2, True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["image=photo.png"], "image= needs a question here: question='What color is the bus?'"),
        (
            ["question=What color is it?"],
            "question= is asked about image=: give both, or questions=FILE.csv",
        ),
        (
            ["image=photo.png", "question=Zorp blorb?"],
            "question='Zorp blorb?': none of its words is in the VQA model's",
        ),
        (["image=photo.png", "question=[]"], "question= is empty"),
        (
            ["image=small.png", "question=Is it?"],
            "small.png: is 9x9 pixels, too small for networks of 32x32",
        ),
        (["image=nowhere.jpg", "question=Is it?"], "image=nowhere.jpg: no such file or folder"),
        (
            ["image=photo.png", "questions=good.csv"],
            "questions= names images and questions: leave image= and question=",
        ),
        (
            ["image=photo.png", "question=Is it?", "label_map=photo.png"],
            "label_map= is for experiments that search in",
        ),
        (["questions=nowhere.csv"], "questions=nowhere.csv: no such file"),
        (
            ["questions=columns.csv"],
            "questions=columns.csv: there is no column 'question' in its first line, but image",
        ),
        (["questions=empty.csv"], "questions=empty.csv has no row below its first line"),
        (["questions=hole.csv"], "questions=hole.csv, line 2: the question is empty"),
        (["questions=lost.csv"], "questions=lost.csv, line 3: no image at lost.png"),
        (["questions=photo.png"], "questions=photo.png is no readable CSV file in UTF-8"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_user_has_wrong_is_one_line(
    main: Main, tmp_path: Path, more: list[str], message: str
) -> None:
    for name, content in {
        "good": "image,question\nphoto.png,Is it?\n",
        "columns": "image\nphoto.png\n",
        "empty": "image,question\n",
        "hole": "image,question\nphoto.png,\n",
        "lost": "image,question\nphoto.png,Is it?\nlost.png,Is it?\n",
    }.items():
        (tmp_path / f"{name}.csv").write_text(content)
    code, _, stderr = main(*COLOR, *more, "hydra.run.dir=wrong")
    errors = [line for line in stderr if line.startswith("error: ")]
    assert (code, len(errors)) == (2, 1), stderr
    assert message in errors[0]
    assert not any("Traceback" in line for line in stderr)


def test_a_search_in_layouts_is_asked_no_question(main: Main) -> None:
    code, _, stderr = main(
        "+experiment=steex_driving", "image=photo.png", "question=Is it?", "hydra.run.dir=wrong"
    )
    assert (code, "question= is for experiments that ask questions (vqa_...)" in stderr[-1]) == (
        2,
        True,
    )
