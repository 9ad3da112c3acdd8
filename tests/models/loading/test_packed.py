import pytest
import torch

from cfexp.models.loading import packed
from cfexp.models.loading.packed import PackedMatrix


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "before", "after"), [(1, 3, 5), (17, 512, 1152), (70, 64, 9)])
def test_product_and_gradient_are_the_plain_ones(
    rows: int, before: int, after: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    matrix, values = (
        torch.randn(before, after, dtype=dtype),
        torch.randn(rows, before, dtype=dtype, requires_grad=True),
    )
    weight = torch.randn(rows, after, dtype=dtype)
    product = PackedMatrix(matrix)(values)
    (gradient,) = torch.autograd.grad(product, [values], weight)
    scale = float(before**0.5)
    torch.testing.assert_close(
        product / scale, values.detach() @ matrix / scale, rtol=1e-5, atol=1e-5
    )
    scale = float(after**0.5)
    torch.testing.assert_close(gradient / scale, weight @ matrix.T / scale, rtol=1e-5, atol=1e-5)


def test_without_onednn_it_is_the_plain_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_packs", lambda matrix: False)
    matrix, values = torch.randn(8, 6), torch.randn(2, 8)
    assert torch.equal(PackedMatrix(matrix)(values), values @ matrix)
