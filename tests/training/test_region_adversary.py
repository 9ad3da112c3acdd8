import pytest
import torch
from torch import Tensor

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.models.sean.sean import SEAN
from cfexp.training.region_adversary import RegionAdversary

REGIONS = ("sky", "light")


@pytest.fixture(scope="module")
def autoencoder() -> SEAN:
    torch.manual_seed(0)
    sean = SEAN(
        len(REGIONS),
        base_channels=4,
        style_dim=4,
        encoder_channels=4,
        encoder_downsamplings=1,
        up_blocks=1,
        spade_channels=4,
        last_block_styled=True,
        initial_gain=1.0,
    )
    return sean.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch() -> ImageBatch:
    torch.manual_seed(0)
    label_map = torch.zeros(4, 16, 16, dtype=torch.int64)
    label_map[:, :, 8:] = 1
    image = torch.rand(4, 3, 16, 16) * 2 - 1
    unknown = torch.full((4,), -1)
    labels = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    return ImageBatch(image, label_map, labels, unknown, unknown, tuple("abcd"))


def redness(image: Tensor) -> Tensor:
    return image[:, 0].mean()


def test_codes_of_the_named_regions_alone_go_up_the_loss(
    autoencoder: SEAN, batch: ImageBatch
) -> None:
    def moved(**settings: float) -> Tensor:
        torch.manual_seed(1)
        adversary = RegionAdversary(autoencoder, ["sky"], share=0.75, swapped=0.0, **settings)  # type: ignore[arg-type]
        return adversary(redness, batch, REGIONS)

    still, far = moved(steps=0), moved(steps=4)
    assert far.shape == (3, 3, 16, 16)  # so many of the batch
    assert (far[:, 0].mean((1, 2)) > still[:, 0].mean((1, 2))).all()
    change = (far - still).abs().mean((0, 1, 2))
    assert change[:6].mean() > 10 * change[10:].mean()  # the light's codes stay


def test_codes_of_other_images_take_their_place(autoencoder: SEAN, batch: ImageBatch) -> None:
    def moved(swapped: float, done: float) -> Tensor:
        torch.manual_seed(1)
        adversary = RegionAdversary(autoencoder, ["sky"], share=1.0, swapped=swapped)
        return adversary(redness, batch, REGIONS, done)

    change = (moved(1.0, 0.0) - moved(0.0, 0.0)).abs().mean((0, 1, 2))  # without a step
    assert change[:6].mean() > 4 * change[10:].mean()


def test_an_image_goes_on_where_it_stood(autoencoder: SEAN, batch: ImageBatch) -> None:
    known = batch._replace(key=torch.arange(4))
    adversary = RegionAdversary(autoencoder, ["sky"], share=1.0, swapped=0.0, anew=0.0, step=1.0)
    adversary(redness, known, REGIONS)
    (first, *_), once = adversary.ways, [way.norm() for way in adversary.ways.values()]
    resumed = RegionAdversary(autoencoder, ["sky"], share=1.0, swapped=0.0, anew=0.0, step=1.0)
    resumed.load_state(adversary.state())
    resumed(redness, known, REGIONS)
    twice = [way.norm() for way in resumed.ways.values()]
    assert all(2 * before > after > 1.2 * before for before, after in zip(once, twice, strict=True))
    mirrored = known._replace(image=known.image.flip(3), label_map=known.label_map.flip(2))
    resumed(redness, mirrored, REGIONS)
    assert resumed.ways.keys() == {(key, side) for key in range(4) for side in (False, True)}
    assert resumed.ways[first].norm() == twice[0]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"share": 0.0}, "region_adversary.share must be above 0 and at most 1, got 0.0"),
        ({"anew": 1.5}, "region_adversary.anew must be in 0..1, got 1.5"),
        ({"steps": -1}, "steps must be a whole number of at least 0, got -1"),
        ({"reach": -1.0}, "reach must be at least 0, got -1.0"),
    ],
)
def test_a_setting_out_of_range_is_named(
    autoencoder: SEAN, settings: dict[str, float], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        RegionAdversary(autoencoder, ["sky"], **settings)  # type: ignore[arg-type]


def test_a_region_that_there_is_not_is_named(autoencoder: SEAN, batch: ImageBatch) -> None:
    with pytest.raises(InputError, match="'wall' is none of the regions sky, light"):
        RegionAdversary(autoencoder, ["wall"])(redness, batch, REGIONS)
