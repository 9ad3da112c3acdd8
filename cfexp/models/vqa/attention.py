"""Attention over an object, of which the true mask is known."""

import torch.nn.functional as F
from torch import Tensor


def cells_inside(mask: Tensor, features: Tensor) -> Tensor:
    """(B, 1, h * w) float: the share of each cell of the maps `features` (P, C, h, w) that masks
    (B, H, W) in [0, 1] fill.
    """
    return F.adaptive_avg_pool2d(mask[:, None], (features.shape[2], features.shape[3])).flatten(2)


def attention_inside(attention: Tensor, cells: Tensor) -> Tensor:
    """(B, glimpses): the share of attention (B, glimpses, h * w) that is inside an object, in 0..1.

    cells: as `cells_inside` has them; a cell counts by how much of the fullest one's share it has.
    """
    return (attention * (cells / cells.amax(2, keepdim=True).clamp(min=1e-3))).sum(2)


def even_inside(cells: Tensor) -> Tensor:
    """(B, 1, h * w): attention that is even over an object; 0 for one that fills nothing."""
    return cells / cells.sum(2, keepdim=True).clamp(min=1e-3)
