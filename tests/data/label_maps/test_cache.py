"""Label maps that are kept, by the example of faces whose parts they are composed of."""

import multiprocessing
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cfexp.data.label_maps.cache import LabelMapCache
from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.data.label_maps.part_masks import PartMasks
from cfexp.worlds.face_names import REGIONS
from cfexp.worlds.faces import FaceParameters, cached_faces
from tests.data.faces.test_celebamask_hq import MASKS, module


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_faces(FaceParameters(faces=48), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def root(world: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(world, tmp_path / "root"))


def test_composed_maps_are_kept_by_the_content_of_their_parts(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = sorted(root.rglob("*"))
    first = next(iter(module(root, cache).test_dataloader())).label_map
    kept = files_of(cache)
    assert len(kept) == 8
    assert sorted(root.rglob("*")) == before
    written = [path.stat().st_mtime_ns for path in kept]
    assert torch.equal(next(iter(module(root, cache).test_dataloader())).label_map, first)
    assert [path.stat().st_mtime_ns for path in kept] == written
    # What was kept is what is read ...
    reader = PartMasks(LabelMapCache(cache / "label_maps"))
    record = LabelMapRecord("40", root / "40.jpg", root / MASKS / "0" / "00040.png", ())
    image, size = Image.new("RGB", (64, 64)), (64, 64)
    shown = [
        path
        for path in kept
        if zlib.decompress(path.read_bytes()) == first[0].byte().numpy().tobytes()
    ]
    shown[0].write_bytes(zlib.compress(bytes([7]) * first[0].numel()))
    assert set(reader.shown(record, image, size).ravel()) == {7}
    # ... a damaged one is composed again, and an exchanged part gives another one.
    for damaged in (b"", b"\0", zlib.compress(b"\0")):
        shown[0].write_bytes(damaged)
        np.testing.assert_array_equal(reader.shown(record, image, size), first[0])
    assert files_of(cache) == kept
    Image.new("L", (64, 64), 255).save(root / MASKS / "0" / "00040_cloth.png")
    assert set(reader.shown(record, image, size).ravel()) == {REGIONS.index("cloth")}
    # Another size is another map.
    assert reader.shown(record, image, (8, 4)).shape == (4, 8)
    assert len(files_of(cache)) == 10


def files_of(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "label_maps").rglob("*") if path.is_file())


def test_processes_may_share_the_cache(world: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_compose_all, args=(world, tmp_path / "cache")) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    kept = files_of(tmp_path / "cache")
    assert len(kept) == 48
    assert not any(path.suffix for path in kept)


def _compose_all(world: Path, cache: Path) -> None:
    torch.set_num_threads(
        1
    )  # as in a worker of a loader: after a fork the threads of the parent are not there
    data = module(world, cache)
    for part in ("train", "val", "test"):
        assert len(data.dataset(part)[0].label_map) == 1
        data.dataset(part).__getitems__(list(range(len(data.dataset(part)))))
