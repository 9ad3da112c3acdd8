"""Checkpoints that are whole or not there: a plugin of Lightning's trainer."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from cfexp.whole_files import whole_file


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear under their name when they are whole, whatever kills the process.

    Lightning writes into the system's temporary folder and moves the file; from another file system
    that is a copy.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """As always, but beside `path` first."""
        with whole_file(Path(path)) as partial:
            super().save_checkpoint(checkpoint, partial, storage_options)
