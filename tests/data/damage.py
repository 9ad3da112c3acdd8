"""Ways in which a file of a data set comes to harm, and what must become of it."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from PIL import ExifTags, Image

from cfexp.data.checks.base import check_data
from cfexp.data.checks.findings import Findings
from cfexp.errors import InputError

Damage = Callable[[Path], object]
WEB_PAGE = b"<html><body>404 Not Found</body></html>"


class Case(NamedTuple):
    """Damage to `file`, a line of doctor's that must name it, and what a training does."""

    file: str
    damage: Damage
    named: str  # in doctor's line; empty: the damage is none
    training: Literal[
        "skips", "stops", "goes on"
    ]  # skips = stops, or with on_bad_sample=skip goes on and counts
    stops_with: str = ""  # in the line with which it stops, where that is not doctor's
    is_note: bool = False


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def removed(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def replaced(content: str | bytes) -> Damage:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def zipped(damage: Damage, without: int | None = None) -> Damage:
    """The images in a zip, which is damaged in turn, or lacks one."""

    def pack(folder: Path) -> None:
        paths = sorted(folder.iterdir())
        if without is not None:
            del paths[without]
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
            for path in paths:
                archive.write(path, f"{folder.name}/{path.name}")
        shutil.rmtree(folder)
        damage(folder.with_suffix(".zip"))

    return pack


def with_bom(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def with_crlf(path: Path) -> None:
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(json.loads(content), indent=1).encode()
    path.write_bytes(content.replace(b"\n", b"\r\n"))


def in_utf16(path: Path) -> None:
    path.write_bytes(path.read_text().encode("utf-16"))


def edited(old: str, new: str) -> Damage:
    def damage(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


def line_gone(number: int) -> Damage:
    def damage(path: Path) -> None:
        lines = path.read_text().splitlines(keepends=True)
        del lines[number]
        path.write_text("".join(lines))

    return damage


def json_edited(edit: Callable[[Any], object]) -> Damage:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return damage


def drawn(mode: str, size: tuple[int, int] = (64, 64), value: int = 0, kind: str = "PNG") -> Damage:
    """A picture in the file's place."""
    return lambda path: Image.new(mode, size, value).save(path, kind)


def copied(to: str) -> Damage:
    """The file lies under another name, too: a path from its folder."""

    def damage(path: Path) -> None:
        (path.parent / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, path.parent / to)

    return damage


def moved(to: str) -> Damage:
    """The file lies elsewhere: a path from its folder."""

    def damage(path: Path) -> None:
        copied(to)(path)
        path.unlink()

    return damage


def to_be_turned(path: Path) -> None:
    """A JPEG that says that it is to be shown turned."""
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[ExifTags.Base.Orientation] = 6
        picture.save(path, "JPEG", exif=exif)


def all_removed(pattern: str) -> Damage:
    def damage(folder: Path) -> None:
        paths = list(folder.glob(pattern))
        assert paths
        for path in paths:
            path.unlink()

    return damage


def copy_of(root: Path, to: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(root, to, copy_function=shutil.copyfile))


def train(data: Any) -> int:
    """Go through all parts as a training does; returns how many images were skipped."""
    data.prepare_data()
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert len(batch[0])
    return sum(data.dataset(part).bad_samples for part in ("train", "val", "test"))


def findings_of(data: Any) -> Findings:
    findings = Findings()
    check_data(data, findings, show=False)
    return findings


def check_case(case: Case, root: Path, make: Callable[..., Any]) -> None:
    """Damage the root and hold doctor and training to what must become of it; make: root, settings
    -> data module.
    """
    case.damage(root / case.file)
    before = sorted(os.walk(root))
    findings = findings_of(make(root, on_bad_sample="skip"))
    assert sorted(os.walk(root)) == before
    assert all("\n" not in finding.first for finding in findings)
    if case.named:
        severity = "note" if case.is_note else "error"
        lines = [
            finding.first
            for finding in findings
            if finding.severity == severity and case.named in finding.first
        ]
        assert lines, [*findings]
        assert any(str(root) in line for line in lines), lines
    assert findings.has_errors == (bool(case.named) and not case.is_note), [*findings]
    if case.training == "goes on":
        assert train(make(root)) == 0
        return
    with pytest.raises(InputError) as stopped:
        train(make(root))
    assert (case.stops_with or case.named) in str(stopped.value)
    assert "\n" not in str(stopped.value)
    if case.training == "skips":
        assert train(make(root, on_bad_sample="skip")) == 1
    else:
        with pytest.raises(InputError) as stopped:
            train(make(root, on_bad_sample="skip"))
        assert "\n" not in str(stopped.value)
