import pytest
import torch

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.training.region_swap import CauseSwap, RegionSwap

REGIONS = ("sky", "light")


@pytest.fixture(scope="module")
def batch() -> ImageBatch:
    """Images of one grey each, a tenth apart, with a light in the middle that is lighter."""
    label_map = torch.zeros(8, 16, 16, dtype=torch.int64)
    label_map[:, 4:12, 6:10] = 1
    image = -0.9 + 0.2 * torch.arange(8.0)[:, None, None, None] + 0.05 * label_map[:, None]
    unknown = torch.full((8,), -1)
    return ImageBatch(image.expand(-1, 3, -1, -1), label_map, unknown[:, None] * 0.0, unknown, unknown, tuple("abcdefgh"))  # fmt: skip  # noqa: E501


def test_another_image_takes_the_place_of_what_holds_no_cause(batch: ImageBatch) -> None:
    torch.manual_seed(0)
    swapped = RegionSwap(["sky"], share=1.0, shift=0.3, fade=0.0)(batch, REGIONS)
    light = batch.label_map == 1
    assert torch.equal(swapped.image[:, 0][light], batch.image[:, 0][light])
    assert torch.equal(swapped.labels, batch.labels)
    others = ((swapped.image[:, 0] + 0.9) / 0.2 + 1e-3)[~light]  # whose; a light is 0.25 more
    own = torch.arange(8)[:, None, None].expand(-1, 16, 16)[~light]
    assert (others.floor() != own).all()
    assert (others.frac() < 0.26).all()
    assert (others.frac() > 0.2).sum() > 8  # their lights lie beside the light


def test_a_share_of_the_images_stays_and_some_are_seen_through(batch: ImageBatch) -> None:
    torch.manual_seed(0)
    swap = RegionSwap(["sky"], share=0.5, shift=0.0, scale=0.0)
    corners = torch.cat([swap(batch, REGIONS).image[:, 0, 0, 0] for _ in range(50)])
    moved = (corners - batch.image[:, 0, 0, 0].repeat(50)).abs()
    assert 0.4 < (moved > 1e-6).float().mean() < 0.6
    whole = ((moved / 0.2).frac() < 1e-3) | ((moved / 0.2).frac() > 1 - 1e-3)
    assert 0.6 < whole[moved > 1e-6].float().mean() < 0.9


def test_it_reaches_into_the_rim_of_neighbours_and_may_glare(batch: ImageBatch) -> None:
    torch.manual_seed(0)
    swap = RegionSwap(["sky"], 1.0, 0.0, 0.0, 0.0, contrast=2.0, rim=0.0625, into=["light"])
    changed = torch.stack([(swap(batch, REGIONS).image != batch.image).any(1) for _ in range(20)])
    often = changed.float().mean((0, 1))
    assert often[:4].min() > 0.95  # all of the sky
    assert 0.3 < often[4, 6:10].mean() < 0.7  # one pixel or none
    assert often[5:11, 7:9].max() == 0
    assert swap(batch, REGIONS).image.abs().max() == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"share": 2}, "share must be in 0..1"), ({"shift": -1}, "shift must be at least 0")],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        RegionSwap(["sky"], **settings)  # type: ignore[arg-type]


def test_an_unknown_region_is_named(batch: ImageBatch) -> None:
    with pytest.raises(InputError, match="region_swap: 'tree' is none of the regions sky, light"):
        RegionSwap(["tree"])(batch, REGIONS)


def test_a_cause_comes_from_an_image_that_agrees_in_all_else_and_brings_its_label(
    batch: ImageBatch,
) -> None:
    torch.manual_seed(0)
    lit = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, torch.nan])
    night = torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1])
    label_map = batch.label_map.clone()
    label_map[1] = label_map[1].roll(2, 1)  # its light lies to the right
    batch = batch._replace(labels=torch.stack([lit, night], dim=1), label_map=label_map)
    swapped = CauseSwap(["light"], "lit", share=1.0)(batch, REGIONS, ("lit", "night"))
    light = swapped.label_map == 1
    whose = ((swapped.image[:, 0] + 0.9) / 0.2 + 1e-3).floor().long()
    own = torch.arange(8)[:, None, None].expand_as(whose)
    changed = whose != own
    for place in range(8):
        (source,) = set(whose[place][light[place]].tolist())
        assert source != place
        assert swapped.labels[place, 0] == lit[source]
        assert swapped.labels[place, 1] == night[place] == night[source]
        either = (label_map[place] == 1) | (label_map[source] == 1)
        assert torch.equal(changed[place], either)
        assert torch.equal(swapped.label_map[place], torch.where(either, label_map[source], label_map[place]))  # fmt: skip  # noqa: E501


def test_an_image_that_nothing_agrees_with_keeps_its_cause(batch: ImageBatch) -> None:
    labels = torch.stack([torch.ones(8), torch.full((8,), torch.nan)], dim=1)
    batch = batch._replace(labels=labels)
    swapped = CauseSwap(["light"], "lit", share=1.0)(batch, REGIONS, ("lit", "night"))
    assert torch.equal(swapped.image, batch.image)
    assert torch.equal(swapped.labels[:, 0], labels[:, 0])


def test_a_cause_swap_names_what_it_does_not_know(batch: ImageBatch) -> None:
    with pytest.raises(InputError, match="'lamp' is none of the regions sky, light"):
        CauseSwap(["lamp"], "lit")(batch, REGIONS, ("lit",))
    with pytest.raises(InputError, match="'on' is none of the labels lit"):
        CauseSwap(["light"], "on")(batch, REGIONS, ("lit",))
