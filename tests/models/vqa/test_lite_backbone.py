import pytest
import torch

from cfexp.errors import InputError
from cfexp.models.vqa.lite_backbone import LiteBackbone


@pytest.fixture(scope="module")
def backbone() -> LiteBackbone:
    torch.manual_seed(0)
    return LiteBackbone(width=6, tints=8)


def test_a_cell_is_four_pixels_and_knows_its_place_colour_and_tints(
    backbone: LiteBackbone,
) -> None:
    image = 2 * torch.rand(2, 3, 32, 64) - 1
    image[1, :, :4] = 0.5  # a row of cells of one colour
    with torch.no_grad():
        features = backbone.eval()(image)
    assert features.shape == (2, backbone.feature_dim, 8, 16)
    assert features[0, 6, 0].tolist() == pytest.approx(torch.linspace(-1, 1, 16).tolist())
    assert features[0, 7, :, 0].tolist() == pytest.approx(torch.linspace(-1, 1, 8).tolist())
    mean = image[1, :, 4:8, 8:12].mean((1, 2))
    torch.testing.assert_close(features[1, 8:11, 1, 2], mean)
    tints = features[1, 11:, 0]
    torch.testing.assert_close(tints, tints[:, :1].expand_as(tints))


@pytest.mark.parametrize("tuned", [False, True])
def test_imagenets_network_stays_as_it_is_but_for_what_is_tuned(tuned: bool) -> None:
    backbone = LiteBackbone(width=6, tints=8, tuned=tuned)
    statistics = {name: value.clone() for name, value in backbone.lite.named_buffers()}
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    backbone.train()(image).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(torch.equal(statistics[name], v) for name, v in backbone.lite.named_buffers())
    for name, parameter in backbone.named_parameters():
        coarse = name.startswith("lite._blocks.") and int(name.split(".")[2]) >= 5
        trained = (coarse and tuned) or not name.startswith("lite.")
        assert (parameter.grad is not None) == trained, name


def test_other_sizes_are_refused(backbone: LiteBackbone) -> None:
    with pytest.raises(InputError, match="divisible by 32, got 48x32"):
        backbone(torch.zeros(1, 3, 48, 32))
