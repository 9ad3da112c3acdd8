#!/usr/bin/env bash
# torch 2.13.0 (CPU): the memory format of a loss' gradient depends on the loss and on its reduction, not on that of what
# it is given.
#
# Expected: of two images that are laid out as channels_last, the gradient by the first is channels_last, too, as that of a
# convolution, a batch norm or a ReLU is; the mean is the sum over the count and nothing else.
# Seen: l1_loss and mse_loss, by default (reduction "mean"), hand back a gradient that is laid out channels first, and so
# does mse_loss by "sum"; l1_loss by "sum" keeps channels_last. Where nothing copies it back, each step of the backward
# pass behind it works on mixed formats, which costs time and is said nowhere:
#     l1_loss mean: channels first   l1_loss sum: channels_last   mse_loss mean: channels first   mse_loss sum: channels first
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import torch.nn.functional as F


def layout(loss, reduction):
    one, other = (torch.randn(2, 8, 16, 16).to(memory_format=torch.channels_last) for _ in range(2))
    inner = one.requires_grad_() * 1.0
    seen = []
    inner.register_hook(seen.append)
    loss(inner, other, reduction=reduction).backward()
    kept = seen[0].is_contiguous(memory_format=torch.channels_last)
    return "channels_last" if kept else "channels first"


found = {
    f"{loss.__name__} {reduction}": layout(loss, reduction)
    for loss in (F.l1_loss, F.mse_loss)
    for reduction in ("mean", "sum")
}
print("   ".join(f"{name}: {kept}" for name, kept in found.items()))
sys.exit([*found.values()] != ["channels first", "channels_last", "channels first", "channels first"])
PYTHON
