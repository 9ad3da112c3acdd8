"""Loading of trained networks: numbers only, every tensor accounted for, frozen unless asked otherwise."""

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from cfexp.errors import InputError

NetworkT = TypeVar("NetworkT", bound=nn.Module)

# torch's refusal of a pickle names what it would have had to import.
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)")


def load_network(
    network: NetworkT, checkpoint: str | Path | None, *, prefix: str = "", freeze: bool = True
) -> NetworkT:
    """Load a checkpoint into a network, strictly, and freeze it; returns the network.

    checkpoint: .ckpt (Lightning), .pth, .pt (torch) or .safetensors; None leaves the weights as they are.
    prefix: only the checkpoint's keys that start with it are loaded, without it ("decision_model.").
    freeze: see `freeze`; False leaves mode and gradients as they are.

    Raises InputError for a file that is missing, unreadable, holds anything but numbers or does not fit the network.
    """
    if checkpoint is not None:
        state_dict = read_state_dict(checkpoint)
        state_dict = {key[len(prefix) :]: tensor for key, tensor in state_dict.items() if key.startswith(prefix)}
        try:
            network.load_state_dict(state_dict)
        except RuntimeError:
            shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
            name = f"{checkpoint} (keys {prefix}*)" if prefix else str(checkpoint)
            check_fit(shapes, state_dict, name, type(network).__name__)
            raise
    return _freeze(network) if freeze else network


def freeze(network: NetworkT) -> NetworkT:
    """Evaluation mode, and no parameter takes a gradient (inputs still do); returns the network."""
    return network.eval().requires_grad_(False)


# `load_network` has an argument of the same name.
_freeze = freeze


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name, on the CPU; a training checkpoint's are those of the network.

    Lightning keeps them in "state_dict", a released STEEX checkpoint in "model_state_dict".

    Raises InputError for a file that is missing, unreadable, or holds anything but numbers (code is never executed).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    # A foreign or truncated file makes the readers raise nearly anything.
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and (refused := _REFUSED_GLOBAL.search(str(error))):
            raise InputError(
                f"{path} holds Python objects ({refused[1]}) and could run code when opened, so it was not: "
                "expected a file of tensors, such as torch.save(network.state_dict(), path) writes"
            ) from None
        raise InputError(
            f"{path} is no readable checkpoint ({type(error).__name__}): expected .ckpt, .pth, .pt or .safetensors"
        ) from None
    for name in ("state_dict", "model_state_dict"):
        if isinstance(content, Mapping) and name in content:
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise InputError(f"{path} holds no state dict: expected names and tensors, or a Lightning checkpoint")
    return dict(content)


def check_fit(shapes: Mapping[str, torch.Size], state_dict: Mapping[str, Tensor], name: str, network: str) -> None:
    """Compare the shapes that a network needs with the tensors of a state dict.

    name, network: what to call the two in the message.

    Raises InputError if a key is missing, left over or misshaped: one line with counts and the first three of each.
    """
    problems = {
        "missing": [key for key in shapes if key not in state_dict],
        "left over": [key for key in state_dict if key not in shapes],
        "misshaped": [
            f"{key} {list(state_dict[key].shape)} instead of {list(shape)}"
            for key, shape in shapes.items()
            if key in state_dict and state_dict[key].shape != shape
        ],
    }
    if found := [f"{len(keys)} {kind} ({_first_three(keys)})" for kind, keys in problems.items() if keys]:
        raise InputError(f"{name} does not fit {network}: {', '.join(found)}")


def file_hash(path: str | Path) -> str:
    """The first 12 hexadecimal digits of a file's SHA-256, stored beside results to tell which weights made them.

    Raises InputError for a missing file.
    """
    if not Path(path).is_file():
        raise InputError(f"no file at {path}")
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _first_three(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
