from pathlib import Path

import pytest

from tests.data.vqa_writer import write_vqa


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default cache lies in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture
def vqa_root(tmp_path: Path) -> Path:
    """A folder in VQAv1's layout: 8 train and 4 val images, three questions each, with scene
    graphs.
    """
    return write_vqa(tmp_path / "vqa")
