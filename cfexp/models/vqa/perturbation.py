import torch
from torch import Tensor, nn


class RandomPerturbation(nn.Module):
    """What a picture goes through on its way to another viewer: noise and blur, drawn anew for each
    image.

    In front of the model that is explained, it makes the generator look for edits that survive them
    (expectation over transformation, Athalye et al. 2018): a colour does, an adversarial pattern
    does not.

    noise: the largest standard deviation, for images in [-1, 1]; each image draws its own below it.
    blur: the share of the images mixed with their 3x3 mean.
    """

    def __init__(self, noise: float = 0.1, blur: float = 0.5) -> None:
        super().__init__()
        self.noise, self.blur = noise, blur

    def forward(self, image: Tensor) -> Tensor:
        """The same images (B, 3, H, W), perturbed; not clipped, so that every pixel keeps its
        gradient.
        """
        draws = torch.rand(3, len(image), 1, 1, 1, device=image.device)
        image = image + self.noise * draws[0] * torch.randn_like(image)
        mean = _mean_of_three(_mean_of_three(image, 2), 3)
        weight = draws[1] * (draws[2] < self.blur)
        return image * (1 - weight) + mean * weight


def _mean_of_three(image: Tensor, dim: int) -> Tensor:
    """Along a dimension, reflected at its ends. Torch's pooling and padding are the same, but their
    backward pass takes ten times as long on a CPU.
    """
    size = image.shape[dim]
    wide = torch.cat([image.narrow(dim, 1, 1), image, image.narrow(dim, size - 2, 1)], dim)
    before, here, after = (wide.narrow(dim, shift, size) for shift in range(3))
    return (before + here + after) / 3
