"""VGGFace2's network (Cao et al. 2018) as FVA uses it: whether two pictures are of one person."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.models.classifiers import Oracle
from cfexp.models.released_steex import oracle_from_released

MEANS = (131.0912, 103.8827, 91.4953)  # of VGGFace2's red, green and blue, in 0..255


class FaceVerification(nn.Module):
    """VGGFace2's ResNet50 behind its own preprocessing: 224 x 224 pixels in 0..255, less the means
    of the channels.

    backbone: the network without its classifier counts. bgr: whether it was trained on blue, green,
    red, as Caffe's and what was made of it (keras_vggface, resnet50_ft_weight) is;
    resnet50_ft_dag.pth takes red, green, blue.
    """

    means: Tensor

    def __init__(self, backbone: Oracle, bgr: bool = False) -> None:
        super().__init__()
        self.backbone, self.bgr = backbone, bgr
        self.register_buffer("means", torch.tensor(MEANS)[:, None, None], persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """(B, 2048), not negative, of images (B, 3, H, W) RGB in [-1, 1]."""
        if images.shape[2:] != (224, 224):
            images = F.interpolate(images, (224, 224), mode="bilinear", antialias=True)
        levels = 127.5 * (images + 1) - self.means
        return self.backbone.features(levels.flip(1) if self.bgr else levels)

    def forward(self, images: Tensor) -> Tensor:
        """As `features`."""
        return self.features(images)


def face_verification_from_released(
    state_dict: Mapping[str, Tensor], bgr: bool = False
) -> FaceVerification:
    """The network of `resnet50_ft_dag.pth`, in evaluation mode.

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    return FaceVerification(oracle_from_released(state_dict), bgr).eval()
