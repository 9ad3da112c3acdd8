import torch
import torch.nn.functional as F
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
        mean = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), kernel_size=3, stride=1)
        weight = draws[1] * (draws[2] < self.blur)
        return image * (1 - weight) + mean * weight
