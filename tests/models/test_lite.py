import pytest
import torch

from cfexp.errors import InputError
from cfexp.models.lite import LiteClassifier, LiteSegmenter


def test_a_segmenter_tells_a_region_a_pixel_and_learns_in_all_its_layers() -> None:
    torch.manual_seed(0)
    network = LiteSegmenter(5, width=4)
    logits = network(2 * torch.rand(2, 3, 64, 32) - 1)
    assert logits.shape == (2, 5, 64, 32)
    logits.square().sum().backward()
    assert all(each.grad is not None for each in network.parameters())


def test_a_classifier_looks_at_the_size_that_it_is_given() -> None:
    torch.manual_seed(0)
    network = LiteClassifier(3, image_size=[64, 64], grid=2).eval()
    images = 2 * torch.rand(2, 3, 32, 32) - 1
    with torch.no_grad():
        enlarged = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear")
        assert torch.equal(network(images), network(enlarged))
        before = network(images)
        network.shift(torch.tensor([1.0, 0.0, -2.0]))
        moved = network(images) - before
    torch.testing.assert_close(moved, torch.tensor([[1.0, 0.0, -2.0]] * 2))


def test_a_classifier_sees_nothing_outside_of_its_crop() -> None:
    torch.manual_seed(0)
    crop = (0.25, 0.0, 1.0, 0.5)
    network = LiteClassifier(2, image_size=[64, 32], crop=crop, grid=2).eval()
    images = (2 * torch.rand(1, 3, 64, 64) - 1).requires_grad_()
    network(images).sum().backward()
    assert images.grad is not None
    moved = images.grad.abs().sum((0, 1)) > 0
    assert moved[16:, :32].all()
    assert not moved[:16].any()
    assert not moved[:, 32:].any()
    for wrong in ((0.5, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0)):
        with pytest.raises(InputError, match="top, left, bottom, right"):
            LiteClassifier(crop=wrong)


@pytest.mark.parametrize("network", [LiteSegmenter(2, width=2), LiteClassifier()])
def test_sides_that_do_not_fit_are_refused(network: torch.nn.Module) -> None:
    with pytest.raises(InputError, match="multiples of 32, got 48x64"):
        network(torch.zeros(1, 3, 48, 64))
