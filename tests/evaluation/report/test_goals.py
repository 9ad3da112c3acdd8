import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cfexp.errors import InputError
from cfexp.evaluation.report.goals import compare
from cfexp.evaluation.report.table import Absent, Row, Scores


def scores_of(value: float, half: float = 1.0, n: int = 200) -> Scores:
    """A run of which one number is known, and another not."""
    row = Row("all", "rate", value, n, value - half, value + half, "%")
    return Scores("run", "2021", (row,), (Absent("all", "colour", "no colours"),))


RUNS = {
    "a": [scores_of(50)],
    "b": [scores_of(51.5)],
    "c": [scores_of(60, n=199)],
    "one": [scores_of(60, math.nan, n=1)],
    "seeds": [scores_of(50), scores_of(56), scores_of(53)],
    "more": [scores_of(60), scores_of(61), scores_of(54.5)],
}


def verdict(**goal: Any) -> str:
    (found,) = compare(RUNS, [{"name": "x", "group": "all", "metric": "rate", **goal}], quiet())
    return found.verdict


def quiet() -> Console:
    return Console(width=120, record=True, file=Path("/dev/null").open("w"))


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ({"run": "a", "at_least": 50}, "reached"),
        ({"run": "a", "at_least": 50.1}, "missed"),
        ({"run": "a", "at_most": 50}, "reached"),
        ({"run": "a", "at_most": 49.9}, "missed"),
        ({"run": "a"}, "for comparison"),
        ({"run": "c", "at_least": 50, "min_n": 199}, "reached"),
        ({"run": "c", "at_least": 50, "min_n": 200}, "n is below 200"),
        ({"run": "a", "metric": "colour", "at_least": 1}, "not computed: no colours"),
        ({"run": "z", "at_least": 1}, "not given: z"),
        ({"runs": ["a", "b", "c"], "rises": True}, "reached"),
        ({"runs": ["a", "b", "c"], "falls": True}, "missed"),
        ({"runs": ["c", "b", "a"], "falls": True}, "reached"),
        ({"runs": ["a", "c", "b"], "rises": True}, "missed"),
        ({"runs": ["a", "a"], "rises": True}, "missed"),
        ({"runs": ["a", "c"], "rises": True, "clearly": True}, "reached"),
        (
            {"runs": ["a", "b"], "rises": True, "clearly": True},
            "missed",
        ),  # [49, 51] and [50.5, 52.5]
        ({"runs": ["c", "a"], "falls": True, "clearly": True}, "reached"),
        ({"runs": ["a", "c"], "rises": True, "min_n": 200}, "n is below 200"),
        ({"runs": ["a", "one"], "rises": True}, "reached"),
        ({"runs": ["a", "one"], "rises": True, "clearly": True}, "not told apart: no interval"),
        ({"runs": ["a", "y", "z"], "rises": True}, "not given: y, z"),
        ({"runs": ["a", "b"], "metric": "colour", "rises": True}, "not computed: no colours"),
        ({"run": "seeds", "at_least": 50}, "reached"),
        (
            {"run": "seeds", "at_least": 50.1},
            "missed",
        ),  # by the worst of three, though their mean is 53
        ({"run": "seeds", "at_most": 55.9}, "missed"),
        ({"run": "seeds"}, "for comparison"),
        ({"runs": ["seeds", "more"], "rises": True}, "reached"),
        (
            {"runs": ["seeds", "more"], "rises": True, "clearly": True},
            "missed",
        ),  # 53 and 54.5, each 1 more or less
    ],
    ids=str,
)
def test_verdicts(goal: Mapping[str, Any], expected: str) -> None:
    assert verdict(**goal) == expected


@pytest.mark.parametrize(
    "goal",
    [
        *(
            {"run": "a", "at_least": 1, "at_most": 2},
            {"run": "a", "over": 3},
            {"at_least": 3},
            {"run": "a", "rises": True},
        ),
        *(
            {"runs": ["a", "b"]},
            {"runs": ["a"], "rises": True},
            {"runs": ["a", "b"], "rises": False},
        ),
        *(
            {"runs": ["a", "b"], "rises": True, "falls": True},
            {"run": "a", "runs": ["a", "b"], "rises": True},
        ),
        *(
            {"runs": ["a", "b"], "rises": True, "clearly": False},
            {"run": "a", "at_least": 1, "clearly": True},
        ),
    ],
    ids=str,
)
def test_a_goal_with_other_keys(goal: Mapping[str, Any]) -> None:
    with pytest.raises(
        InputError, match="a goal has the keys name, group, metric, and run with at_least"
    ):
        verdict(**goal)


def test_a_goal_that_names_nothing() -> None:
    with pytest.raises(
        InputError, match="no 'Rate' of 'all' in run: the groups are all; the metrics rate, colour"
    ):
        verdict(run="a", metric="Rate")


def test_runs_of_which_one_was_repeated_and_the_other_not() -> None:
    with pytest.raises(
        InputError, match="'x' compares runs that have equally many seeds, got a 1, seeds 3"
    ):
        verdict(runs=["a", "seeds"], rises=True)


def test_what_is_printed() -> None:
    console = quiet()
    goals = [
        {"name": "one", "group": "all", "metric": "rate", "run": "a", "at_least": 97.5},
        {
            "name": "sweep",
            "group": "all",
            "metric": "rate",
            "runs": ["a", "b", "c"],
            "rises": True,
            "clearly": True,
        },
    ]
    verdicts = compare({name: RUNS[name] for name in "abc"}, goals, console)
    assert [(each.bound, [row.value for (row,) in each.rows]) for each in verdicts] == [
        (">= 97.5", [50]),
        ("rises clearly", [50, 51.5, 60]),
    ]
    text = console.export_text()
    assert "50.0 [49.0, 51.0]" in text
    assert "50.0, 51.5, 60.0" in text
    assert "200, 199" in text


def test_what_is_printed_of_several_seeds() -> None:
    console = quiet()
    compare(
        RUNS,
        [{"name": "one", "group": "all", "metric": "rate", "run": "seeds", "at_least": 40}],
        console,
    )
    text = console.export_text()
    assert "mean (range) of 3 seeds" in text
    assert "53.0 (50.0 to 56.0)" in text
