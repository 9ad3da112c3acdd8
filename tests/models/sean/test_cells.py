import pytest
import torch
from torch import Tensor

from cfexp.errors import InputError
from cfexp.models.sean.cells import PARTS, CellSEAN, read_cells
from cfexp.models.sean.fast import FastSEAN

CELLS = ("2x2", "2x1", "1x1")


def label_maps() -> Tensor:
    """Two images of background, a box of region 1, and in the second a lamp in the box."""
    maps = torch.zeros(2, 16, 16, dtype=torch.int64)
    maps[0, 2:10, 4:8] = 1
    maps[1, 6:14, 8:14] = 1
    maps[1, 8, 10] = 2
    return maps


def small(cells: object = CELLS) -> CellSEAN:
    torch.manual_seed(0)
    settings = {"up_blocks": 1, "spade_channels": 4, "last_block_styled": True, "initial_gain": 1.0}
    return CellSEAN(3, cells, style_dim=6, encoder_channels=4, base_channels=4, **settings)  # type: ignore[arg-type]


def test_a_region_is_divided_over_its_bounding_box_in_each_image() -> None:
    cells = read_cells(CELLS, 3)
    assert cells.region_of == [0, 0, 0, 0, 1, 1, 2]
    divided = cells.divide(label_maps())
    assert divided[0, [0, 0, 15, 15], [0, 15, 0, 15]].tolist() == [0, 1, 2, 3]
    assert divided[0, 2:10, 5].tolist() == [4] * 4 + [5] * 4  # of a box eight pixels high
    assert divided[1, 6:14, 8].tolist() == [4] * 4 + [5] * 4  # which lies elsewhere
    assert divided[1, 8, 10] == 6
    # What was divided is still of its region, and finer cells lie within.
    assert torch.equal(torch.tensor(cells.region_of)[divided], label_maps())
    parts, finer = cells.parts(PARTS), cells.finer(PARTS).divide(label_maps())
    owner = {part: cell for cell, members in enumerate(parts) for part in members}
    assert [owner[part] for part in finer.flatten().tolist()] == divided.flatten().tolist()


@pytest.mark.parametrize("cells", [("2x2", "1x1"), "2", "0x2", ("2x2", "2x2", "half"), "99x99"])
def test_cells_that_are_none_are_refused(cells: object) -> None:
    with pytest.raises(InputError, match=r"network\.cells"):
        small(cells)


def test_the_generator_is_the_same_folded_and_dense() -> None:
    network = small().double()
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64) * 2 - 1
    for _ in range(3):
        network(images, label_maps())
    network.eval()
    codes = network.encode(images, label_maps())
    assert codes.shape == (2, 7, 6)
    assert not codes[0, 6].any()  # no lamp
    assert (codes[:, :6] != 0).all()
    expected = network.decode(codes, label_maps())
    torch.testing.assert_close(network.decode(codes, label_maps(), dense=True), expected)
    fast = FastSEAN(network)
    torch.testing.assert_close(fast.decode(codes, fast.prepare(label_maps())), expected)


def test_what_may_change_and_what_has_changed_is_told_by_region() -> None:
    network = small()
    mask = torch.tensor([[True, False, False], [False, True, True]])
    assert network.codes_of(mask).int().tolist() == [[1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1]]
    change = torch.tensor([[3.0, 0.0, 0.0, 4.0, 0.0, 2.0, 1.0]])
    assert network.by_region(change).tolist() == [[5.0, 2.0, 1.0]]


def test_label_maps_are_of_regions_not_of_cells() -> None:
    with pytest.raises(InputError, match=r"0\.\.2"):
        small().encode(torch.zeros(1, 3, 16, 16), torch.full((1, 16, 16), 3))


def test_the_place_within_a_cell_is_seen() -> None:
    """Of a whole region's mean nothing would be left of it."""
    network, maps = small("1x1").eval(), torch.zeros(1, 16, 16, dtype=torch.int64)
    left, right = torch.zeros(2, 1, 3, 16, 16).unbind()
    left[..., 2:4], right[..., 12:14] = 1, 1
    codes = network.encode(left, maps), network.encode(right, maps)
    assert (codes[0] - codes[1]).abs().max() > 0.05


def test_it_learns_to_draw_eight_images() -> None:
    torch.manual_seed(1)
    coarse = torch.rand(8, 3, 4, 4) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, scale_factor=4.0, mode="nearest")
    maps = label_maps().repeat(4, 1, 1)
    network = small("2x2")
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        loss = (network(images, maps) - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1  # of a variance of 0.33
