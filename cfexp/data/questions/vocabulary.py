"""Words and answers as the numbers that a VQA model works with."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfexp.data.questions.files import VQAQuestion
from cfexp.data.reading.records import read_json, shown
from cfexp.errors import InputError
from cfexp.whole_files import write_whole

UNKNOWN_WORD = "UNK"  # upper case, as no token is
_FORMAT = "cfexp VQA vocabulary 1"
_REMEDY = "give the vocabulary file that was written beside the VQA model's checkpoint"
_MCB_TABLE = str.maketrans({**dict.fromkeys("?!'\"$:@(),.;"), "-": " ", "/": " "})


def tokenize_mcb(question: str) -> list[str]:
    """The tokeniser named `mcb` of Cadene's vqa.pytorch, after Fukui et al. 2016: "What's this?" ->
    whats, this.
    """
    return [word for word in question.lower().translate(_MCB_TABLE).split(" ") if word]


@dataclass(frozen=True)
class Vocabulary:
    """Word ids (0 = padding, 1 = words[0], ..., the last = UNK) and answer ids (0 = answers[0],
    ...).
    """

    words: tuple[str, ...]
    answers: tuple[str, ...]

    @classmethod
    def build(
        cls, questions: Iterable[VQAQuestion], num_answers: int, min_word_count: int = 0
    ) -> "Vocabulary":
        """The words seen more than `min_word_count` times and the `num_answers` most frequent
        consensus answers.

        Both are sorted by (count, string), descending, as the published vocabularies are (answers).
        """
        word_counts: Counter[str] = Counter()
        answer_counts: Counter[str] = Counter()
        for question in questions:
            word_counts.update(tokenize_mcb(question.question))
            answer_counts[question.multiple_choice_answer] += 1
        words = [word for word in _by_frequency(word_counts) if word_counts[word] > min_word_count]
        return cls((*words, UNKNOWN_WORD), tuple(_by_frequency(answer_counts)[:num_answers]))

    @classmethod
    def of_answers(cls, answers: Sequence[str]) -> "Vocabulary":
        """For a model that reads questions as text: no word has a number."""
        return cls((UNKNOWN_WORD,), tuple(answers))

    @classmethod
    def cached(cls, path: Path, build: Callable[[], "Vocabulary"]) -> "Vocabulary":
        """What `save` left at `path`, where that is whole; else built and, if it can be, left
        there.
        """
        with contextlib.suppress(InputError):
            return cls.load(path)
        vocabulary = build()
        with contextlib.suppress(OSError):
            vocabulary.save(path)
        return vocabulary

    @property
    def facts(self) -> dict[str, int]:
        """What sizes the networks; `num_words` counts the padding."""
        return {"num_words": len(self.words) + 1, "num_answers": len(self.answers)}

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits over the whole content: two vocabularies with the same digest
        number alike.
        """
        return hashlib.sha256(json.dumps([self.words, self.answers]).encode()).hexdigest()[:12]

    def encode(self, question: str, max_length: int) -> list[int]:
        """The ids of the first `max_length` words, at least one: a question without a word reads as
        UNK.
        """
        unknown = len(self.words)
        return [
            self._word_ids.get(word, unknown) for word in tokenize_mcb(question)[:max_length]
        ] or [unknown]

    def encode_all(
        self, questions: Sequence[str], max_length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids of N questions' words, padded to (N, max_length), and (N,) how many words each
        has.
        """
        words = np.zeros((len(questions), max_length), dtype=np.int64)
        lengths = np.zeros(len(questions), dtype=np.int64)
        for row, question in enumerate(questions):
            ids = self.encode(question, max_length)
            words[row, : len(ids)], lengths[row] = ids, len(ids)
        return words, lengths

    def split(self, question: str) -> tuple[list[str], list[str]]:
        """The words of a question that the vocabulary knows, and those that it does not, in their
        order.
        """
        words = tokenize_mcb(question)
        if self.words == (UNKNOWN_WORD,):  # who reads text knows what it knows
            return words, []
        return [word for word in words if word in self._word_ids], [
            each for each in words if each not in self._word_ids
        ]

    def answer_id(self, answer: str) -> int:
        """The id of an answer, -1 if it has none."""
        return self._answer_ids.get(answer, -1)

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON; the file is complete or absent."""
        content = {
            "format": _FORMAT,
            "tokenizer": "mcb",
            "digest": self.digest,
            "words": self.words,
            "answers": self.answers,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, indent=0))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote; raises InputError for any other file, or one that was changed
        since.
        """
        document = read_json(path, _REMEDY)
        for key, expected in (("format", _FORMAT), ("tokenizer", "mcb")):
            if document.get(key) != expected:
                raise InputError(
                    f"{path}: {key} must be {expected!r}, got {shown(document.get(key))}; {_REMEDY}"
                )
        words, answers = _strings(document, "words", path), _strings(document, "answers", path)
        if words[-1] != UNKNOWN_WORD:
            raise InputError(
                f"{path}: words must end in {UNKNOWN_WORD!r}, got {shown(words[-1])}; {_REMEDY}"
            )
        vocabulary = cls(words, answers)
        if document.get("digest") != vocabulary.digest:
            stored = shown(document.get("digest"))
            problem = f"digest is {stored}, the words and answers give {vocabulary.digest!r}"
            raise InputError(f"{path}: {problem}, so the file was changed; {_REMEDY}")
        return vocabulary

    @cached_property
    def _word_ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words, start=1)}

    @cached_property
    def _answer_ids(self) -> dict[str, int]:
        return {answer: index for index, answer in enumerate(self.answers)}


def _by_frequency(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda text: (counts[text], text), reverse=True)


def _strings(document: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """The non-empty list of distinct strings under `key`; raises InputError."""
    values = document.get(key)
    if not isinstance(values, list) or not values:
        raise InputError(
            f"{path}: {key} must be a list of at least one string, got {shown(values)}; {_REMEDY}"
        )
    seen: set[str] = set()
    for index, value in enumerate(values):
        if not isinstance(value, str) or value in seen:
            problem = "is there twice" if isinstance(value, str) else "must be a string"
            raise InputError(f"{path}: {key}[{index}] {problem}, got {shown(value)}; {_REMEDY}")
        seen.add(value)
    return tuple(values)
