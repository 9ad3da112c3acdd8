"""Which questions train, are held out and test; how the data module uses it: test_vqa.py."""

import pytest

from cfexp.data.questions.files import VQAQuestion
from cfexp.data.questions.selection import answerable, first_images, hold_out, of_types
from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.errors import InputError


def question(number: int, image: int, kind: str = "is it", answer: str = "yes") -> VQAQuestion:
    return VQAQuestion(number, image, "Is it?", kind, "other", (answer,) * 10, answer, None)


# Two of each of the images 1, 5 and 9.
QUESTIONS = [question(10 * image + k, image) for image in (1, 5, 9) for k in range(2)]


def test_the_last_images_by_id_are_held_out() -> None:
    assert hold_out(QUESTIONS, 0) == (QUESTIONS, [])
    assert hold_out(QUESTIONS, 1) == (QUESTIONS[:4], QUESTIONS[4:])
    assert hold_out(QUESTIONS[::-1], 2)[0] == QUESTIONS[1::-1]
    with pytest.raises(
        InputError, match=r"^data\.holdout_images=3 leaves no image .* has 3 images"
    ):
        hold_out(QUESTIONS, 3)


def test_types_are_prefixes() -> None:
    color, count = question(1, 1, "what color is"), question(2, 1, "how many")
    assert of_types([color, count], None) == [color, count]
    assert of_types([color, count], ("what color", "why")) == [color]
    with pytest.raises(InputError, match=r"\['why'\] matches no .* are: how many, what color is$"):
        of_types([color, count], ("why",))


def test_what_has_no_answer_in_the_vocabulary_is_left_out() -> None:
    known, unknown = question(1, 1), question(2, 1, answer="maybe")
    vocabulary = Vocabulary(words=("it", "UNK"), answers=("yes",))
    assert answerable([known, unknown], vocabulary, "FILE") == [known]
    with pytest.raises(InputError, match=r"^none of the 1 training questions .* answer in FILE$"):
        answerable([unknown], vocabulary, "FILE")


@pytest.mark.parametrize(("limit", "count"), [(1, 2), (2, 2), (3, 4), (6, 6), (99, 6), (None, 6)])
def test_whole_images_test(limit: int | None, count: int) -> None:
    assert first_images(QUESTIONS, limit) == QUESTIONS[:count]
