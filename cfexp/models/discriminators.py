import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): real or generated, for each patch; spectral norm on every convolution.

    widths: channels of the halving 4x4 convolutions, of which each has spectral norm (Miyato et al. 2018), as has the
    3x3 one that gives the logits. No batch normalisation: its statistics would tell a batch of reals from one of fakes.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            layers += [spectral_norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            channels = width
        layers.append(spectral_norm(nn.Conv2d(channels, 1, 3, padding=1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1, h, w), positive = real, of images (B, 3, H, W) in [-1, 1]; h = H / 2 ** len(widths)."""
        logits: Tensor = self.layers(image.contiguous(memory_format=torch.channels_last))  # faster on a CPU
        return logits
