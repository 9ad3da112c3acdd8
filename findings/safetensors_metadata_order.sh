#!/usr/bin/env bash
# safetensors 0.8: the same weights with the same metadata make a file of other bytes in each process.
#
# Versions: safetensors 0.8.0, numpy 1.26.4.
# Valid input: safetensors.numpy.save of one tensor, with seven pairs of metadata.
# Expected: the same bytes, as without metadata (tensors are sorted by their type and name), so that
# a checksum tells whether weights that were made again are the weights that were there.
# Behaviour: the pairs in `__metadata__` come in a random order, anew in each process; what they say,
# the tensors and the length are the same. Two files of the same weights have different checksums.
# Output seen (the checksums differ from run to run):
#   without metadata: 1 checksum of 8 processes
#   with metadata: 8 checksums of 8 processes
#   the header is the same but for the order: True
# Exit code: 0 where it behaves so; 1 where that has changed.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet "safetensors==0.8.0" "numpy==1.26.4"
cat > write.py <<'PY'
import sys

import numpy as np
from safetensors.numpy import save

words = {name: name for name in "abcdefg"} if sys.argv[1] == "with" else None
with open(sys.argv[2], "wb") as file:
    file.write(save({"weight": np.zeros(3, np.float32)}, metadata=words))
PY
for number in 1 2 3 4 5 6 7 8; do
  venv/bin/python write.py without "without_$number"
  venv/bin/python write.py with "with_$number"
done
cat > compare.py <<'PY'
import glob
import hashlib
import json


def contents(name):
    with open(name, "rb") as file:
        return file.read()


counts = []
for kind in ("without", "with"):
    files = [contents(name) for name in sorted(glob.glob(f"{kind}_*"))]
    counts.append(len({hashlib.sha256(data).hexdigest() for data in files}))
    print(f"{kind} metadata: {counts[-1]} checksum{'s' * (counts[-1] > 1)} of {len(files)} processes")
headers = [json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]) for data in files]
same = all(header == headers[0] for header in headers)
print(f"the header is the same but for the order: {same}")
raise SystemExit(0 if counts[0] == 1 and counts[1] > 1 and same else 1)
PY
venv/bin/python compare.py
