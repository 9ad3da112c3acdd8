"""VQA accuracy (Antol et al. 2015), answer by answer as the official evaluator computes it.

The evaluator's text normalisation has quirks that move scores; they are kept, since a table is
comparable only with numbers that were counted the same way. Each is named where it is.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

from cfexp.errors import InputError
from cfexp.metrics.contractions import CONTRACTIONS

Era = Literal["2021", "2016"]

# The marks in the evaluator's order; : ' $ % & # * are not among them.
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(NUMBERS)} | {"none": "0"}
# The third argument of the evaluator's substitution of periods is a flag where a count belongs, and
# the flag is 32.
MAX_PERIODS = 32
# What a prediction needs beside the annotator who is left out for 100 %, so also the fewest answers
# that can score it.
FULL_CREDIT = 3


@lru_cache(maxsize=2**16)  # 6 times as fast on 120,000 questions with 3,000 different answers
def normalise_punctuation(text: str) -> str:
    """First stage: delete or blank the marks in `PUNCTUATION`, then delete periods.

    A mark is deleted if it touches a space anywhere in `text`, else each becomes a space. A comma
    between two digits anywhere deletes *every* mark ("1,000-2,000" -> "10002000"). The first 32
    periods not followed by a digit go, whatever stands before them ("5.a" -> "5a", "3.5" stays).
    """
    has_digit_comma = re.search(r"\d,\d", text) is not None
    normalised = text
    for mark in PUNCTUATION:
        deleted = has_digit_comma or mark + " " in text or " " + mark in text
        normalised = normalised.replace(mark, "" if deleted else " ")
    return re.sub(r"\.(?!\d)", "", normalised, count=MAX_PERIODS)


@lru_cache(maxsize=2**16)
def normalise_digits_and_articles(text: str) -> str:
    """Second stage: lower case, number words to digits, no articles, contractions spelled out,
    single spaces.

    "no one" becomes "no 1", and "the" alone becomes the empty string.
    """
    words = (DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def normalise_answer(text: str) -> str:
    """Both stages, in the evaluator's order."""
    return normalise_digits_and_articles(normalise_punctuation(text))


def strip_whitespace(text: str) -> str:
    """Newlines and tabs to spaces, then no space at either end."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def vqa_accuracy(prediction: str, answers: Sequence[str], *, era: Era = "2021") -> float:
    """VQA accuracy of one prediction in percent: mean over annotators i of min(1, #{others who said
    it} / 3).

    With the data set's ten answers, 0, 1, 2, 3 and 4 or more matches give 0, 30, 60, 90 and 100.
    What matches depends on the evaluator's `era`:

    - "2021" (today's): all are stripped; prediction and answers are normalised only if the answers
      are not all equal, so "Yes" scores 0 on ten times "yes".
    - "2016" (from 2016-10 to 2021-03, the time of most papers): the prediction is always
      normalised, in full; the answers, which are not stripped, lose only their punctuation, and
      only if they are not all equal.

    Raises InputError for another era, and for fewer than four answers, with which nothing could
    score 100; ValueError for what are no strings.
    """
    if era not in get_args(Era):
        raise InputError(f"era must be '2021' or '2016', got {era!r}")
    if (
        not isinstance(prediction, str)
        or isinstance(answers, str)
        or not all(isinstance(a, str) for a in answers)
    ):
        given = f"{prediction!r} and {answers!r}"
        raise ValueError(f"a prediction must be a string, answers a list of them, got {given}")
    if len(answers) <= FULL_CREDIT:
        needed = f"at least {FULL_CREDIT + 1} human answers a question (VQA has 10)"
        raise InputError(f"VQA accuracy needs {needed}, got {len(answers)}")
    prediction = strip_whitespace(prediction)
    if era == "2021":
        answers = [strip_whitespace(answer) for answer in answers]
    unanimous = len(set(answers)) == 1
    if era == "2016" or not unanimous:
        prediction = normalise_answer(prediction)
    if not unanimous:
        normalise = normalise_answer if era == "2021" else normalise_punctuation
        answers = [normalise(answer) for answer in answers]
    said, total = sum(answer == prediction for answer in answers), len(answers)
    # Of the others, those who said it have said - 1 companions, the rest have said. Whole numbers,
    # so 30 is 30.
    thirds = said * min(said - 1, FULL_CREDIT) + (total - said) * min(said, FULL_CREDIT)
    return 100 * thirds / (FULL_CREDIT * total)
