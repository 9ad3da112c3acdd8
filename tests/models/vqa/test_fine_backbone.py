import pytest
import torch

from cfexp.errors import InputError
from cfexp.models.vqa.fine_backbone import FineBackbone


def test_a_cell_is_four_pixels_and_knows_its_place_and_its_colour() -> None:
    backbone = FineBackbone((4, 4, 4, 4, 6)).eval()
    image = 2 * torch.rand(2, 3, 32, 48) - 1
    features = backbone(image)
    assert features.shape == (2, backbone.feature_dim, 8, 12)
    assert features[0, 6, 0].tolist() == pytest.approx(torch.linspace(-1, 1, 12).tolist())
    assert features[0, 7, :, 0].tolist() == pytest.approx(torch.linspace(-1, 1, 8).tolist())
    mean = image[1, :, 4:8, 8:12].mean((1, 2))
    torch.testing.assert_close(features[1, 8:, 1, 2], mean)


def test_it_sees_further_than_a_cell() -> None:
    torch.manual_seed(0)
    backbone = FineBackbone((8, 8, 8, 8, 6)).eval()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    backbone(image)[0, :6, 8, 8].sum().backward()
    assert image.grad is not None
    rows = image.grad[0].abs().sum((0, 2)).nonzero().flatten()
    assert int(rows.max() - rows.min()) >= 40


def test_what_is_coarse_is_repeated_as_weights_that_are_trained_know_it() -> None:
    backbone, seen = FineBackbone((4, 4, 4, 6, 4)).eval(), list[torch.Tensor]()
    backbone.coarse.register_forward_hook(lambda *given: seen.append(given[2]))
    backbone.joined.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, :6]))
    backbone(torch.rand(1, 3, 32, 32))
    coarse, enlarged = seen
    assert torch.equal(enlarged, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="divisible by 16, got 40x32"):
        FineBackbone()(torch.zeros(1, 3, 40, 32))
    with pytest.raises(InputError, match="5 layers"):
        FineBackbone((8, 8, 8))
