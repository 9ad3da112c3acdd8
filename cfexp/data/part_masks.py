"""The masks of CelebAMask-HQ, one file a part, composed into label maps that are kept for the next time."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.images import read_picture
from cfexp.data.layouts import NO_REGION, LayoutRecord, PngLayouts
from cfexp.data.records import OFFICIAL_REMEDY
from cfexp.errors import InputError
from cfexp.worlds.face_names import PARTS, REGIONS

# For `PngLayouts`: a label map's values are the regions themselves, and there are no others.
REGION_OF_VALUE: NDArray[np.uint8] = np.where(np.arange(256) < len(REGIONS), np.arange(256), NO_REGION).astype(np.uint8)
# Part of the cache's keys: raise it whenever the same parts would give another map.
_VERSION = 1


class _Part(NamedTuple):
    path: Path
    region: int
    content: bytes


class PartMasks(PngLayouts):
    """Reads `{k:05d}_{part}.png` beside a record's `label_map`, `{k:05d}.png`, as one label map of 19 regions.

    The parts are painted in the order of `PARTS`: a later one covers an earlier, and what none covers is background.
    Composed maps lie in `cache_dir` under a hash of the bytes of their parts, each written whole and renamed, so that
    any number of processes may share the folder and an exchanged mask is never missed.
    """

    def __init__(self, cache_dir: Path) -> None:
        super().__init__(REGION_OF_VALUE, unlabeled=0)
        self.cache_dir = cache_dir / "celebamask_hq_label_maps"

    def label_map(self, record: LayoutRecord) -> Image.Image | None:
        """The whole label map, mode L; raises InputError for parts that cannot be read or do not fit each other."""
        if record.label_map is None:
            return None
        parts = _read_parts(record.label_map)
        total = hashlib.blake2b(f"{_VERSION}".encode(), digest_size=16)
        for part in parts:
            total.update(f" {part.region} {len(part.content)} ".encode() + part.content)
        key = total.hexdigest()
        kept = self.cache_dir / key[:2] / f"{key}.png"
        if kept.exists():
            try:
                return super().label_map(record._replace(label_map=kept))
            except InputError:  # damaged since it was written: composed again
                pass
        composed = Image.fromarray(compose(parts))
        _keep(composed, kept)
        return composed


def compose(parts: list[_Part]) -> NDArray[np.uint8]:
    """The (H, W) label map of at least one part; raises InputError."""
    label_map: NDArray[np.uint8] | None = None
    for part in parts:
        picture = read_picture(part.path, formats=("PNG",), content=part.content)
        mask = np.asarray(picture.convert("L"))
        between = (mask != 0) & (mask != 255)
        if between.any():
            wrong = int(mask[between][0])
            raise InputError(f"{part.path}: a part's mask must be 0 or 255 everywhere, got {wrong}; {OFFICIAL_REMEDY}")
        if label_map is None:
            label_map = np.zeros(mask.shape, dtype=np.uint8)
        if mask.shape != label_map.shape:
            first = parts[0].path.name
            sizes = "{1}x{0}".format(*mask.shape), "{1}x{0}".format(*label_map.shape)
            raise InputError(f"{part.path}: is {sizes[0]} pixels, {first} is {sizes[1]}; {OFFICIAL_REMEDY}")
        label_map[mask > 0] = part.region
    assert label_map is not None
    return label_map


def _read_parts(stem: Path) -> list[_Part]:
    parts: list[_Part] = []
    for region, name in enumerate(PARTS, start=1):
        path = stem.with_name(f"{stem.stem}_{name}.png")
        try:
            parts.append(_Part(path, region, path.read_bytes()))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {OFFICIAL_REMEDY}") from None
    if not parts:
        problem = f"no mask of any part: expected {stem.stem}_skin.png and others"
        raise InputError(f"{stem.parent}: {problem}; {OFFICIAL_REMEDY}")
    return parts


def _keep(label_map: Image.Image, path: Path) -> None:
    """Write the file under another name and rename it; the last of several processes wins, with the same bytes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(prefix=path.stem, suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                label_map.save(file, format="PNG")
            Path(unfinished).replace(path)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise
    except OSError as error:
        problem = f"composed label maps cannot be kept there ({error.strerror})"
        raise InputError(f"{path.parent}: {problem}; set cache_dir to a folder that you may write to") from None
