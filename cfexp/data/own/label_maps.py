"""The label maps of a data set of one's own: files, predicted ones, or what is made instead."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.data.own.contents import Contents
from cfexp.data.own.folder import REGIONS, FoundImage, image_of_map
from cfexp.data.own.images import OwnImageReader
from cfexp.data.own.made_maps import WHOLE, Grid, Superpixels, made_by, write_superpixels
from cfexp.data.own.reader import OwnReader
from cfexp.data.own.region_list import RegionList, found_once, numbered_regions, read_regions
from cfexp.errors import InputError

_FILES, _WHOLE = ("auto", "own"), "whole"
_WAYS = "data.label_maps=whole, grid:4x4 or superpixels"


class OwnLabelMaps:
    """Where the region of each pixel comes from.

    label_maps: `auto` (the folder label_maps, or one region where there is none), `own` (the
    folder), `whole`, `grid:ROWSxCOLUMNS`, `superpixels`, or as `layouts`. layouts: a folder of maps
    {image id}.png whose values are numbers of regions, for images that have none in a file. What is
    found and made is kept in `cache_dir`, by the fingerprint of the data. Every property raises
    InputError for what is wrong with the files.
    """

    def __init__(
        self,
        contents: Contents,
        label_maps: str,
        layouts: Path | None,
        cache_dir: Path,
        fingerprint: str,
    ) -> None:
        self.contents, self.setting, self.layouts = contents, label_maps, layouts
        self.cache_dir, self.fingerprint = cache_dir, fingerprint
        self.made = made_by(label_maps)
        # The label maps that are found by their names without `_mask` and the like, of which image.
        self.by_suffix: list[tuple[Path, str]] = []

    @cached_property
    def _matched(self) -> tuple[dict[str, Path], list[Path]]:
        found: dict[str, Path] = {}
        strays: list[Path] = []
        for stem, path in self.contents.folder.label_map_files().items():
            try:
                image = self.contents.names.find(stem)
                if image is None and (bare := image_of_map(stem)) != stem:
                    image = self.contents.names.find(bare)
                    if image is not None:
                        self.by_suffix.append((path, image.place.name))
            except ValueError as error:
                remedy = "lay it in the same folders"
                raise InputError(f"{path}: {stem!r} is {error}; {remedy}") from None
            if image is None:
                strays.append(path)
            elif image.image_id in found:
                other = found[image.image_id]
                raise InputError(f"{path}: {other.name} is of {image.place}, too; keep one")
            else:
                found[image.image_id] = path
        return found, strays

    @property
    def files(self) -> dict[str, Path]:
        """The label maps in files, by the image's id."""
        return self._matched[0]

    @property
    def strays(self) -> list[Path]:
        """Those that are of no image."""
        return self._matched[1]

    @cached_property
    def listed(self) -> RegionList | None:
        """The regions of label maps in files; None where those are not used."""
        if self.made is not None or self.setting == _WHOLE:
            return None
        folder = self.contents.folder
        path = folder.root / REGIONS
        if not (folder.label_maps_folder.is_dir() or path.is_file() or self.setting != "auto"):
            return None
        if not self.files and self.layouts is None:
            lacks = "holds no label map of an image"
            if self.strays:
                lacks += f", but {self.strays[0].name} and the like"
            stem = self.contents.images[0].stem
            raise InputError(f"{folder.label_maps_folder}: {lacks}; give {stem}.png, or {_WAYS}")
        if path.is_file():
            return read_regions(path)
        if not self.files and self.layouts is not None:
            return numbered_regions(self.layouts)
        return found_once(self.files.values(), self.cache_dir / f"regions-{self.fingerprint}.json")

    @property
    def region_names(self) -> tuple[str, ...]:
        """R names."""
        if self.made is not None:
            return self.made.names
        return (WHOLE,) if self.listed is None else self.listed.names

    @property
    def mirrored(self) -> tuple[int, ...] | None:
        """Which region takes the place of each in a mirrored image; None = all stay."""
        if isinstance(self.made, Grid):
            return self.made.mirrored
        return None if self.listed is None else self.listed.mirrored

    def reader(self, image_size: Sequence[int]) -> OwnReader:
        """What opens images and label maps, and fits them to networks of (H, W)."""
        return OwnReader(image_size, self.region_names, self.listed, self.made, self.layouts)

    def path_of(self, image: FoundImage, image_size: Sequence[int]) -> Path | None:
        """The file of an image's label map; None where there is none."""
        if isinstance(self.made, Superpixels):
            return self._superpixels(self.made, image_size) / f"{image.image_id}.png"
        path = None if self.listed is None else self.files.get(image.image_id)
        if path is None and self.layouts is not None:
            return self.layouts / f"{image.image_id}.png"
        return path

    def make(self, image_size: Sequence[int]) -> None:
        """Make superpixels, if they are asked for and not there."""
        if not isinstance(self.made, Superpixels):
            return
        reader = OwnImageReader([WHOLE], image_size)
        openers = {
            image.image_id: partial(
                reader.image, LabelMapRecord(image.image_id, image.path, None, ())
            )
            for image in self.contents.images
        }
        write_superpixels(openers, self.made.clusters, self._superpixels(self.made, image_size))

    def _superpixels(self, made: Superpixels, image_size: Sequence[int]) -> Path:
        size = "{}x{}".format(*image_size)
        return self.cache_dir / f"superpixels-{self.fingerprint}-{size}-{made.clusters}"


def check_label_maps(label_maps: object, layouts: str | None) -> tuple[str, Path | None]:
    """What the two settings ask for; raises InputError for a folder that is not there."""
    setting = str(label_maps)
    if setting not in (*_FILES, _WHOLE) and made_by(setting) is None:
        if not Path(setting).expanduser().is_dir():
            ways = "auto, whole, grid:4x4, superpixels or a folder of label maps"
            raise InputError(f"data.label_maps={setting} is no folder; it may be {ways}")
        layouts = setting
    return setting, None if layouts is None else Path(layouts).expanduser()
