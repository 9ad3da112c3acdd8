#!/usr/bin/env bash
# wandb offline: the images of a logged table lie outside of the run's folder.
#
# Version: wandb 0.31.0 (pillow 13.0.0).
# Valid input: wandb.init(mode="offline", dir="run") and run.log({"cards": table}), of a wandb.Table
# with a wandb.Image.
# Expected: an offline run's folder (`dir`, WANDB_DIR) holds what `wandb sync FOLDER` uploads, as it
# does for images that are logged by themselves.
# Behaviour: the table becomes an artifact as well. Its image is copied to the home's data folder
# (artifacts/staging) alone, and the .wandb file names it by that absolute path; in the run's folder the table
# has no picture. Moved to another machine, or with the home cleaned, there is none to upload.
# A table of numbers alone is staged likewise. (The upload itself was not tried.)
# Output seen:
#   in the run's folder: 0 images; staged in the home: 3 files; named by absolute paths: 2 or more
#   an image by itself: in the run's folder: 1 images; staged in the home: 0 files
# Exit code: 0 where it behaves so; 1 where that has changed.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet "wandb==0.31.0" "pillow==13.0.0"
cat > log.py <<'PY'
import sys

import wandb
from PIL import Image

run = wandb.init(project="finding", mode="offline", dir=sys.argv[2])
image = wandb.Image(Image.new("RGB", (8, 8), "red"))
table = wandb.Table(columns=["key", "picture"], data=[[1, image]])
run.log({"cards": table if sys.argv[1] == "table" else image})
run.finish()
PY
export HOME="$work/home" WANDB_SILENT=true
unset WANDB_DATA_DIR WANDB_CACHE_DIR WANDB_DIR XDG_DATA_HOME XDG_CACHE_HOME
for kind in table image; do
  rm -rf "$kind" home
  mkdir "$kind" home
  venv/bin/python log.py "$kind" "$kind"
  images=$(find "$kind" -name '*.png' | wc -l)
  staged=$(find home -path '*artifacts/staging*' -type f | wc -l)
  named=$(grep -a -o "$work/home/[a-zA-Z0-9./_]*staging/[a-z0-9_]*" "$kind"/wandb/offline-run-*/*.wandb | sort -u | wc -l)
  echo "$kind: in the run's folder $images images; staged in the home $staged files; named by absolute paths $named"
  if [ "$kind" = table ]; then
    test "$images" -eq 0 && test "$staged" -ge 2 && test "$named" -ge 2
  else
    test "$images" -eq 1 && test "$staged" -eq 0 && test "$named" -eq 0
  fi
done
