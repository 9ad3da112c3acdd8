"""Pure functions that score explanations: of a batch of images, of a list of numbers, of one
answer.

Images are (B, C, H, W) floats in [-1, 1], as in an explanation; what is measured of them has the
unit named in each function. A result of shape (B,) has one score an image, NaN where the score
means nothing (no edit, no mask).

Every function raises ValueError for tensors of other shapes, types or ranges than it names, and for
NaN and infinity; see `cfexp.tensors`.
"""

from collections.abc import Mapping
from functools import cache
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from cfexp.errors import InputError
from cfexp.metrics.vqa_text import vqa_accuracy
from cfexp.tensors import IMAGE_RANGE, check_shapes, check_values

__all__ = [
    "bootstrap_interval",
    "changed_fraction",
    "checkerboard_score",
    "edit_locality",
    "l1_change",
    "l2_distance",
    "language_sensitivity",
    "nearest_color",
    "psnr",
    "rank_correlation",
    "region_rms",
    "rms_change",
    "ssim",
    "vqa_accuracy",
    "wilson_interval",
]

# A pixel counts as changed from the 11th of 255 grey levels on.
CHANGED_LEVELS = 10
# 8-bit images in float32 differ from whole levels by about 1e-5; this keeps a change of exactly ten
# levels unchanged.
LEVEL_TOLERANCE = 1e-3
# Frequencies 60 dB below an edit's mean power are taken as empty. Rounding to 8 bit leaves more
# (1/12 of a squared level, of at most 255 squared), float32 far less: an edit without high
# frequencies scores 1, not noise over noise.
SPECTRAL_FLOOR = 1e-6
# The distance of the neighbouring bins from a Nyquist point, as a share of the spectrum: nearer
# ones belong to the point's own peak, which is 1/16 wide for a checkerboard that fills 16 pixels;
# farther ones are other frequencies.
NEIGHBOURS = (1 / 16, 1 / 8)
MIN_SPECTRUM = 16
# Scores are computed in float32, which keeps seven digits: such that differ by less are equal.
ROUNDING = 1e-6
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels
DRAWS = 2**16  # of a bootstrap, held at a time: half a megabyte each of numbers and of counts


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of each pair of rows (N, K), (N,) in [-1, 1]; equal values share
    the mean of their ranks.

    A row of equal values follows no other: 0.
    """
    check_shapes(first=(first, "N K"), second=(second, "N K"))
    check_values(first=first, second=second)
    ranks = [_centred_ranks(each) for each in (first, second)]
    spread = (ranks[0].square().sum(1) * ranks[1].square().sum(1)).sqrt()
    return torch.where(spread > 0, (ranks[0] * ranks[1]).sum(1) / spread.clamp(min=1e-9), 0.0)


def _centred_ranks(values: Tensor) -> Tensor:
    """Half of how many values of the row are smaller less how many are larger, (N, K)."""
    return (values[:, :, None] - values[:, None]).sign().sum(2).double() / 2


def _edit(query: Tensor, counterfactual: Tensor) -> Tensor:
    """The counterfactual minus the query, of images scaled to [0, 1]: (B, C, H, W) in [-1, 1],
    float32 or wider.
    """
    _check_images(query, counterfactual)
    return (counterfactual - query).to(torch.promote_types(query.dtype, torch.float32)) / 2


def _check_images(query: Tensor, counterfactual: Tensor) -> None:
    check_shapes(query=(query, "B C H W"), counterfactual=(counterfactual, "B C H W"))
    check_values(*IMAGE_RANGE, query=query, counterfactual=counterfactual)


def _norm(edit: Tensor) -> Tensor:
    return edit.square().sum((1, 2, 3)).sqrt()


def rms_change(query: Tensor, counterfactual: Tensor) -> Tensor:
    """Root mean square of the edit over channels and pixels: (B,) in grey levels, 0..255."""
    return 255 * _edit(query, counterfactual).square().mean((1, 2, 3)).sqrt()


def l2_distance(query: Tensor, counterfactual: Tensor) -> Tensor:
    """Euclidean length of the edit, of images scaled to [0, 1]: (B,) in 0..sqrt(CHW)."""
    return _norm(_edit(query, counterfactual))


def l1_change(query: Tensor, counterfactual: Tensor) -> Tensor:
    """Mean absolute edit over channels and pixels: (B,) in grey levels, 0..255."""
    return 255 * _edit(query, counterfactual).abs().mean((1, 2, 3))


def region_rms(
    query: Tensor, counterfactual: Tensor, label_map: Tensor, num_regions: int
) -> Tensor:
    """`rms_change` within each region: (B, R) in grey levels, 0..255, NaN for a region without a
    pixel.

    label_map: (B, H, W) integers, the region of each pixel; numbers from R on are of none.
    """
    power = _edit(query, counterfactual).square().mean(1)
    check_shapes(power=(power, "B H W"), label_map=(label_map, "B H W integers"))
    check_values(0, torch.inf, label_map=label_map)
    place = label_map.flatten(1).long().clamp(max=num_regions)
    sums, counts = torch.zeros(
        2, len(power), num_regions + 1, dtype=power.dtype, device=power.device
    )
    sums.scatter_add_(1, place, power.flatten(1))
    counts.scatter_add_(1, place, torch.ones_like(power).flatten(1))
    rms: Tensor = 255 * (sums / counts)[:, :num_regions].sqrt()
    return rms


def changed_fraction(query: Tensor, counterfactual: Tensor) -> Tensor:
    """Share of the pixels of which some channel changed by more than 10 of 255 grey levels: (B,) in
    0..1.
    """
    levels = 255 * _edit(query, counterfactual).abs().amax(1)
    return (levels > CHANGED_LEVELS + LEVEL_TOLERANCE).float().mean((1, 2))


def psnr(query: Tensor, counterfactual: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratio in dB; at most 59, since equal 8-bit pictures may differ by
    their rounding.
    """
    squares = _edit(query, counterfactual).square().mean((1, 2, 3))
    # The variance of rounding to steps of 1 / 255 is a twelfth of their square.
    return -10 * squares.clamp(min=1 / 255**2 / 12).log10()


def ssim(query: Tensor, counterfactual: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004, equation 13: Gaussian window of 11 pixels, sigma 1.5, borders
    reflected): (B,) in -1..1, 1 = equal. For images from 6 pixels on.

    On images scaled to [0, 1]: its luminance term is wrong for images of mean 0, whatever the range
    is said to be.
    """
    _check_images(query, counterfactual)
    scores = query.new_empty(len(query), dtype=torch.promote_types(query.dtype, torch.float32))
    # One image at a time: its sums stay in the cache, and take a third of the time.
    for row, pair in enumerate(zip(query, counterfactual, strict=True)):
        scores[row] = _similarity((torch.stack(pair).to(scores) + 1) / 2)
    return scores


def _similarity(images: Tensor) -> Tensor:
    """The mean SSIM of two images (2, C, H, W) in [0, 1]."""
    reach = SSIM_WINDOW // 2
    weights = _gaussian_window()
    one, other = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    sums = torch.stack([one, other, one * one, other * other, one * other])
    for dim in (2, 3):
        size = images.shape[dim]
        total = torch.zeros_like(sums.narrow(dim, 0, size))
        for shift, weight in enumerate(weights):
            total.add_(sums.narrow(dim, shift, size), alpha=weight)
        sums = total
    mean, other_mean, square, other_square, product = sums
    variance, other_variance = square - mean**2, other_square - other_mean**2
    covariance = product - mean * other_mean
    luminance, contrast = 0.01**2, 0.03**2  # C1 and C2 of the paper, of a range of 1
    likeness = (2 * mean * other_mean + luminance) * (2 * covariance + contrast)
    size_of = (mean**2 + other_mean**2 + luminance) * (
        variance.clamp(min=0) + other_variance.clamp(min=0) + contrast
    )
    score: Tensor = (likeness / size_of).mean()
    return score


@cache
def _gaussian_window() -> list[float]:
    reach = SSIM_WINDOW // 2
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    gaussian = (-((offsets / SSIM_SIGMA) ** 2) / 2).exp()
    return [*(gaussian / gaussian.sum()).tolist()]


def edit_locality(query: Tensor, counterfactual: Tensor, mask: Tensor) -> Tensor:
    """Share of the edit's squared energy inside `mask` (B, 1, H, W) bool, e.g. of the object asked
    about: (B,) in 0..1.

    NaN where nothing was edited or the mask is empty. Chance is the mask's share of the area.
    """
    energy = _edit(query, counterfactual).square().sum(1, keepdim=True)
    check_shapes(energy=(energy, "B 1 H W"), mask=(mask, "B 1 H W bool"))
    share = (energy * mask).sum((1, 2, 3)) / energy.sum((1, 2, 3))  # 0 / 0 = NaN: no edit
    return share.masked_fill(~mask.any(3).any(2).any(1), torch.nan)


def checkerboard_score(
    query: Tensor, counterfactual: Tensor, *, period: int = 2, pooled: bool = False
) -> Tensor:
    """Checkerboard artefacts (Odena et al. 2016) in the edit: (B,) in 0..inf, 1 = none, NaN = no
    edit.

    The edit's power spectrum (mean over channels) at the Nyquist points of upsampling by `period`,
    over the power of neighbouring bins; mean over the three points. With w = 2 pi / period, the
    points are (w, 0), (0, w) and (w, w). The neighbours of a point lie 1/16 to 1/8 of the spectrum
    away from it in its own row and its own column; the larger of the row's and the column's median
    counts. Off the row and column there is less power for reasons that are no checkerboard (edges
    parallel to the axes, borders that do not wrap round), so a square window would give a smooth
    ramp a score above 1e5.

    White, smooth and natural edits score about 1 or below, strided deconvolution tens to thousands,
    the more the larger the image. A point is a single bin, so one image of white noise scores
    anything from 0.1 to 3: judge by many images, or with `pooled` average the spectra over the
    batch first; the result is then one number, of shape (). Images are cropped to multiples of
    `period`.

    Raises InputError for a period other than 2 and 4, ValueError for images of under 16 pixels a
    side.
    """
    if period not in (2, 4):
        raise InputError(f"period must be 2 or 4, got {period}")
    check_shapes(query=(query, "B C H W"), counterfactual=(counterfactual, "B C H W"))
    check_values(query=query, counterfactual=counterfactual)
    height, width = (size - size % period for size in query.shape[-2:])
    if min(height, width) < MIN_SPECTRUM:
        raise ValueError(
            f"checkerboard_score needs {MIN_SPECTRUM} pixels a side, got {tuple(query.shape)}"
        )
    # No score depends on the unit: it need not be that of images.
    edit = (counterfactual - query)[..., :height, :width]
    power = torch.fft.fft2(edit).abs().square().mean(1)
    if pooled:
        power = power.mean(0, keepdim=True)
    mean_power = power.mean((1, 2))
    floor = SPECTRAL_FLOOR * mean_power
    ratios = []
    for row, column in (
        (height // period, 0),
        (0, width // period),
        (height // period, width // period),
    ):
        in_row = power[:, row, _neighbours(column, width)].quantile(0.5, dim=1)
        in_column = power[:, _neighbours(row, height), column].quantile(0.5, dim=1)
        ratios.append((power[:, row, column] + floor) / (torch.maximum(in_row, in_column) + floor))
    score = torch.stack(ratios).mean(0)  # no edit: 0 / 0 = NaN
    return score.squeeze(0) if pooled else score


def _neighbours(bin_index: int, size: int) -> Tensor:
    """Indices (N,) of the bins at the distances `NEIGHBOURS` to both sides of a bin, in a spectrum
    of `size` bins.
    """
    near, far = (int(size * share) for share in NEIGHBOURS)
    distance = torch.arange(near, far + 1)
    return (bin_index + torch.cat([-distance, distance])) % size


def language_sensitivity(edits_a: Tensor, edits_b: Tensor) -> Tensor:
    """How far the question steers the edit of one image: |a - b| over the mean of |a| and |b|, l2
    norms: (B,) in 0..2.

    edits_a, edits_b: (B, C, H, W) counterfactual - query, in any unit. 0 = the same edit whatever
    was asked, sqrt(2) = unrelated edits of one size, 2 = opposite ones or only one; NaN = no edit
    for either question.
    """
    check_shapes(edits_a=(edits_a, "B C H W"), edits_b=(edits_b, "B C H W"))
    check_values(edits_a=edits_a, edits_b=edits_b)
    return 2 * _norm(edits_a - edits_b) / (_norm(edits_a) + _norm(edits_b))


def nearest_color(pixels: Tensor, palette: Mapping[str, tuple[int, int, int]]) -> str:
    """The name of the palette colour nearest to the per-channel median of `pixels`, in RGB
    Euclidean distance.

    pixels: (N, 3) in [0, 1], N >= 1; palette: name -> RGB in 0..255; of equally near colours the
    first. Raises ValueError for other shapes, InputError for an empty palette.
    """
    check_shapes(pixels=(pixels, "N 3"))
    check_values(-0.001, 1.001, pixels=pixels)
    if not palette:
        raise InputError("palette must name at least one colour, got none")
    median = np.median(255 * pixels.detach().cpu().float().numpy(), axis=0)
    return min(palette, key=lambda name: float(np.square(median - palette[name]).sum()))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a success rate (Wilson 1927): (low, high) in 0..1; (nan, nan) for n = 0.

    Raises InputError for a confidence outside (0, 1), ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be in 0..n, got {successes} of {n}")
    z = NormalDist().inv_cdf((1 + _checked(confidence)) / 2)
    if n == 0:
        return float("nan"), float("nan")
    rate, shrink = successes / n, 1 + z**2 / n
    center = (rate + z**2 / (2 * n)) / shrink
    half = z / shrink * (rate * (1 - rate) / n + (z / (2 * n)) ** 2) ** 0.5
    # At no or only successes the bound is 0 or 1, but for rounding.
    return (center - half if successes > 0 else 0.0), (center + half if successes < n else 1.0)


def bootstrap_interval(
    values: ArrayLike,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
    bounds: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap of a mean (Efron 1979): (low, high) in the unit of `values`; (nan, nan)
    = no interval.

    values: (N,); groups: (N,) labels. With groups, such as the image of each question, whole groups
    are resampled, for answers about one image are not independent. bounds: what no value can lie
    beyond, such as (0, 100) of percent.

    There is no interval of fewer than two values or groups, nor where all groups have one mean (but
    for the rounding of float32): every resample then has it, too, which says nothing of the values
    that were not drawn. Where that mean is one of the `bounds`, the interval is Wilson's of as many
    trials as there are groups, all of which ended alike. There is none either where a value is not
    finite: leave those out first, and say how many are left. Raises InputError for a confidence
    outside (0, 1) or no resamples, ValueError for other shapes.
    """
    samples = np.asarray(values, dtype=np.float64)
    labels = np.arange(samples.size) if groups is None else np.asarray(groups)
    if samples.ndim != 1 or labels.shape != samples.shape:
        raise ValueError(
            f"values and groups must have one shape (N,), got {samples.shape} and {labels.shape}"
        )
    if n_resamples < 1:
        raise InputError(f"n_resamples must be at least 1, got {n_resamples}")
    tail = (1 - _checked(confidence)) / 2
    _, index = np.unique(labels, return_inverse=True)
    sums, counts = np.bincount(index, weights=samples), np.bincount(index)
    if len(counts) < 2 or not np.isfinite(samples).all():
        return float("nan"), float("nan")
    if np.ptp(sums / counts) <= ROUNDING * np.abs(samples).max():
        return _interval_of_equals(float(sums[0] / counts[0]), len(counts), confidence, bounds)
    rng = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    # A few at a time: all draws of a validation set would take gigabytes.
    at_once = max(1, DRAWS // len(counts))
    for first in range(0, n_resamples, at_once):
        resamples = means[first : first + at_once]
        drawn = rng.integers(len(counts), size=(len(resamples), len(counts)))
        resamples[:] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _interval_of_equals(
    mean: float, num_groups: int, confidence: float, bounds: tuple[float, float] | None
) -> tuple[float, float]:
    """Wilson's interval where all groups have a mean that is one of `bounds`; elsewhere none."""
    lowest, highest = bounds or (float("nan"), float("nan"))
    width = highest - lowest
    for successes, bound in ((0, lowest), (num_groups, highest)):
        if abs(mean - bound) <= ROUNDING * width:
            low, high = wilson_interval(successes, num_groups, confidence)
            return lowest + width * low, lowest + width * high
    return float("nan"), float("nan")


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, got {confidence}")
    return confidence
