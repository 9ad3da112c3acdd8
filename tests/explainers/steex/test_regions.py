import pytest
import torch

from cfexp.errors import InputError
from cfexp.explainers.steex.regions import region_mask, unit_masks

NAMES = ["sky", "road", "car", "light"]


def test_regions_are_found_by_name_and_groups_follow_the_single_ones() -> None:
    assert region_mask(["light", "sky"], NAMES).tolist() == [True, False, False, True]
    units = unit_masks(NAMES, {"traffic": ["car", "light"]})
    assert torch.equal(units[:4], torch.eye(4, dtype=torch.bool))
    assert units[4:].tolist() == [[False, False, True, True]]


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (["lamp"], "regions: 'lamp' is none of sky, road, car, light"),
        ([], "regions names no region"),
        ("light", "regions must be a list of names, got 'light'"),
        ([3], r"regions must be a list of names, got \[3\]"),
    ],
)
def test_wrong_regions_are_refused_in_one_line(regions: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        region_mask(regions, NAMES)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"lights": ["light", "lamp"]},
            "region_groups.lights: 'lamp' is none of sky, road, car, light",
        ),
        ({"lights": []}, r"region_groups.lights must be a list of regions, got \[\]"),
        ({"lights": "light"}, "region_groups.lights must be a list of regions, got 'light'"),
        ({"car": ["light"]}, "region_groups.car: a region is called that already"),
    ],
)
def test_wrong_groups_are_refused_in_one_line(groups: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        unit_masks(NAMES, groups)
