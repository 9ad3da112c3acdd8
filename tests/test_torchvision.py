"""The shim that lets a CUDA torchvision be imported beside a CPU-only torch, each time in a fresh
process.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import cfexp

PTH = Path(sysconfig.get_path("purelib"), "cfexp_torchvision.pth")
needs_pth = pytest.mark.skipif(
    not PTH.exists(), reason="this environment was not made by `make install`"
)


def run(program: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


USE = """
import torchvision, lightning, torch
from torchvision.transforms import v2
small = v2.Resize((32, 32))(torch.zeros(1, 3, 64, 64))
print(tuple(torchvision.models.resnet18().eval()(small).shape))
"""


@needs_pth
def test_torchvision_can_be_imported_before_cfexp() -> None:
    assert run(USE) == "(1, 1000)"


def test_torchvision_can_be_imported_after_cfexp_without_the_pth() -> None:
    paths = [str(Path(cfexp.__file__).parents[1]), sysconfig.get_path("purelib")]
    assert run(f"import sys; sys.path += {paths}; import cfexp\n{USE}", "-S") == "(1, 1000)"


@needs_pth
def test_starting_python_imports_no_torch() -> None:
    names = ("torch", "torchvision", "numpy")
    assert run(f"import sys; print([name for name in {names} if name in sys.modules])") == "[]"


def test_the_finder_is_placed_once_and_leaves_when_it_has_acted() -> None:
    program = """
import importlib, sys
import cfexp._torchvision as shim
def finders():
    return sum(type(finder).__name__ == "_BeforeTorchvision" for finder in sys.meta_path)
importlib.reload(shim)
placed = finders()
import torchvision
importlib.reload(shim)
print(placed, finders())
"""
    assert run(program) == "1 0"


def test_operators_are_defined_once_and_only_where_they_are_missing(tmp_path: Path) -> None:
    (tmp_path / "_C.so").touch()  # no library: it cannot be loaded
    program = f"""
from pathlib import Path
from unittest import mock
import torch
from cfexp._torchvision import define_missing_operators
package = Path({str(tmp_path)!r})
defined = lambda: hasattr(torch.ops.torchvision, "nms") and hasattr(torch.ops.torchvision, "qnms")
with mock.patch("torch.version.cuda", "13.0"):
    print("torch has CUDA:", define_missing_operators(package), defined())
with mock.patch("torch.version.cuda", None):
    with mock.patch.object(torch.ops, "load_library") as load:
        print("library loads:", define_missing_operators(package), defined(), load.call_count)
    print("library is broken:", define_missing_operators(package), defined())
    print("again:", define_missing_operators(package), defined())
"""
    assert run(program).splitlines() == [
        "torch has CUDA: False False",
        "library loads: False False 1",
        "library is broken: True True",
        "again: False True",
    ]
