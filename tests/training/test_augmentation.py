"""How training images are moved and lit otherwise."""

import torch

from cfexp.training.augmentation import jittered, moved_grid, tinted


def test_jitter_moves_an_image_and_its_label_map_alike() -> None:
    torch.manual_seed(0)
    label_map = torch.zeros(16, 32, 32, dtype=torch.int64)
    label_map[:, 8:24, 8:24] = 3
    image = (label_map[:, None] / 1.5 - 1).expand(16, 3, 32, 32)
    moved, regions = jittered(image, label_map, 0.2)
    assert moved.shape == image.shape
    assert torch.equal((regions == 0) | (regions == 3), torch.ones_like(regions, dtype=torch.bool))
    assert not torch.equal(regions, label_map)
    # But for the seam, where the image is mixed and the label map is not.
    seen = moved[:, 0].abs() > 0.999
    assert seen.float().mean() > 0.8
    assert torch.equal(moved[:, 0][seen] > 0, regions[seen] == 3)
    areas = (regions == 3).float().mean((1, 2))
    assert 0.25 / 1.2**2 - 0.05 < areas.min() < 0.22
    assert 0.28 < areas.max() < 0.25 * 1.2**2 + 0.05


def test_another_light_moves_no_pixel() -> None:
    torch.manual_seed(0)
    image = 2 * torch.rand(8, 1, 16, 16).expand(8, 3, 16, 16) - 1
    other = tinted(image, 0.2)
    assert other.shape == image.shape
    assert 0.02 < (other - image).abs().mean() < 0.3
    assert (other.abs() <= 1).all()


def test_a_grid_that_nothing_moves_is_each_pixels_own_place() -> None:
    image = torch.rand(4, 3, 8, 8)

    def seen(*settings: float) -> torch.Tensor:
        grid = moved_grid(image, *settings)
        return torch.nn.functional.grid_sample(image, grid, align_corners=False)

    torch.testing.assert_close(seen(0, 0, 0), image)
    torch.testing.assert_close(seen(0, 0, 1), image.flip(3))
    torch.manual_seed(0)
    assert not torch.allclose(seen(0.2, 0.0, 0.0), image)
    last_column = moved_grid(image, 0.0, 0.5, 0.0)[:, 0, -1, 0]  # at 1 less half a pixel
    assert (last_column / 0.875).log().abs().max() <= 0.5
