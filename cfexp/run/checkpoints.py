"""The networks that a run was made with, wherever they lie now: by what is in their files."""

import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cfexp.models.loading.pretrained import file_hash
from cfexp.run.stages import WEIGHTS


def with_its_checkpoints(config: DictConfig, run: Path) -> DictConfig:
    """The config in a run's folder with its checkpoints where they lie now.

    Shipped weights lie elsewhere in another installation, and stages in another cache. Of those the
    files of the same experiment are looked at; where there is none, the path stays, and who opens
    it says that it is not there.
    """
    path = run / "provenance.json"
    made = json.loads(path.read_text(encoding="utf-8"))["checkpoints"] if path.is_file() else {}
    content: Any = OmegaConf.to_container(config)
    for name, checkpoint in (content.get("checkpoints") or {}).items():
        if checkpoint is not None and not Path(checkpoint).is_file():
            now = _lies_now(Path(checkpoint), made.get(name, {}).get("sha256"), content)
            content = _replaced(content, str(checkpoint), str(now))
            if now.name == "model.ckpt":  # a vocabulary lies beside it
                content = _replaced(content, str(Path(checkpoint).parent), str(now.parent))
    found = OmegaConf.create(content)
    assert isinstance(found, DictConfig)
    return found


def _lies_now(checkpoint: Path, digest: str | None, config: dict[str, Any]) -> Path:
    name = checkpoint.parent.name if checkpoint.name == "model.ckpt" else checkpoint.stem
    like = f"{name.rpartition('-')[0]}-*"
    caches = {
        os.environ.get("CFEXP_CACHE", "~/.cache/cfexp"),
        config.get("cache_dir") or "~/.cache/cfexp",
    }
    stages = (Path(cache).expanduser().glob(f"stages/**/{like}/model.ckpt") for cache in caches)
    samples = WEIGHTS.with_name("samples").glob(f"*/{checkpoint.name}")
    found = chain(WEIGHTS.glob(f"{like}.safetensors"), samples, *stages)
    return next((path for path in found if file_hash(path) == digest), checkpoint)


def _replaced(content: Any, old: str, new: str) -> Any:
    """Plain values in which every path `old`, or below it, is `new`."""
    if isinstance(content, dict):
        return {key: _replaced(value, old, new) for key, value in content.items()}
    if isinstance(content, list):
        return [_replaced(value, old, new) for value in content]
    if isinstance(content, str) and (content == old or content.startswith(f"{old}/")):
        return new + content[len(old) :]
    return content
