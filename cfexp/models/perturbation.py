import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RandomPerturbation(nn.Module):
    """What a picture goes through on its way to another viewer: noise and blur, drawn anew for each image.

    In front of the model that is explained, it makes the generator look for edits that survive them (expectation over
    transformation, Athalye et al. 2018): a colour does, an adversarial pattern does not.

    noise: the largest standard deviation, for images in [-1, 1]; each image draws its own below it.
    blur: the share of the images mixed with their 3x3 mean.
    """

    def __init__(self, noise: float = 0.1, blur: float = 0.5) -> None:
        super().__init__()
        self.noise, self.blur = noise, blur

    def forward(self, image: Tensor) -> Tensor:
        """The same images (B, 3, H, W), perturbed; not clipped, so that every pixel keeps its gradient."""
        draws = torch.rand(3, len(image), 1, 1, 1, device=image.device)
        image = image + self.noise * draws[0] * torch.randn_like(image)
        mean = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), kernel_size=3, stride=1)
        weight = draws[1] * (draws[2] < self.blur)
        return image * (1 - weight) + mean * weight


class RandomPatches(nn.Module):
    """Rectangles of one random colour each, laid half transparent over a picture (after Cutout, DeVries & Taylor 2017).

    A classifier that must decide through them learns that a large red surface is no red lamp; else a search makes it
    one.

    share: of the images that get any. count: rectangles an image. largest: their longest side, as a share of the
    picture's; the sides are drawn evenly below it. opacity: the most that one covers of what is below it.
    """

    def __init__(self, share: float = 0.3, count: int = 1, largest: float = 1.6, opacity: float = 0.4) -> None:
        super().__init__()
        self.share = share
        self.count, self.largest, self.opacity = count, largest, opacity

    def forward(self, image: Tensor) -> Tensor:
        """The same images (B, 3, H, W), covered in part."""
        batch, channels, height, width = image.shape
        y = torch.linspace(0, 1, height, device=image.device)[:, None]
        x = torch.linspace(0, 1, width, device=image.device)
        covered = torch.rand(batch, 1, 1, device=image.device) < self.share
        for _ in range(self.count):
            middle_y, middle_x, tall, wide, opacity = torch.rand(5, batch, 1, 1, device=image.device)
            inside = ((y - middle_y).abs() < self.largest / 2 * tall) & ((x - middle_x).abs() < self.largest / 2 * wide)
            color = torch.empty(batch, channels, 1, 1, device=image.device).uniform_(-1, 1)
            image = torch.lerp(image, color, (self.opacity * opacity * (inside & covered))[:, None])
        return image
