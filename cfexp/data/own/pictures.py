"""Images and label maps as a caller of the library gives them: tensors, arrays, PIL images or
paths.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cfexp.data.own.images import OwnImageReader, check_size, fit_image, fit_label_map
from cfexp.data.own.questions import fit_own_square
from cfexp.errors import InputError

Picture = Tensor | NDArray[Any] | Image.Image | str | Path
_KINDS = "a path, a PIL image, an array or a tensor"


class GivenPictures:
    """Reads what is given, and fits it to the networks.

    region_names: of label maps. image_size: (H, W) of the networks. square: they are shown an
    image's centred square.
    """

    def __init__(
        self, region_names: Sequence[str], image_size: Sequence[int], square: bool
    ) -> None:
        self.image_size: tuple[int, int] = (image_size[0], image_size[1])
        self.square, self._reader = square, OwnImageReader(region_names, image_size)

    def image(self, image: Picture, name: str) -> Tensor:
        """(3, H, W) in [-1, 1], of the networks' size; raises InputError, beginning with `name`."""
        if isinstance(image, Tensor):
            usable = (
                image.ndim == 3
                and len(image) == 3
                and image.is_floating_point()
                and image.numel() > 0
            )
            if not usable or not image.abs().amax() <= 1:  # nor is NaN
                raise InputError(
                    f"{name}: a tensor must be float (3, H, W) in [-1, 1], got {described(image)}"
                )
            if self.square:
                image = _centred_square(image)
            check_size(image.shape[2], image.shape[1], self.image_size, name)
            if tuple(image.shape[1:]) == self.image_size:
                return image.detach().float().cpu()
            image = image.detach().float().cpu()[None]
            return F.interpolate(image, self.image_size, mode="bicubic", antialias=True).clamp(
                -1, 1
            )[0]
        picture, name = self._opened(image, name)
        if self.square:
            pixels = fit_own_square(picture, self.image_size[0], name)[0]
        else:
            pixels = np.asarray(fit_image(picture, self.image_size, name)[0])
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float().div_(127.5).sub_(1)

    def label_maps(self, label_maps: Sequence[Picture], images: Sequence[Picture]) -> Tensor:
        """(B, H, W) int64, of the networks' size."""
        if len(label_maps) != len(images):
            raise InputError(
                f"label_maps must be one for each image: {len(label_maps)} for {len(images)}"
            )
        pairs = enumerate(zip(label_maps, images, strict=True))
        return torch.stack(
            [
                self._label_map(label_map, image, f"label_maps[{k}]")
                for k, (label_map, image) in pairs
            ]
        )

    def _label_map(self, label_map: Picture, image: Picture, name: str) -> Tensor:
        if isinstance(label_map, np.ndarray) and label_map.dtype.kind in "iu":
            label_map = torch.from_numpy(label_map.astype(np.int64))
        if isinstance(label_map, np.ndarray):
            got = described(label_map)
            raise InputError(f"{name}: an array must be whole numbers (H, W) of 0..255, got {got}")
        if isinstance(label_map, Tensor):
            counts = not (
                label_map.is_floating_point()
                or label_map.is_complex()
                or label_map.dtype == torch.bool
            )
            usable = counts and label_map.ndim == 2 and label_map.numel() > 0
            if not usable or not 0 <= int(label_map.min()) <= int(label_map.max()) <= 255:
                problem = f"must be whole numbers (H, W) of 0..255, got {described(label_map)}"
                raise InputError(f"{name}: a tensor {problem}")
            picture = Image.fromarray(label_map.to(torch.uint8).cpu().numpy())
        else:
            picture, name = self._opened(label_map, name)
        regions = self._reader.regions_of(picture, name)
        if isinstance(image, Tensor):
            upright = Image.new("L", (image.shape[2], image.shape[1]))
        else:
            upright = self._opened(image, name)[0]
        return torch.from_numpy(
            np.array(fit_label_map(regions, upright, self.image_size, name))
        ).long()

    def _opened(self, given: Picture, name: str) -> tuple[Image.Image, str]:
        """The picture, and what messages call it."""
        if isinstance(given, Image.Image):
            try:
                given.load()
            except Exception as error:  # a damaged file makes Pillow raise nearly anything
                raise InputError(
                    f"{name}: the image cannot be read ({error or type(error).__name__})"
                ) from None
            return given, name
        if not isinstance(given, str | Path):
            raise InputError(f"{name}: expected {_KINDS}, got {type(given).__name__}")
        path = Path(given).expanduser()
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return self._reader.picture(path), str(path)


def _centred_square(image: Tensor) -> Tensor:
    side = min(image.shape[1:])
    top, left = ((length - side) // 2 for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def each_of(given: Picture | Sequence[Picture], name: str, ndim: int) -> list[Any]:
    """One or several pictures as several. ndim: of a tensor or an array that is one."""
    if isinstance(given, Tensor | np.ndarray):
        several = list(given if given.ndim == ndim + 1 else given[None])
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        several = list(given)
    else:
        several = [given]
    if not several:
        raise InputError("there is no image to explain" if name == "images" else f"{name} is empty")
    return several


def as_picture(image: Any, name: str) -> Any:
    """An array as Pillow has it; anything else as it is."""
    if not isinstance(image, np.ndarray):
        return image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        problem = f"an array must be uint8 (H, W, 3), as of a PIL image, got {described(image)}"
        raise InputError(f"{name}: {problem}; floats are taken as a tensor (3, H, W) in [-1, 1]")
    return Image.fromarray(image)


def described(values: Tensor | NDArray[Any]) -> str:
    """Type, shape and range, or that it has none."""
    found = f"{values.dtype} {tuple(values.shape)}"
    numbers = (
        torch.as_tensor(values)
        if isinstance(values, Tensor) or values.dtype.kind in "fiub"
        else None
    )
    if numbers is None or numbers.numel() == 0 or numbers.is_complex():
        return found
    if not numbers.isfinite().all():
        return f"{found} with NaN or infinity"
    return f"{found}, {numbers.min():.3g}..{numbers.max():.3g}"
