"""The regions, sets and kinds of explanations of the stored streets."""

from pathlib import Path

import numpy as np

from cfexp.evaluation.reliance.clusters import clusters_of
from cfexp.evaluation.reliance.edits import ELSEWHERE, NINTHS, OBJECT, edits_of
from cfexp.evaluation.reliance.sets import members, of_directions
from tests.evaluation.run_writer import painted, picture, record, square, write_run
from tests.evaluation.street_runs import write_streets


def test_the_fewest_regions_that_hold_most_of_an_edit() -> None:
    shares = np.array([[0.95, 0.05, 0], [0.5, 0.1, 0.4], [0.2, 0.3, 0.5], [0, 0, 0]])
    expected = [[1, 0, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]]
    assert members(shares).astype(int).tolist() == expected


def test_regions_and_sets_by_direction(tmp_path: Path) -> None:
    everyone, to_go, to_stop = of_directions(edits_of(write_streets(tmp_path / "run", biased=True)))
    assert (everyone.direction, everyone.n) == ("all", 64)
    assert {to_go.direction, to_stop.direction} == {"stop -> go", "go -> stop"}
    assert to_go.n + to_stop.n == 64
    assert [region.name for region in everyone.regions[:2]] == ["building", "traffic_light"]
    leads = everyone.regions[0].leads
    assert leads.value == 75
    assert 60 < leads.low < 75 < leads.high < 90
    assert [name for name, _ in everyone.sets] == ["building", "traffic_light"]
    assert everyone.smallest == []


def test_what_was_swept_is_shown_beside_it(tmp_path: Path) -> None:
    everyone, *_ = of_directions(edits_of(write_streets(tmp_path / "run", biased=True, swept=True)))
    assert [(name, score.value) for name, score in everyone.smallest] == [
        ("building", 75),
        ("traffic_light", 25),
    ]
    alone = {region.name: region.alone for region in everyone.regions}
    assert alone["building"] is not None
    assert (alone["building"].value, alone["building"].n) == (75, 64)


def test_clusters_tell_the_regions_and_the_colours_apart(tmp_path: Path) -> None:
    edits = edits_of(write_streets(tmp_path / "run", biased=True))
    clusters = clusters_of(edits, seed=0)
    found = {(each.regions[0][0], len(each.rows), len(each.directions)) for each in clusters}
    # The facade to blue, the facade to cream; the light to red and to green, each one direction.
    assert found == {("building", 24, 1), ("traffic_light", 8, 1)}
    assert len(clusters) == 4
    again = clusters_of(edits, seed=0)
    assert [each.rows.tolist() for each in again] == [each.rows.tolist() for each in clusters]


def test_without_label_maps_the_object_or_ninths_are_the_regions(tmp_path: Path) -> None:
    mask = square(0, 0, 8)
    known = record(0, "red", "blue", truth="red")
    edited = painted(picture(), mask, (0, 0, 200))
    asked = edits_of(write_run(tmp_path / "asked", [(known, picture(), edited, mask)]))
    assert asked.regions == [OBJECT, ELSEWHERE]
    assert asked.shares.tolist() == [[1, 0]]
    ninths = edits_of(write_run(tmp_path / "ninths", [(known, picture(), edited, None)]))
    assert ninths.regions == [*NINTHS]
    assert ninths.shares[0].argmax() == 0
    assert not ninths.causes_from
