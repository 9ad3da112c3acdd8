#!/usr/bin/env bash
# torch.jit.optimize_for_inference makes a TorchScript that torch.jit.save writes and torch.jit.load cannot read, and whose
# outputs silently have no gradient.
#
# Expected: torch.jit.load reads what torch.jit.save has written without a word; and a network of which parameters are
#   constants still has a gradient in its input, as the same script has after torch.jit.freeze.
# Versions: torch 2.13.0 (CPU), Python 3.11.
# Behaviour: the convolutions become MKLDNN operators with constants that are not serialised. Loading the file raises
#   "required keyword attribute 'value' is undefined"; in memory the output has requires_grad=False for an image with
#   requires_grad=True, where the eager network and the frozen script have a gradient.
# Output seen:
#   eager requires_grad: True
#   frozen requires_grad: True
#   optimised requires_grad: False
#   frozen file loads: True
#   optimised file loads: False (RuntimeError: required keyword attribute 'value' is undefined)
#
# Exits with 0 while it behaves so, with 1 if that has changed. Runs without cfexp.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$folder/script.py" <<'PY'
import sys
import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore")
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
image = torch.rand(1, 3, 16, 16, requires_grad=True)
traced = torch.jit.trace(network, torch.rand(1, 3, 16, 16))
made = {
    "eager": network,
    "frozen": torch.jit.freeze(traced),
    "optimised": torch.jit.optimize_for_inference(torch.jit.trace(network, torch.rand(1, 3, 16, 16))),
}
found = []
for name, each in made.items():
    found.append(each(image).requires_grad)
    print(f"{name} requires_grad: {found[-1]}")
for name in ("frozen", "optimised"):
    torch.jit.save(made[name], f"{sys.argv[1]}/{name}.pt")
    try:
        torch.jit.load(f"{sys.argv[1]}/{name}.pt")
        found.append(True)
        print(f"{name} file loads: True")
    except RuntimeError as error:
        found.append(False)
        print(f"{name} file loads: False (RuntimeError: {str(error).splitlines()[-1]})")
sys.exit(found != [True, True, False, True, False])
PY
"$folder/venv/bin/python" "$folder/script.py" "$folder"
