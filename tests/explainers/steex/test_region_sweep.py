from pathlib import Path

import pytest
import torch
from torch import Tensor

from cfexp import losses
from cfexp.errors import InputError
from cfexp.explainers.steex.objective import StyleSearch
from cfexp.explainers.steex.region_sweep import RegionSweep, sweep_regions
from cfexp.explainers.steex.regions import unit_masks
from cfexp.explainers.steex.search import search_style_codes
from tests.explainers.steex.test_steex import predict, steex
from tests.image_parts import EightImages

NAMES = ("sky", "road", "car", "light")
# The decision is the sum of the codes by these weights, less a threshold: of the sky's code nothing
# is seen.
WEIGHTS = torch.tensor([0.0, 1.0, 2.0, 4.0])
# Adam moves a code by no more than the rate at a step: the sum moves by weight, at most.
STEPS, RATE = 10, 0.1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def swept(
    codes: Tensor, threshold: float, groups: dict[str, list[str]] | None = None
) -> tuple[RegionSweep, list[int]]:
    """A sweep of codes (B, 4, 1), and how many searches each batch held."""
    batches: list[int] = []

    def decide(images: Tensor) -> Tensor:
        return images.flatten(1) @ WEIGHTS[:, None] - threshold

    def search(row: int, masks: Tensor) -> StyleSearch:
        batches.append(len(masks))
        counter_class = torch.ones(len(masks), dtype=torch.long)
        return search_style_codes(
            lambda moved: moved[..., None],
            decide,
            codes[[row] * len(masks)],
            counter_class,
            region_mask=masks,
            num_steps=STEPS,
            learning_rate=RATE,
            proximity_weight=0.0,
        )

    def margin(images: Tensor, row: int) -> Tensor:
        return losses.decision_margin(decide(images), torch.ones(len(images), dtype=torch.long))

    units, present = unit_masks(NAMES, groups or {}), (codes != 0).any(2)
    return sweep_regions(search, margin, codes, units, present), batches


def named(members: Tensor) -> set[str]:
    return {name for name, member in zip(NAMES, members.tolist(), strict=True) if member}


TINY = 1e-6  # present, and of no weight


def test_each_region_is_searched_by_itself_and_each_group_together() -> None:
    codes = torch.full((1, 4, 1), TINY)
    found, batches = swept(
        codes, threshold=2.5, groups={"things": ["car", "light"], "ground": ["road"]}
    )
    # Alone, the car's code brings 2 at most and the light's 4; the two together bring 2.5 sooner.
    assert found.success.tolist() == [[0, 0, 0, 1, 1, 0]]
    assert found.flip_step.tolist() == [[-1, -1, -1, 7, 5, -1]]
    # Adam takes smaller steps where the gradient falls, as that of the decision does once it is
    # taken.
    bounds = torch.tensor([0, 1, 1, 1, 2**0.5, 1])
    assert (found.distance[0] <= bounds + 1e-3).all()
    assert (found.distance[0] >= 0.8 * bounds).all()
    torch.testing.assert_close(found.distance[0, 1], found.distance[0, 5])
    assert named(found.smallest_set[0]) == {"light"}
    assert batches == [6]


def test_of_several_regions_that_flip_the_nearest_is_the_smallest_set() -> None:
    found, batches = swept(torch.full((1, 4, 1), TINY), threshold=1.5)
    assert found.success.tolist() == [[0, 0, 1, 1]]
    assert found.distance[0, 3] < found.distance[0, 2]
    assert named(found.smallest_set[0]) == {"light"}
    assert batches == [4]


def test_where_no_region_flips_the_nearest_are_taken_together_until_they_do() -> None:
    codes = torch.full((1, 4, 1), TINY)
    for threshold, expected in (
        (5.0, {"light", "car"}),
        (6.5, {"light", "car", "road"}),
        (7.5, set()),
    ):
        found, batches = swept(codes, threshold)
        assert (found.success == 0).all()
        assert named(found.smallest_set[0]) == expected
        assert batches == [4, 3]


def test_an_absent_region_is_not_searched() -> None:
    codes = torch.full((2, 4, 1), TINY)
    codes[1, 3] = codes[1, 1] = 0  # no light, no road
    found, batches = swept(
        codes, threshold=2.5, groups={"signals": ["light"], "things": ["car", "light"]}
    )
    assert found.success.tolist() == [[0, 0, 0, 1, 1, 1], [0, -1, 0, -1, -1, 0]]
    assert (found.distance[1] == 0).tolist() == [True, True, False, True, True, False]
    assert found.flip_step[1].tolist() == [-1] * 6
    assert batches == [6, 3, 1]  # and the sky with the car, as neither flips
    assert not found.smallest_set[1].any()
    few = sweep_one(codes[1:])
    for column, whole in zip(few, found, strict=True):
        assert torch.equal(column[0], whole[1])


def sweep_one(codes: Tensor) -> RegionSweep:
    return swept(codes, threshold=2.5, groups={"signals": ["light"], "things": ["car", "light"]})[0]


def test_a_sweep_searches_each_region_as_if_it_alone_were_targeted(
    data: EightImages, tmp_path: Path
) -> None:
    groups = {"street": ["road", "box"]}
    swept = predict(steex(sweep_regions=True, region_groups=groups).float(), data, tmp_path)[
        0
    ].extras
    plain = predict(steex().float(), data, tmp_path)[0].extras
    torch.testing.assert_close(swept["code_distance"], plain["code_distance"])
    # Of the first three images, the second alone has a post.
    assert (swept["sweep_success"] >= 0).tolist() == [
        [True] * 3 + [has_post, True] for has_post in (False, True, False)
    ]
    for unit, regions in ((0, ["sky"]), (2, ["box"]), (4, groups["street"])):
        alone = predict(steex(regions=regions).float(), data, tmp_path)[0]
        stored = alone.extras["stored_logits"].argmax(1) == alone.counter_class
        assert torch.equal(swept["sweep_success"][:, unit], stored.long())
        torch.testing.assert_close(
            swept["sweep_distance"][:, unit], alone.extras["code_distance"], atol=1e-4, rtol=0
        )
        assert torch.equal(swept["sweep_flip_step"][:, unit], alone.extras["flip_step"])


def test_groups_need_a_sweep_and_known_regions(data: EightImages, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="region_groups are for sweep_regions=true"):
        steex(region_groups={"street": ["road"]})
    with pytest.raises(
        InputError, match=r"region_groups\.street: 'rod' is none of sky, road, box, post"
    ):
        predict(steex(sweep_regions=True, region_groups={"street": ["rod"]}), data, tmp_path)
