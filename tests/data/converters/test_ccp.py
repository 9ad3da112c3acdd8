from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfexp.data.converters.ccp import convert_ccp
from cfexp.data.questions.vqa import VQADataModule
from cfexp.errors import InputError


def write_people(root: Path, count: int = 8) -> None:
    """Photographs of 60 x 96: a red dress of 30 x 40, black shoes, a striped bag, skin."""
    for name in ("images", "label_maps"):
        (root / name).mkdir(parents=True)
    (root / "regions.csv").write_text("value,name\n0,null\n1,dress\n2,shoes\n3,bag\n4,skin\n")
    for number in range(count):
        pixels = np.full((96, 60, 3), 180, np.uint8)
        regions = np.zeros((96, 60), np.uint8)
        for value, rows, columns, color in (
            (1, slice(20, 60), slice(15, 45), (175, 35, 45)),
            (2, slice(80, 90), slice(20, 40), (30, 30, 33)),
            (3, slice(62, 74), slice(5, 25), (30, 30, 33)),
            (4, slice(5, 18), slice(20, 40), (220, 180, 150)),
        ):
            regions[rows, columns] = value
            pixels[rows, columns] = color
        pixels[62:74:2, 5:25] = (225, 140, 160)
        Image.fromarray(pixels).save(root / "images" / f"{number:04}.jpg", quality=95)
        Image.fromarray(regions).save(root / "label_maps" / f"{number:04}.png")


def test_garments_are_asked_about_with_their_true_region(tmp_path: Path) -> None:
    write_people(tmp_path / "in")
    convert_ccp(tmp_path / "in", tmp_path / "out")
    module = VQADataModule(str(tmp_path / "out"), holdout_images=2, batch_size=4, num_answers=2)
    module.setup()
    test = module.dataset("test")
    questions = [module.question(int(q)) for q in test.question_id]
    # Neither skin is asked about nor the bag, whose two colours are none.
    assert {(q.question, q.multiple_choice_answer) for q in questions} == {
        ("what color is the dress?", "red"),
        ("what color is the shoes?", "black"),
    }
    assert len(questions) == 4
    assert {q.question_type for q in questions} == {"what color is the"}
    assert module.palette is not None
    assert module.palette["red"] == (175, 35, 45)
    dress = next(q for q in questions if q.multiple_choice_answer == "red")
    assert dress.asked is not None
    assert dress.asked[0].box == (33, 20, 30, 40)  # 18 columns are added on the left


def test_a_label_map_of_another_size_is_one_line(tmp_path: Path) -> None:
    write_people(tmp_path / "in")
    Image.new("L", (50, 96)).save(tmp_path / "in" / "label_maps" / "0003.png")
    with pytest.raises(InputError, match=r"0003\.png: must be 60x96, as 0003\.jpg is, got 50x96"):
        convert_ccp(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_table_of_another_form_is_one_line(tmp_path: Path) -> None:
    write_people(tmp_path / "in")
    (tmp_path / "in" / "regions.csv").write_text("number,label\n0,null\n")
    with pytest.raises(
        InputError,
        match=r"regions\.csv: has the columns number, label; it must have value or color, name",
    ):
        convert_ccp(tmp_path / "in", tmp_path / "out")
