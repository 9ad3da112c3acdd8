"""Regions that were asked for by name, as masks of all the regions there are."""

from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor

from cfexp.errors import InputError


def region_mask(regions: Sequence[str], region_names: Sequence[str]) -> Tensor:
    """(R,) bool: which regions are among those named.

    Raises InputError for what is no list of names, names none, or one that there is not.
    """
    several = isinstance(regions, Sequence | Set) and not isinstance(regions, str)
    if not (several and all(isinstance(region, str) for region in regions)):
        raise InputError(f"regions must be a list of names, got {regions!r}")
    if len(regions) == 0:
        raise InputError(
            "regions names no region: nothing could change; leave it out (null) for all"
        )
    if unknown := [region for region in regions if region not in region_names]:
        raise InputError(f"regions: {unknown[0]!r} is none of {', '.join(region_names)}")
    return torch.tensor([name in regions for name in region_names])


def unit_masks(region_names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Tensor:
    """(U, R) bool: each region by itself, then each named group of them.

    Raises InputError for a group that is empty, is called as a region is, or names an unknown
    region.
    """
    for group, members in groups.items():
        if group in region_names:
            raise InputError(f"region_groups.{group}: a region is called that already")
        if isinstance(members, str) or not members:
            raise InputError(f"region_groups.{group} must be a list of regions, got {members!r}")
        if unknown := [member for member in members if member not in region_names]:
            raise InputError(
                f"region_groups.{group}: {unknown[0]!r} is none of {', '.join(region_names)}"
            )
    rows = [[name] for name in region_names] + [list(members) for members in groups.values()]
    return torch.tensor([[name in row for name in region_names] for row in rows])
