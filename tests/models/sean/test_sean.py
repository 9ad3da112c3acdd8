from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.benchmarks.forms import published_decode
from cfexp.errors import InputError
from cfexp.models.neighbourhoods import (
    convolve_rows,
    find_grid,
    kernel_rows,
    modulate,
    sum_by,
    sum_rows,
)
from cfexp.models.sean.fast import FastSEAN
from cfexp.models.sean.sean import SEAN
from cfexp.models.sean.style_encoder import pool_regions

REGIONS, DIM = 7, 12


def label_maps(batch: int = 3, height: int = 32, width: int = 64) -> Tensor:
    """Blocks, stripes and one lone pixel (region 5) that is off the grid of the encoder and of
    every coarser grid.
    """
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    maps = torch.stack([(y // (5 + image) + x // 9) % (4 - image % 2) for image in range(batch)])
    maps[:, 13, 21] = 5
    return maps


def lively_sean(**settings: Any) -> SEAN:
    """A small SEAN in float64 none of whose parts is idle: noise, blending and batch norm away from
    their start.
    """
    torch.manual_seed(0)
    sean = SEAN(
        REGIONS, base_channels=4, style_dim=DIM, encoder_channels=4, spade_channels=6, **settings
    ).double()
    for parameter in sean.parameters():
        fan_in = parameter.shape[-1] if parameter.ndim == 3 else parameter[0].numel()
        nn.init.normal_(parameter, std=fan_in**-0.5 if parameter.ndim > 1 else 0.3)
    images = torch.rand(3, 3, 32, 64, dtype=torch.float64) * 2 - 1
    for _ in range(5):  # statistics of the batch norm and the spectral norm
        sean(images, label_maps())
    return sean.eval()


def codes_of(batch: int = 3) -> Tensor:
    return torch.randn(
        batch, REGIONS, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )


def image_and_gradient(decode: Callable[[Tensor], Tensor], codes: Tensor) -> tuple[Tensor, Tensor]:
    codes = codes.clone().requires_grad_()
    image = decode(codes)
    weights = torch.randn(
        image.shape[1:], dtype=image.dtype, generator=torch.Generator().manual_seed(4)
    )
    return image.detach(), torch.autograd.grad((image * weights).sum(), codes)[0]


@pytest.mark.parametrize("seeds", [None, [3, 1, 4]])
@pytest.mark.parametrize("settings", [{}, {"up_blocks": 2, "last_block_styled": True}])
def test_every_form_gives_the_same_image_and_gradient(
    seeds: list[int] | None, settings: dict[str, int | bool]
) -> None:
    sean, maps, codes = lively_sean(**settings), label_maps(), codes_of()
    fast = FastSEAN(sean)
    prepared = fast.prepare(maps, seeds)
    dense = image_and_gradient(lambda z: sean.decode(z, maps, seeds, dense=True), codes)
    table = image_and_gradient(lambda z: sean.decode(z, maps, seeds), codes)
    quick = image_and_gradient(lambda z: fast.decode(z, prepared), codes)
    assert dense[0].std() > 0.05
    assert dense[1].abs().max() > 0.1
    for form in (table, quick):
        torch.testing.assert_close(form[0], dense[0], atol=1e-10, rtol=0)
        torch.testing.assert_close(form[1], dense[1], atol=1e-10, rtol=0)
    # A second step with the same room gives the same again.
    assert torch.equal(image_and_gradient(lambda z: fast.decode(z, prepared), codes)[1], quick[1])


def test_the_published_loop_gives_the_same() -> None:
    sean, maps, codes = lively_sean(), label_maps(), codes_of()
    for norm in sean.norms():
        nn.init.zeros_(norm.noise_scale)
    expected = image_and_gradient(lambda z: published_decode(sean, z, maps), codes)
    got = image_and_gradient(lambda z: sean.decode(z, maps), codes)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)


def test_a_query_gives_the_same_alone_and_in_a_batch() -> None:
    sean, maps, codes = lively_sean(), label_maps(), codes_of()
    fast = FastSEAN(sean)
    together = image_and_gradient(lambda z: fast.decode(z, fast.prepare(maps, [5, 6, 7])), codes)
    alone = image_and_gradient(lambda z: fast.decode(z, fast.prepare(maps[1:2], [6])), codes[1:2])
    torch.testing.assert_close(alone[0], together[0][1:2], atol=1e-10, rtol=0)
    torch.testing.assert_close(alone[1], together[1][1:2], atol=1e-10, rtol=0)


@pytest.mark.parametrize("rows", [[1], [2, 0]])
def test_prepared_layouts_of_some_queries_are_theirs(rows: list[int]) -> None:
    sean, maps, codes = lively_sean().eval(), label_maps(), codes_of()
    fast = FastSEAN(sean)
    prepared = fast.prepare(maps, [5, 6, 7])
    some = fast.of(prepared, torch.tensor(rows))
    anew = fast.prepare(maps[rows], [[5, 6, 7][row] for row in rows])
    expected = image_and_gradient(lambda z: fast.decode(z, anew), codes[rows])
    found = image_and_gradient(lambda z: fast.decode(z, some), codes[rows])
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(some.grids, anew.grids, strict=True):
        assert [len(column) for column in ours] == [len(column) for column in theirs]
        assert torch.equal(ours.present, theirs.present) or rows != sorted(rows)


def test_a_region_off_the_encoders_grid_is_drawn_without_a_code_and_an_absent_one_is_not() -> None:
    sean, maps = lively_sean(last_block_styled=True), label_maps()
    codes = sean.encode(torch.rand(3, 3, 32, 64, dtype=torch.float64), maps)
    assert (codes[:, 5] == 0).all()
    assert (codes[:, 6] == 0).all()
    _, gradient = image_and_gradient(
        lambda z: FastSEAN(sean).decode(z, FastSEAN(sean).prepare(maps)), codes
    )
    assert (gradient[:, 5] != 0).any()
    assert (gradient[:, 6] == 0).all()


def test_noise_is_drawn_from_its_seed_and_matters() -> None:
    sean, maps, codes = lively_sean(), label_maps(), codes_of()
    one, again, other = (
        sean.decode(codes, maps, seeds) for seeds in ([1, 2, 3], [1, 2, 3], [1, 2, 4])
    )
    assert torch.equal(one, again)
    assert torch.equal(one[:2], other[:2])
    assert not torch.allclose(one[2], other[2])
    assert not torch.allclose(one, sean.decode(codes, maps))
    with pytest.raises(InputError, match="noise_seeds must be 3 numbers"):
        sean.decode(codes, maps, [1])


def test_noise_is_redrawn_without_preparing_anew() -> None:
    sean, maps, codes = lively_sean(), label_maps(), codes_of()
    fast = FastSEAN(sean)
    first = fast.prepare(maps, [1, 2, 3])
    before = image_and_gradient(lambda z: fast.decode(z, first), codes)
    for seeds in ([4, 5, 6], None):
        redrawn, expected = fast.redraw(first, seeds), fast.prepare(maps, seeds)
        assert redrawn.norms[0][0].static is first.norms[0][0].static
        got = image_and_gradient(partial(fast.decode, prepared=redrawn), codes)
        wanted = image_and_gradient(partial(fast.decode, prepared=expected), codes)
        assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
        assert not torch.allclose(got[0], before[0])
    # And what was there is still there.
    assert torch.equal(image_and_gradient(lambda z: fast.decode(z, first), codes)[0], before[0])


def test_weights_take_the_same_gradient_in_both_forms() -> None:
    # In training mode noise is drawn afresh; here its scale is zero.
    sean, maps, codes = lively_sean(), label_maps(), codes_of()
    for norm in sean.norms():
        nn.init.zeros_(norm.noise_scale)
    parameters = [
        parameter for name, parameter in sean.named_parameters() if not name.startswith("encoder")
    ]
    gradients = [
        torch.autograd.grad(
            sean.decode(codes, maps, dense=dense)[:, 0].sum(), parameters, allow_unused=True
        )
        for dense in (False, True)
    ]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-9, rtol=1e-9)


def test_the_number_of_parameters_is_the_published_one() -> None:
    with torch.device("meta"):
        sean = SEAN(19)
    # 266,907,367 less the last block's blending scalars, which are never used.
    assert sum(parameter.numel() for parameter in sean.parameters()) == 266_907_367 - 6
    assert sum(parameter.numel() for parameter in sean.encoder.parameters()) == 1_568_576
    assert sean.strides == [32, 16, 16, 8, 4, 2, 1]


@pytest.mark.slow
def test_a_small_sean_overfits_eight_images() -> None:
    torch.manual_seed(0)
    maps = label_maps(8, 32, 32) % 4
    colors = torch.rand(8, 4, 3) * 1.6 - 0.8
    images = torch.stack(
        [color[label_map] for color, label_map in zip(colors, maps, strict=True)]
    ).permute(0, 3, 1, 2)
    sean = SEAN(
        4, 8, 16, 8, up_blocks=2, encoder_downsamplings=1, spade_channels=16, last_block_styled=True
    )
    optimizer = torch.optim.Adam(sean.parameters(), lr=3e-3, betas=(0.0, 0.9))
    for _ in range(120):
        loss = F.l1_loss(sean(images, maps), images)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    assert F.l1_loss(sean.eval()(images, maps), images) < 0.13  # 0.4 if it said nothing


def test_what_does_not_fit_is_refused() -> None:
    sean, maps, codes = lively_sean(), label_maps(), codes_of()
    with pytest.raises(InputError, match=r"label_maps must be in 0\.\.6, got 0\.\.255"):
        sean.decode(codes, maps.masked_fill(maps == 5, 255))
    with pytest.raises(InputError, match="sides that 32 divides"):
        sean.decode(codes, maps[:, :20])
    with pytest.raises(InputError, match=r"int64 of shape \(B, H, W\), got torch.uint8"):
        sean.decode(codes, maps.byte())
    with pytest.raises(
        InputError, match=r"style_codes must have shape \(3, 7, 12\), got \(2, 7, 12\)"
    ):
        sean.decode(codes[:2], maps)
    with pytest.raises(InputError, match="images must have shape"):
        sean.encode(torch.zeros(3, 3, 32, 32, dtype=torch.float64), maps)
    with pytest.raises(ValueError, match="style_codes must have shape"):
        FastSEAN(sean).decode(codes[:2], FastSEAN(sean).prepare(maps))
    with pytest.raises(RuntimeError, match="evaluation mode"):
        FastSEAN(sean.train())


def test_a_table_is_the_convolution_of_a_map_that_is_constant_in_a_region() -> None:
    maps = label_maps()
    grid = find_grid(maps, REGIONS)
    values = torch.randn(3, REGIONS, 5, dtype=torch.float64)
    kernel = torch.randn(4, 5, 3, 3, dtype=torch.float64)
    broadcast = torch.stack(
        [value[label_map] for value, label_map in zip(values, maps, strict=True)]
    )
    expected = F.conv2d(broadcast.permute(0, 3, 1, 2), kernel, padding=1)
    table = convolve_rows(values.flatten(0, 1)[grid.present], kernel_rows(kernel), grid.inner)
    assert len(table) < maps.numel() / 2
    looked_up = table[grid.middle.number][grid.pixel.number].view(3, 32, 64, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(looked_up, expected, atol=1e-12, rtol=0)


def test_sums_over_neighbourhoods_have_the_gradient_of_their_definition() -> None:
    grid = find_grid(label_maps(2)[:, 10:14, 18:24], REGIONS)
    for taps, count in ((grid.inner, len(grid.present)), (grid.outer, len(grid.labels.rows))):
        products = torch.randn(count + 1, 9 * 2, dtype=torch.float64, requires_grad=True)
        of_tap = products.view(-1, 9, 2)[taps.rows, torch.arange(9)]
        torch.testing.assert_close(sum_rows(products, taps), of_tap.sum(1))
        assert torch.autograd.gradcheck(lambda rows, taps=taps: sum_rows(rows, taps), products)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("styled", [False, True])
def test_a_normalisation_has_the_gradient_of_the_dense_one(styled: bool, frozen: bool) -> None:
    norm = lively_sean().norms()[0 if styled else -1].requires_grad_(not frozen)
    grid = find_grid(label_maps(), REGIONS)
    features = torch.randn(3, len(norm.noise_scale), 32, 64, dtype=torch.float64)
    inputs = [features.requires_grad_(), codes_of().requires_grad_()]
    taken = [*inputs, *(each for each in norm.parameters() if each.requires_grad)]
    forms = [norm(*inputs, form, None, slope=0.2) for form in (grid, grid.label_map)]
    torch.testing.assert_close(*forms)
    weights = torch.randn_like(features)
    gradients = [
        torch.autograd.grad((form * weights).sum(), taken, allow_unused=True) for form in forms
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("slope", [1.0, 0.2])
def test_modulation_has_the_gradient_of_its_definition(slope: float) -> None:
    grid = find_grid(label_maps(2)[:, 10:14, 18:24], REGIONS)
    image, table = (
        torch.randn(*size, dtype=torch.float64, requires_grad=True)
        for size in ((2, 3, 4, 6), (len(grid.outer.rows), 6))
    )
    modulated = modulate(image, table, grid, slope)
    scale, shift = table[grid.pixel.number].view(2, 4, 6, 6).permute(0, 3, 1, 2).chunk(2, dim=1)
    plain = F.leaky_relu(image * scale + shift, slope)
    torch.testing.assert_close(modulated, plain)
    weights = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((form * weights).sum(), [image, table]) for form in (modulated, plain)
    )
    torch.testing.assert_close(found, expected)
    rows = torch.randn(len(grid.pixel.number), 3)
    summed = torch.zeros(len(grid.outer.rows), 3).index_add_(0, grid.pixel.number, rows)
    torch.testing.assert_close(sum_by(rows, grid.pixel), summed)


def test_pooling_is_the_mean_over_each_region() -> None:
    maps, features = label_maps(), torch.randn(3, 5, 32, 64)
    pooled = pool_regions(features, maps, REGIONS)
    for image in range(3):
        for region in range(REGIONS):
            inside = features[image][:, maps[image] == region]
            expected = inside.mean(1) if inside.numel() else torch.zeros(5)
            torch.testing.assert_close(pooled[image, region], expected)
