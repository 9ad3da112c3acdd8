from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from cfexp.declaration import Declaration
from cfexp.evaluation.report.sheet import (
    GAP,
    MARGIN,
    PAD,
    TILE,
    caption_of,
    counterfactual_sheet,
    difference,
    explanation_grid,
    image_of,
    one_an_image,
)
from cfexp.evaluation.report.table import score_run
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.steex.steex import STEEX
from tests.evaluation.run_writer import PALETTE, painted, picture, record, square, write_run

DECLARED = Declaration("STEEX", "reconstruction", STEEX.columns, by_direction=True)

QUERY = painted(picture(), square(0, 0), PALETTE["red"])
REPAINTED = painted(picture(), square(0, 0), PALETTE["blue"])


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn from now on."""
    texts: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def listen(
        self: ImageDraw.ImageDraw, place: Any, text: str, *rest: Any, **options: Any
    ) -> None:
        texts.append(text)
        draw(self, place, text, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", listen)
    return texts


def colors(path: Path, count: int, **known: Any) -> RunFolder:
    """`count` colour questions, two an image, of which every third does not flip."""
    records = [
        record(
            key, "red", "red" if key % 3 == 0 else "blue", truth="red", image_id=key // 2, **known
        )
        for key in range(count)
    ]
    return write_run(
        path, [(each, QUERY, REPAINTED, None) for each in records], data={"palette": PALETTE}
    )


def test_the_difference_is_three_times_the_edit() -> None:
    query = torch.tensor([-1.0, 0.0, 0.5])
    # A tenth of the range becomes three tenths, whatever its sign; no change is black.
    assert difference(query, query + 0.2).tolist() == pytest.approx([-0.4] * 3)
    assert difference(query, query - 0.2).tolist() == pytest.approx([-0.4] * 3)
    assert difference(query, query).tolist() == [-1] * 3


def test_one_an_image() -> None:
    assert one_an_image([1, 1, 1, 2, 2, 3], 3) == [0, 3, 5]
    assert one_an_image([1, 1, 1, 2, 2, 3], 5) == [0, 1, 3, 4, 5]
    assert one_an_image([1, 1], 5) == [0, 1]


def test_the_sheet_says_what_it_shows(tmp_path: Path, written: list[str]) -> None:
    run = colors(tmp_path / "my run", 12)
    counterfactual_sheet(run, tmp_path / "sheet.png", score_run(run), count=4)
    _, figures, selection = written[written.index("my run") :][:3]
    assert figures.startswith("What color: VQA accuracy 100.0 % before, 33.3 % after · RMS change ")
    assert (
        selection
        == "The first 4 of 12 colour questions by number, of different images first: not selected."
    )
    assert "|difference| x3" in written
    assert [text for text in written if text.startswith("Question")] == [
        f"Question {key}?" for key in (0, 2, 4, 6)
    ]
    # 0 and 6 do not flip.
    assert [text for text in written if "flipped" in text] == [
        "not flipped",
        "flipped",
        "flipped",
        "not flipped",
    ]
    answers = [text for text in written if text in PALETTE]
    assert answers == ["red", "red", "red", "blue", "red", "blue", "red", "red"]


def test_the_pictures_are_where_they_belong(tmp_path: Path) -> None:
    counterfactual_sheet(colors(tmp_path, 3), tmp_path / "sheet.png", count=2, columns=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    rows, columns = np.nonzero((sheet == PALETTE["red"]).all(2))
    first = (
        columns < MARGIN + PAD + TILE
    )  # the first card's query; dots of the answers lie below the pictures
    top = rows.min()
    patch = sheet[top : top + TILE // 4, :]
    left = columns[first & (rows < top + TILE // 4)].min()
    for tile, expected in enumerate((PALETTE["red"], PALETTE["blue"], (255, 0, 255))):
        x = left + tile * (TILE + GAP)
        assert (patch[5:35, x + 5 : x + 35] == expected).all(), tile
    # The pictures' other pixels did not change: black.
    assert (sheet[top + 60 : top + 100, left + 2 * (TILE + GAP) + 60 :][:, :40] == 0).all()
    assert (sheet[:MARGIN] == 255).all()
    assert (sheet[:, -MARGIN:] == 255).all()


def test_the_same_run_gives_the_same_sheet(tmp_path: Path) -> None:
    run = colors(tmp_path, 7)
    counterfactual_sheet(run, tmp_path / "one.png")
    run.finish()
    counterfactual_sheet(run, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_no_color_question(tmp_path: Path, written: list[str]) -> None:
    counterfactual_sheet(colors(tmp_path, 2, question_type="how many"), tmp_path / "sheet.png")
    assert "The first 2 of 2 queries by number, of different images first: not selected." in written


def test_any_text_and_any_size(tmp_path: Path, written: list[str]) -> None:
    tall = np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 300, 3))
    long = record(1, "red", "x" * 300, truth="red", question="Où est\nle café 中? " + "very " * 100)
    run = write_run(tmp_path, [(long, tall, tall, None)])
    counterfactual_sheet(run, tmp_path / "sheet.png")
    question = next(text for text in written if text.startswith("Où est le café U+4E2D ? very"))
    assert question.endswith("very...")
    width, _ = Image.open(tmp_path / "sheet.png").size
    assert width == 2 * MARGIN + 2 * PAD + 3 * TILE + 2 * GAP


def test_an_answer_has_the_room_that_the_other_leaves(tmp_path: Path, written: list[str]) -> None:
    wide = np.zeros((64, 64, 3), np.uint8)
    rows = [record(1, "neutrophil", "lymphocyte", truth="red")]
    run = write_run(tmp_path, [(each, wide, wide, None) for each in rows])
    counterfactual_sheet(run, tmp_path / "sheet.png")
    assert {"neutrophil", "lymphocyte"} <= {*written}


def test_grid() -> None:
    query = torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1).expand(3, 3, 32, 64)
    grid = np.asarray(explanation_grid(query, torch.zeros_like(query)))
    height = TILE // 2
    assert grid.shape == (3 * (height + GAP) + GAP, 3 * (TILE + GAP) + GAP, 3)
    centers = grid[GAP + height // 2 :: height + GAP, GAP + TILE // 2 :: TILE + GAP, 0]
    assert centers.tolist() == [[0, 128, 255], [128, 128, 128], [255, 0, 255]]


@pytest.mark.parametrize(
    ("change", "caption"),
    [([0.0, 2.0], "changed most: traffic light"), ([0.0, 0.0], "no region changed")],
)
def test_a_search_says_which_region_changed_most(
    tmp_path: Path, change: list[float], caption: str
) -> None:
    run = write_run(tmp_path, [], data={"region_names": ["sky", "traffic_light"]})
    assert caption_of(run, DECLARED, {"region_change": change}) == caption


def test_the_sheet_of_searches_shows_what_was_made_of_the_reconstruction(
    tmp_path: Path, written: list[str]
) -> None:
    known = {"code_distance": 1.0, "region_change": [0.0, 2.0], "flip_step": 3, "counter_class": 1}
    rows = []
    for key, reconstruction_class in enumerate((0, 1)):
        found = record(
            key,
            "red",
            "stop",
            truth="",
            image_id=key,
            reconstruction_class=reconstruction_class,
            **known,
        )
        rows.append(
            (
                {**found, "question_type": None, "query_class": 0, "stored_class": 1},
                QUERY,
                REPAINTED,
                None,
            )
        )
    run = write_run(tmp_path, rows, data={"region_names": ["sky", "traffic_light"]})
    for key in (0, 1):
        Image.fromarray(REPAINTED).save(run.picture("reconstruction", key))
    counterfactual_sheet(run, tmp_path / "sheet.png")
    first = written.index("query")
    assert written[first : first + 4] == [
        "query",
        "reconstruction",
        "counterfactual",
        "|difference| x3",
    ]
    assert written.count("changed most: traffic light") == 2
    assert [text for text in written if "flipped" in text] == [
        "flipped",
        "flipped by the reconstruction",
    ]
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 2 * MARGIN + 2 * (2 * PAD + 4 * TILE + 3 * GAP) + PAD
    red = np.argwhere((sheet == PALETTE["red"]).all(2))
    top, left = red[:, 0].min(), MARGIN + PAD
    for tile, expected in enumerate((PALETTE["red"], PALETTE["blue"], PALETTE["blue"], (0, 0, 0))):
        x = left + tile * (TILE + GAP)
        assert (sheet[top + 5 : top + 35, x + 5 : x + 35] == expected).all(), tile


def test_what_asks_no_question_is_called_by_its_image_and_label(
    tmp_path: Path, written: list[str]
) -> None:
    declared = Declaration("PGD", class_names=("cat", "dog", "cow"), label="animal")
    known: dict[str, Any] = {"image_id": "a1", "query_logits": [0.0, 1.0, 2.0]}
    labels = {"cat": 0, "dog": 1, "cow": 0}
    assert image_of(declared, {**known, "labels": labels}) == "image a1, labelled dog"
    assert image_of(declared, {**known, "labels": {"cat": None}}) == "image a1"
    two: dict[str, Any] = {"image_id": "a1", "query_logits": [0.0, 1.0], "labels": {"animal": 0}}
    reversed_names = declared._replace(class_names=("dog", "cat"))
    sides = {"sides": {"animal": ["cat", "dog"]}}
    assert image_of(reversed_names, two, sides) == "image a1, labelled cat"
    found = {**record(1, "cat", "dog", truth="", image_id=7), "question": None}
    run = write_run(tmp_path, [(found, QUERY, REPAINTED, None)])
    counterfactual_sheet(run, tmp_path / "sheet.png")
    assert "image 7" in written
