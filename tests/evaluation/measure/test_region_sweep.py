import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cfexp.declaration import Declaration
from cfexp.evaluation.measure.base import Values
from cfexp.evaluation.measure.region_sweep import MAX_SETS, swept
from cfexp.evaluation.report.table import Row, Scores, print_table, score_run
from cfexp.evaluation.run_folder import Record
from cfexp.explainers.steex.steex import STEEX
from cfexp.metrics.functional import wilson_interval
from tests.evaluation.run_writer import picture, write_run

REGIONS = ("sky", "car", "traffic_light")
DECLARED = Declaration(
    *("STEEX", "reconstruction", STEEX.columns, True),
    class_names=("stop", "go"),
    region_groups=("things",),
)


def searched(key: int, success: list[int], smallest: list[bool], **known: Any) -> Record:
    """A search of a stop, and what its sweep over three regions and a group found."""
    decided = {"query_class": 0, "counter_class": 1, "reconstruction_class": 0, "stored_class": 1}
    steps = [10 * unit if flipped == 1 else -1 for unit, flipped in enumerate(success, 1)]
    sweep = {
        "sweep_success": success,
        "sweep_distance": [0.5, 1.0, 2.0, 3.0],
        "sweep_flip_step": steps,
    }
    found = {
        "success": True,
        "stored_success": True,
        "code_distance": 1.0,
        "region_change": [0.0, 1.0, 0.0],
    }
    names = {"image_id": key, "answer_before": "stop", "answer_after": "go", "flip_step": 1}
    return {
        "key": key,
        **names,
        **decided,
        **found,
        **sweep,
        "sweep_smallest_set": smallest,
        **known,
    }


RECORDS = [
    searched(0, [0, 1, 0, 1], [False, True, False]),
    searched(1, [0, 1, -1, 1], [False, True, False]),
    searched(2, [0, 0, 0, 1], [False, True, True]),
    searched(3, [-1, 0, 0, 0], [False, False, False]),
    searched(
        4, [1, 1, 1, 1], [True, False, False], reconstruction_class=1
    ),  # the reconstruction has flipped it
    searched(
        5, [1, 1, 1, 1], [True, False, False], counter_class=0, query_class=0
    ),  # it is of that class already
]


def scores_of(path: Path, records: list[Record]) -> Scores:
    pixels = picture()
    run = write_run(
        path, [(each, pixels, pixels, None) for each in records], data={"region_names": REGIONS}
    )
    run.declare(DECLARED)
    return score_run(run)


def values_of(records: list[Record], names: Sequence[str]) -> dict[str, Values]:
    return {measure.name: values for measure, values in swept(records, names, DECLARED)}


def test_each_region_is_scored_over_the_pictures_that_have_it(tmp_path: Path) -> None:
    scores = scores_of(tmp_path, RECORDS)

    def row(metric: str) -> Row:
        found = scores.find("all", metric)
        assert isinstance(found, Row)
        return found

    for region, flips, n in (
        ("sky", 0, 3),
        ("car", 2, 4),
        ("traffic_light", 0, 3),
        ("things", 3, 4),
    ):
        low, high = wilson_interval(flips, n)
        expected = Row(
            "all", f"sweep_flip_{region}", 100 * flips / n, n, 100 * low, 100 * high, "%"
        )
        assert row(f"sweep_flip_{region}") == pytest.approx(expected)
    assert (row("sweep_distance_car").value, row("sweep_distance_car").n) == (1.0, 2)
    assert (row("sweep_step_things").value, row("sweep_step_things").n) == (40.0, 3)
    assert (row("sweep_set_found").value, row("sweep_set_found").n) == (75.0, 4)
    assert row("sweep_set_size").value == pytest.approx(4 / 3)
    assert row("sweep_set_size").n == 3
    assert (row("sweep_set_of_car").value, row("sweep_set_of_car+traffic_light").value) == (
        50.0,
        25.0,
    )
    assert row("sweep_set_found").unit == "%"
    # Each direction has its own.
    assert isinstance(scores.find("stop -> go", "sweep_flip_car"), Row)


def test_the_tables_are_printed(tmp_path: Path) -> None:
    output = io.StringIO()
    print_table(scores_of(tmp_path, RECORDS), Console(file=output, width=120))
    lines = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    start = next(row for row, line in enumerate(lines) if "all: one region alone" in line)
    table = lines[start:]
    places = [
        next(row for row, line in enumerate(table) if line.startswith(name))
        for name in ("things 4", "car 4")
    ]
    assert places == sorted(places)  # the highest rate first
    assert table[places[0]].endswith("3.00 40.0")
    assert any(line.startswith("sky 3 0.0") and line.endswith("— —") for line in table)
    assert any(line.startswith("car + traffic_light 25.0") for line in table)
    assert any(line.startswith("any set found 75.0") for line in table)
    assert not any(line.startswith("not computed: sweep") for line in lines)


def test_a_flip_that_is_due_to_the_last_step_or_to_rounding_has_no_step() -> None:
    [record] = [searched(0, [0, 1, 0, 1], [False, True, False], sweep_flip_step=[-1] * 4)]
    values = values_of([record], REGIONS)
    assert values["sweep_distance_car"].tolist() == [1.0]
    assert np.isnan(values["sweep_step_car"]).all()


def test_without_a_sweep_there_is_nothing_and_of_many_sets_the_most_frequent_are_named() -> None:
    plain = {name: value for name, value in RECORDS[0].items() if not name.startswith("sweep_")}
    assert values_of([plain], REGIONS) == {}
    names = [f"region{index}" for index in range(MAX_SETS + 3)]
    absent = {"sweep_success": [-1] * (len(names) + 1)}
    sets = [
        [index == key % len(names) for index in range(len(names))] for key in range(len(names) + 1)
    ]
    values = values_of([searched(key, [], each, **absent) for key, each in enumerate(sets)], names)
    named = [name for name in values if name.startswith("sweep_set_of_")]
    assert (len(named), named[0]) == (MAX_SETS, "sweep_set_of_region0")
    assert (values["sweep_set_size"] == 1).all()
