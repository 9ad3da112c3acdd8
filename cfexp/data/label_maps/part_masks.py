"""The masks of CelebAMask-HQ, one file a part, composed into label maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.label_maps.cache import LabelMapCache
from cfexp.data.label_maps.dataset import NO_REGION, MaskFile, PngLabelMaps
from cfexp.data.reading.images import read_picture
from cfexp.data.reading.records import OFFICIAL_REMEDY
from cfexp.errors import InputError
from cfexp.worlds.face_names import MOUTH, PARTS, REGIONS


def region_of_value(regions: Sequence[str]) -> NDArray[np.uint8]:
    """(256,), for `PngLabelMaps`: which of `regions` each value of a label map stands for. The
    values are CelebAMask-HQ's; a lip that is no region of its own is the mouth.
    """
    table = np.full(256, NO_REGION, np.uint8)
    for value, name in enumerate(REGIONS):
        known = name if name in regions else MOUTH
        table[value] = regions.index(known)
    return table


REGION_OF_VALUE = region_of_value(REGIONS)  # the values themselves


class PartMasks(PngLabelMaps):
    """Reads `{k:05d}_{part}.png` beside a record's `label_map`, `{k:05d}.png`, as one label map of
    19 regions.

    The parts are painted in the order of `PARTS`: a later one covers an earlier, and what none
    covers is background.
    """

    def __init__(self, cache: LabelMapCache, regions: NDArray[np.uint8] = REGION_OF_VALUE) -> None:
        super().__init__(regions, unlabeled=0, cache=cache)

    def mask_files(self, path: Path) -> list[MaskFile]:
        """The files of the parts that there are; raises InputError where there is none, or one
        cannot be read.
        """
        found, stem = [], str(path.with_suffix(""))
        for region, name in enumerate(PARTS, start=1):
            part = f"{stem}_{name}.png"
            try:
                with open(part, "rb", buffering=0) as file:  # noqa: PTH123 # half the time of a Path's, up to 18 times an image
                    found.append(MaskFile(part, file.read(), region))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise InputError(
                    f"{part}: cannot be read ({error.strerror}); {OFFICIAL_REMEDY}"
                ) from None
        if not found:
            problem = f"no mask of any part: expected {path.stem}_skin.png and others"
            raise InputError(f"{path.parent}: {problem}; {OFFICIAL_REMEDY}")
        return found

    def decode(self, files: Sequence[MaskFile]) -> Image.Image:
        """The parts composed; raises InputError for parts that cannot be read or do not fit each
        other.
        """
        return Image.fromarray(compose(files))

    def is_slow(self, files: Sequence[MaskFile], size: tuple[int, int]) -> bool:
        """Many files are."""
        return True


def compose(parts: Sequence[MaskFile]) -> NDArray[np.uint8]:
    """The (H, W) label map of at least one part; raises InputError."""
    label_map: NDArray[np.uint8] | None = None
    for part in parts:
        picture = read_picture(Path(part.path), formats=("PNG",), content=part.content)
        mask = np.asarray(picture.convert("L"))
        between = (mask != 0) & (mask != 255)
        if between.any():
            wrong = int(mask[between][0])
            problem = f"a part's mask must be 0 or 255 everywhere, got {wrong}"
            raise InputError(f"{part.path}: {problem}; {OFFICIAL_REMEDY}")
        if label_map is None:
            label_map = np.zeros(mask.shape, dtype=np.uint8)
        if mask.shape != label_map.shape:
            first = Path(parts[0].path).name
            sizes = "{1}x{0}".format(*mask.shape), "{1}x{0}".format(*label_map.shape)
            raise InputError(
                f"{part.path}: is {sizes[0]} pixels, {first} is {sizes[1]}; {OFFICIAL_REMEDY}"
            )
        label_map[mask > 0] = part.region
    assert label_map is not None
    return label_map
