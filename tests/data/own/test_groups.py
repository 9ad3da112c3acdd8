"""What the names of files tell of groups that lie in two parts."""

import pytest

from cfexp.data.own.groups import Leak, groups_in_names, leak_by_names, pattern_of


def test_what_stands_before_the_first_of_them_in_a_files_name_is_its_group() -> None:
    pattern = pattern_of("prefix:_")
    assert pattern is not None
    places = ["a_b/p1_left_0.png", "p1_1.png", "a_b/p2.png", "_1.png", "p.3_x.y.png"]
    assert groups_in_names(places, pattern) == ["p1", "p1", None, None, "p.3"]
    assert pattern_of("patient") is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("{patient:03}_{view}", Leak("_", 20, 20, "000")),
        ("x/{patient:03}-{view}", Leak("-", 20, 20, "000")),
        ("IMG_{patient:03}{view}", None),  # of all images
        ("{class_name}_{patient:03}{view}", None),
        ("{patient:03}{view}", None),
        ("{patient:03}{view}_x", None),  # each has its own
    ],
)
def test_names_that_many_share_across_parts_are_told(name: str, found: Leak | None) -> None:
    places, parts = [], []
    for patient in range(20):
        for view, part in enumerate(("train", "test")):
            said = {"patient": patient, "view": view, "class_name": f"class{patient % 4}"}
            places.append(f"{name.format(**said)}.png")
            parts.append(part)
    assert leak_by_names(places, parts, 4) == found
    assert leak_by_names(places, ["train"] * 40, 4) is None
