#!/usr/bin/env bash
# onnx2torch.convert returns a network in training mode: batch norm uses the batch's statistics and overwrites its own.
#
# Expected: an ONNX file is an inference graph (its BatchNormalization says training_mode=0), so the converted network gives
#   what the file gives, whatever images are asked about together, and stays as it is.
# Versions: onnx2torch 1.5.15, onnx 1.23.2, torch 2.13.0 (CPU), torchvision 0.28.0, Python 3.11.
# Behaviour: `convert(path).training` is True, and so is that of its BatchNorm2d. The output of an image changes with the
#   other images of its batch, and every call moves running_mean. After .eval() all is as expected.
# Output seen:
#   training mode as returned: True
#   differs from the network that was exported by up to 0.262
#   running_mean moved: True
#   after .eval() by up to 0.000
#
# Exits with 0 while it behaves so, with 1 if that has changed. Runs without cfexp.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchvision==0.28.0 onnx==1.23.2 onnx2torch==1.5.15 numpy==2.4.6
cat > "$folder/script.py" <<'PY'
import sys
import warnings

import torch
from torch import nn

# torchvision's wheel may be a CUDA build: beside a CPU torch its two operators must be known by name to be imported.
try:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
except RuntimeError:  # they are there
    pass
from onnx2torch import convert

warnings.filterwarnings("ignore")
torch.manual_seed(0)
# As in DenseNet: batch norm that cannot be folded into the convolution before it.
network = nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    nn.Linear(4, 2),
)
for tensor in (*network[2].parameters(), network[2].running_mean, network[2].running_var):
    tensor.data.uniform_(0.5, 1.5)  # as if trained
network.eval()
images = torch.rand(4, 3, 16, 16)
path = f"{sys.argv[1]}/model.onnx"
torch.onnx.export(
    network, (images,), path, input_names=["images"], dynamic_axes={"images": {0: "batch"}}, opset_version=17, dynamo=False
)
converted = convert(path)
norm = next(layer for layer in converted.modules() if isinstance(layer, nn.BatchNorm2d))
before = norm.running_mean.clone()
training = converted.training
differs = (converted(images) - network(images)).abs().max().item()
moved = not torch.equal(before, norm.running_mean)
evaluated = (convert(path).eval()(images) - network(images)).abs().max().item()
print(f"training mode as returned: {training}")
print(f"differs from the network that was exported by up to {differs:.3f}")
print(f"running_mean moved: {moved}")
print(f"after .eval() by up to {evaluated:.3f}")
sys.exit(not (training and differs > 0.1 and moved and evaluated < 1e-4))
PY
"$folder/venv/bin/python" "$folder/script.py" "$folder"
