"""Every kind of damage that a person's files or settings may have gives one line that says where
and what to do.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.data.questions.vqa import VQADataModule
from cfexp.errors import InputError
from tests.data.damage import Damage, as_folder, cut, replaced
from tests.data.damage import json_edited as edited
from tests.data.vqa_writer import dump, load

QUESTIONS = "OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "mscoco_val2014_annotations.json"
GRAPH = "scene_graphs_val2014.json"
IMAGE = "val2014/COCO_val2014_000000000092.jpg"


def question(**values: Any) -> Damage:
    return edited(lambda content: content["questions"][5].update(values))


def annotation(**values: Any) -> Damage:
    return edited(lambda content: content["annotations"][5].update(values))


def thing(**values: Any) -> Damage:
    return edited(lambda content: content["scenes"][2]["objects"][0].update(values))


# File, damage, what the line must name beside the file.
WHOLE_FILE: dict[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "expected"),
    "a folder": (as_folder, "cannot be read"),
    "empty": (replaced(b""), "empty"),
    "only white space": (replaced(" \r\n"), "empty"),
    "truncated": (cut, "truncated JSON"),
    "not JSON": (replaced("<html>404</html>"), "JSON"),
    "UTF-16": (replaced('{"questions": []}'.encode("utf-16")), "not UTF-8"),
    "Latin-1": (replaced('{"questions": ["café"]}'.encode("latin-1")), "not UTF-8"),
    "binary": (replaced(b"\x89PNG\r\n\x1a\n\x00"), "not UTF-8"),
    "a list": (replaced("[1, 2]"), "top level"),
    "a number": (replaced("3"), "top level"),
    "null": (replaced("null"), "top level"),
    "nested too deeply": (replaced("[" * 200_000), "nested"),
    "a number of 5000 digits": (replaced('{"questions": ' + "9" * 5000 + "}"), "JSON"),
    "of another split": (
        edited(lambda content: content.update(data_subtype="train2014")),
        "data_subtype",
    ),
}
RECORDS: dict[str, tuple[str, Damage, str]] = {
    "no questions key": (QUESTIONS, edited(lambda content: content.pop("questions")), "questions"),
    "questions an object": (
        QUESTIONS,
        edited(lambda content: content.update(questions={"1": 2})),
        "questions",
    ),
    "no question": (QUESTIONS, edited(lambda content: content["questions"].clear()), "questions"),
    "a question that is text": (
        QUESTIONS,
        edited(lambda content: content["questions"].__setitem__(5, "What?")),
        "questions[5]",
    ),
    "a question without id": (
        QUESTIONS,
        edited(lambda content: content["questions"][5].pop("question_id")),
        "questions[5]",
    ),
    "question text missing": (
        QUESTIONS,
        edited(lambda content: content["questions"][5].pop("question")),
        "'question'",
    ),
    "question text null": (QUESTIONS, question(question=None), "questions[5].question"),
    "question text empty": (QUESTIONS, question(question=" "), "questions[5].question"),
    "image_id a string": (QUESTIONS, question(image_id="92"), "questions[5].image_id"),
    "image_id a float": (QUESTIONS, question(image_id=92.0), "questions[5].image_id"),
    "image_id NaN": (QUESTIONS, question(image_id=float("nan")), "questions[5].image_id"),
    "image_id true": (QUESTIONS, question(image_id=True), "questions[5].image_id"),
    "image_id negative": (QUESTIONS, question(image_id=-92), "questions[5].image_id"),
    "image_id beyond int64": (QUESTIONS, question(image_id=10**30), "questions[5].image_id"),
    "question_id twice": (QUESTIONS, question(question_id=910), "questions[5].question_id"),
    "question without annotation": (
        ANNOTATIONS,
        edited(lambda content: content["annotations"].pop(5)),
        "questions[5].question_id 922",
    ),
    "annotation without question": (
        QUESTIONS,
        edited(lambda content: content["questions"].pop(5)),
        "annotations[5].question_id 922",
    ),
    "annotation twice": (ANNOTATIONS, annotation(question_id=910), "annotations[5].question_id"),
    "annotation of another image": (
        ANNOTATIONS,
        annotation(image_id=91),
        "annotations[5].image_id",
    ),
    "no annotations key": (
        ANNOTATIONS,
        edited(lambda content: content.pop("annotations")),
        "annotations",
    ),
    "annotation null": (
        ANNOTATIONS,
        edited(lambda content: content["annotations"].__setitem__(5, None)),
        "annotations[5]",
    ),
    "no question_type": (
        ANNOTATIONS,
        edited(lambda content: content["annotations"][5].pop("question_type")),
        "question_type",
    ),
    "answer_type a list": (
        ANNOTATIONS,
        annotation(answer_type=["other"]),
        "annotations[5].answer_type",
    ),
    "consensus a number": (
        ANNOTATIONS,
        annotation(multiple_choice_answer=2),
        "annotations[5].multiple_choice_answer",
    ),
    "answers missing": (
        ANNOTATIONS,
        edited(lambda content: content["annotations"][5].pop("answers")),
        "'answers'",
    ),
    "answers text": (ANNOTATIONS, annotation(answers="yes"), "annotations[5].answers"),
    "nine answers": (
        ANNOTATIONS,
        edited(lambda content: content["annotations"][5]["answers"].pop()),
        "annotations[5].answers must be 10 answers, got 9",
    ),
    "no answers": (ANNOTATIONS, annotation(answers=[]), "annotations[5].answers"),
    "answers of plain text": (
        ANNOTATIONS,
        annotation(answers=["yes"] * 10),
        "annotations[5].answers[0]",
    ),
    "an answer without text": (
        ANNOTATIONS,
        edited(lambda content: content["annotations"][5]["answers"][7].pop("answer")),
        "annotations[5].answers[7]",
    ),
    "an answer that is a number": (
        ANNOTATIONS,
        edited(lambda content: content["annotations"][5]["answers"][7].update(answer=3)),
        "annotations[5].answers[7].answer",
    ),
    "graph without info": (GRAPH, edited(lambda content: content.pop("info")), "info.palette"),
    "graph palette of text": (
        GRAPH,
        edited(lambda content: content["info"].update(palette={"red": "#f00"})),
        "info.palette",
    ),
    "graph palette beyond 255": (
        GRAPH,
        edited(lambda content: content["info"]["palette"].update(red=[256, 0, 0])),
        "info.palette",
    ),
    "graph without questions": (
        GRAPH,
        edited(lambda content: content.pop("questions")),
        "questions",
    ),
    "graph asks for an object that is not there": (
        GRAPH,
        edited(lambda content: content["questions"].update({"930": [1]})),
        "questions['930']",
    ),
    "graph without the scene asked about": (
        GRAPH,
        edited(lambda content: content["scenes"].pop(2)),
        "questions['930']",
    ),
    "graph objects null": (
        GRAPH,
        edited(lambda content: content["scenes"][2].update(objects=None)),
        "scenes[2].objects",
    ),
    "graph box NaN": (GRAPH, thing(box=[1, 2, float("nan"), 4]), "scenes[2].objects[0].box"),
    "graph mask of other size": (
        GRAPH,
        edited(lambda content: content["scenes"][2]["objects"][0]["mask"].update(size=[32, 47])),
        "scenes[2].objects[0].mask",
    ),
    "graph mask negative": (
        GRAPH,
        thing(mask={"size": [32, 48], "counts": [-1, 32 * 48 + 1]}),
        "scenes[2].objects[0].mask",
    ),
    "graph mask compressed": (
        GRAPH,
        thing(mask={"size": [32, 48], "counts": "PPYo0"}),
        "scenes[2].objects[0].mask",
    ),
}
IMAGES: dict[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "image"),
    "a folder": (as_folder, "image"),
    "truncated": (cut, "truncated"),
    "empty": (replaced(b""), "readable image"),
    "text": (replaced("<html>404</html>"), "readable image"),
    "another format": (
        replaced(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "readable image",
    ),
    "header only": (lambda path: path.write_bytes(path.read_bytes()[:20]), "readable image"),
}


def line_of(root: Path, **settings: Any) -> str:
    """The one line with which testing on this folder, vocabulary included, stops."""
    with pytest.raises(InputError) as stop:
        _ = collect(root, **settings)
    line = str(stop.value)
    assert "\n" not in line
    assert len(line) < 400 + 3 * len(str(root))
    return line


def collect(root: Path, **settings: Any) -> int:
    module = VQADataModule(
        str(root), **{"image_size": 16, "holdout_images": 2, "batch_size": 4, **settings}
    )
    module.prepare_data()
    module.setup()
    loaders = (module.train_dataloader(), module.test_dataloader())
    return sum(len(batch.answer) for loader in loaders for batch in loader)


def test_the_undamaged_folder_is_read(vqa_root: Path) -> None:
    assert collect(vqa_root) == 16 + 12


# A scene graph may be absent, and does not say of which split it is.
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in (QUESTIONS, ANNOTATIONS) for kind in WHOLE_FILE]
    + [(GRAPH, kind) for kind in WHOLE_FILE if kind not in ("missing", "of another split")],
)
def test_a_damaged_file(vqa_root: Path, name: str, kind: str) -> None:
    damage, named = WHOLE_FILE[kind]
    damage(vqa_root / name)
    line = line_of(vqa_root)
    assert str(vqa_root / name) in line
    assert named in line
    assert "docs/data_sets.md" in line


@pytest.mark.parametrize("kind", RECORDS)
def test_a_damaged_record(vqa_root: Path, kind: str) -> None:
    name, damage, named = RECORDS[kind]
    damage(vqa_root / name)
    line = line_of(vqa_root)
    assert name in line
    assert named in line
    assert "docs/data_sets.md" in line


@pytest.mark.parametrize("cache_images", [False, True])
@pytest.mark.parametrize("kind", IMAGES)
def test_a_damaged_image(vqa_root: Path, kind: str, cache_images: bool) -> None:
    damage, named = IMAGES[kind]
    damage(vqa_root / IMAGE)
    line = line_of(vqa_root, cache_images=cache_images)
    assert str(vqa_root / IMAGE) in line
    assert named in line
    assert "docs/data_sets.md" in line


def test_missing_images_are_found_before_training_and_counted(vqa_root: Path) -> None:
    for image_id in (92, 93):
        (vqa_root / "val2014" / f"COCO_val2014_{image_id:012d}.jpg").unlink()
    module = VQADataModule(str(vqa_root), holdout_images=2)
    with pytest.raises(InputError, match=r"000000000092\.jpg.*1 more"):
        module.setup("test")


def test_a_root_that_is_not_there_never_means_the_embedded_scenes() -> None:
    line = line_of(Path("/nowhere"))
    assert line == (
        "VQAv1 not found in data.root=/nowhere: expected "
        "/nowhere/OpenEnded_mscoco_train2014_questions.json (and "
        "/nowhere/mscoco_train2014_annotations.json, /nowhere/train2014). "
        "VQAv2's names, v2_..., are read, too. "
        "See docs/data_sets.md; or leave data.root unset for the embedded scenes."
    )
    with pytest.raises(InputError, match=r"data\.root=/nowhere"):
        _ = VQADataModule("/nowhere").fingerprint


def test_a_missing_image_folder(vqa_root: Path) -> None:
    (vqa_root / "val2014").rename(vqa_root / "elsewhere")
    assert f"expected {vqa_root}/val2014." in line_of(vqa_root)
    (vqa_root / "val2014").write_text("not a folder")
    assert f"{vqa_root}/val2014: cannot be listed" in line_of(vqa_root)


def test_question_ids_that_both_splits_use(vqa_root: Path) -> None:
    for name, key in ((QUESTIONS, "questions"), (ANNOTATIONS, "annotations")):
        content = load(vqa_root / name)
        content[key][0]["question_id"] = 110
        dump(vqa_root / name, content)
    assert "question_id 110 is in both train2014 and val2014" in line_of(vqa_root)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"holdout_images": 8},
            "data.holdout_images=8 leaves no image to train on: train2014 has 8 images",
        ),
        ({"holdout_images": -1}, "data.holdout_images must be an integer of at least 0, got -1"),
        ({"batch_size": 0}, "data.batch_size must be an integer of at least 1, got 0"),
        ({"image_size": 16.0}, "data.image_size"),
        ({"max_test_questions": 0}, "data.max_test_questions"),
        ({"batch_size": 99}, "data.batch_size=99 is more than the 18 questions"),
        (
            {"group_by_image": True, "images_per_batch": 7},
            "data.images_per_batch=7 is more than the 6 images",
        ),
        ({"train_question_types": "what"}, "data.train_question_types must be a list"),
        (
            {"train_question_types": ["why"]},
            "matches no question; there are: how many, is there a, what color is the",
        ),
        (
            {"train_question_types": ["how many"], "num_answers": 1},
            "none of the 6 training questions has an answer",
        ),
        ({"world": {"scenes": 3}}, "data.world"),
    ],
)
def test_settings_out_of_range(vqa_root: Path, settings: dict[str, Any], named: str) -> None:
    assert named in line_of(vqa_root, **settings)


def test_an_unknown_question_id(vqa_root: Path) -> None:
    with pytest.raises(InputError, match="question_id 7 is in neither train2014 nor val2014"):
        VQADataModule(str(vqa_root)).truth_mask(7)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (Path.unlink, "No such file"),
        (cut, "truncated JSON"),
        (replaced("[]"), "top level"),
        (edited(lambda content: content.update(format="2")), "format must be"),
        (
            edited(lambda content: content.update(tokenizer="nltk")),
            "tokenizer must be 'mcb', got 'nltk'",
        ),
        (edited(lambda content: content.pop("answers")), "answers must be a list"),
        (edited(lambda content: content["words"].__setitem__(3, 4)), "words[3] must be a string"),
        (edited(lambda content: content["words"].__setitem__(3, "is")), "words[3] is there twice"),
        (edited(lambda content: content["words"].pop()), "words must end in 'UNK'"),
        (edited(lambda content: content["answers"].reverse()), "the file was changed"),
        (edited(lambda content: content.pop("digest")), "digest"),
    ],
)
def test_a_damaged_vocabulary(vqa_root: Path, damage: Damage, named: str) -> None:
    path = vqa_root / "vocabulary.json"
    VQADataModule(str(vqa_root), holdout_images=2).vocabulary.save(path)
    damage(path)
    line = line_of(vqa_root, vocabulary_path=str(path))
    assert str(path) in line
    assert named in line
    assert "checkpoint" in line


def test_a_vocabulary_without_its_answers_is_not_trained_on(vqa_root: Path) -> None:
    path = vqa_root / "vocabulary.json"
    Vocabulary(words=("is", "UNK"), answers=("purple",)).save(path)
    assert json.loads(path.read_text())["tokenizer"] == "mcb"
    assert str(path) in line_of(vqa_root, vocabulary_path=str(path))
