import pytest

from cfexp.data.converters.vqa_files import answer_type, question_type, ten_answers
from cfexp.errors import InputError


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("what color is the shape?", "what color is the"),
        ("what is the color of the circle?", "what is the color of the"),
        ("what is the blue shape?", "what is the"),
        ("what shape is in the image?", "what"),
        ("is there a red shape?", "is there a"),
        ("is there not a circle?", "is there"),
        ("is no circle present?", "is"),
        ("does the image contain a circle?", "does the"),
        ("How many dogs are there?", "how many"),
        ("whatever is this?", "none of the above"),
    ],
)
def test_the_longest_official_prefix_is_the_question_type(question: str, expected: str) -> None:
    assert question_type(question) == expected


def test_answer_types() -> None:
    assert [answer_type(answer) for answer in ("no", "2", "teal")] == ["yes/no", "number", "other"]


def test_fewer_than_ten_answers_are_given_in_turn() -> None:
    assert ten_answers(["red"]) == ["red"] * 10
    assert ten_answers(["red", "red", "blue"]).count("blue") == 3
    for answers in ([], ["red"] * 11):
        with pytest.raises(InputError, match=f"1 to 10 answers, got {len(answers)}"):
            ten_answers(answers)
