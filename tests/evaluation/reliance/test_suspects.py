"""What is suspected: the facade of the model with the planted bias, and nothing of the other."""

from pathlib import Path

import numpy as np
import pytest

from cfexp.errors import InputError
from cfexp.evaluation.reliance.edits import edits_of
from cfexp.evaluation.reliance.suspects import Verdict, all_tests
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.street_runs import write_streets


def suspected(run: RunFolder, expected: list[str] | None = None) -> list[Verdict]:
    return [test for test in all_tests(edits_of(run, expected), 5) if test.is_suspected]


@pytest.mark.parametrize("codes", [True, False], ids=["codes", "pixels"])
def test_the_planted_bias_is_named_first_and_nothing_without_it(
    tmp_path: Path, codes: bool
) -> None:
    first, *others = suspected(write_streets(tmp_path / "biased", biased=True, codes=codes))
    assert (first.name, first.score.n, first.score.value) == ("building", 64, 75.0)
    assert "where it is no cause" in first.found
    assert {test.name for test in others} == {"facade = blue", "facade = cream"}
    assert suspected(write_streets(tmp_path / "unbiased", biased=False, codes=codes)) == []


def test_without_the_truth_labels_tell_or_a_person(tmp_path: Path) -> None:
    biased = write_streets(tmp_path / "biased", biased=True, truth=False)
    (by_labels,) = suspected(biased)
    assert by_labels.name == "building"
    assert "wrong about forward" in by_labels.found
    assert suspected(biased, ["traffic_light"])[0].name == "building"
    assert suspected(biased, ["building"])[0].name == "traffic_light"
    assert suspected(write_streets(tmp_path / "unbiased", biased=False, truth=False)) == []


def test_where_only_some_regions_may_change_the_searches_count(tmp_path: Path) -> None:
    building = ("building",)
    (first, *_) = suspected(write_streets(tmp_path / "biased", biased=True, regions=building))
    assert (first.name, first.score.value, first.score.n) == ("building", 75.0, 64)
    assert "might change nothing else" in first.found
    unbiased = write_streets(tmp_path / "unbiased", biased=False, regions=building)
    assert suspected(unbiased) == []


def test_what_a_sweep_turned_alone_is_held_against_the_causes(tmp_path: Path) -> None:
    first, second, *_ = suspected(write_streets(tmp_path / "biased", biased=True, swept=True))
    assert {first.name, second.name} == {"building"}
    assert "in it alone" in first.found + second.found
    assert suspected(write_streets(tmp_path / "unbiased", biased=False, swept=True)) == []


def test_p_values_are_times_the_number_of_tests(tmp_path: Path) -> None:
    tests = all_tests(edits_of(write_streets(tmp_path / "run", biased=True)), 5)
    assert all(test.p_corrected == min(1, test.p_value * len(tests)) for test in tests)
    # The facade's two colours, the regions that are no cause, `clear`; not what is the label again.
    names = {test.name for test in tests}
    assert names == {"road", "sky", "building", "facade = blue", "facade = cream", "clear"}


def test_an_unknown_region_is_said_with_those_that_are_there(tmp_path: Path) -> None:
    run = write_streets(tmp_path / "run", biased=False, count=4)
    with pytest.raises(InputError, match="the run has no region 'lamp'; it has road, sky, buildin"):
        edits_of(run, ["lamp"])


def test_few_explanations_accuse_nobody(tmp_path: Path) -> None:
    edits = edits_of(write_streets(tmp_path / "run", biased=True, count=1))
    assert edits.regions[edits.leading[0]] == "building"
    assert not any(test.p_corrected < 0.05 for test in all_tests(edits, 5))
    assert np.allclose(edits.shares.sum(1), 1)
