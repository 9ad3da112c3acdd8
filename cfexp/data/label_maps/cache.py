"""Label maps at the size at which they are shown, kept for the next time."""

import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfexp.errors import InputError
from cfexp.whole_files import whole_file

# Part of the keys: raise it whenever the same files would give another map.
_VERSION = 2


class LabelMapCache:
    """Files in `folder`, each under a hash of what its label map was made from: an exchanged mask
    is never missed.

    Each is written whole and renamed: any number of processes may share the folder. One that is
    damaged counts as missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, made_from: Iterable[bytes]) -> str:
        """The name of the map that is made from this."""
        total = hashlib.blake2b(f"{_VERSION}".encode(), digest_size=16)
        for part in made_from:
            total.update(f" {len(part)} ".encode() + part)
        return total.hexdigest()

    def read(self, key: str, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
        """The (H, W) map of this name; None where it is not kept."""
        try:
            # The map's pixels, deflated with a checksum, which is read faster than a PNG.
            pixels = zlib.decompress(self._path(key).read_bytes())
        except (OSError, zlib.error):
            return None
        return (
            np.frombuffer(pixels, np.uint8).reshape(shape)
            if len(pixels) == shape[0] * shape[1]
            else None
        )

    def keep(self, key: str, label_map: NDArray[np.uint8]) -> None:
        """Write an (H, W) map; of several processes the last wins, with the same bytes. Raises
        InputError.
        """
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                partial.write_bytes(zlib.compress(label_map.tobytes(), level=1))
        except OSError as error:
            problem = f"composed label maps cannot be kept there ({error.strerror})"
            raise InputError(
                f"{path.parent}: {problem}; set cache_dir to a folder that you may write to"
            ) from None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key
