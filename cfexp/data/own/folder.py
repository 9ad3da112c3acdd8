"""What lies in the folder of a data set of one's own: images, label maps, and which image a name in
a table is about.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from PIL import Image

from cfexp.data.own.images import SUFFIXES
from cfexp.errors import InputError

IMAGES, LABEL_MAPS, REGIONS = "images", "label_maps", "regions.csv"
TABLES = (".csv", ".tsv", ".txt")
# In which no region's number is changed by the file's format.
LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".gif")
REMEDY = "see docs/own_data.md"
# Which of the root are about the images, or about nothing that is read.
_TEXTS = (*TABLES, ".md", ".rst", ".json", ".yaml", ".yml", ".pdf", ".html", "")
# What others call the folder of label maps, or a word of its name.
_OF_MAPS = re.compile(
    r"(?<![a-z])(masks?|label_?maps?|labels?|seg|segmentations?|annot|annotations?|trimaps?"
    r"|ground_?truth|gt)(?![a-z])",
    re.I,
)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # of leftMask
_SOME = 10  # more than one in so many images is no chance
_FEW_COLORS = 64  # of a label map; a photograph has more
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

# What others add to an image's name for that of its label map.
_OF_A_MAP = re.compile(
    r"[_\-. ]*(masks?|seg|segmentation|labels?|labelids|gt|groundtruth|annotation|trimap)$", re.I
)

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
    """The files of `root`: its images lie in `images/`, in whatever case, or where there is no such
    folder in itself.

    Raises InputError where there is no folder or no image, and for two images of one name.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            problem = "is no folder" if root.exists() else "is not there"
            raise InputError(
                f"data.root={root} {problem}; give the folder that holds images/ and labels.csv"
            )
        self.root = root
        inside = _folder_called(root, IMAGES)
        self.images_folder = inside if inside.is_dir() else root
        self.label_maps_folder = _folder_called(root, LABEL_MAPS)
        files = list(_files(self.images_folder, skip=self.label_maps_folder))
        found = [path for path in files if path.suffix.lower() in SUFFIXES]
        if not found:
            others = f" ({len(files)} other files, such as {files[0].name})" if files else ""
            kinds = ", ".join(SUFFIXES)
            raise InputError(f"{self.images_folder}: no image in this folder{others}; {kinds}")
        self.others = [
            path
            for path in files
            if path.suffix.lower() not in SUFFIXES
            and not (path.parent == self.root and path.suffix.lower() in _TEXTS)
        ]
        self.images = self._named(found)
        self._refuse_maps_among()

    def tables(self) -> list[Path]:
        """The files of the root that may say what the images show."""
        return sorted(
            path
            for path in self.root.iterdir()
            if path.suffix.lower() in TABLES and path.is_file() and not _is_beside(path)
        )

    def label_maps_elsewhere(self) -> Path | None:
        """A folder that looks like one of label maps by its name, where `label_maps` is not
        there.
        """
        if self.label_maps_folder.is_dir():
            return None
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        return next((path for path in folders if _called_as_maps(path.name)), None)

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

    def _refuse_maps_among(self) -> None:
        """Raise InputError where many images have a companion, beside them or in another folder,
        that is called as its label map; or as itself, where its folder is called as one of label
        maps and it has few colours.
        """
        named = {image.place.stem: image for image in self.images if not _in_maps(image.place)}
        maps, alike = [], []
        for each in self.images:
            image = named.get(image_of_map(each.place.stem))
            if image is not None and image.place.stem != each.place.stem:
                maps.append((each, image))
            elif image is not None and _in_maps(each.place):
                alike.append((each, image))
        # Else two classes number their images alike: 1.jpg with a mask, 1.jpg without.
        if alike and _has_few_colors(alike[0][0].path):
            maps += alike
        if len(maps) > len(self.images) // _SOME:
            companion, image = maps[0]
            one = f"{companion.path}: looks like the label map of {image.place}"
            many = f"and so {len(maps)} of {len(self.images)} images"
            raise InputError(f"{one}, {many}; move label maps to {self.label_maps_folder}")

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
                remedy = f"rename one of the two, or move label maps to {LABEL_MAPS}/"
                raise InputError(f"{path}: {other.name} has the same name; {remedy}")
            images[image_id] = FoundImage(path, place, image_id)
        return sorted(images.values(), key=lambda image: str(image.place))


class Names:
    """Finds the image that a cell of a table, or a label map, names.

    With its suffix, another or none, with the folders before it, others or none, in upper or lower
    case, letters with accents in one code or two, and a number with its leading zeros or without;
    what is matched loosely is counted.
    """

    def __init__(self, images: Collection[FoundImage]) -> None:
        self.by_number = 0  # how many names were found by their number alone
        self.by_case = 0
        self.by_place = 0  # by the name alone, its folders or its suffix being others
        self.examples: dict[str, tuple[str, str]] = {}  # the first of each of these
        self._exact: dict[str, list[FoundImage]] = defaultdict(list)
        self._folded: dict[str, list[FoundImage]] = defaultdict(list)
        self._numbers: dict[int, list[FoundImage]] = defaultdict(list)
        for image in images:
            place = str(image.place)
            keys = {place, image.stem, image.place.name, image.place.stem, image.image_id}
            for key in keys:
                self._exact[key].append(image)
            for key in {_folded(key) for key in keys}:
                self._folded[key].append(image)
            if image.place.stem.isdecimal() and len(image.place.stem) < _DIGITS:
                self._numbers[int(image.place.stem)].append(image)

    def find(self, name: str) -> FoundImage | None:
        """The image; None where there is none. Raises ValueError with the names of several."""
        name = name.strip().replace("\\", "/").removeprefix("./").removeprefix(f"{IMAGES}/")
        if (image := _only(self._exact, name)) is not None:
            return image
        if (image := _only(self._folded, _folded(name))) is not None:
            self.by_case += 1
            self.examples.setdefault("case", (name, image.place.name))
            return image
        # Spreadsheets make 1 or 1.0 of 001.
        stem = PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in SUFFIXES else name
        stem = stem.removesuffix(".0")
        if stem.isdecimal() and len(stem) < _DIGITS:
            image = _only(self._numbers, int(stem))
            if image is not None:
                self.by_number += 1
                self.examples.setdefault("number", (name, image.place.name))
            return image
        image = self._elsewhere(PurePosixPath(name))
        if image is not None:
            self.by_place += 1
            self.examples.setdefault("place", (name, str(image.place)))
        return image

    def count(self, names: Sequence[str], whole: bool) -> int:
        """How many images are named, in whatever case; whole: with their suffixes."""
        found = set()
        for name in names:
            path = PurePosixPath(name.replace("\\", "/"))
            has_suffix = path.suffix.lower() in SUFFIXES
            if whole and not has_suffix:
                continue
            keys = [path.name, *([path.stem] if has_suffix else [])]
            known = any(_folded(key) in self._folded for key in keys)
            number = keys[-1].removesuffix(".0")
            if not known and number.isdecimal() and len(number) < _DIGITS:
                known = int(number) in self._numbers
            if known:
                found.add(str(path))
        return len(found)

    def _elsewhere(self, name: PurePosixPath) -> FoundImage | None:
        """One in less folders than the name has, or of another suffix."""
        bare = name.with_suffix("") if name.suffix.lower() in SUFFIXES else name
        for start in range(len(name.parts)):
            for each in dict.fromkeys((name, bare)):
                key = str(PurePosixPath(*each.parts[start:]))
                if (image := _only(self._folded, _folded(key))) is not None:
                    return image
        return None


def image_of_map(stem: str) -> str:
    """The name of the image that a label map is called after, as in `001_mask`; else the same."""
    return _OF_A_MAP.sub("", stem) or stem


_DIGITS = 19  # of a number that is more than a name


def _in_maps(place: PurePosixPath) -> bool:
    return any(_called_as_maps(folder) for folder in place.parts[:-1])


def _called_as_maps(folder: str) -> bool:
    """Whether a folder is called as those of label maps: `masks`, `leftMask`."""
    return _OF_MAPS.search(_HUMP.sub("_", folder)) is not None


def _has_few_colors(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.getcolors(_FEW_COLORS) is not None
    except Exception:  # of whatever kind; who reads it says so
        return False


def _folded(name: str) -> str:
    """A name without its case, an accented letter in one code: some systems store two."""
    return unicodedata.normalize("NFC", name).casefold()


def _only(images: Mapping[Key, list[FoundImage]], key: Key) -> FoundImage | None:
    found = images.get(key, [])
    if len(found) > 1:
        raise ValueError(" and ".join(str(image.place) for image in found[:2]))
    return found[0] if found else None


def _folder_called(root: Path, name: str) -> Path:
    """The folder of this name, or the only one of this name in another case."""
    path = root / name
    if path.is_dir():
        return path
    found = [each for each in root.iterdir() if each.name.lower() == name and each.is_dir()]
    return found[0] if len(found) == 1 else path


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
