"""Models that decide something of an image: the decision model, which is explained, and the oracle,
which measures.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.backbones import torchvision_network

# Images come in [-1, 1], so this mean and standard deviation of RGB in [0, 1] leave them as they
# are.
AS_IT_COMES = (0.5, 0.5, 0.5)


class DecisionModel(nn.Module):
    """A torchvision classifier from pixels; STEEX (Jacob et al. 2022, section 4.1) explains a
    DenseNet121.

    arch: a name in torchvision.models. num_outputs: K heads, or classes. weights: to start from,
    see `torchvision_network`; all but the last layer is used. mean, std: of RGB in [0, 1], by which
    images are normalised; STEEX's models take them as they come, in [-1, 1].
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        arch: str = "densenet121",
        num_outputs: int = 3,
        weights: str | None = None,
        mean: Sequence[float] = AS_IT_COMES,
        std: Sequence[float] = AS_IT_COMES,
    ) -> None:
        """Raises InputError as `torchvision_network`, and for an arch that is no classifier."""
        super().__init__()
        self.network = torchvision_network(arch, weights)
        linear = [
            (name, layer)
            for name, layer in self.network.named_modules()
            if isinstance(layer, nn.Linear)
        ]
        if not linear:
            raise InputError(f"arch must be a classifier that ends in a linear layer, got {arch}")
        path, last = linear[-1]
        parent, _, name = path.rpartition(".")
        setattr(self.network.get_submodule(parent), name, nn.Linear(last.in_features, num_outputs))
        deviation = torch.tensor(std)[:, None, None]
        self.register_buffer("scale", 0.5 / deviation, persistent=False)
        self.register_buffer(
            "shift", (0.5 - torch.tensor(mean)[:, None, None]) / deviation, persistent=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [-1, 1]."""
        logits: Tensor = self.network(images * self.scale + self.shift)
        return logits


class SmoothClassifier(nn.Module):
    """A small classifier for the embedded worlds that has a gradient everywhere.

    A 3x3 convolution at full size and then one more per width, each halving the size, with GELU (no
    ReLU), then evidence at each position and a smooth pooling of it: with ReLU and max pooling
    there is no gradient towards a cause that is not there yet, such as a red lamp that is off.

    pooling: "mean" of the positions' logits, or "logsumexp", log(mean(exp(sharpness * x))) /
        sharpness, of the evidence for each output less that of the evidence against it: either
        counts wherever it is, and one pooling alone could not say that something is nowhere.
    with_coordinates: the network is also given where each pixel is: a braking car matters in one
    lane only.
    window: images fade to grey outside of an ellipse that is learnt with the rest: of pictures that
    are cropped around what they are about, what lies beside it is no part of it. Two numbers:
    outside of a box around the middle, of this half height and half width, see `FixedWindow`.
    """

    def __init__(
        self,
        num_outputs: int = 1,
        widths: tuple[int, ...] = (32, 64, 96, 128),
        pooling: Literal["mean", "logsumexp"] = "logsumexp",
        sharpness: float = 2.0,
        with_coordinates: bool = True,
        window: bool | Sequence[float] = False,
    ) -> None:
        """Raises InputError for another pooling, or for a window of other numbers."""
        super().__init__()
        if pooling not in ("mean", "logsumexp"):
            raise InputError(f"pooling must be mean or logsumexp, got {pooling}")
        self.pooling, self.sharpness, self.with_coordinates = pooling, sharpness, with_coordinates
        if isinstance(window, bool):
            self.window: nn.Module | None = Window() if window else None
        else:
            self.window = FixedWindow(window)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=1 if depth == 0 else 2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.GELU(),
            )
            for depth, (before, after) in enumerate(
                pairwise((5 if with_coordinates else 3, *widths))
            )
        )
        maps = num_outputs if pooling == "mean" else 2 * num_outputs
        self.head = nn.Sequential(
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1),
            nn.GELU(),
            nn.Conv2d(widths[-1], maps, 1),
        )

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """What each block makes of images (B, 3, H, W) in [-1, 1]: (B, widths[k], H / 2 ** k, W / 2
        ** k).
        """
        if self.window is not None:
            images = self.window(images)
        if self.with_coordinates:
            images = torch.cat([images, coordinates(images)], dim=1)
        maps = [images.contiguous(memory_format=torch.channels_last)]  # faster on a CPU
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps[1:]

    def features(self, images: Tensor) -> Tensor:
        """(B, widths[-1]), the means of the last block's maps over all positions: what a Frechet
        distance takes of an oracle of this form.
        """
        return self.feature_maps(images)[-1].mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_outputs) of images (B, 3, H, W) in [-1, 1]."""
        evidence: Tensor = self.head(self.feature_maps(images)[-1]).flatten(2)
        if self.pooling == "mean":
            return evidence.mean(2)
        # The logarithms of the number of positions cancel.
        in_favour, against = (self.sharpness * evidence).logsumexp(2).chunk(2, dim=1)
        return (in_favour - against) / self.sharpness


class Window(nn.Module):
    """Lets images fade to grey outside of an ellipse: each pixel times sigmoid(4 (1 - d^2)), where
    d is 1 on the ellipse. It starts as wide as the image, and half of it is left at its rim.
    """

    # Of how far an ellipse goes by a step of the optimizer: as fast as the rest learns.
    SPEED = 4.0

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.zeros(2))  # of y and x, over SPEED
        self.narrowness = nn.Parameter(torch.zeros(2))  # 1 / the half axes, less 1, over SPEED

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1]."""
        middle, narrow = self.SPEED * self.middle, 1 + self.SPEED * self.narrowness
        places = coordinates(images[:1]) - middle.view(1, 2, 1, 1)
        squares = (places * narrow.view(1, 2, 1, 1)).square().sum(1, keepdim=True)
        return images * torch.sigmoid(4 * (1 - squares))


class FixedWindow(nn.Module):
    """Lets images fade to grey outside of a box around the middle.

    half_sides: half the height and half the width of the box, as shares of half the image.
    softness: how fast it fades, likewise.
    """

    def __init__(self, half_sides: Sequence[float], softness: float = 0.02) -> None:
        """Raises InputError for other numbers than two above 0 and at most 1."""
        super().__init__()
        self.half_sides, self.softness = tuple(half_sides), softness
        if len(self.half_sides) != 2 or not all(0 < side <= 1 for side in self.half_sides):
            came = list(self.half_sides)
            raise InputError(f"window must be true, false, or two numbers in 0..1, got {came}")

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1]."""
        sides = torch.tensor(self.half_sides, device=images.device, dtype=images.dtype)
        away = sides.view(1, 2, 1, 1) - coordinates(images[:1]).abs()
        return images * torch.sigmoid(away / self.softness).prod(1, keepdim=True)


def coordinates(images: Tensor) -> Tensor:
    """Y and x of each pixel, both in [-1, 1], as two more channels: (B, 2, H, W) for images (B, C,
    H, W).
    """
    y = torch.linspace(-1, 1, images.shape[2], device=images.device, dtype=images.dtype)
    x = torch.linspace(-1, 1, images.shape[3], device=images.device, dtype=images.dtype)
    return torch.stack(torch.meshgrid(y, x, indexing="ij")).expand(len(images), -1, -1, -1)


class SmallResNet(nn.Module):
    """A residual network (He et al. 2016) for the embedded faces, in which positions count; only
    metrics use it.

    Each 2x2 pixels become one position of 12 channels, so that nothing is lost before the first
    convolution; then one basic block a width, halving the size from the second on, and a linear
    layer on what is there at each of `grid` x `grid` places: faces are aligned, and an eyebrow is
    no hair. Batch norm and ReLU are DenseNet's and ResNet's, not those of `SmoothClassifier`: what
    measures a search should not share the explained model's form.
    """

    def __init__(
        self, num_outputs: int, widths: tuple[int, ...] = (32, 64, 96, 128), grid: int = 4
    ) -> None:
        super().__init__()
        self.grid = grid
        first = widths[0]
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        )
        blocks = [_Basic(first, first, stride=1)]
        blocks += [_Basic(before, after, stride=2) for before, after in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(widths[-1] * grid**2, num_outputs)

    def maps(self, images: Tensor) -> Tensor:
        """(B, widths[-1], ...) of images (B, 3, H, W) in [-1, 1], H and W even: what the last block
        makes of them.
        """
        maps: Tensor = self.blocks(
            self.stem(images.contiguous(memory_format=torch.channels_last))
        )  # faster on a CPU
        return maps

    def features(self, images: Tensor) -> Tensor:
        """(B, widths[-1]), the means of `maps` over all positions: few numbers, as a Frechet
        distance wants them.
        """
        return self.maps(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(B, num_outputs) of images (B, 3, H, W) in [-1, 1]: logits, or what the stage makes of
        them.
        """
        outputs: Tensor = self.classifier(
            F.adaptive_avg_pool2d(self.maps(images), self.grid).flatten(1)
        )
        return outputs


class IdentityNetwork(nn.Module):
    """Whose face it is, as a direction: two faces are of one person where the cosine of their
    features is high.

    backbone: images (B, 3, H, W) in [-1, 1] -> (B, D), of any length.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def features(self, images: Tensor) -> Tensor:
        """(B, D) of length 1, of images (B, 3, H, W) in [-1, 1]."""
        return F.normalize(self.backbone(images), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """As `features`."""
        return self.features(images)


class Oracle(nn.Module):
    """The attribute oracle of STEEX's MNAC: VGGFace2's ResNet50 (Cao et al. 2018) with a linear
    layer behind it.

    The network's form is Caffe's: the stride of a block is on its first 1x1 convolution, and the
    maximum pooling has no padding and rounds up.

    num_outputs: 40 attributes, or 8631 identities. `features` is what identity is measured in (face
    verification).
    """

    def __init__(self, num_outputs: int = 40) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        )
        stages: list[nn.Module] = []
        before = 64
        for stage, depth in enumerate((3, 4, 6, 3)):
            width = 64 * 2**stage
            blocks = [_Bottleneck(before, width, stride=1 if stage == 0 else 2)]
            blocks += [_Bottleneck(4 * width, width, stride=1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            before = 4 * width
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(before, num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """(B, 2048), not negative, of images (B, 3, H, W); they are resized to 224x224, the only
        size it knows.
        """
        if images.shape[2:] != (224, 224):
            images = F.interpolate(images, (224, 224), mode="bicubic", antialias=True).clamp(-1, 1)
        features: Tensor = self.stages(F.max_pool2d(self.stem(images), 3, stride=2, ceil_mode=True))
        return features.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_outputs) of images (B, 3, H, W) in [-1, 1]."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.reduce = nn.Sequential(
            nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.middle = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.increase = nn.Sequential(nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after))
        self.project = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if before != after
            else None
        )

    def forward(self, features: Tensor) -> Tensor:
        branch: Tensor = self.increase(self.middle(self.reduce(features)))
        return F.relu(branch + (features if self.project is None else self.project(features)))


class _Basic(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )
        self.second = nn.Sequential(
            nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        )
        same = stride == 1 and before == after
        self.project = (
            None
            if same
            else nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        branch: Tensor = self.second(self.first(features))
        return F.relu(branch + (features if self.project is None else self.project(features)))
