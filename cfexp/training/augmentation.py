"""How training images are moved, scaled, mirrored and lit otherwise."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def moved_grid(image: Tensor, shift: float, scale: float, flip: float = 0.5) -> Tensor:
    """Where each pixel of B images comes from, (B, H, W, 2), for `grid_sample` with
    align_corners=False: an image is moved by up to the share `shift` of its sides, enlarged or made
    smaller by up to `scale`, as a logarithm, and mirrored in a share `flip`; drawn anew, by torch's
    generator.
    """
    count = len(image)
    size = (scale * (2 * torch.rand(count) - 1)).exp()
    mirrored = 1 - 2 * (torch.rand(count) < flip).float()
    moves = torch.zeros(count, 2, 3)
    moves[:, 0, 0], moves[:, 1, 1] = size * mirrored, size
    moves[:, :, 2] = 2 * shift * (2 * torch.rand(count, 2) - 1)  # coordinates run from -1 to 1
    return F.affine_grid(moves.to(image), list(image.shape), align_corners=False)


def jittered(image: Tensor, label_map: Tensor, by: float) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) and label maps (B, H, W) int64, each pair moved by up to the share `by`
    of its sides and scaled by up to 1 + `by`, smaller or larger, drawn anew; its edge goes on
    outwards.
    """
    draws = 2 * torch.rand(3, len(image), device=image.device) - 1
    scale, zero = (1 + by) ** draws[0], torch.zeros_like(draws[0])
    # The grid's coordinates run from -1 to 1.
    rows = [[scale, zero, 2 * by * draws[1]], [zero, scale, 2 * by * draws[2]]]
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, "bilinear", "border", align_corners=False)
    regions = F.grid_sample(
        label_map[:, None].to(image.dtype), grid, "nearest", "border", align_corners=False
    )
    return moved, regions[:, 0].long()


def tinted(image: Tensor, by: float) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] in another light: every channel of each is stretched by up to
    1 + `by`, smaller or larger, and moved by up to `by`, drawn anew.
    """
    gain, shift = 2 * torch.rand(2, len(image), 3, 1, 1, device=image.device) - 1
    stretch = torch.exp(gain * math.log1p(by))
    lit: Tensor = image * stretch + by * shift
    return lit.clamp(-1, 1)
