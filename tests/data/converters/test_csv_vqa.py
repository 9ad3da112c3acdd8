from pathlib import Path

import pytest
from PIL import Image

from cfexp.data.convert import main
from cfexp.data.converters.csv_vqa import convert_csv_vqa
from cfexp.data.questions.vqa import VQADataModule
from cfexp.errors import InputError


def write_images(folder: Path, count: int = 5) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (70, 66), (40 * number, 90, 200)).save(folder / f"photo {number}.png")


def write_table(folder: Path, text: str) -> Path:
    write_images(folder / "images")
    table = folder / "questions.csv"
    table.write_text(text, encoding="utf-8")
    return table


def test_a_folder_with_a_csv_reads_as_vqa_v1(tmp_path: Path) -> None:
    rows = [f'photo {n}.png,"What, if any, color?",blue|blue|teal' for n in range(5)]
    write_table(tmp_path / "in", "\n".join(["image,question,answers", *rows]))
    convert_csv_vqa(tmp_path / "in", tmp_path / "out")
    module = VQADataModule(str(tmp_path / "out"), holdout_images=1, batch_size=2, num_answers=2)
    module.setup()
    parts = [module.dataset(part) for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [3, 1, 1]  # a fifth of the images, and one held out
    question = module.question(int(parts[2].question_id[0]))
    assert question.question == "What, if any, color?"
    assert question.multiple_choice_answer == "blue"
    assert [question.answers.count(answer) for answer in ("blue", "teal")] == [7, 3]
    assert module.palette is None


def test_every_form_of_the_table_is_read(tmp_path: Path) -> None:
    """Semicolons, a mark of the encoding, columns of answers, a column of splits, blank lines."""
    table = write_table(
        tmp_path / "in",
        "\ufeffquestion;image;answer_1;answer_2;split\n"
        "Blue?;photo 0.png;yes;no;train\n\nBlue?;photo 1.png;yes;;validation\n"
        "Red?;images/photo 1.png;no;;val\n",
    )
    convert_csv_vqa(table, tmp_path / "out")
    assert len(list((tmp_path / "out" / "train2014").iterdir())) == 1
    assert len(list((tmp_path / "out" / "val2014").iterdir())) == 1  # one image, named twice


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "questions.csv: the file is empty"),
        ("image,question\nphoto 0.png,What?\n", "no column answer"),
        ("image,question,answer\n", "has a header and no row"),
        ("image,image,question,answer\n", "line 1 names the column 'image' twice"),
        ("image,question,answer\nphoto 0.png,What?\n", "line 2 has 2 cells, the header 3"),
        ("image,question,answer\nphoto 9.png,What?,it\n", "line 2: no image"),
        ("image,question,answer\n,What?,it\n", "line 2: the image is empty"),
        ("image,question,answer\nphoto 0.png, ,it\n", "line 2: the question is empty"),
        ("image,question,answer\nphoto 0.png,What?,\n", "line 2: a question needs 1 to 10"),
        ("image,question,answer\nphoto 0.png,What?,it\n", "no image for val2014"),
        ("image,question,answer,split\nphoto 0.png,What?,it,later\n", "train or val, got 'later'"),
        (
            "image,question,answer,split\nphoto 0.png,Q?,it,train\nphoto 0.png,R?,it,val\n",
            "line 3: photo 0.png is in both splits",
        ),
        (
            "image,question,answer,split\nphoto 0.png,Q?,it,train\nphoto 1.png,R?,it,\n",
            "line 3: the column split is filled in some lines only",
        ),
        ('image,question,answer\nphoto 0.png,"What?,it\n', "line 2 cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    table = write_table(tmp_path / "in", text)
    with pytest.raises(InputError, match=told) as error:
        convert_csv_vqa(table, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"photo {n}.png,Blue?,yes" for n in range(5)]
    table = write_table(tmp_path / "in", "\n".join(["image,question,answer", *rows]))
    (tmp_path / "in" / "images" / "photo 3.png").write_bytes(b"no picture")
    assert main(["csv_vqa", str(table), str(tmp_path / "out")]) == 2
    assert "photo 3.png: not a readable image" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_folder_of_several_tables_is_asked_about(tmp_path: Path) -> None:
    write_table(tmp_path / "in", "image,question,answer\n")
    (tmp_path / "in" / "more.csv").write_text("")
    with pytest.raises(InputError, match=r"found more\.csv, questions\.csv; give its path"):
        convert_csv_vqa(tmp_path / "in", tmp_path / "out")
