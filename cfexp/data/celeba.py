"""CelebA (Liu et al., ICCV 2015), aligned and cropped, as batches: the real set as shipped, or the embedded faces."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from cfexp.data.archives import ImageFiles, read_content
from cfexp.data.celeba_files import read_partition
from cfexp.data.face_module import PAPER_ATTRIBUTES, FaceDataModule
from cfexp.data.images import read_rgb
from cfexp.data.layout_module import Part
from cfexp.data.layouts import LayoutRecord, PngLayouts
from cfexp.data.part_masks import REGION_OF_VALUE
from cfexp.data.records import OFFICIAL_REMEDY, PREDICTED_REMEDY
from cfexp.data.settings import check_at_least
from cfexp.errors import InputError
from cfexp.worlds.faces import ALIGNED_IMAGES, FaceParameters, cached_aligned_faces

PARTITION = "list_eval_partition.txt"
_PARTS: tuple[Part, ...] = ("train", "val", "test")  # 0, 1 and 2 there


class AlignedImages(PngLayouts):
    """Reads an aligned image from its folder or from the zip that it was shipped in, and crops its centred square.

    crop: the square's side in pixels; None = the whole image. Label maps are of the square.
    """

    remedy = PREDICTED_REMEDY  # of label maps: there are no others

    def __init__(self, crop: int | None, files: ImageFiles) -> None:
        super().__init__(REGION_OF_VALUE, unlabeled=0)
        self.crop, self.files = crop, files

    def content(self, record: LayoutRecord) -> bytes:
        """The bytes of the image's file; raises InputError."""
        return read_content(record.image) if self.files.archive is None else self.files.content(record.image.name)

    def image(self, record: LayoutRecord) -> Image.Image:
        """The square of the image, RGB; raises InputError where it is no image or smaller."""
        image = read_rgb(record.image, self.content(record))
        if self.crop is None:
            return image
        if min(image.size) < self.crop:
            problem = f"is {image.width}x{image.height}, too small for data.crop={self.crop}"
            raise InputError(f"{record.image}: {problem}; aligned images have 178x218 pixels: {OFFICIAL_REMEDY}")
        left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
        return image.crop((left, top, left + self.crop, top + self.crop))


class CelebADataModule(FaceDataModule):
    """Aligned faces of 178x218 pixels, of which the centred `crop` x `crop` square is shown at `image_size`.

    Images lie in `img_align_celeba` or in `img_align_celeba.zip`; all files may lie in the root or, as shipped, in its
    folders `Img`, `Anno` and `Eval`. The parts are those of `list_eval_partition.txt`;
    `identity_CelebA.txt` may be absent. `layouts`: a folder of label maps `{stem}.png` of the squares, as a segmenter
    of CelebAMask-HQ predicts them; "none" or None = region 0 everywhere. Raises InputError for settings out of
    range, and for whatever is wrong with the files. Everything else is as in `LayoutDataModule`.
    """

    data_set = "CelebA"
    attribute_file = "list_attr_celeba.txt"
    text_files = (attribute_file, PARTITION, "identity_CelebA.txt")
    subfolders = ("Anno", "Eval", "Img")

    def __init__(
        self,
        root: str | None = None,
        world: FaceParameters | Mapping[str, Any] | None = None,
        cache_dir: str = "~/.cache/cfexp",
        image_size: Sequence[int] = (128, 128),
        layouts: str | None = "none",
        attributes: Sequence[str] = PAPER_ATTRIBUTES,
        crop: int | None = 150,
        **loading: Any,
    ) -> None:
        folder = None if layouts in (None, "none") else Path(layouts).expanduser()
        super().__init__(root, world, cache_dir, image_size, folder, attributes, cached_aligned_faces, **loading)
        if crop is not None:
            check_at_least(1, crop=crop)
        self.crop = crop

    @cached_property
    def reader(self) -> AlignedImages:
        """Reads the folder if there is one, else the zip."""
        packed = self.place(f"{ALIGNED_IMAGES}.zip")
        folder = self.place(ALIGNED_IMAGES)
        return AlignedImages(self.crop, ImageFiles.find(folder if folder.is_dir() else packed.with_suffix("")))

    def records(self, part: Part) -> list[LayoutRecord]:
        """The images of a part by their names; raises InputError for whatever is wrong with the files."""
        value = _PARTS.index(part)
        return [record for record, of in self._all if of == value]

    @cached_property
    def _all(self) -> list[tuple[LayoutRecord, int]]:
        """Every image of the attribute file with its part."""
        zipped = self.place(f"{ALIGNED_IMAGES}.zip").exists()
        self._require(f"{ALIGNED_IMAGES}.zip" if zipped else ALIGNED_IMAGES, self.attribute_file, PARTITION)
        partition = read_partition(self.place(PARTITION))
        names = sorted(self._labels)
        for name in names:
            if name not in partition:
                raise InputError(f"{self.place(PARTITION)}: has no row for {name}; {OFFICIAL_REMEDY}")
        if self.on_bad_sample == "raise":
            self.reader.files.check(names, "an image of the attribute file")
        label_maps = self._predicted([Path(name).stem for name in names])
        return [
            (
                LayoutRecord(
                    Path(name).stem,
                    self.reader.files.folder / name,
                    label_maps[Path(name).stem],
                    self._labels[name],
                    self._identities.get(name, -1),
                ),
                partition[name],
            )
            for name in names
        ]
