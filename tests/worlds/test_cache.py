"""How embedded worlds are kept, by the example of the scenes."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfexp.errors import InputError
from cfexp.worlds import scenes
from cfexp.worlds.scenes import SceneParameters, cached_scenes, draw_scene
from tests.worlds.test_scenes import SMALL, digests


@pytest.mark.parametrize("interruption", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_world_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    drawn = iter(range(4))

    def draw(parameters: SceneParameters, rng: np.random.Generator) -> scenes.Scene:
        if next(drawn) == 3:
            assert len(list(tmp_path.glob("*.partial"))) == 1
            raise interruption
        return draw_scene(parameters, rng)

    monkeypatch.setattr(scenes, "draw_scene", draw)
    with pytest.raises(type(interruption)):
        cached_scenes(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(digests(cached_scenes(SMALL, tmp_path))) == 15


def test_a_finished_world_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cached_scenes(SMALL, tmp_path)
    monkeypatch.setattr(scenes, "write_scenes", lambda *_: pytest.fail("written again"))
    assert cached_scenes(SMALL, tmp_path) == folder


def _write_at_once(barrier: Any, cache_dir: Path) -> Path:
    barrier.wait(60)
    return cached_scenes(SceneParameters(train_scenes=60, val_scenes=1), cache_dir)


def test_two_processes_that_write_at_once_share_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        barrier = manager.Barrier(2)
        folders = pool.starmap(_write_at_once, [(barrier, tmp_path)] * 2, chunksize=1)
    assert list(tmp_path.iterdir()) == [folders[0]] == [folders[1]]
    assert len(digests(folders[0])) == 61 + 6


def test_a_cache_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=f"cache_dir={tmp_path / 'file'}: File exists; give a folder"
    ) as caught:
        cached_scenes(SMALL, tmp_path / "file")
    assert "\n" not in str(caught.value)
