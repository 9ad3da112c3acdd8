"""Files of the Hugging Face Hub, from its cache as huggingface_hub lays it out: no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cfexp.errors import InputError
from cfexp.run.composing import compose, composing
from cfexp.run.configuration import register_resolvers
from cfexp.run.hub import with_hub_files

COMMIT, OLDER = "1f" * 20, "2e" * 20


def cached(cache: Path, commit: str, file: str, content: bytes, branch: str | None = None) -> Path:
    """A file as huggingface_hub keeps it: a blob, and a link to it in the commit's snapshot."""
    root = cache / "models--lab--faces"
    blob, path = root / "blobs" / f"{commit[:4]}-{Path(file).name}", root / "snapshots" / commit
    path = path / file
    for each in (blob, path, root / "refs" / "main"):
        each.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    path.symlink_to(os.path.relpath(blob, path.parent))
    if branch is not None:
        (root / "refs" / branch).write_text(commit)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_file_that_is_there_is_used_wherever_a_config_names_it(cache: Path) -> None:
    model = cached(cache, COMMIT, "model.safetensors", b"new", branch="main")
    older = cached(cache, OLDER, "nets/model.safetensors", b"old", branch="v1")
    words = cached(cache, OLDER, "nets/vocabulary.json", b"{}")
    content = {
        "checkpoints": {
            "decision": "hf://lab/faces/model.safetensors",
            "vqa_model": "hf://lab/faces@v1/nets/model.safetensors",
            "oracle": f"hf://lab/faces@{OLDER}/nets/model.safetensors",
            "mine": "mine.ckpt",
            "none": None,
        },
        "decision": {"path": "hf://lab/faces@main/model.safetensors"},
        "checkpoint": "hf://lab/faces/model.safetensors",
        "network": "${checkpoints.decision}",
        "name": "hf://is no file",
    }
    config = with_hub_files(OmegaConf.create(content))
    assert config.checkpoints == {
        "decision": str(model),
        "vqa_model": str(older),
        "oracle": str(older),
        "mine": "mine.ckpt",
        "none": None,
    }
    assert {config.decision.path, config.checkpoint, config.network} == {str(model)}
    assert config.name == content["name"]
    assert Path(config.checkpoints.vqa_model).with_name("vocabulary.json") == words
    assert with_hub_files(OmegaConf.create({"a": 1})) == {"a": 1}


def test_composed_configs_and_commands_take_it(cache: Path) -> None:
    model = cached(cache, COMMIT, "model.safetensors", b"new", branch="main")
    register_resolvers()
    with composing():
        given = "checkpoints.decision=hf://lab/faces@main/model.safetensors"
        config = compose("explain", ["+experiment=steex_driving", f"+{given}"])
        assert config.checkpoints.decision == str(model)
        with pytest.raises(InputError, match=r"^checkpoints\.decision=hf://lab/other/a\.pt: "):
            compose("explain", ["+checkpoints.decision=hf://lab/other/a.pt"])


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("hf://lab/faces/gone.safetensors", r"it is not in .*hub, and the Hub is not reached"),
        ("hf://lab/faces@v2/model.safetensors", "it is not in "),
        ("hf://nobody/nothing/model.safetensors", "it is not in "),
        ("hf://lab/faces", "expected hf://OWNER/NAME/FILE or hf://OWNER/NAME@REVISION/FILE"),
        ("hf://faces/", "expected hf://"),
        ("hf://lab/faces@/model.ckpt", "expected hf://"),
        ("hf://lab/faces/../model.ckpt", "expected hf://"),
        ("hf://", "expected hf://"),
        ("hf://-lab--/faces/model.ckpt", "Repo id must"),
    ],
)
def test_what_cannot_be_had_is_one_line(cache: Path, address: str, line: str) -> None:
    cached(cache, COMMIT, "model.safetensors", b"new", branch="main")
    config = OmegaConf.create({"checkpoints": {"decision": address}})
    with pytest.raises(InputError, match=f"^checkpoints.decision={re.escape(address)}: ") as raised:
        with_hub_files(config)
    assert re.search(line, str(raised.value))
    assert "\n" not in str(raised.value)


def test_what_the_hub_refuses_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    for name, line in (
        ("RepositoryNotFoundError", "no repository lab/faces on the Hub, or none that you may"),
        ("RevisionNotFoundError", "lab/faces has no revision v1"),
        ("RemoteEntryNotFoundError", "lab/faces has no file a.pt"),
    ):
        kind = getattr(errors, name)
        error = kind.__new__(kind)

        def refuse(*_: object, error: Exception = error, **__: object) -> str:
            raise error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
        with pytest.raises(InputError, match=line):
            with_hub_files(OmegaConf.create({"decision": {"path": "hf://lab/faces@v1/a.pt"}}))


def test_without_the_extra_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"need huggingface_hub: pip install 'cfexp\[hub\]'$"):
        with_hub_files(OmegaConf.create({"checkpoints": {"decision": "hf://lab/faces/a.pt"}}))


def test_a_command_by_the_environment_alone(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    address = "checkpoints.decision=hf://lab/faces@main/gone.ckpt"
    done = subprocess.run(
        [sys.executable, "-m", "cfexp.explain", "+experiment=steex_driving", address],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {address}: it is not in {tmp_path}, and the Hub is not reached")
    assert done.returncode == 2
