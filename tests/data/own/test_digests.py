"""What files hold is read once."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from cfexp.data.own import digests as own
from cfexp.data.own.digests import UNREADABLE, digests


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % (number % 2))
    return paths


def test_a_file_is_read_again_when_it_was_changed(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "_JUST_NOW", -60.0)  # as if all were written a minute ago
    kept = tmp_path / "cache/kept.json"
    first = digests(files, kept)
    assert first[0] == first[2] != first[1]
    read: list[str] = []
    hashed = hashlib.file_digest

    def noted(file: Any, how: str) -> Any:
        read.append(file.name)
        return hashed(file, how)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    assert digests(files, kept) == first
    assert read == []
    files[0].write_bytes(b"1")
    os.utime(files[1], ns=(0, 0))
    assert digests(files, kept) == [first[1], first[1], first[0]]
    assert read == [str(path) for path in files[:2]]
    kept.write_text("[1")
    assert digests(files, kept) == [first[1], first[1], first[0]]


def test_what_was_changed_just_now_is_not_kept(files: list[Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    digests(files, kept)
    assert not kept.exists()


def test_what_cannot_be_read_is_said_by_others(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing.png")
    assert digests([tmp_path / "link.png"], tmp_path / "kept.json") == [UNREADABLE]
