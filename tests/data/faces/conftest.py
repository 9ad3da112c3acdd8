"""Files of faces that a test may damage; each test module says which `world` they are of."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def root(world: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(world, tmp_path / "root"))
