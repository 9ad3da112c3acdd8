"""Files that lie in a folder, or still in the zip that they were shipped in."""

import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cfexp.data.reading.records import OFFICIAL_REMEDY
from cfexp.errors import InputError

# What zipfile raises for damaged, encrypted or oddly packed members.
_UNREADABLE = (
    OSError,
    KeyError,
    EOFError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class Archive:
    """The files of a zip by their names, in whatever folder of it they lie; each process opens its
    own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, zipfile.ZipFile, dict[str, str]] | None = None

    def names(self) -> Collection[str]:
        """The names of its files; raises InputError if it is no zip."""
        return self._members()[1].keys()

    def read(self, name: str) -> bytes:
        """A file's content; raises InputError where none has this name, or it is damaged."""
        archive, members = self._members()
        if name not in members:
            raise InputError(f"{self.path}: holds no {name}; {OFFICIAL_REMEDY}")
        try:
            return archive.read(members[name])
        except _UNREADABLE as error:
            raise self._unreadable(name, error) from None

    def head(self, name: str, count: int) -> bytes:
        """The first bytes of a file's content, `count` at most; raises InputError where it cannot
        be read.
        """
        archive, members = self._members()
        try:
            with archive.open(members[name]) as file:
                return file.read(count)
        except _UNREADABLE as error:
            raise self._unreadable(name, error) from None

    def _unreadable(self, name: str, error: Exception) -> InputError:
        reason = " ".join(str(error).split())
        return InputError(
            f"{self.path / name}: cannot be read from the zip ({reason}); {OFFICIAL_REMEDY}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """A copy for another process opens the zip itself."""
        return {**self.__dict__, "_open": None}

    def _members(self) -> tuple[zipfile.ZipFile, dict[str, str]]:
        # A forked process shares the file's position with its parent: each opens its own.
        if self._open is None or self._open[0] != os.getpid():
            try:
                archive = zipfile.ZipFile(self.path)
            # A damaged directory makes zipfile raise more than its own error.
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise InputError(
                    f"{self.path}: not a readable zip ({error}); {OFFICIAL_REMEDY}"
                ) from None
            # A Mac's zip has a shadow of every file, `__MACOSX/._NAME`.
            names = (name for name in archive.namelist() if not name.startswith("__MACOSX/"))
            self._open = os.getpid(), archive, {name.rpartition("/")[2]: name for name in names}
        return self._open[1:]


class PackedFile(NamedTuple):
    """A file in a zip, as far as it is used like a `Path`."""

    archive: Archive
    name: str

    def __str__(self) -> str:
        """The zip's path and the file's name."""
        return str(self.archive.path / self.name)

    def exists(self) -> bool:
        """Whether the zip is there and holds it; raises InputError if it is no zip."""
        return self.archive.path.exists() and self.name in self.archive.names()

    def read_bytes(self) -> bytes:
        """Its content; raises InputError."""
        return self.archive.read(self.name)

    def head(self, count: int) -> bytes:
        """The first bytes of its content, `count` at most; raises InputError."""
        return self.archive.head(self.name, count)


class ImageFiles(NamedTuple):
    """The files of one folder, or of the zip in its place."""

    folder: Path  # or the zip's path
    archive: Archive | None

    @classmethod
    def find(cls, folder: Path) -> "ImageFiles":
        """`folder` itself, or where it is none and `folder.zip` is there that."""
        packed = folder.with_name(f"{folder.name}.zip")
        return (
            cls(folder, None)
            if folder.is_dir() or not packed.exists()
            else cls(packed, Archive(packed))
        )

    def names(self) -> Collection[str]:
        """The names of the files; raises InputError if they cannot be listed."""
        return list_files(self.folder) if self.archive is None else self.archive.names()

    def content(self, name: str) -> bytes:
        """A file's content; raises InputError."""
        return read_content(self.folder / name) if self.archive is None else self.archive.read(name)

    def check(self, names: Collection[str], of: str, remedy: str = OFFICIAL_REMEDY) -> None:
        """Raise InputError unless there is a file of every name, which is `of` something; no file
        is opened.
        """
        present = self.names()
        missing = [name for name in names if name not in present]
        if missing:
            more = f" (nor are {len(missing) - 1} more)" if len(missing) > 1 else ""
            if self.archive is not None:
                raise InputError(f"{self.folder}: holds no {missing[0]}, {of}{more}; {remedy}")
            raise InputError(f"{self.folder / missing[0]}: {of} is no file there{more}; {remedy}")


def list_files(folder: Path) -> Collection[str]:
    """The names of the files in a folder; raises InputError if it cannot be listed."""
    return {name for name, is_file in list_names(folder).items() if is_file}


def list_names(folder: Path) -> Mapping[str, bool]:
    """What lies in a folder, and whether it is a file; raises InputError if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_file() for entry in entries}
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); {OFFICIAL_REMEDY}"
        ) from None


def read_content(path: Path) -> bytes:
    """A file's bytes; raises InputError where it is missing or no file."""
    return read_head(path, -1)


def read_head(path: Path, count: int) -> bytes:
    """The first bytes of a file, `count` at most, or with -1 all; raises InputError where it is
    missing or no file.
    """
    try:
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {OFFICIAL_REMEDY}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {OFFICIAL_REMEDY}") from None
