"""Let torchvision be imported beside a torch of another build (a CPU-only torch, a CUDA
torchvision).

The registry's torchvision is a CUDA build. Beside a CPU-only torch its compiled library cannot
load, and importing it fails with `operator torchvision::nms does not exist`, because it registers
fake kernels for operators that were never defined; torchmetrics, and so Lightning, import any
torchvision that they find. Defining the two schemas first makes the rest of it work (models,
transforms.v2); the two operators themselves and torchvision.io stay unavailable.

Importing this module costs nothing: it places a finder that acts when, and only when, torchvision
is first imported. `make install` also places it in the virtual environment by a one-line .pth file,
since the children of job launchers unpickle Lightning before they import cfexp.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# torch drops a library's definitions when the object that made them is collected.
_keep_alive: list[object] = []


def define_missing_operators(package: Path) -> bool:
    """Define torchvision's operators if its compiled library in folder `package` cannot load; True
    if it did so now.
    """
    import torch

    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return False
    for library in package.glob("_C.*"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]  # torch does not type it
        except OSError:
            continue
        return False
    definitions = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # nor this
    for schema in _SCHEMAS:
        definitions.define(schema)  # type: ignore[no-untyped-call]  # nor this
    _keep_alive.append(definitions)
    return True


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec(fullname)
            if spec is not None and spec.origin is not None:
                define_missing_operators(Path(spec.origin).parent)
        return None


if "torchvision" not in sys.modules and not any(
    type(f).__name__ == "_BeforeTorchvision" for f in sys.meta_path
):
    sys.meta_path.insert(0, _BeforeTorchvision())
