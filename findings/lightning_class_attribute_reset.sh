#!/usr/bin/env bash
# lightning 2.6.6 (torch 2.13.0): `allow_zero_length_dataloader_with_multiple_devices`, listed as an attribute of data
# modules, has no effect where a class sets it in its body, as Python's attributes and Lightning's own
# `CHECKPOINT_HYPER_PARAMS_KEY` are set.
#
# Expected: a data module whose class body sets it to True has it True.
# Seen: the base's __init__ sets False on every instance, silently, also where the class has no __init__ of its own:
#     class: True   instance: False   set after __init__: True
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 lightning==2.6.6 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from lightning import LightningDataModule

NAME = "allow_zero_length_dataloader_with_multiple_devices"


class Declared(LightningDataModule):
    allow_zero_length_dataloader_with_multiple_devices = True


class Assigned(LightningDataModule):
    def __init__(self):
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True


seen = getattr(Declared, NAME), getattr(Declared(), NAME), getattr(Assigned(), NAME)
print("class:", seen[0], "  instance:", seen[1], "  set after __init__:", seen[2])
sys.exit(seen != (True, False, True))
PYTHON
