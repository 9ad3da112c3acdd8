"""Networks of torchvision with weights to start from: none, torchvision's own, or a file."""

import re
from pathlib import Path

import torchvision
from torch import nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import check_fit, read_state_dict

# What a file of weights ends in; torchvision's names of weights have no dot.
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
# torchvision's DenseNet files are older than the names of its layers: norm.1 for norm1.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def torchvision_network(arch: str, weights: str | None = None) -> nn.Module:
    """A classifier of torchvision.models, with its 1000 classes of ImageNet.

    weights: torchvision's name ("IMAGENET1K_V1"; downloaded); a file such as torchvision ships,
        where there is no network to download by; None = a random start.

    Raises InputError for an arch or weights that torchvision does not have, for weights that cannot
    be downloaded, and for a file that is missing or does not fit.
    """
    if arch not in torchvision.models.list_models(torchvision.models):
        raise InputError(f"torchvision.models has no arch={arch} with weights={weights}")
    build = getattr(torchvision.models, arch)
    if weights is not None and Path(weights).suffix in SUFFIXES:
        network: nn.Module = build(weights=None)
        _load(network, weights)
        return network
    try:
        network = build(weights=weights)
    except (ValueError, KeyError) as error:
        remedy = f"give one of its names, or a file ({', '.join(SUFFIXES)})"
        raise InputError(
            f"torchvision.models has no arch={arch} with weights={weights}: {error}; {remedy}"
        ) from None
    # No way out, or a proxy's own refusal; a RuntimeError is a download cut short.
    except (OSError, RuntimeError) as error:
        url = torchvision.models.get_model_weights(arch)[weights].url
        problem = f"cannot be downloaded ({' '.join(str(error).split())})"
        raise InputError(
            f"weights={weights} of {arch} {problem}: fetch {url} and give the file's path"
        ) from None
    return network


def _load(network: nn.Module, path: str) -> None:
    found = {
        _OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in read_state_dict(path).items()
    }
    needed = network.state_dict()
    # Files from before torch 0.4.1 do not count batches.
    shapes = {
        key: value.shape
        for key, value in needed.items()
        if key in found or "num_batches_tracked" not in key
    }
    check_fit(shapes, found, path, type(network).__name__)
    network.load_state_dict(found, strict=False)
