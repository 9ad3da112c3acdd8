"""What made the results of a run, beside them."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import cfexp
from cfexp.models.loading.pretrained import file_hash
from cfexp.whole_files import write_whole

_PACKAGES = (
    *("torch", "torchvision", "lightning", "torchmetrics"),
    *("hydra-core", "numpy", "pillow", "pyarrow"),
)


def write_provenance(config: DictConfig, data: Any, folder: Path) -> None:
    """Write data.json, which describes the data, and provenance.json: by which command, code and
    checkpoints, from which data and on which machine the results are made.
    """
    # A hash whether or not it is tagged, with -dirty where files differ from it.
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    here = Path(cfexp.__file__).parent
    revision = subprocess.run(describe, cwd=here, capture_output=True, text=True, check=False)
    cores, threads = os.cpu_count(), torch.get_num_threads()
    content = {
        "command": sys.argv,
        "seed": config.seed,
        "git_revision": revision.stdout.strip() or None,
        "data_fingerprint": data.fingerprint,
        "checkpoints": {
            name: {"path": path, "sha256": file_hash(path)}
            for name, path in config.checkpoints.items()
        },
        "versions": {
            "cfexp": cfexp.__version__,
            **{package: version(package) for package in _PACKAGES},
        },
        "machine": f"{_processor()}, {cores} cores, {threads} torch threads",
    }
    write_whole(folder / "data.json", json.dumps(data.description, indent=2))
    write_whole(folder / "provenance.json", json.dumps(content, indent=2))


def _processor() -> str:
    """What computes here: the graphics card, if any, else the processor as Linux calls it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()
