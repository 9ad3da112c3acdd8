import json
import math
import random
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DistributedSampler

from cfexp.errors import InputError
from cfexp.metrics import functional
from cfexp.metrics.contractions import CONTRACTIONS
from cfexp.metrics.vqa_accuracy import Score, VQAAccuracy, VQAScores
from cfexp.metrics.vqa_text import (
    normalise_answer,
    normalise_digits_and_articles,
    normalise_punctuation,
    vqa_accuracy,
)

# What the published evaluator computes: see `meta` in the file.
GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "vqa_eval_vectors.json").read_text()
)
QUESTION_TYPES = ("how many", "is the", "what color", "what color is the", "what is the", "what is")

Question = dict[str, Any]
Columns = tuple[list[str], list[list[str]], list[str], list[str], list[int]]


def test_every_score_of_the_official_evaluator() -> None:
    assert len(GOLDEN["cases"]) == 248
    for case in GOLDEN["cases"]:
        for era, key in (("2021", "score_cur"), ("2016", "score_legacy")):
            ours = vqa_accuracy(case["prediction"], case["answers"], era=era)  # type: ignore[arg-type]
            assert ours == case[key], (era, case)


@pytest.mark.parametrize(
    ("stage", "normalise"),
    [
        ("punct", normalise_punctuation),
        ("digit_article", normalise_digits_and_articles),
        ("full", normalise_answer),
    ],
)
def test_every_stage_of_the_official_normalisation(
    stage: str, normalise: Callable[[str], str]
) -> None:
    assert [normalise(row["in"]) for row in GOLDEN["normaliser"]] == [
        row[stage] for row in GOLDEN["normaliser"]
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("black-white", "black white"),
        ("1,000-2,000", "10002000"),
        ("no one", "no 1"),
        ("a.m.", "am"),
        ("the", ""),
        ("5.a 3.5", "5a 3.5"),
        ("lets", "lets"),
        ("somebody'd", "somebodyd"),
    ],
)
def test_quirks_of_the_normalisation(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected


def test_contractions_are_the_official_table() -> None:
    # The golden strings pass through 8 of the 120 rows; the checksum holds the others against
    # well-meant repairs.
    assert len(CONTRACTIONS) == 120
    assert zlib.crc32(json.dumps(dict(CONTRACTIONS), sort_keys=True).encode()) == 2474143967


@pytest.mark.parametrize(
    ("answers", "prediction", "today", "legacy"),
    [
        (["yes"] * 10, "Yes", 0, 100),
        (["dog"] * 10, "a dog", 0, 100),
        (["2"] * 10, "two", 0, 100),
        (["two"] * 9 + ["zzz"], "2", 100, 0),
        (["a dog"] * 9 + ["zzz"], "dog", 100, 0),
        (["yes"] * 10, " yes\n", 100, 100),
        (["hot dog"] * 10, "hot\tdog", 100, 100),
    ],
)
def test_eras_differ_where_answers_agree(
    answers: list[str], prediction: str, today: float, legacy: float
) -> None:
    assert vqa_accuracy(prediction, answers) == today
    assert vqa_accuracy(prediction, answers, era="2016") == legacy


@pytest.mark.parametrize("total", [4, 7, 10])
def test_matches_the_definition_for_any_number_of_answers(total: int) -> None:
    for said in range(total + 1):
        answers = ["red"] * said + [f"other{i}" for i in range(total - said)]
        leave_one_out = [
            min(1.0, sum(a == "red" for j, a in enumerate(answers) if j != left_out) / 3)
            for left_out in range(total)
        ]
        assert vqa_accuracy("red", answers) == pytest.approx(
            100 * sum(leave_one_out) / total, rel=1e-12
        )


def test_scoring_twice_gives_the_same() -> None:
    # The official evaluator normalises the answers it was given in place, and scores the same
    # objects differently then.
    for case in GOLDEN["mutation_second_evaluate"]:
        answers = list(case["answers"])
        assert [vqa_accuracy(case["prediction"], answers) for _ in range(2)] == [
            case["first_evaluate"]
        ] * 2
        assert answers == case["answers"]


def test_input_errors_say_what_came() -> None:
    with pytest.raises(InputError, match="era must be '2021' or '2016', got '2020'"):
        vqa_accuracy("yes", ["yes"] * 10, era="2020")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"at least 4 human answers .* got 3"):
        vqa_accuracy("yes", ["yes"] * 3)


def test_functional_offers_it_too() -> None:
    assert functional.vqa_accuracy is vqa_accuracy


def columns(questions: Sequence[Question]) -> Columns:
    return (
        [q["prediction"] for q in questions],
        [q["answers"] for q in questions],
        [q["question_type"] for q in questions],
        [q["answer_type"] for q in questions],
        [q["question_id"] for q in questions],
    )


def scores(questions: Sequence[Question], era: Literal["2021", "2016"] = "2021") -> VQAScores:
    metric = VQAAccuracy(QUESTION_TYPES, era=era)
    for start in range(0, len(questions), 5):
        metric.update(*columns(questions[start : start + 5]))
    return metric.compute()


def rounded(by_type: dict[str, Score]) -> dict[str, float]:
    return {name: round(score.accuracy, 2) for name, score in by_type.items()}


@pytest.mark.parametrize(("era", "key"), [("2021", "accuracy_cur"), ("2016", "accuracy_legacy")])
@pytest.mark.parametrize("block", range(len(GOLDEN["aggregate"])))
def test_every_aggregate_of_the_official_evaluator(
    block: int, era: Literal["2021", "2016"], key: str
) -> None:
    aggregate = GOLDEN["aggregate"][block]
    wanted = aggregate["ques_ids"]
    questions = [q for q in aggregate["cases"] if wanted is None or q["question_id"] in wanted]
    ours = scores(questions, era)
    expected = aggregate[key]
    assert round(ours.overall.accuracy, 2) == expected["overall"]
    assert rounded(ours.per_question_type) == expected["perQuestionType"]
    assert rounded(ours.per_answer_type) == expected["perAnswerType"]
    assert ours.overall.n == len(questions)
    each = [vqa_accuracy(q["prediction"], q["answers"], era=era) for q in questions]
    assert ours.overall.accuracy == pytest.approx(
        sum(each) / len(each), rel=1e-12
    )  # not of float32
    for kind, by_type in (
        ("question_type", ours.per_question_type),
        ("answer_type", ours.per_answer_type),
    ):
        assert {name: score.n for name, score in by_type.items()} == {
            name: sum(q[kind] == name for q in questions) for name in {q[kind] for q in questions}
        }


def test_a_question_counts_once_and_its_last_prediction_counts() -> None:
    questions = GOLDEN["aggregate"][0]["cases"]
    expected = scores(questions)
    assert scores(questions + questions[:4]) == expected
    wrong_first = [{**q, "prediction": "none of these"} for q in questions]
    assert scores(wrong_first + questions) == expected
    assert scores(questions + wrong_first) != expected


def test_order_does_not_matter_and_large_ids_are_kept_apart() -> None:
    questions = [
        {**q, "question_id": 5_819_290_000 + i}
        for i, q in enumerate(GOLDEN["aggregate"][0]["cases"])
    ]
    shuffled = random.Random(0).sample(questions, len(questions))
    assert scores(shuffled) == scores(questions)
    assert scores(shuffled).overall.n == len(questions)


def test_forward_scores_the_batch_and_keeps_the_rest() -> None:
    questions = GOLDEN["aggregate"][0]["cases"]
    metric = VQAAccuracy(QUESTION_TYPES)
    assert metric(*columns(questions[:10])) == scores(questions[:10])
    metric(*columns(questions[10:]))
    assert metric.compute() == scores(questions)


def test_tensor_ids_are_copied_and_reset_forgets() -> None:
    questions = GOLDEN["aggregate"][0]["cases"]
    metric = VQAAccuracy(QUESTION_TYPES)
    predictions, answers, question_types, answer_types, ids = columns(questions)
    tensor = torch.tensor(ids)
    metric.update(predictions, answers, question_types, answer_types, tensor)
    tensor.zero_()
    assert metric.compute() == scores(questions)
    metric.reset()
    metric.update(*columns(questions[:2]))
    assert metric.compute() == scores(questions[:2])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_question() -> None:
    overall, per_question_type, per_answer_type = VQAAccuracy(QUESTION_TYPES).compute()
    assert math.isnan(overall.accuracy)
    assert (overall.n, per_question_type, per_answer_type) == (0, {}, {})


def test_update_checks_what_it_gets() -> None:
    metric = VQAAccuracy(["how many"])
    with pytest.raises(InputError, match="unknown question type 'why': expected one of 'how many'"):
        metric.update(["1"], [["1"] * 10], ["why"], ["other"], [1])
    with pytest.raises(
        InputError,
        match="unknown answer type 'colour': expected one of 'yes/no', 'number', 'other'",
    ):
        metric.update(["1"], [["1"] * 10], ["how many"], ["colour"], [1])
    with pytest.raises(ValueError, match=r"as many of each argument, got \[1, 1, 1, 1, 2\]"):
        metric.update(["1"], [["1"] * 10], ["how many"], ["number"], [1, 2])


def evaluate_shards(rank: int, folder: str, questions: list[Question]) -> None:
    """One of two processes: its results go to `folder` as JSON."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    padded: Iterable[int] = DistributedSampler(questions, num_replicas=2, rank=rank, shuffle=False)  # type: ignore[arg-type]
    uneven = range(17) if rank == 0 else range(14, len(questions))
    one_sided = range(len(questions)) if rank == 1 else range(0)
    results = []
    for shard in (padded, uneven, one_sided):
        metric = VQAAccuracy(QUESTION_TYPES)
        mine = [questions[index] for index in shard]
        for start in range(0, len(mine), 5):
            metric.update(*columns(mine[start : start + 5]))
        results.append((len(mine), metric.compute()))
    (Path(folder) / f"{rank}.json").write_text(json.dumps(results))
    distributed.destroy_process_group()


def test_two_processes_with_repeated_uneven_and_missing_shards(tmp_path: Path) -> None:
    questions = GOLDEN["aggregate"][0]["cases"]
    spawn(evaluate_shards, (str(tmp_path), questions), nprocs=2)  # type: ignore[no-untyped-call]
    expected = json.loads(json.dumps(scores(questions)))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [n for n, _ in first] == [12, 17, 0]
    assert [n for n, _ in second] == [
        12,
        9,
        23,
    ]  # 23 questions: the samplers repeat one, the uneven shards three
    for (_, ours), (_, others) in zip(first, second, strict=True):
        assert ours == others == expected
