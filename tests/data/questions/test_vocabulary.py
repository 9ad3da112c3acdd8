from pathlib import Path

import pytest

from cfexp.data.questions.files import read_split
from cfexp.data.questions.vocabulary import Vocabulary, tokenize_mcb


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What's this?", ["whats", "this"]),
        (
            "Is it a half-pipe/ramp, (or) not?!",
            ["is", "it", "a", "half", "pipe", "ramp", "or", "not"],
        ),
        ('  A "$5.00" e@mail:  x;y ', ["a", "500", "email", "xy"]),
        ("???", []),
    ],
)
def test_the_tokenizer_is_mcb(question: str, words: list[str]) -> None:
    assert tokenize_mcb(question) == words


def test_vocabulary_is_sorted_by_count_then_string_descending(vqa_root: Path) -> None:
    questions = read_split(vqa_root, "train2014")[0].values()
    vocabulary = Vocabulary.build(questions, num_answers=5)
    # 8 x no; images 11..18 mod 3: blue 11 14 17, red 12 15 18, green 13 16; then the numbers, once
    # each.
    assert vocabulary.answers == ("no", "red", "blue", "green", "18")
    # 16 x is; 8 x the others of the three questions, from the end of the alphabet; the numbers
    # once; UNK last.
    assert vocabulary.words[:4] == ("is", "what", "things", "there")
    assert vocabulary.words[-3:] == ("12", "11", "UNK")
    assert vocabulary.facts == {"num_words": len(vocabulary.words) + 1, "num_answers": 5}
    assert "18" not in Vocabulary.build(questions, num_answers=5, min_word_count=1).words


def test_encoding_knows_padding_unknown_words_and_answers() -> None:
    vocabulary = Vocabulary(words=("is", "it", "UNK"), answers=("yes", "no"))
    assert vocabulary.encode("Is it, is IT purple?", 26) == [1, 2, 1, 2, 3]
    assert vocabulary.encode("Is it, is it purple?", 3) == [1, 2, 1]
    assert vocabulary.encode("?", 26) == [3]
    assert [vocabulary.answer_id(answer) for answer in ("yes", "no", "maybe")] == [0, 1, -1]


def test_vocabulary_survives_saving(tmp_path: Path) -> None:
    vocabulary = Vocabulary(words=("café", "UNK"), answers=("yes", "1\n2"))
    path = tmp_path / "deep" / "vocabulary.json"
    vocabulary.save(path)
    loaded = Vocabulary.load(path)
    assert loaded == vocabulary
    assert loaded.digest == vocabulary.digest != Vocabulary(("café", "UNK"), ("1\n2", "yes")).digest
    assert [entry.name for entry in path.parent.iterdir()] == ["vocabulary.json"]
