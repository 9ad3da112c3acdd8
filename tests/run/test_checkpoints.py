"""A run's networks are found where they lie now."""

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cfexp.models.loading.pretrained import file_hash
from cfexp.run.checkpoints import with_its_checkpoints
from cfexp.run.stages import WEIGHTS


def test_by_what_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    stage = cache / "stages" / "vqa_model-000000000001"
    stage.mkdir(parents=True)
    (stage / "model.ckpt").write_bytes(b"trained")
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    (shipped,) = WEIGHTS.glob("face_decision-*")
    (tmp_path / "mine.ckpt").write_bytes(b"mine")
    was = {
        "decision": "/elsewhere/cfexp/weights/face_decision-ffffffffffff.safetensors",
        "vqa_model": "/home/gone/.cache/cfexp/stages/vqa_model-0123456789ab/model.ckpt",
        "mine": str(tmp_path / "mine.ckpt"),
        "lost": "/home/gone/lost.ckpt",
    }
    hashes = {
        "decision": file_hash(shipped),
        "vqa_model": file_hash(stage / "model.ckpt"),
        "lost": "0" * 12,
    }
    provenance = {"checkpoints": {name: {"sha256": digest} for name, digest in hashes.items()}}
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    vocabulary = was["vqa_model"].replace("model.ckpt", "vocabulary.json")
    content = {
        "checkpoints": was,
        "data": {"vocabulary_path": vocabulary},
        "networks": [was["decision"]],
    }
    config = with_its_checkpoints(OmegaConf.create(content), tmp_path)
    assert config.checkpoints == {
        **was,
        "decision": str(shipped),
        "vqa_model": str(stage / "model.ckpt"),
    }
    assert config.data.vocabulary_path == str(stage / "vocabulary.json")
    assert config.networks[0] == str(shipped)
    (stage / "model.ckpt").write_bytes(b"of another seed")
    assert (
        with_its_checkpoints(OmegaConf.create(content), tmp_path).checkpoints.vqa_model
        == was["vqa_model"]
    )
    shutil.rmtree(cache)
    assert (
        with_its_checkpoints(OmegaConf.create(content), tmp_path).checkpoints.vqa_model
        == was["vqa_model"]
    )
    assert with_its_checkpoints(OmegaConf.create(), tmp_path) == {}
