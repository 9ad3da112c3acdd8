"""Opens a data set's own images and label maps, whatever these are known by."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from cfexp.data.label_maps.dataset import LabelMapRecord, MaskFile
from cfexp.data.own.folder import REMEDY
from cfexp.data.own.images import OwnImageReader
from cfexp.data.own.made_maps import Grid, Made, Superpixels
from cfexp.data.own.region_list import FORMATS, RegionList
from cfexp.data.reading.images import read_picture


class OwnReader(OwnImageReader):
    """Reads a data set's own images and label maps, fitted to the networks.

    regions: of label maps in files; None = there are none. made: what draws them instead.
    predicted: the folder of maps whose values are the regions' numbers.
    """

    remedy = REMEDY

    def __init__(
        self,
        image_size: Sequence[int],
        region_names: Sequence[str],
        regions: RegionList | None,
        made: Made | None,
        predicted: Path | None,
    ) -> None:
        super().__init__([*region_names], image_size)
        self.listed, self.made, self.predicted = regions, made, predicted

    def label_map(self, record: LabelMapRecord) -> Image.Image | None:
        """A region a pixel, of the networks' size; None where there is none."""
        if isinstance(self.made, Grid):
            return Image.fromarray(self.made.label_map(self.image_size))
        path = record.label_map
        if path is not None and self._is_made(path):  # of the networks' size, whatever the image's
            height, width = self.image_size
            drawn = super().decode(self.mask_files(path))
            return drawn.resize((width, height), Image.Resampling.NEAREST)
        return super().label_map(record)

    def decode(self, files: Sequence[MaskFile]) -> Image.Image:
        """The label map in a file, mode L."""
        ((path, content, _),) = files
        if self.listed is None or self._is_made(Path(path)):
            return super().decode(files)
        picture = read_picture(Path(path), FORMATS, content, remedy="save it again as PNG")
        return Image.fromarray(self.listed.regions_of(picture, path))

    def _is_made(self, path: Path) -> bool:
        """Whether the values of a label map are the regions' numbers."""
        predicted = self.predicted is not None and self.predicted in path.parents
        return predicted or isinstance(self.made, Superpixels)
