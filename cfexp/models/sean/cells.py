"""SEAN whose regions have several codes each, one for each cell of a grid: for photographs, of
which one code a region holds too little.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.sean.sean import SEAN

# A cell is seen as so many parts down and across: the mean over a whole cell does not say where in
# it something is.
PARTS = 4
MOST_CELLS = 1024  # of all regions: the codes of more are larger than the images
_CELLS = re.compile(r"(\d{1,2})x(\d{1,2})")


class Cells:
    """How regions are divided: each by a grid over its bounding box in the image.

    grids: of each of R regions (rows, columns). The cells are numbered by region, then by rows.
    """

    def __init__(self, grids: Sequence[tuple[int, int]]) -> None:
        self.grids = list(grids)
        self.sizes = [rows * columns for rows, columns in grids]
        self.total = sum(self.sizes)
        self.region_of = [region for region, size in enumerate(self.sizes) for _ in range(size)]

    def finer(self, by: int) -> "Cells":
        """Every cell divided once more, into by x by."""
        return Cells([(rows * by, columns * by) for rows, columns in self.grids])

    def parts(self, by: int) -> list[list[int]]:
        """Of each cell the cells of `finer(by)` that it is made of, by rows."""
        numbers, first = [], 0
        for rows, columns in self.grids:
            grid = np.arange(first, first + rows * columns * by**2).reshape(rows, by, columns, by)
            numbers += grid.transpose(0, 2, 1, 3).reshape(-1, by**2).tolist()
            first += grid.size
        return numbers

    def divide(self, label_maps: Tensor) -> Tensor:
        """Label maps (B, H, W) int64 of regions, 0..R - 1, made ones of cells, 0..total - 1."""
        divided, first = torch.zeros_like(label_maps), 0
        for region, ((rows, columns), size) in enumerate(zip(self.grids, self.sizes, strict=True)):
            inside = label_maps == region
            cell = torch.zeros_like(label_maps)
            if size > 1:
                down = _places(inside.any(2), rows)[:, :, None]
                cell = down * columns + _places(inside.any(1), columns)[:, None]
            divided = torch.where(inside, first + cell, divided)
            first += size
        return divided


def read_cells(cells: str | Sequence[str], num_regions: int) -> Cells:
    """`[4x4, 3x2, 1x1]`, rows and columns of each region in its order, or `2x2`, of all.

    Raises InputError for anything else.
    """
    given = [cells] * num_regions if isinstance(cells, str) else [str(each) for each in cells]
    if len(given) != num_regions:
        problem = f"names {len(given)} grids, but there are {num_regions} regions"
        raise InputError(f"network.cells={[*given]} {problem}; give one for each, in their order")
    matches = [_CELLS.fullmatch(each) for each in given]
    grids = [(int(match[1]), int(match[2])) for match in matches if match is not None]
    if len(grids) < num_regions or any(0 in grid for grid in grids):
        raise InputError(f"network.cells must be ROWSxCOLUMNS, such as 4x4 or 1x1, got {given}")
    if (found := Cells(grids)).total > MOST_CELLS:
        raise InputError(f"network.cells={given}: {found.total} cells; at most {MOST_CELLS}")
    return found


class CellEncoder(nn.Module):
    """Convolutions, then a code (D) of each cell, by what its 4x4 parts look like.

    Ours: SEAN's encoder takes the mean over a region, which says nothing of the place within, and
    its instance norm takes each image's brightness off. channels: of the two convolutions. Cells of
    one region share their last layer.
    """

    parts: Tensor  # (total, 16) int64: of each cell, the parts it is made of
    region_of: Tensor  # (total,) int64: the region of each cell

    def __init__(self, cells: Cells, style_dim: int, channels: int) -> None:
        super().__init__()
        self.cells, self.fine = cells, cells.finer(PARTS)
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, channels, 3, padding=1, padding_mode="replicate"), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2)),
        )
        seen = PARTS**2 * (channels + 3)
        self.weight = nn.Parameter(torch.empty(len(cells.grids), seen, style_dim))
        self.bias = nn.Parameter(torch.zeros(len(cells.grids), style_dim))
        self.register_buffer("parts", torch.tensor(cells.parts(PARTS)), persistent=False)
        self.register_buffer("region_of", torch.tensor(cells.region_of), persistent=False)
        for layer in self.weight.data:
            nn.init.xavier_normal_(layer)

    def forward(self, images: Tensor, label_maps: Tensor, num_regions: int) -> Tensor:
        """Style codes (B, total, D) in [-1, 1] of images (B, 3, H, W) in [-1, 1]; zero for a cell
        without a pixel.

        label_maps: (B, H, W) int64 of regions. num_regions: not needed here.
        """
        seen = torch.cat([self.layers(images), images, torch.ones_like(images[:, :1])], dim=1)
        rows = seen.permute(0, 2, 3, 1).flatten(0, 2)
        batch, count = len(images), self.fine.total
        first = count * torch.arange(batch, device=images.device)[:, None, None]
        sums = rows.new_zeros(batch * count, rows.shape[1])
        sums = sums.index_add(0, (self.fine.divide(label_maps) + first).flatten(), rows)
        sums = sums.view(batch, count, -1)[:, self.parts]  # (B, total, parts, channels + 3 + 1)
        pixels, whole = sums[..., -1:], sums.sum(2, keepdim=True)
        means = sums / pixels.clamp(min=1)
        # Of a part that the region leaves free, what the rest of the cell looks like.
        means = torch.where(pixels > 0, means, whole / whole[..., -1:].clamp(min=1))
        flat = means[..., :-1].flatten(2).transpose(0, 1)
        weight, bias = self.weight[self.region_of], self.bias[self.region_of]
        codes = torch.tanh(torch.baddbmm(bias[:, None], flat, weight)).transpose(0, 1)
        return codes * (whole[..., 0, -1:] > 0)


class CellSEAN(SEAN):
    """SEAN in which a region has a code for each cell of a grid over its bounding box.

    To the generator the cells are regions of their own, but for their mapping layers, which those
    of one region share. The label maps it is given, and all that chooses or counts regions, know
    the regions alone.

    num_regions: R of the label maps. cells: rows and columns of each region, in their order, such
    as `[4x4, 3x2, 1x1]`; or one for all. The rest is as in `SEAN`; encoder_channels: see
    `CellEncoder`. Raises InputError for other cells.
    """

    def __init__(
        self,
        num_regions: int,
        cells: str | Sequence[str],
        style_dim: int = 32,
        encoder_channels: int = 16,
        **settings: Any,
    ) -> None:
        divided = read_cells(cells, num_regions)
        super().__init__(divided.total, style_dim=style_dim, **settings)
        self.cells = divided
        self.encoder = CellEncoder(divided, style_dim, encoder_channels)  # type: ignore[assignment]  # in its place
        self.region_of_code = torch.tensor(divided.region_of)
        for norm in self.norms():
            norm.share_layers(divided.region_of)

    def divide(self, label_maps: Tensor) -> Tensor:
        """Label maps of cells."""
        return self.cells.divide(label_maps)

    @property
    def regions_of_label_maps(self) -> int:
        """R, of the label maps."""
        return len(self.cells.grids)


def _places(present: Tensor, count: int) -> Tensor:
    """(B, L) int64, which of `count` equal parts of the box each place lies in; present: (B, L)
    bool, where the box has a pixel.
    """
    length = present.shape[1]
    place = torch.arange(length, device=present.device)
    first = torch.where(present, place, length).amin(1, keepdim=True)
    last = torch.where(present, place, -1).amax(1, keepdim=True)
    of_box = (place - first) * count // (last - first + 1).clamp(min=1)
    return of_box.clamp(0, count - 1)
