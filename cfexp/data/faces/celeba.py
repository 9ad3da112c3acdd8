"""CelebA (Liu et al., ICCV 2015), aligned and cropped, as batches: the real set as shipped, or the
embedded faces.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.base import Part
from cfexp.data.faces.celeba_files import read_partition
from cfexp.data.faces.module import IDENTITIES, PAPER_ATTRIBUTES, FaceDataModule
from cfexp.data.label_maps.dataset import LabelMapRecord, PngLabelMaps
from cfexp.data.label_maps.part_masks import REGION_OF_VALUE
from cfexp.data.reading.archives import ImageFiles, list_files, read_content
from cfexp.data.reading.images import PICTURES, read_rgb
from cfexp.data.reading.records import OFFICIAL_REMEDY, PREDICTED_REMEDY
from cfexp.data.reading.settings import check_at_least
from cfexp.errors import InputError
from cfexp.worlds.faces import ALIGNED_IMAGES, FaceParameters, cached_aligned_faces

PARTITION = "list_eval_partition.txt"
ALIGNED = "178x218"
PNG_IMAGES = f"{ALIGNED_IMAGES}_png"  # the authors' lossless edition, whose lists name .jpg
_PARTS: tuple[Part, ...] = ("train", "val", "test")  # 0, 1 and 2 there
# Squares of an aligned image by name: left, top, right, bottom in pixels. CelebA-HQ's framing is
# where the mean of CelebA's faces is most like the mean of CelebAMask-HQ's (correlation 0.983, the
# best of 40 squares), so that what was trained on the latter fits without landmarks. It is 4 pixels
# wider than the papers' centred 150, and lies 7 lower.
FRAMES = {"celeba_hq": (12, 39, 166, 193)}


class AlignedImages(PngLabelMaps):
    """Reads an aligned image from its folder or from the zip that it was shipped in, and crops a
    square of it.

    crop: the side in pixels of the centred square; or the name of one, see `FRAMES`; None = the
    whole image. Label maps are of the square. regions: see `PngLabelMaps`.
    """

    remedy = PREDICTED_REMEDY  # of label maps: there are no others

    def __init__(
        self,
        crop: int | str | None,
        files: ImageFiles,
        regions: Sequence[int] | NDArray[np.uint8] = REGION_OF_VALUE,
    ) -> None:
        super().__init__(regions, unlabeled=0)
        self.crop, self.files = crop, files

    def content(self, record: LabelMapRecord) -> bytes:
        """The bytes of the image's file; raises InputError."""
        return (
            read_content(record.image)
            if self.files.archive is None
            else self.files.content(record.image.name)
        )

    def image(self, record: LabelMapRecord) -> Image.Image:
        """The square of the image, RGB; raises InputError where it is no image or smaller."""
        image = read_rgb(record.image, self.content(record))
        if self.crop is None:
            return image
        if isinstance(self.crop, str):
            box = FRAMES[self.crop]
            least = box[2:]
        else:
            left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
            box, least = (left, top, left + self.crop, top + self.crop), (self.crop, self.crop)
        if image.width < least[0] or image.height < least[1]:
            problem = f"is {image.width}x{image.height}, too small for data.crop={self.crop}"
            remedy = f"aligned images have {ALIGNED} pixels: {OFFICIAL_REMEDY}"
            raise InputError(f"{record.image}: {problem}; {remedy}")
        return image.crop(box)


class CelebADataModule(FaceDataModule):
    """Aligned faces of 178x218 pixels, of which the centred `crop` x `crop` square is shown at
    `image_size`; `crop="celeba_hq"`: the square that CelebA-HQ shows, see `FRAMES`.

    Images lie in `img_align_celeba`, or a folder of that name in it, or in `img_align_celeba.zip`;
    or likewise in `img_align_celeba_png`, whose lists name `.jpg`. All files may lie in the root
    or, as shipped, in its folders `Img`, `Anno` and `Eval`. The parts are those of
    `list_eval_partition.txt`; `identity_CelebA.txt` may be absent. Each list may be a `.csv` of
    columns between commas. `layouts`: a folder of label maps `{stem}.png` of the squares, as a
    segmenter of CelebAMask-HQ predicts them; "none" or None = region 0 everywhere. Raises
    InputError for settings out of range, and for whatever is wrong with the files. Everything else
    is as in `LabelMapDataModule`.
    """

    data_set = "CelebA"
    attribute_file = "list_attr_celeba.txt"
    text_files = (attribute_file, PARTITION, IDENTITIES)
    subfolders = ("Anno", "Eval", "Img")

    def __init__(
        self,
        root: str | None = None,
        world: FaceParameters | Mapping[str, Any] | None = None,
        cache_dir: str = "~/.cache/cfexp",
        image_size: Sequence[int] = (128, 128),
        layouts: str | None = "none",
        attributes: Sequence[str] = PAPER_ATTRIBUTES,
        crop: int | str | None = 150,
        **loading: Any,
    ) -> None:
        folder = None if layouts in (None, "none") else Path(layouts).expanduser()
        super().__init__(
            root, world, cache_dir, image_size, folder, attributes, cached_aligned_faces, **loading
        )
        if isinstance(crop, str) and crop not in FRAMES:
            names = ", ".join(FRAMES)
            raise InputError(f"data.crop={crop} is neither a side in pixels nor one of {names}")
        if crop is not None and not isinstance(crop, str):
            check_at_least(1, crop=crop)
        self.crop = crop

    @cached_property
    def reader(self) -> AlignedImages:
        """Reads the folder if there is one, else the zip; raises InputError unless there is exactly
        one edition.
        """
        return AlignedImages(self.crop, self._files, self.region_of_value)

    @property
    def fingerprint(self) -> str:
        """As always; the lists of the PNG edition are those of the other, its pixels are not."""
        return super().fingerprint + (
            "-png" if self.root is not None and self._there(PNG_IMAGES) else ""
        )

    @property
    def description(self) -> dict[str, Any]:
        """As always, and which edition of the images is read."""
        return {**super().description, "images": self._files.folder.name}

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """The crop is that of aligned images; of the whole image as always."""
        if self.crop is None:
            return super().size_problem(size)
        meant = f"CelebA's aligned images have {ALIGNED}: is data.crop={self.crop} meant?"
        return None if "{}x{}".format(*size) == ALIGNED else meant

    def files_of(self, names: Collection[str]) -> dict[str, str]:
        """The image's file for each name of the lists: of that name, or else with the suffix that
        it has.
        """
        present = self._files.names()
        of_stem = {
            name.rpartition(".")[0]: name
            for name in sorted(present)
            if name.lower().endswith(PICTURES)
        }
        return {
            name: name if name in present else of_stem.get(name.rpartition(".")[0], name)
            for name in names
        }

    def records(self, part: Part) -> list[LabelMapRecord]:
        """The images of a part by their names; raises InputError for whatever is wrong with the
        files.
        """
        value = _PARTS.index(part)
        return [record for record, of in self._all if of == value]

    def _there(self, name: str) -> Path | None:
        """The folder of images of this name, or its zip; None where there is neither."""
        return next(
            (path for path in (self.place(name), self.place(f"{name}.zip")) if path.exists()), None
        )

    @cached_property
    def _files(self) -> ImageFiles:
        found = [
            path for name in (ALIGNED_IMAGES, PNG_IMAGES) if (path := self._there(name)) is not None
        ]
        if len(found) > 1:
            raise InputError(
                f"{found[0]}: {found[1].name} is there as well; keep the edition that is to be read"
            )
        if not found:
            if packed := self._seven_zip():
                problem = "a part of a 7z archive, which cannot be read as it is"
                raise InputError(
                    f"{packed}: {problem}; unpack the images into {self.folder}: 7z x {packed.name}"
                )
            self._require(ALIGNED_IMAGES, self.attribute_file, PARTITION)
        path = found[0].with_suffix("")
        inner = path / path.name  # as archives are unpacked into a folder of their own name
        if not inner.is_dir():
            return ImageFiles.find(path)
        if twice := next(
            (name for name in sorted(list_files(path)) if name.lower().endswith(PICTURES)), None
        ):
            raise InputError(
                f"{path / twice}: there are images in {inner}, too; keep one of the two folders"
            )
        return ImageFiles(inner, None)

    def _seven_zip(self) -> Path | None:
        """The first part of the 7z archive that the images are shipped in, if it lies where they
        should.
        """
        places = [self.folder, *(self.folder / name for name in self.subfolders)]
        parts = (path for place in places for path in sorted(place.glob(f"{ALIGNED_IMAGES}*.7z*")))
        # The parts of the PNG edition lie in a folder whose name ends in .7z.
        files = (
            file
            for path in parts
            for file in ([path] if path.is_file() else sorted(path.glob("*.7z*")))
        )
        return next(files, None)

    @cached_property
    def _all(self) -> list[tuple[LabelMapRecord, int]]:
        """Every image of the attribute file with its part."""
        files = self._files
        self._require(self.attribute_file, PARTITION)
        path = self.list_file(PARTITION)
        partition = read_partition(path)
        names = sorted(self._labels)
        for name in names:
            if name not in partition:
                raise InputError(f"{path}: has no row for {name}; {OFFICIAL_REMEDY}")
        file_of = self.files_of(names)
        if self.on_bad_sample == "raise":
            files.check(list(file_of.values()), "an image of the attribute file")
        label_maps = self._predicted([Path(name).stem for name in names])
        return [
            (
                LabelMapRecord(
                    Path(name).stem,
                    files.folder / file_of[name],
                    label_maps[Path(name).stem],
                    self._labels[name],
                    self._identities.get(name, -1),
                ),
                partition[name],
            )
            for name in names
        ]
