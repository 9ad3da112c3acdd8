"""What lies in the folder of a data set of one's own: images, label maps, and which image a name in
a table is about.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from cfexp.data.own.images import SUFFIXES
from cfexp.errors import InputError

IMAGES, LABEL_MAPS, REGIONS = "images", "label_maps", "regions.csv"
TABLES = (".csv", ".tsv", ".txt")
# In which no region's number is changed by the file's format.
LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif")
REMEDY = "see docs/own_data.md"
# What Lightning's and torchvision's users call the folders of parts.
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}

Key = TypeVar("Key", str, int)


class FoundImage(NamedTuple):
    """An image of the folder."""

    path: Path
    place: PurePosixPath  # within the folder of images, with its suffix
    image_id: str  # its stem, or where others share that its place with `__` for `/`

    @property
    def stem(self) -> str:
        """Its place without the suffix, as a label map has it."""
        return str(self.place.with_suffix(""))


class OwnFolder:
    """The files of `root`: its images lie in `images/`, or where there is no such folder in itself.

    Raises InputError where there is no folder or no image, and for two images of one name.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            problem = "is no folder" if root.exists() else "is not there"
            raise InputError(
                f"data.root={root} {problem}; give the folder that holds images/ and labels.csv"
            )
        self.root = root
        inside = root / IMAGES
        self.images_folder = inside if inside.is_dir() else root
        self.label_maps_folder = root / LABEL_MAPS
        files = list(_files(self.images_folder, skip=self.label_maps_folder))
        found = [path for path in files if path.suffix.lower() in SUFFIXES]
        if not found:
            others = f" ({len(files)} other files, such as {files[0].name})" if files else ""
            kinds = ", ".join(SUFFIXES)
            raise InputError(f"{self.images_folder}: no image in this folder{others}; {kinds}")
        self.others = [
            path
            for path in files
            if path.suffix.lower() not in SUFFIXES and path.parent != self.root
        ]
        self.images = self._named(found)

    def tables(self) -> list[Path]:
        """The files of the root that may say what the images show."""
        return sorted(
            path
            for path in self.root.iterdir()
            if path.suffix.lower() in TABLES and path.is_file() and not _is_beside(path)
        )

    def label_map_files(self) -> dict[str, Path]:
        """Each label map by its place without the suffix; raises InputError for two of one image,
        and for files that lose numbers.
        """
        if not self.label_maps_folder.is_dir():
            return {}
        found: dict[str, Path] = {}
        for path in _files(self.label_maps_folder):
            suffix = path.suffix.lower()
            if suffix in (".jpg", ".jpeg", ".webp"):
                remedy = "save label maps as PNG"
                raise InputError(
                    f"{path}: {suffix[1:].upper()} changes the regions' values; {remedy}"
                )
            if suffix not in LOSSLESS:
                continue
            stem = str(PurePosixPath(path.relative_to(self.label_maps_folder)).with_suffix(""))
            if stem in found:
                raise InputError(f"{path}: {found[stem].name} is of the same image; keep one")
            found[stem] = path
        return found

    def folder_of(self, image: FoundImage) -> tuple[str | None, str | None]:
        """The part and the class that an image's folders name; None for each that they do not."""
        folders = list(image.place.parts[:-1])
        part = PART_NAMES.get(folders[0].lower()) if folders else None
        if part is not None:
            folders = folders[1:]
        return part, folders[0] if folders else None

    def _named(self, found: list[Path]) -> list[FoundImage]:
        places = {path: PurePosixPath(path.relative_to(self.images_folder)) for path in found}
        stems = defaultdict(list)
        for path, place in places.items():
            stems[place.stem].append(path)
        images: dict[str, FoundImage] = {}
        for path, place in places.items():
            flat = str(place.with_suffix("")).replace("/", "__")
            image_id = place.stem if len(stems[place.stem]) == 1 else flat
            if image_id in images:
                other = images[image_id].path
                raise InputError(f"{path}: {other.name} has the same name; rename one of the two")
            images[image_id] = FoundImage(path, place, image_id)
        return sorted(images.values(), key=lambda image: str(image.place))


class Names:
    """Finds the image that a cell of a table, or a label map, names.

    With its suffix or without, with the folders before it or without, in upper or lower case, and a
    number with its leading zeros or without; what is matched loosely is counted.
    """

    def __init__(self, images: Collection[FoundImage]) -> None:
        self.by_number = 0  # how many names were found by their number alone
        self.by_case = 0
        self.example: tuple[str, str] | None = None  # of those, the first
        self._exact: dict[str, list[FoundImage]] = defaultdict(list)
        self._folded: dict[str, list[FoundImage]] = defaultdict(list)
        self._numbers: dict[int, list[FoundImage]] = defaultdict(list)
        for image in images:
            place = str(image.place)
            keys = {place, image.stem, image.place.name, image.place.stem, image.image_id}
            for key in keys:
                self._exact[key].append(image)
            for key in {key.casefold() for key in keys}:
                self._folded[key].append(image)
            if image.place.stem.isdecimal() and len(image.place.stem) < _DIGITS:
                self._numbers[int(image.place.stem)].append(image)

    def find(self, name: str) -> FoundImage | None:
        """The image; None where there is none. Raises ValueError with the names of several."""
        name = name.strip().replace("\\", "/").removeprefix("./").removeprefix(f"{IMAGES}/")
        if (image := _only(self._exact, name)) is not None:
            return image
        if (image := _only(self._folded, name.casefold())) is not None:
            self.by_case += 1
            self.example = self.example or (name, image.place.name)
            return image
        # Spreadsheets make 1 or 1.0 of 001.
        stem = PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in SUFFIXES else name
        stem = stem.removesuffix(".0")
        if not stem.isdecimal() or len(stem) >= _DIGITS:
            return None
        image = _only(self._numbers, int(stem))
        if image is not None:
            self.by_number += 1
            self.example = self.example or (name, image.place.name)
        return image


_DIGITS = 19  # of a number that is more than a name


def _only(images: Mapping[Key, list[FoundImage]], key: Key) -> FoundImage | None:
    found = images.get(key, [])
    if len(found) > 1:
        raise ValueError(" and ".join(str(image.place) for image in found[:2]))
    return found[0] if found else None


def _files(folder: Path, skip: Path | None = None) -> list[Path]:
    """Every file below a folder, by name, but for hidden ones and those of systems."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(place, name) != skip
        )
        found += [Path(place, name) for name in names]
    return sorted(path for path in found if not _is_hidden(path))


def _is_hidden(path: Path) -> bool:
    return path.name.startswith((".", "~$")) or path.name in ("Thumbs.db", "desktop.ini")


def _is_beside(path: Path) -> bool:
    """Whether a table is one that says something else."""
    return (
        _is_hidden(path)
        or path.name.lower() == REGIONS
        or path.stem.lower() in ("readme", "license", "licence", "requirements")
    )
