import shutil
from pathlib import Path

import pytest

from cfexp.worlds.streets import StreetParameters, cached_streets


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_streets(
        StreetParameters(train_scenes=12, val_scenes=6), tmp_path_factory.mktemp("cache")
    )


@pytest.fixture
def root(world: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(world, tmp_path / "root"))
