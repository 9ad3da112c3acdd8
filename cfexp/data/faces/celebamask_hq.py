"""CelebAMask-HQ (Lee et al., CVPR 2020) as batches: the real set as shipped, or embedded faces."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from cfexp.data.base import Part
from cfexp.data.faces.celeba_files import check_listed, read_mapping
from cfexp.data.faces.module import IDENTITIES, PAPER_ATTRIBUTES, FaceDataModule
from cfexp.data.label_maps.cache import LabelMapCache
from cfexp.data.label_maps.dataset import LabelMapRecord, PngLabelMaps
from cfexp.data.label_maps.part_masks import PartMasks
from cfexp.data.reading.archives import list_files
from cfexp.data.reading.records import OFFICIAL_REMEDY, PREDICTED_REMEDY
from cfexp.data.reading.settings import check_at_least
from cfexp.errors import InputError
from cfexp.worlds import face_factors
from cfexp.worlds.face_names import FIRST_TEST_NUMBER, FIRST_VALIDATION_NUMBER
from cfexp.worlds.faces import IMAGES, MASKS, FaceParameters, FaceWorld, cached_faces, sample_world
from cfexp.worlds.factors import Factor, Scene

Split = Literal["paper", "celeba", "unseen"]
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
_FACES_PER_FOLDER = 2000  # of the masks: folder k // 2000 holds those of image k


class CelebAMaskHQDataModule(FaceDataModule):
    """Faces of 1024 pixels with part masks, attributes, and identities where `identity_CelebA.txt`
    lies beside them.

    `split`: "paper" tests on the images from number `first_test_id` on (STEEX and SEAN: 28,000 and
    2,000) and validates on the last `holdout_images` before them; "celeba" takes the parts of
    CelebA by way of the mapping file (24,183, 2,993 and 2,824; the sources disagree about which of
    the two was used); "unseen", ours, is "celeba" less the training images from `first_test_id` on:
    for a network that measures explanations of the "paper" test images, of which it shall have seen
    none, and that is itself tested on persons of whom it has seen no image. `layouts`:
    "ground_truth", or a folder of predicted label maps `{k}.png`; composed ones are kept in
    `cache_dir`, never in `root`. The attribute file says which images there are. Raises InputError
    for settings out of range, and for whatever is wrong with the files. Everything else is as in
    `LabelMapDataModule`.
    """

    data_set = "CelebAMask-HQ"
    attribute_file = "CelebAMask-HQ-attribute-anno.txt"
    text_files = (attribute_file, MAPPING, IDENTITIES)
    subfolders = ("CelebAMask-HQ",)  # into which the shipped zip unpacks

    def __init__(
        self,
        root: str | None = None,
        world: FaceParameters | Mapping[str, Any] | None = None,
        cache_dir: str = "~/.cache/cfexp",
        image_size: Sequence[int] = (256, 256),
        layouts: str = "ground_truth",
        attributes: Sequence[str] = PAPER_ATTRIBUTES,
        split: Split = "paper",
        first_test_id: int = 28_000,
        holdout_images: int = 500,
        **loading: Any,
    ) -> None:
        folder = None if layouts == "ground_truth" else Path(layouts).expanduser()
        super().__init__(
            root, world, cache_dir, image_size, folder, attributes, cached_faces, **loading
        )
        if split not in get_args(Split):
            raise InputError(
                f"data.split must be one of {', '.join(get_args(Split))}, got {split!r}"
            )
        check_at_least(1, first_test_id=first_test_id)
        check_at_least(0, holdout_images=holdout_images)
        self.split, self.first_test_id, self.holdout_images = split, first_test_id, holdout_images

    @cached_property
    def reader(self) -> PngLabelMaps:
        """Composes the parts, or reads predicted label maps."""
        if self.layouts is None:
            return PartMasks(self._cache, self.region_of_value)
        reader = PngLabelMaps(self.region_of_value, 0, self._cache)
        reader.remedy = PREDICTED_REMEDY
        return reader

    @property
    def _cache(self) -> LabelMapCache:
        return LabelMapCache(self.cache_dir / "label_maps")

    def own_label_map(self, record: LabelMapRecord) -> Image.Image | None:
        """The parts composed; None where `layouts` are these, or there are no masks."""
        masks = self.place(MASKS)
        if self.layouts is None or not masks.is_dir():
            return None
        return PartMasks(self._cache, self.region_of_value).label_map(
            record._replace(label_map=_stem(masks, int(record.image_id)))
        )

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """Copies of other sizes are as good as long as they show the same square."""
        if size[0] != size[1]:
            problem = "their sides are stretched against each other"
            return f"CelebAMask-HQ's images are square, 1024x1024: {problem}"
        return super().size_problem(size)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What can be drawn otherwise in the embedded faces."""
        return face_factors.FACTORS if self.root is None else ()

    def scene(self, image_id: str, names: Collection[str] | None = None) -> Scene:
        """A face under interventions, see `QueryDataModule.scene`."""
        return face_factors.face_scene(
            self._drawn.table, int(image_id), self.world.image_size, names
        )

    @cached_property
    def _drawn(self) -> FaceWorld:
        return sample_world(self.world)

    def records(self, part: Part) -> list[LabelMapRecord]:
        """The images of a part by their numbers; raises InputError for whatever is wrong with the
        files.
        """
        return [record for record in self._all if int(record.image_id) in self._parts[part]]

    @cached_property
    def _numbers(self) -> list[int]:
        """The images of the attribute file, which name `0.jpg`, `1.jpg` ..."""
        numbers = sorted(int(Path(name).stem) for name in self._labels)
        for name in self._labels:
            if name != f"{int(Path(name).stem)}.jpg":
                problem = f"names {name}; CelebAMask-HQ's images are 0.jpg, 1.jpg and so on"
                raise InputError(
                    f"{self.list_file(self.attribute_file)}: {problem}; {OFFICIAL_REMEDY}"
                )
        return numbers

    @cached_property
    def _parts(self) -> dict[Part, set[int]]:
        if self.split != "paper":
            # The mapping counts CelebA's images from 0, their names and partition from 1.
            celeba = {number: self._celeba[number].orig_idx + 1 for number in self._numbers}
            return {
                "train": {
                    k
                    for k, number in celeba.items()
                    if number < FIRST_VALIDATION_NUMBER
                    and (self.split == "celeba" or k < self.first_test_id)
                },
                "val": {
                    k
                    for k, number in celeba.items()
                    if FIRST_VALIDATION_NUMBER <= number < FIRST_TEST_NUMBER
                },
                "test": {k for k, number in celeba.items() if number >= FIRST_TEST_NUMBER},
            }
        before = [number for number in self._numbers if number < self.first_test_id]
        count = len(before) - self.holdout_images
        if before and count < 1:
            problem = f"data.holdout_images={self.holdout_images} leaves no image to train on"
            reason = f"{len(before)} lie before data.first_test_id={self.first_test_id}"
            raise InputError(f"{problem}: {reason}; lower it")
        test = {number for number in self._numbers if number >= self.first_test_id}
        return {"train": set(before[:count]), "val": set(before[count:]), "test": test}

    @cached_property
    def _celeba(self) -> Mapping[int, Any]:
        """The rows of the mapping file, one for every image."""
        self._require(MAPPING)
        mapping = read_mapping(self.place(MAPPING))
        for number in self._numbers:
            if number not in mapping:
                raise InputError(
                    f"{self.place(MAPPING)}: has no row for image {number}; {OFFICIAL_REMEDY}"
                )
        return mapping

    @cached_property
    def _all(self) -> list[LabelMapRecord]:
        images, masks = self.place(IMAGES), self.place(MASKS)
        self._require(IMAGES, *([MASKS] if self.layouts is None else []), self.attribute_file)
        if self.on_bad_sample == "raise":
            check_listed(
                images,
                (f"{number}.jpg" for number in self._numbers),
                "an image of the attribute file",
            )
        label_maps: Mapping[str, Path | None]
        if self.layouts is None:
            label_maps = self._part_masks(masks)
        else:
            label_maps = self._predicted([str(number) for number in self._numbers])
        person = {}
        if self._identities:
            names = {number: self._celeba[number].orig_file for number in self._numbers}
            person = {number: self._identities.get(name, -1) for number, name in names.items()}
        return [
            LabelMapRecord(
                str(number),
                images / f"{number}.jpg",
                label_maps[str(number)],
                self._labels[f"{number}.jpg"],
                person.get(number, -1),
            )
            for number in self._numbers
        ]

    def _part_masks(self, masks: Path) -> dict[str, Path]:
        """The common stem of each image's part files; raises InputError for an image that has none,
        unless skipped.
        """
        stems = {str(k): _stem(masks, k) for k in self._numbers}
        if self.on_bad_sample == "skip":
            return stems
        present: set[str] = set()
        for folder in sorted({number // _FACES_PER_FOLDER for number in self._numbers}):
            present.update(f"{folder}/{name[:5]}" for name in list_files(masks / str(folder)))
        for number in self._numbers:
            stem = f"{number // _FACES_PER_FOLDER}/{number:05d}"
            if stem not in present:
                problem = f"no mask of image {number}: expected {number:05d}_skin.png and others"
                raise InputError(f"{(masks / stem).parent}: {problem}; {OFFICIAL_REMEDY}")
        return stems


def _stem(masks: Path, number: int) -> Path:
    """The common stem of an image's part files."""
    return masks / str(number // _FACES_PER_FOLDER) / f"{number:05d}.png"
