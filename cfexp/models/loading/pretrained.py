"""Loading of trained networks: numbers only, every tensor accounted for, frozen unless asked
otherwise.

Checkpoints come as people have them: of wrapped networks, under a name among other things, with
values of other libraries beside the weights. All doors read them here.
"""

import hashlib
import logging
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from cfexp.errors import InputError

NetworkT = TypeVar("NetworkT", bound=nn.Module)

_log = logging.getLogger(__name__)
# torch's refusal of a pickle names what it would have had to import.
_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)")
# What wraps a network leaves its name in each key: DataParallel, torch.compile, FSDP, activation
# checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_AVERAGED = "n_averaged"  # what torch.optim.swa_utils.AveragedModel counts beside its `module.`
# The names under which the weights lie in a training's checkpoint, the first wins: Lightning's,
# released STEEX's ...
_USUAL_NAMES = ("state_dict", "model_state_dict", "model", "net", "network")
# Values that trainings often leave beside the weights. None is imported or called: `_NotRead`
# stands for them all.
_PLAIN_VALUES = (
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    *(
        "numpy.dtype",
        "numpy.ndarray",
        "numpy._core.numeric._frombuffer",
        "numpy.core.numeric._frombuffer",
    ),
    *("argparse.Namespace", "types.SimpleNamespace", "uuid.UUID"),
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath")
    ),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
)
HOW_TO_GIVE_A_PREFIX = (
    "decision.prefix={0}, the doctor's prefix={0}, the converter's --prefix {0}, "
    "or of checkpoints.NAME +prefixes.NAME={0}"
)


class _NotRead:
    """Stands for a value of another library, whatever it was made with."""

    def __new__(cls, *arguments: object, **settings: object) -> "_NotRead":
        return super().__new__(cls)

    def __init__(self, *arguments: object, **settings: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def load_network(
    network: NetworkT, checkpoint: str | Path | None, *, prefix: str = "", freeze: bool = True
) -> NetworkT:
    """Load a checkpoint into a network, strictly, and freeze it; returns the network.

    checkpoint: .ckpt (Lightning), .pth, .pt (torch) or .safetensors; None leaves the weights as
    they are. prefix: only the checkpoint's keys that start with it are loaded, without it
    ("decision_model."); see
        `read_state_dict`.
    freeze: see `freeze`; False leaves mode and gradients as they are.

    What DataParallel, torch.compile and their like put into the keys, of the file or of the
    network, is no difference.

    Raises InputError for a file that is missing, unreadable, holds anything but numbers or does not
    fit the network.
    """
    if checkpoint is not None:
        needed = network.state_dict()
        state_dict = _named_as(needed, read_state_dict(checkpoint, prefix))
        try:
            network.load_state_dict(state_dict)
        except RuntimeError:
            shapes = {key: tensor.shape for key, tensor in needed.items()}
            name = f"{checkpoint} (keys {prefix}*)" if prefix else str(checkpoint)
            check_fit(shapes, state_dict, name, type(network).__name__)
            raise
    return _freeze(network) if freeze else network


def freeze(network: NetworkT) -> NetworkT:
    """Evaluation mode, and no parameter takes a gradient (inputs still do); returns the network."""
    network.eval()
    for (
        parameter
    ) in network.parameters():  # `network.requires_grad_` is not to be had of TorchScript
        parameter.requires_grad_(False)
    return network


# `load_network` has an argument of the same name.
_freeze = freeze


def read_state_dict(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name, on the CPU, without what wrappers put into the
    names (`module.`).

    Of a training's checkpoint they are the tensors under one name: a usual one ("state_dict",
    "model" ...), or the only one that names tensors. prefix: only what begins with it, without it;
    "ema." also means what lies under "ema".

    Raises InputError for a file that is missing, unreadable, or holds anything but numbers and
    plain values (code is never executed), and for one with weights under several names of which
    none is usual.
    """
    path = Path(path)
    sets = _sets_of_tensors(_content(path))
    if not sets:
        raise InputError(
            f"{path} holds no state dict: expected names and tensors, or a Lightning checkpoint"
        )
    usual = sorted(
        (name for name in sets if set(name.split(".")) <= {"", *_USUAL_NAMES}), key=_rank
    )
    default = usual[0] if usual else next(iter(sets)) if len(sets) == 1 else None
    if default is not None:
        found = _behind(prefix, sets[default])
        if found and len(sets) > 1:
            others = ", ".join(name for name in sets if name != default)
            _log.info("%s: weights under %r are taken, not those under %s", path, default, others)
        if found:
            return found
    for name in sorted(sets, key=len, reverse=True):  # of nested ones the innermost
        if name and prefix.startswith(f"{name}."):
            return _behind(prefix.removeprefix(f"{name}."), sets[name])
    if default is None:
        first = next(iter(sets))
        how = HOW_TO_GIVE_A_PREFIX.format(f"{first}.")
        remedy = f"say which by the prefix, such as {first}. ({how})"
        names = ", ".join(sets)
        raise InputError(f"{path} holds weights under several names ({names}): {remedy}")
    return {}  # of this prefix: what it is read for says what is missing


def _content(path: Path) -> object:
    """What a file holds, with nothing in it executed."""
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([(_NotRead, name) for name in _PLAIN_VALUES]):
            return torch.load(path, map_location="cpu", weights_only=True)
    # A foreign or truncated file makes the readers raise nearly anything.
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and (
            refused := _REFUSED_GLOBAL.search(str(error))
        ):
            raise InputError(
                f"{path} holds Python objects ({refused[1]}) and could run code when opened, so it "
                "was not: expected a file of tensors; where it was made, "
                "torch.save(network.state_dict(), PATH) writes one"
            ) from None
        reason = "a TorchScript file" if "TorchScript" in str(error) else type(error).__name__
        expected = ".ckpt, .pth, .pt or .safetensors"
        raise InputError(
            f"{path} is no readable checkpoint ({reason}): expected {expected}"
        ) from None


def _sets_of_tensors(content: object, name: str = "") -> dict[str, dict[str, Tensor]]:
    """The mappings of names to tensors, by the names that they lie under; "" = the file itself."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if len(tensors) == len(content):
        return {name: tensors}
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in content.items():
        # Of what has no usual name, only what holds tensors itself: optimizers have theirs deeper
        # down.
        if isinstance(value, Mapping) and (key in _USUAL_NAMES or _holds_weights(value)):
            found |= _sets_of_tensors(value, f"{name}.{key}" if name else str(key))
    return found | ({name: tensors} if _holds_weights(tensors) or (tensors and not found) else {})


def _holds_weights(content: Mapping[Any, Any]) -> bool:
    """Whether there is a tensor that is no single number, such as a loss."""
    return any(isinstance(value, Tensor) and value.ndim > 0 for value in content.values())


def _rank(name: str) -> list[int]:
    """For a name of usual names, where it stands among them; the file itself is the last."""
    return [_USUAL_NAMES.index(part) if part else len(_USUAL_NAMES) for part in name.split(".")]


def _behind(prefix: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What begins with a prefix, without it, and unwrapped; wrappers in the prefix need not be
    said, either.
    """
    if not prefix:
        return unwrapped(state_dict)
    dotted = f"{prefix.rstrip('.')}."
    found = {
        key.removeprefix(dotted): value
        for key, value in state_dict.items()
        if key.startswith(dotted)
    }
    if not found and (plain := _plain(dotted)):
        every = unwrapped(state_dict)
        found = {
            key.removeprefix(plain): value for key, value in every.items() if key.startswith(plain)
        }
    return unwrapped(found)


def _plain(key: str) -> str:
    """A key without the names of wrappers, wherever they stand in it."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def unwrapped(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what wrappers put into its keys; as it is where two of them would become
    one.
    """
    averaged = all(key.startswith("module.") for key in state_dict if key != _AVERAGED)
    kept = {
        key: tensor for key, tensor in state_dict.items() if not (averaged and key == _AVERAGED)
    }
    plain = {_plain(key): tensor for key, tensor in kept.items()}
    return plain if len(plain) == len(kept) and "" not in plain else kept


def _named_as(needed: Iterable[str], state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the keys that a network has, which may be wrapped itself."""
    own = {_plain(key): key for key in needed}
    return {own.get(key, key): tensor for key, tensor in state_dict.items()}


def check_fit(
    shapes: Mapping[str, torch.Size], state_dict: Mapping[str, Tensor], name: str, network: str
) -> None:
    """Compare the shapes that a network needs with the tensors of a state dict.

    name, network: what to call the two in the message.

    Raises InputError if a key is missing, left over or misshaped: one line with counts and the
    first three of each, and behind which prefix all that is missing is left over, if it is.
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
    if found := [
        f"{len(keys)} {kind} ({_first_three(keys)})" for kind, keys in problems.items() if keys
    ]:
        remedy = ""
        if prefixes := _prefixes_of(problems["missing"], problems["left over"]):
            how = HOW_TO_GIVE_A_PREFIX.format(prefixes[0])
            behind = f"is there behind the prefix {' or '.join(prefixes)}"
            remedy = f"; all that is missing {behind}: give it ({how})"
        raise InputError(f"{name} does not fit {network}: {', '.join(found)}{remedy}")


def file_hash(path: str | Path) -> str:
    """The first 12 hexadecimal digits of a file's SHA-256, stored beside results to tell which
    weights made them.

    Raises InputError for a missing file.
    """
    if not Path(path).is_file():
        raise InputError(f"no file at {path}")
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _prefixes_of(missing: list[str], left_over: list[str]) -> list[str]:
    """The prefixes behind which everything that is missing is left over."""
    there = set(left_over)
    starts = [
        key.removesuffix(missing[0])
        for key in left_over
        if missing and key.endswith(f".{missing[0]}")
    ]
    return [start for start in starts if all(start + key in there for key in missing)]


def _first_three(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
