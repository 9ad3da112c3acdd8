"""Which regions turn a decision: STEEX's section 4.4 and figure 5 (Jacob et al. 2022), asked of
every region.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cfexp.explainers.steex.objective import StyleSearch

# One query's index and region masks (P, R) bool -> P searches of that query, each in its own mask.
Search = Callable[[int, Tensor], StyleSearch]
# Images (P, 3, H, W) as searched and one query's index -> by how much each decision is the one
# asked for, (P,) logits.
Margin = Callable[[Tensor, int], Tensor]


class RegionSweep(NamedTuple):
    """What B queries' searches in U units (the R regions, then the named groups) found; of units
    that the query lacks, the absent ones, nothing.
    """

    success: Tensor  # (B, U) int64: 1 = the stored image is decided otherwise, 0 = not; -1 = absent
    distance: Tensor  # (B, U), the l2 norm of the codes' change; 0 = absent
    flip_step: Tensor  # (B, U) int64, as in `StyleSearch`; -1 = absent, too
    smallest_set: Tensor  # (B, R) bool, see `sweep_regions`; nowhere true if even all together fail


def sweep_regions(
    search: Search, margin: Margin, style_codes: Tensor, units: Tensor, present: Tensor
) -> RegionSweep:
    """Search each query in every unit that it has a region of, all of a query's in one batch.

    smallest_set: the single region that flips, of several that which takes the shortest distance:
    no set is smaller. Where none does it is found greedily: the regions are put in the order in
    which their own searches came nearest to the decision, and the sets of the first two, the first
    three, ... are searched, in one batch more. The first that flips is an upper bound of the
    smallest: a set that leaves out one in the middle is never tried.

    style_codes: (B, C, D) of the queries. units: (U, R) bool, the R regions first, see
    `unit_masks`. present: (B, R) bool, which regions each query has.
    """
    batch, num_regions = present.shape
    units = units.to(style_codes.device)
    found = RegionSweep(
        success=torch.full((batch, len(units)), -1, device=style_codes.device),
        distance=style_codes.new_zeros(batch, len(units)),
        flip_step=torch.full((batch, len(units)), -1, device=style_codes.device),
        smallest_set=torch.zeros_like(present),
    )
    for row in range(batch):
        masks = units & present[row]
        tried = masks.any(1).nonzero()[:, 0]
        result = search(row, masks[tried])
        margins = margin(result.image, row)
        found.success[row, tried] = (margins > 0).long()
        found.distance[row, tried] = (result.style_codes - style_codes[row]).flatten(1).norm(dim=1)
        found.flip_step[row, tried] = result.flip_step
        single = tried < num_regions
        regions, margins = tried[single], margins[single]
        if (margins > 0).any():
            flipping = regions[margins > 0]
            found.smallest_set[row, flipping[found.distance[row, flipping].argmin()]] = True
        elif len(regions) > 1:
            nearest_first = units[regions[margins.argsort(descending=True, stable=True)]]
            sets = nearest_first.cumsum(0)[1:] > 0
            flips = margin(search(row, sets).image, row) > 0
            if flips.any():
                found.smallest_set[row] = sets[flips.int().argmax()]
    return found
