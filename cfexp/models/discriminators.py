import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): real or generated, for each patch; spectral norm on every
    convolution.

    widths: channels of the halving 4x4 convolutions, of which each has spectral norm (Miyato et al.
    2018), as has the 3x3 one that gives the logits. No batch normalisation: its statistics would
    tell a batch of reals from one of fakes.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            layers += [
                spectral_norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)),
                nn.LeakyReLU(0.2),
            ]
            channels = width
        layers.append(spectral_norm(nn.Conv2d(channels, 1, 3, padding=1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1, h, w), positive = real, of images (B, 3, H, W) in [-1, 1]; h = H / 2 **
        len(widths).
        """
        logits: Tensor = self.layers(
            image.contiguous(memory_format=torch.channels_last)
        )  # faster on a CPU
        return logits


class MultiscaleDiscriminator(nn.Module):
    """SEAN's discriminators (Zhu et al. 2020; from Wang et al. 2018, pix2pixHD): PatchGANs of a
    label map with its image.

    num_scales: one sees the image and each further one its half. channels: of the first
    convolution.

    Each is three halving 4x4 convolutions, the last two with spectral and instance norm, and a 4x4
    one for the score.
    """

    def __init__(self, num_regions: int, channels: int = 64, num_scales: int = 2) -> None:
        super().__init__()
        self.num_regions = num_regions
        self.scales = nn.ModuleList(
            _patch_layers(num_regions + 3, channels) for _ in range(num_scales)
        )

    def forward(self, images: Tensor, label_maps: Tensor) -> list[list[Tensor]]:
        """Of each scale the features of every layer; the last is the score (B, 1, h, w), high =
        real.

        images: (B, 3, H, W) in [-1, 1]. label_maps: (B, H, W) int64 in 0..R - 1.

        To compare real and generated images, give them as one batch, as published.
        """
        one_hot = F.one_hot(label_maps, self.num_regions).permute(0, 3, 1, 2).to(images.dtype)
        seen = torch.cat([one_hot, images], dim=1)
        features: list[list[Tensor]] = []
        for number, layers in enumerate(self.scales):
            if number:
                seen = F.avg_pool2d(seen, 3, stride=2, padding=1, count_include_pad=False)
            features.append([])
            value = seen
            for layer in layers.children():
                value = layer(value)
                features[-1].append(value)
        return features


def _patch_layers(before: int, channels: int) -> nn.ModuleList:
    layers = [nn.Sequential(nn.Conv2d(before, channels, 4, stride=2, padding=2), nn.LeakyReLU(0.2))]
    for width in (2 * channels, 4 * channels):
        convolution = spectral_norm(
            nn.Conv2d(width // 2, width, 4, stride=2, padding=2, bias=False)
        )
        layers.append(nn.Sequential(convolution, nn.InstanceNorm2d(width), nn.LeakyReLU(0.2)))
    layers.append(nn.Sequential(nn.Conv2d(4 * channels, 1, 4, padding=2)))
    return nn.ModuleList(layers)
