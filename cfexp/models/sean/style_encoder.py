import torch
from torch import Tensor, nn


class StyleEncoder(nn.Module):
    """The style encoder of SEAN (Zhu et al. 2020, section 3.1): a code for each region of an image.

    Convolutions with instance normalisation down to a quarter of the size, one transposed up to a
    half, tanh, and the mean over the pixels of each region (region-wise average pooling).

    style_dim: D, the length of a code. channels: of the first convolution; each later one has twice
    as many. downsamplings: how often the size is halved before it is doubled once; 2 as published,
    1 pools at the full size,
        for images in which what matters is a few pixels large.
    """

    def __init__(self, style_dim: int = 512, channels: int = 32, downsamplings: int = 2) -> None:
        super().__init__()
        self.stride = 2 ** (downsamplings - 1)
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(3, channels, 3),
            *_norm_and_activation(channels),
        ]
        for _ in range(downsamplings):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
                *_norm_and_activation(2 * channels),
            ]
            channels *= 2
        layers += [
            nn.ConvTranspose2d(channels, 2 * channels, 3, stride=2, padding=1, output_padding=1),
            *_norm_and_activation(2 * channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(2 * channels, style_dim, 3),
            nn.Tanh(),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor, label_maps: Tensor, num_regions: int) -> Tensor:
        """Style codes (B, R, D) in [-1, 1]; those of regions without a pixel at the pooled size are
        zero.

        images: (B, 3, H, W) in [-1, 1]. label_maps: (B, H, W) int64 in 0..R - 1.
        """
        features = self.layers(images)
        return pool_regions(features, label_maps[:, :: self.stride, :: self.stride], num_regions)


def pool_regions(features: Tensor, label_maps: Tensor, num_regions: int) -> Tensor:
    """Region-wise average pooling: (B, R, D), the mean of features (B, D, h, w) over each region;
    zero if it is absent.

    label_maps: (B, h, w) int64 in 0..num_regions - 1.
    """
    regions = torch.arange(num_regions, device=label_maps.device)[:, None]
    belongs = (label_maps.flatten(1)[:, None] == regions).to(features.dtype)
    # In this order the gradient by the features is laid out as they are, channels first.
    sums = torch.bmm(features.flatten(2), belongs.transpose(1, 2)).transpose(1, 2).contiguous()
    return sums / belongs.sum(2, keepdim=True).clamp(min=1)


def _norm_and_activation(channels: int) -> list[nn.Module]:
    # Instance norm: as groups of one channel torch computes it several times as fast on a CPU.
    return [nn.GroupNorm(channels, channels, affine=False), nn.LeakyReLU(0.2)]
