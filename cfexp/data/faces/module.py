"""What the data modules of CelebA and CelebAMask-HQ share: attributes as labels, 19 regions,
embedded faces.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfexp.data.faces.celeba_files import (
    Attributes,
    check_listed,
    fingerprint_texts,
    read_attributes,
    read_identities,
)
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.data.label_maps.part_masks import REGION_OF_VALUE, region_of_value
from cfexp.data.label_maps.plausible import FACES, Looks
from cfexp.data.reading.archives import Archive, PackedFile
from cfexp.data.reading.records import PREDICTED_REMEDY
from cfexp.errors import InputError
from cfexp.worlds.face_names import MIRRORED_REGIONS, ONE_MOUTH_REGIONS, REGIONS, mirrored
from cfexp.worlds.face_people import Table
from cfexp.worlds.face_reading import attributes_shown
from cfexp.worlds.faces import FaceParameters, sample_world

IDENTITIES = "identity_CelebA.txt"  # CelebA's, which may lie beside CelebAMask-HQ, too
PAPER_ATTRIBUTES = ("Male", "Smiling", "Young")  # the three heads of the decision model of STEEX


class FaceDataModule(LabelMapDataModule):
    """Faces with attributes as labels; a subclass says where its files are.

    `root`: a folder in the data set's layout; None = the embedded faces of the parameters `world`,
    kept in `cache_dir`. `attributes`: the labels, by CelebA's names. `layouts`: a folder of label
    maps `{image's stem}.png`, 0..18, such as a segmenter predicts; other values are the subclass's.
    `one_mouth`: mouth and lips are one region, `mouth`, of the 17 that are left: label maps that
    hold an open mouth give a smile away, and no style opens a mouth that they hold closed.
    Everything else is as in `LabelMapDataModule`.
    """

    region_names: tuple[str, ...] = REGIONS
    mirrored_regions: tuple[int, ...] | None = MIRRORED_REGIONS
    looks: Looks | None = FACES
    trains_all_labels = True
    data_set: str  # its name in messages
    attribute_file: str
    text_files: tuple[str, ...]  # what the fingerprint covers
    subfolders: tuple[str, ...] = ()  # of the root, in which a file may lie as well

    def __init__(
        self,
        root: str | None,
        world: FaceParameters | Mapping[str, Any] | None,
        cache_dir: str,
        image_size: Sequence[int],
        layouts: Path | None,
        attributes: Sequence[str],
        write_world: Callable[[FaceParameters, Path], Path],
        one_mouth: bool = False,
        **loading: Any,
    ) -> None:
        super().__init__(image_size=image_size, **loading)
        self.region_of_value = REGION_OF_VALUE
        if one_mouth:
            self.region_names, self.mirrored_regions = (
                ONE_MOUTH_REGIONS,
                mirrored(ONE_MOUTH_REGIONS),
            )
            self.region_of_value = region_of_value(ONE_MOUTH_REGIONS)
            self.looks = None  # it knows the 19
        if isinstance(attributes, str) or not attributes or len(set(attributes)) < len(attributes):
            problem = f"must be a list of different names, at least one, got {attributes!r}"
            raise InputError(f"data.attributes {problem}")
        self.root = None if root is None else Path(root).expanduser()
        self.world = _face_parameters(world)
        self.cache_dir = Path(cache_dir).expanduser()
        self.layouts = layouts
        self.class_names = tuple(attributes)
        self._write_world = write_world

    @cached_property
    def folder(self) -> Path:
        """The folder in the data set's layout; the embedded faces are written now if they are not
        there.
        """
        return self.root if self.root is not None else self._write_world(self.world, self.cache_dir)

    def place(self, name: str) -> Path:
        """Where a file or folder of the data set lies; in the root itself where it is nowhere."""
        places = [
            self.folder / name,
            *(self.folder / subfolder / name for subfolder in self.subfolders),
        ]
        return next((path for path in places if path.exists()), places[0])

    def list_file(self, name: str) -> Path | PackedFile:
        """Where the list NAME.txt of the data set is: that, or NAME.csv, or either in a zip;
        NAME.txt if none is there.

        Raises InputError where both are: which of the two counts is for the user to say.
        """
        stem = name.removesuffix(".txt")
        there: list[Path | PackedFile] = []
        for form in (name, f"{stem}.csv"):
            plain, packed = self.place(form), PackedFile(Archive(self.place(f"{form}.zip")), form)
            there += [plain] if plain.exists() else [packed] if packed.exists() else []
        if len(there) > 1:
            raise InputError(
                f"{there[0]}: {there[1].name} is there as well; keep the one that is to count"
            )
        return there[0] if there else self.place(name)

    def prepare_data(self) -> None:
        """Write the embedded faces, in one process; a real root is checked by `setup`, which knows
        what it needs.
        """
        _ = self.folder

    @property
    def fingerprint(self) -> str:
        """Which data this is: a short hash over the text files, or the embedded faces' own key."""
        if self.root is None:
            return f"faces-{self.world.key}"
        return fingerprint_texts(self.list_file(name) for name in self.text_files)

    @property
    def description(self) -> dict[str, Any]:
        """What is stored once beside the explanations of a run."""
        return {
            **super().description,
            "layouts": None if self.layouts is None else str(self.layouts),
        }

    def truth(self, image_id: str) -> dict[str, Any] | None:
        """What an embedded face was drawn from; None for a photograph. Raises InputError for an
        unknown image.
        """
        faces = self._truths
        if faces is not None and image_id not in faces:
            raise InputError(f"image_id {image_id} is none of the {len(faces)} embedded faces")
        return None if faces is None else faces[image_id]

    def labels_of_edit(self, key: int, picture: NDArray[np.uint8]) -> dict[str, int]:
        """Smiling and Young of an embedded face, see `attributes_shown`; of pictures of the world's
        own size.
        """
        faces, size = self._truths, self.world.image_size
        if faces is None or picture.shape[:2] != (size, size):
            return {}
        row = [*faces].index(self.explained(key).image_id)
        face = {name: values[row : row + 1] for name, values in self._table.items()}
        shown = attributes_shown(picture, face)
        return {name: value for name, value in shown.items() if name in self.class_names}

    @cached_property
    def _table(self) -> Table:
        return sample_world(self.world).table

    @cached_property
    def _truths(self) -> dict[str, dict[str, Any]] | None:
        path = self.folder / "faces_truth.json"
        if self.root is not None or not path.exists():
            return None
        faces: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["faces"]
        return {Path(face["file"]).stem: face for face in faces}

    @cached_property
    def _attributes(self) -> Attributes:
        self._require(self.attribute_file)
        return read_attributes(self.list_file(self.attribute_file))

    @cached_property
    def _labels(self) -> dict[str, tuple[float, ...]]:
        """The chosen attributes by the name of the image's file."""
        return self._attributes.select(self.list_file(self.attribute_file), self.class_names)

    @cached_property
    def _identities(self) -> dict[str, int]:
        """The person by the name of CelebA's image; empty where there is no such file."""
        path = self.list_file(IDENTITIES)
        return read_identities(path) if path.exists() else {}

    def _predicted(self, stems: Sequence[str]) -> dict[str, Path | None]:
        """The label maps in the folder `layouts`; raises InputError unless all are there, or bad
        ones are skipped.
        """
        if self.layouts is None:
            return dict.fromkeys(stems)
        if not self.layouts.is_dir():
            raise InputError(
                f"data.layouts={self.layouts} is no folder; predict label maps into it first"
            )
        if self.on_bad_sample == "raise":
            label_maps = (f"{stem}.png" for stem in stems)
            check_listed(self.layouts, label_maps, "the label map of an image", PREDICTED_REMEDY)
        return {stem: self.layouts / f"{stem}.png" for stem in stems}

    def _require(self, *names: str) -> None:
        """Raise InputError unless these lists and folders of the data set are there."""
        missing = [str(path) for name in names if not (path := self.list_file(name)).exists()]
        if missing:
            others = f" (and {', '.join(missing[1:])})" if missing[1:] else ""
            where = f"data.root={self.folder}"
            raise InputError(
                f"{self.data_set} not found in {where}: expected {missing[0]}{others}. "
                "See docs/data_sets.md; or leave data.root unset for the embedded faces."
            )


def _face_parameters(world: FaceParameters | Mapping[str, Any] | None) -> FaceParameters:
    if isinstance(world, FaceParameters):
        return world
    try:
        return FaceParameters(**(world or {}))
    except TypeError as error:
        raise InputError(f"data.world: {error}") from None
