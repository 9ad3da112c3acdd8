"""dlib's face network, whose weights are in the public domain (CC0): of the extra `face`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfexp.errors import InputError
from cfexp.evaluation.measure.base import See
from cfexp.evaluation.run_folder import to_pixels

DIMENSION = 128
# dlib's detector finds faces from some 60 to 80 pixels on. Of 60 aligned faces of CelebA it finds
# 58 in pictures 178 pixels wide, 56 at 112, 3 at 88 and none at 80; where the picture is doubled
# once, 57 at any width down to 64. So pictures smaller than `SMALLEST` are doubled.
SMALLEST, DOUBLINGS = 160, 1


def descriptors() -> See:
    """Images (B, 3, H, W) in [-1, 1] -> (B, 128), NaN for a picture in which dlib's detector finds
    no face.

    The largest face that is found counts, aligned by its five landmarks. Raises InputError where
    the packages are not installed.
    """
    try:
        import dlib
    except ImportError:
        raise InputError("dlib=true needs dlib: pip install 'cfexp[face]'") from None
    models = _models()
    detect: Any = dlib.get_frontal_face_detector()
    landmarks: Any = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
    network: Any = dlib.face_recognition_model_v1(
        str(models / "dlib_face_recognition_resnet_model_v1.dat")
    )

    def descriptor(pixels: Any) -> list[float]:
        faces = detect(pixels, DOUBLINGS if min(pixels.shape[:2]) < SMALLEST else 0)
        if not faces:
            return [float("nan")] * DIMENSION
        largest = max(faces, key=lambda face: face.area())
        return list(network.compute_face_descriptor(pixels, landmarks(pixels, largest)))

    def see(images: Tensor) -> Tensor:
        return torch.tensor([descriptor(pixels) for pixels in to_pixels(images)])

    return see


def _models() -> Path:
    """The folder of the weights, without importing their package, which needs an old setuptools."""
    package = find_spec("face_recognition_models")
    if package is None or package.origin is None:
        raise InputError("dlib=true needs face_recognition_models: pip install 'cfexp[face]'")
    return Path(package.origin).parent / "models"
