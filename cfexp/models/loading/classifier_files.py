"""Classifiers of a user's own, opened from files of each kind: all are handed on frozen, in
evaluation mode.
"""

import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import freeze

# onnx2torch 1.5.15 knows no operator of later ones. torch's default exporter has none before 18: it
# needs dynamo=False.
ONNX_OPSET = 17


class _Foreign(nn.Module):
    """A network that was saved with its code: it stays in the mode that it was saved in."""

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        """Whatever the network gives."""
        return self.network(images)

    def train(self, mode: bool = True) -> "_Foreign":
        """No mode reaches the network: an exported one refuses to be told."""
        self.training = mode
        return self


def torchvision_classifier(arch: str, num_outputs: int) -> nn.Module:
    """A classifier of torchvision.models with so many outputs, untrained; raises InputError for
    another arch.
    """
    if arch not in torchvision.models.list_models(torchvision.models):
        known = "torchvision's classifiers, such as resnet50, densenet121"
        raise InputError(f"decision.arch={arch} is none of {known}")
    unused = (
        {"init_weights": False} if arch in ("googlenet", "inception_v3") else {}
    )  # they take minutes to draw
    network: nn.Module = getattr(torchvision.models, arch)(
        weights=None, num_classes=num_outputs, **unused
    )
    return freeze(network)


def torchscript_classifier(path: str) -> nn.Module:
    """A TorchScript file, frozen, in evaluation mode. Its code is run: open none that you do not
    trust.

    Raises InputError for a file that is missing or is none, and for one that was optimised for
    inference.
    """
    load: Callable[..., Any] = torch.jit.load  # which torch does not type
    network = _opened(
        path,
        "a TorchScript file (torch.jit.save)",
        lambda: load(path, map_location="cpu"),
        lambda _: _why_no_torchscript(path),
    )
    return freeze(_Foreign(network.eval()))


def exported_classifier(path: str) -> nn.Module:
    """A file of torch.export, frozen. Its code is run: open none that you do not trust.

    Its tensors are read without unpickling objects. Raises InputError for a file that is missing or
    is none, and for a network that was exported in training mode, which cannot be changed any more.
    """
    if Path(path).suffix != ".pt2":
        raise InputError(f"{path}: a file of torch.export must be called .pt2")
    with _tensors_only():
        program = _opened(path, "a file of torch.export.save", lambda: torch.export.load(path))
    if _is_in_training(program):
        remedy = "export it again after network.eval()"
        raise InputError(f"decision.path={path} was exported in training mode: {remedy}")
    return freeze(_Foreign(program.module()))


def _is_in_training(program: torch.export.ExportedProgram) -> bool:
    """Whether batch norm takes its statistics from the batch, or dropout drops."""
    flags = {"aten.batch_norm.default": 5, "aten.dropout.default": 2}  # which argument says so
    flags |= {
        f"aten.{name}.default": 2
        for name in ("feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    }
    calls = [(flags.get(str(node.target)), node.args) for node in program.graph.nodes]
    trains = any(
        place is not None and len(args) > place and args[place] is True for place, args in calls
    )
    return trains or bool(program.graph_signature.buffers_to_mutate)


def onnx_classifier(path: str) -> nn.Module:
    """An ONNX file as a torch network, which is differentiable, by onnx2torch; frozen, in
    evaluation mode.

    Raises InputError for a file that is missing, is none, or has an operator that cannot be
    converted, and where onnx2torch is not installed.
    """
    try:
        from onnx2torch import convert
    except ImportError:
        raise InputError(
            "+decision=onnx needs onnx2torch: pip install 'cfexp[onnx]', or onnx2torch itself"
        ) from None
    expected = "an ONNX file that onnx2torch can convert"
    network: nn.Module = _opened(
        path, expected, lambda: convert(path), lambda error: _why_no_onnx(path, error)
    )
    # onnx2torch hands it on in training mode: batch norm would use the batch's statistics, and
    # overwrite its own.
    return freeze(network)


def _opened(
    path: str,
    expected: str,
    load: Callable[[], Any],
    why: Callable[[Exception], str | None] = lambda _: None,
) -> Any:
    """What `load` makes of a file. why: what is known of an error, in words that follow the file's
    name.
    """
    if not Path(path).is_file():
        raise InputError(f"decision.path={path}: no such file")
    try:
        return load()
    # A foreign or damaged file makes the readers raise nearly anything, in many lines.
    except Exception as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        known = why(error) or f"is not {expected}: {type(error).__name__}, {reason}"
        raise InputError(f"decision.path={path} {known}") from None


def _why_no_torchscript(path: str) -> str | None:
    """Of a file that is TorchScript and cannot be opened all the same."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        code = b"".join(
            archive.read(name)
            for name in archive.namelist()
            if "/code/" in name and name.endswith(".py")
        )
    if b"mkldnn" in code.lower():
        return (
            "was saved after torch.jit.optimize_for_inference, which torch cannot open again and "
            "which leaves no gradient: save the script as it was before that"
        )
    return None


def _why_no_onnx(path: str, error: Exception) -> str | None:
    """Of a file that is ONNX and cannot be converted."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # it is none
        return None
    opset = max(
        (each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0
    )
    stored = {each.name for each in model.graph.initializer}
    if isinstance(error, KeyError) and any(
        n.op_type == "Identity" and n.input[0] in stored for n in model.graph.node
    ):
        return (
            "holds tensors that are equal, which exporters store once and onnx2torch does not find "
            "again: it seems untrained; export the trained network"
        )
    operator = re.search(r"operation_type='(\w+)'", str(error))
    failed = operator[1] if operator else f"({type(error).__name__}, {error})"
    knows = f"onnx2torch cannot convert {failed}"
    if opset > ONNX_OPSET:
        again = f"torch.onnx.export(..., opset_version={ONNX_OPSET}, dynamo=False)"
        return f"is of ONNX opset {opset}, of which {knows}: export it again by {again}"
    return f"is of ONNX opset {opset}, and {knows}" if operator else None


@contextmanager
def _tensors_only() -> Iterator[None]:
    """torch.export reads pickled tensors with all that a pickle may do, and logs its failures:
    neither, within this.
    """
    name, disabled = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", logging.root.manager.disable
    before = os.environ.get(name)
    os.environ[name] = "1"
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
