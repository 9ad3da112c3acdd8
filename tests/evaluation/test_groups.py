"""Which explanations are told together."""

from typing import Any

from cfexp.declaration import Declaration
from cfexp.evaluation.directions import MAX_DIRECTIONS, direction_members
from cfexp.evaluation.groups import group_members
from cfexp.evaluation.run_folder import Record


def test_a_type_that_is_called_as_a_union() -> None:
    groups = group_members([{"question_type": "what color", "answer_type": "other"}], Declaration())
    assert list(groups) == ["what color", "what color (type)", "other", "all"]


def test_directions() -> None:
    def search(before: int, asked: int, **known: Any) -> Record:
        return {"query_class": before, "counter_class": asked, "stored_class": asked, **known}

    to_go = search(0, 1, answer_before="stop", answer_after="go")
    found = direction_members([to_go, search(1, 0), search(1, 1)])
    assert list(found) == ["stop -> go", "go -> stop"]
    assert [members.tolist() for members in found.values()] == [[1, 0, 0], [0, 1, 0]]
    # A run of which all went one way knows the other; a config's names do where no record says.
    assert {
        name: list(members)
        for name, members in direction_members([search(0, 1)], ["a", "b"]).items()
    } == {
        "a -> b": [True],
        "b -> a": [False],
    }
    assert list(direction_members([search(0, 1)])) == ["0 -> 1", "1 -> 0"]
    assert direction_members([search(0, -1)]) == {}
    ring = [search(index, index + 1) for index in range(MAX_DIRECTIONS)]
    assert len(direction_members(ring[: MAX_DIRECTIONS // 2])) == MAX_DIRECTIONS
    assert direction_members(ring) == {}
