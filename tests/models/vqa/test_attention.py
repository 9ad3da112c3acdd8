import torch

from cfexp.models.vqa.attention import attention_inside, cells_inside, even_inside


def test_attention_counts_by_how_much_of_a_cell_an_object_fills() -> None:
    mask = torch.zeros(2, 4, 4)
    mask[0, :2, :2] = 1  # the first of four cells
    mask[0, :2, 2] = 1  # half of the second; the other object fills nothing
    cells = cells_inside(mask, torch.zeros(1, 7, 2, 2))
    torch.testing.assert_close(cells, torch.tensor([[[1.0, 0.5, 0, 0]], [[0.0, 0, 0, 0]]]))
    attention = torch.tensor([[0.5, 0.2, 0.3, 0.0], [0.0, 0.0, 0.0, 1.0]]).expand(2, 2, 4)
    expected = torch.tensor([[0.6, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(attention_inside(attention, cells), expected)
    torch.testing.assert_close(even_inside(cells)[0, 0], torch.tensor([2 / 3, 1 / 3, 0, 0]))
    assert even_inside(cells)[1].sum() == 0
