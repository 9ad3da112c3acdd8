from pathlib import Path

import pytest

from cfexp.run.configuration import progress_of
from cfexp.run.whole_checkpoints import WholeCheckpoints


def test_a_checkpoint_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 0}, path)

    def torn(source: str, target: str) -> None:
        """A kill amid the copy from a temporary folder on another file system."""
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.move", torn)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpoints().save_checkpoint({"epoch": 1}, path)
    assert progress_of(path) == (1, 0)
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
