import torch
import torch.nn.functional as F

from cfexp.models.vqa.perturbation import RandomPerturbation


def test_blur_mixes_an_image_with_its_mean_over_three_pixels_square() -> None:
    image = torch.rand(4, 3, 6, 9, dtype=torch.float64)
    torch.manual_seed(3)
    blurred = RandomPerturbation(noise=0.0, blur=1.0)(image)
    torch.manual_seed(3)
    draws = torch.rand(3, 4, 1, 1, 1)
    padded = F.pad(image, (1, 1, 1, 1), mode="reflect")
    expected = image + draws[1] * (F.avg_pool2d(padded, kernel_size=3, stride=1) - image)
    torch.testing.assert_close(blurred, expected)
