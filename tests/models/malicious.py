import os
from collections.abc import Callable
from pathlib import Path


class Malicious:
    """Unpickling it makes a folder: proof that code in a file was executed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)
