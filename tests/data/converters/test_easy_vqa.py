import sys
from pathlib import Path

import pytest

from cfexp.data.convert import main
from cfexp.data.converters.easy_vqa import convert_easy_vqa
from cfexp.data.questions.vocabulary import tokenize_mcb
from cfexp.data.questions.vqa import VQADataModule
from cfexp.errors import InputError


def test_easy_vqa_reads_as_vqa_v1(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa")
    out = tmp_path / "new" / "easy"
    convert_easy_vqa(out, limit=12)
    module = VQADataModule(str(out), holdout_images=2, batch_size=8, num_answers=13)
    module.setup()
    assert len(set(module.dataset("test").image_id.tolist())) == 12
    assert len(set(module.dataset("train").image_id.tolist())) == 10
    batch = next(iter(module.train_dataloader()))
    assert batch.image.shape == (8, 3, 64, 64)
    assert batch.image.max() > 0.8  # a light background
    for question_id in batch.question_id.tolist():
        question = module.question(question_id)
        assert question.answers == (question.multiple_choice_answer,) * 10
        assert tokenize_mcb(question.question)[0] in ("what", "is", "does")
    assert module.palette is None
    assert [path.name for path in out.parent.iterdir()] == ["easy"]


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_what_is_there_is_never_overwritten(
    tmp_path: Path, taken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("easy_vqa")
    out = tmp_path / "out"
    kept = out if taken == "file" else out / "kept"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("kept")
    assert main(["easy_vqa", str(out)]) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert str(out) in message
    assert kept.read_text() == "kept"


def test_without_easy_vqa_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(InputError, match=r"pip install 'cfexp\[convert\]'"):
        convert_easy_vqa(tmp_path / "out")


def test_an_interrupted_conversion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    easy_vqa = pytest.importorskip("easy_vqa")
    monkeypatch.setattr(easy_vqa, "get_test_image_paths", lambda: {0: tmp_path / "absent.png"})
    with pytest.raises(FileNotFoundError):
        convert_easy_vqa(tmp_path / "out", limit=2)
    assert not list(tmp_path.iterdir())
