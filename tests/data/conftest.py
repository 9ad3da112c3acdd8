from pathlib import Path

import pytest

from tests.data.vqa_writer import write_vqa


@pytest.fixture
def vqa_root(tmp_path: Path) -> Path:
    """A folder in VQAv1's layout: 8 train and 4 val images, three questions each, with scene graphs."""
    return write_vqa(tmp_path / "vqa")
