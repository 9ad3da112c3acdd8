"""Copies of the embedded worlds that a test may damage."""

from pathlib import Path

import pytest

from cfexp.worlds.faces import FaceParameters, cached_aligned_faces, cached_faces
from cfexp.worlds.streets import StreetParameters, cached_streets
from tests.data.damage import copy_of


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture
def celeba(cache: Path, tmp_path: Path) -> Path:
    return copy_of(cached_aligned_faces(FaceParameters(faces=24), cache), tmp_path / "celeba")


@pytest.fixture
def hq(cache: Path, tmp_path: Path) -> Path:
    return copy_of(cached_faces(FaceParameters(faces=24, image_size=32), cache), tmp_path / "hq")


@pytest.fixture
def streets(cache: Path, tmp_path: Path) -> Path:
    return copy_of(
        cached_streets(StreetParameters(train_scenes=10, val_scenes=4), cache), tmp_path / "streets"
    )
