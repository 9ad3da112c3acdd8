import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from cfexp.errors import InputError
from cfexp.metrics.functional import (
    changed_fraction,
    checkerboard_score,
    edit_locality,
    l1_change,
    l2_distance,
    language_sensitivity,
    nearest_color,
    psnr,
    region_rms,
    rms_change,
    ssim,
)

PALETTE = {
    "red": (230, 25, 25),
    "green": (30, 170, 60),
    "blue": (40, 70, 220),
    "gray": (128, 128, 128),
}


def images(batch: int = 3, size: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two batches in [-1, 1], (batch, 3, size, size + 8): sides that differ show a swapped axis."""
    generator = torch.Generator().manual_seed(seed)
    query, counterfactual = 2 * torch.rand(2, batch, 3, size, size + 8, generator=generator) - 1
    return query, counterfactual


def noise(batch: int, channels: int, size: int) -> Tensor:
    return 0.1 * torch.randn(
        batch, channels, size, size, generator=torch.Generator().manual_seed(1)
    ).expand(-1, 3, -1, -1)


# --- distances


def test_an_image_and_itself() -> None:
    query, _ = images()
    for distance in (rms_change, l2_distance, changed_fraction):
        assert distance(query, query).tolist() == [0, 0, 0]
    assert ssim(query, query).tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    mask = torch.ones(3, 1, 32, 40, dtype=torch.bool)
    for score in (
        edit_locality(query, query, mask),
        checkerboard_score(query, query),
        language_sensitivity(query * 0, query * 0),
    ):
        assert score.shape == (3,)
        assert score.isnan().all()


def test_distances_are_numpys() -> None:
    query, counterfactual = images()
    counterfactual = 0.9 * query + 0.1 * counterfactual
    before, after = (127.5 * (x.double().numpy() + 1) for x in (query, counterfactual))
    difference = (after - before).reshape(3, -1)
    np.testing.assert_allclose(
        rms_change(query, counterfactual), np.sqrt((difference**2).mean(1)), rtol=1e-5
    )
    np.testing.assert_allclose(
        l2_distance(query, counterfactual), np.linalg.norm(difference / 255, axis=1), rtol=1e-5
    )
    changed = (np.abs(after - before).max(1) > 10).reshape(3, -1).mean(1)
    assert ((changed > 0.3) & (changed < 0.9)).all()
    # Two pixels of each image may lie within the tolerance that whole levels need.
    np.testing.assert_allclose(
        changed_fraction(query, counterfactual), changed, atol=2.01 / (32 * 40)
    )


def test_units_of_a_black_image_turned_white() -> None:
    black, white = torch.full((1, 3, 4, 5), -1.0), torch.ones(1, 3, 4, 5)
    assert rms_change(black, white).item() == pytest.approx(255)
    assert l2_distance(black, white).item() == pytest.approx(math.sqrt(60))
    assert changed_fraction(black, white).item() == 1


def test_a_pixel_has_changed_from_eleven_levels_in_one_channel_on() -> None:
    levels = torch.arange(256.0)
    for shift, expected in ((10, 0.0), (11, 1.0)):
        before = levels[: 256 - shift].view(1, 1, 1, -1).repeat(1, 3, 1, 1)
        after = before.clone()
        after[:, 1] += shift
        assert changed_fraction(before / 127.5 - 1, after / 127.5 - 1).item() == expected
        assert changed_fraction(after / 127.5 - 1, before / 127.5 - 1).item() == expected


def test_ssim_is_that_of_images_in_0_1() -> None:
    query, counterfactual = images()
    counterfactual = 0.7 * query + 0.3 * counterfactual
    offset = np.arange(11) - 5
    window = np.exp(-(offset**2) / (2 * 1.5**2))
    weights = np.outer(window, window) / window.sum() ** 2

    def local_mean(x: Any) -> Any:
        padded = np.pad(x, ((0, 0), (0, 0), (5, 5), (5, 5)), mode="reflect")
        patches = np.lib.stride_tricks.sliding_window_view(padded, (11, 11), axis=(2, 3))
        return (patches * weights).sum((-2, -1))

    a, b = ((x.double().numpy() + 1) / 2 for x in (query, counterfactual))
    mean_a, mean_b = local_mean(a), local_mean(b)
    var_a, var_b = local_mean(a * a) - mean_a**2, local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    index = (
        (2 * mean_a * mean_b + c1)
        * (2 * covariance + c2)
        / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    np.testing.assert_allclose(ssim(query, counterfactual), index.mean((1, 2, 3)), atol=1e-4)


def test_psnr_is_torchmetrics_and_ends_at_rounding() -> None:
    query, counterfactual = images()
    each = [
        peak_signal_noise_ratio(a, b, data_range=2.0)
        for a, b in zip(counterfactual, query, strict=True)
    ]
    assert psnr(query, counterfactual).tolist() == pytest.approx(
        [float(value) for value in each], rel=1e-5
    )
    assert psnr(query, query).tolist() == pytest.approx([10 * math.log10(12 * 255**2)] * 3)


def test_locality_is_the_share_of_energy_inside() -> None:
    query = torch.zeros(3, 3, 4, 6)
    counterfactual = query.clone()
    counterfactual[:, :, 0, 0] = 0.1  # energy 1 a channel
    counterfactual[:, :, 3, 5] = -0.3  # energy 9
    mask = torch.zeros(3, 1, 4, 6, dtype=torch.bool)
    mask[0, 0, 0] = True
    mask[1, 0, :, 5] = True
    locality = edit_locality(query, counterfactual, mask)
    assert locality[:2].tolist() == pytest.approx([0.1, 0.9])
    assert locality[2].isnan()  # an empty mask
    assert edit_locality(query, counterfactual, ~mask)[2].item() == 1


def test_language_sensitivity() -> None:
    first, second = images()
    np.testing.assert_allclose(
        language_sensitivity(first, second),
        [
            np.linalg.norm(a - b) / np.mean([np.linalg.norm(a), np.linalg.norm(b)])
            for a, b in zip(first.numpy(), second.numpy(), strict=True)
        ],
        rtol=1e-5,
    )
    for other, expected in ((first, 0), (-first, 2), (0 * first, 2), (3 * first, 1)):
        assert language_sensitivity(first, other).tolist() == pytest.approx(
            [expected] * 3, abs=1e-6
        )


@pytest.mark.parametrize(
    "function",
    [rms_change, l2_distance, changed_fraction, checkerboard_score, language_sensitivity],
)
def test_shapes_that_differ_are_refused(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    query, _ = images()
    for other in (query[:1], query[:, :1]):  # both would broadcast
        with pytest.raises(ValueError, match=r"one shape \(B, C, H, W\), got \(3, 3, 32, 40\)"):
            function(query, other)


def test_mask_is_checked() -> None:
    query, counterfactual = images()
    for mask in (torch.ones(3, 1, 32, 40), torch.ones(3, 32, 40, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"^mask must .* got "):
            edit_locality(query, counterfactual, mask)


# --- checkerboard


def checkerboard_reference(edit: Any, period: int) -> float:
    """The definition in loops, on one (C, H, W) edit whose sides are multiples of 32."""
    _, height, width = edit.shape
    power = np.mean([np.abs(np.fft.fft2(channel)) ** 2 for channel in edit], axis=0)
    ratios = []
    for y, x in ((height // period, 0), (0, width // period), (height // period, width // period)):
        row = [
            power[y, (x + s * d) % width]
            for d in range(width // 16, width // 8 + 1)
            for s in (-1, 1)
        ]
        column = [
            power[(y + s * d) % height, x]
            for d in range(height // 16, height // 8 + 1)
            for s in (-1, 1)
        ]
        background = max(np.median(row), np.median(column))
        ratios.append((power[y, x] + 1e-6 * power.mean()) / (background + 1e-6 * power.mean()))
    return float(np.mean(ratios))


@pytest.mark.parametrize("period", [2, 4])
def test_checkerboard_is_its_definition(period: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query, counterfactual = torch.randn(2, 4, 3, 64, 96, generator=generator)
    expected = [
        checkerboard_reference(edit.double().numpy(), period) for edit in counterfactual - query
    ]
    np.testing.assert_allclose(
        checkerboard_score(query, counterfactual, period=period), expected, rtol=1e-3
    )


def deconvolved(stride: int) -> Tensor:
    """Edits (64, 3, 64, 64) of a random transposed convolution on smooth features, as a generator
    makes them.
    """
    generator = torch.Generator().manual_seed(2)
    size = 64 // stride
    features = F.avg_pool2d(
        torch.randn(64, 16, size, size, generator=generator).relu(), 5, stride=1, padding=2
    )
    layer = nn.ConvTranspose2d(16, 3, stride + 1, stride=stride, padding=1, output_padding=1)
    weight = 0.1 * torch.randn(layer.weight.shape, generator=generator)
    return F.conv_transpose2d(features, weight, stride=stride, padding=1, output_padding=1)


def clean_edits() -> dict[str, Tensor]:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    generator = torch.Generator().manual_seed(3)
    center = 16 + 32 * torch.rand(64, 2, 1, 1, generator=generator)
    radius = 6 + 5 * torch.rand(64, 1, 1, generator=generator)
    color = (1.5 * torch.rand(64, 3, generator=generator) - 0.75)[:, :, None, None]
    dy, dx = y - center[:, 0], x - center[:, 1]
    disk = (dy**2 + dx**2 < radius**2).float()[:, None]
    square = (torch.maximum(dy.abs(), dx.abs()) < radius).float()[:, None]
    blob = torch.exp(-(dy**2 + dx**2) / (2 * radius**2))[:, None]
    small = torch.randn(64, 3, 32, 32, generator=generator)
    return {
        "gray noise": noise(64, 1, 64),
        "colour noise": noise(64, 3, 64),
        "constant": color.expand(-1, -1, 64, 64),
        "ramp": color * x / 64,
        "ramp in 8 bit": (127.5 * color * x / 64).round() / 127.5,
        "blob": color * blob,
        "blob in 8 bit": (127.5 * color * blob).round() / 127.5,
        "recoloured disk": color * disk,
        "recoloured square": color * square,
        "half-resolution edit": F.interpolate(small, scale_factor=2, mode="bilinear"),
        "nearest upsampling": F.interpolate(small, scale_factor=2),
    }


@pytest.mark.parametrize("name", clean_edits())
def test_clean_edits_have_no_checkerboard(name: str) -> None:
    edit = clean_edits()[name]
    for period in (2, 4):
        assert checkerboard_score(0 * edit, edit, period=period).mean() < 1.5
        assert checkerboard_score(0 * edit, edit, period=period, pooled=True) < 1.3


def test_noise_scores_one_when_pooled_over_many() -> None:
    edit = noise(1000, 3, 32)
    for period in (2, 4):
        assert checkerboard_score(
            0 * edit, edit, period=period, pooled=True
        ).item() == pytest.approx(1, abs=0.15)


def test_deconvolution_scores_high_at_its_own_period() -> None:
    for stride in (2, 4):
        edit = deconvolved(stride)
        assert checkerboard_score(0 * edit, edit, period=stride).min() > 20
        assert checkerboard_score(0 * edit, edit, period=stride, pooled=True) > 100
    edit = deconvolved(2)
    assert checkerboard_score(0 * edit, edit, period=4, pooled=True) < 1.3


def test_a_faint_checkerboard_on_an_object_is_found() -> None:
    edit = clean_edits()["recoloured disk"].clone()
    faint = edit.clone()
    faint[:, :, ::2, ::2] *= 1.3
    assert checkerboard_score(0 * edit, faint, pooled=True) > 10 * checkerboard_score(
        0 * edit, edit, pooled=True
    )


@pytest.mark.parametrize(("down", "across"), [(1, 0), (0, 1), (1, 1)])
def test_every_nyquist_point_counts(down: int, across: int) -> None:
    """Alternating rows, alternating columns and their product excite one point each."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    edit = noise(8, 3, 64) + 0.1 * (-1.0) ** (down * y + across * x)
    assert checkerboard_score(0 * edit, edit).min() > 50


def test_checkerboard_does_not_depend_on_strength_and_crops_odd_sizes() -> None:
    edit = deconvolved(2)
    score = checkerboard_score(0 * edit, edit)
    np.testing.assert_allclose(checkerboard_score(0 * edit, 0.01 * edit), score, rtol=1e-3)
    odd = F.pad(edit, (0, 1, 0, 1), value=0.5)
    torch.testing.assert_close(checkerboard_score(0 * odd, odd), score)


def test_pooling_averages_spectra_not_scores() -> None:
    edit = deconvolved(2)[:4]
    pooled = checkerboard_score(0 * edit, edit, pooled=True)
    assert pooled.shape == ()
    torch.testing.assert_close(
        checkerboard_score(edit[:1] * 0, edit[:1], pooled=True),
        checkerboard_score(edit[:1] * 0, edit[:1])[0],
    )
    unedited = torch.cat([edit, 0 * edit])  # images without an edit add nothing
    torch.testing.assert_close(checkerboard_score(0 * unedited, unedited, pooled=True), pooled)
    assert checkerboard_score(edit, edit, pooled=True).isnan()


def test_checkerboard_checks_what_it_gets() -> None:
    query, counterfactual = images()
    with pytest.raises(InputError, match="period must be 2 or 4, got 3"):
        checkerboard_score(query, counterfactual, period=3)
    with pytest.raises(ValueError, match=r"needs 16 pixels a side, got \(3, 3, 15, 40\)"):
        checkerboard_score(query[:, :, :15], counterfactual[:, :, :15])
    assert (
        checkerboard_score(query[:, :, :16, :16], counterfactual[:, :, :16, :16]).isfinite().all()
    )


# --- colour


@pytest.mark.parametrize("name", PALETTE)
def test_nearest_color_reads_through_noise_and_outliers(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = (
        torch.tensor(PALETTE[name]) / 255 + 0.08 * torch.randn(100, 3, generator=generator)
    ).clamp(0, 1)
    pixels[:40] = torch.tensor([1.0, 1.0, 0.0])  # a mean would be pulled away by these
    assert nearest_color(pixels, PALETTE) == name


def test_nearest_color_is_euclidean_and_takes_the_first_of_equals() -> None:
    # Squared distances 100 + 100 + 100 = 300 and 18^2 = 324: largest or summed differences would
    # choose the other.
    assert nearest_color(torch.zeros(1, 3), {"far": (18, 0, 0), "near": (10, 10, 10)}) == "near"
    assert nearest_color(torch.zeros(1, 3), {"far": (18, 0, 0), "near": (0, 17, 0)}) == "near"
    assert nearest_color(torch.zeros(2, 3), {"one": (10, 0, 0), "two": (0, 10, 0)}) == "one"


def test_nearest_color_checks_what_it_gets() -> None:
    for pixels in (torch.zeros(0, 3), torch.zeros(3, 4), torch.zeros(3)):
        with pytest.raises(ValueError, match=r"pixels must have shape \(N, 3\)"):
            nearest_color(pixels, PALETTE)
    with pytest.raises(InputError, match="palette must name at least one colour"):
        nearest_color(torch.zeros(1, 3), {})


def test_l1_change_and_the_change_of_regions() -> None:
    query, edited = torch.zeros(2, 2, 3, 4, 4)
    edited[0, :, :2] += 0.2  # the upper half, by 25.5 of 255 grey levels
    edited[0, 0, 3, 3] += 0.4
    label_map = torch.zeros(2, 4, 4, dtype=torch.uint8)
    label_map[:, 2:] = torch.tensor([[2], [255]])  # the last row is of no region
    assert l1_change(query, edited).tolist() == pytest.approx([25.5 / 2 + 51 / 48, 0])
    found = region_rms(query, edited, label_map, 3)
    assert torch.allclose(
        found, torch.tensor([[25.5, math.nan, 0], [0, math.nan, 0]]), equal_nan=True
    )
    assert torch.allclose(
        region_rms(query, edited, 0 * label_map, 1)[:, 0], rms_change(query, edited)
    )
    with pytest.raises(ValueError, match=r"label_map must have shape \(2, 4, 4\), got \(2, 4\)"):
        region_rms(query, edited, label_map[:, 0], 3)
