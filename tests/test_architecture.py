"""The rooms' rules as one table: who imports what, and who touches Lightning, Hydra and files."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


class Rule(NamedTuple):
    """What a part of cfexp may use: parts of cfexp (besides itself, `errors` and
    `command_parser`), and the four others.
    """

    cfexp: str = ""
    lightning: bool = False
    hydra: bool = False
    files: bool = False
    wandb: bool = False  # its images; the logger itself is Lightning's, named in conf/


# The longest name that fits a module rules it. `package` is cfexp itself: its version, and where it
# lies.
RULES = {
    "__init__": Rule("_torchvision _moved library evaluation.run_folder"),
    "_moved": Rule(),
    "_torchvision": Rule(),
    "errors": Rule(),
    "command_parser": Rule(),
    "whole_files": Rule(files=True),
    # Leaves
    "tensors": Rule(),
    "declaration": Rule(),
    "pixel_attack": Rule(),
    "losses": Rule("tensors"),
    "metrics": Rule("tensors"),
    "worlds": Rule(files=True),
    "models": Rule(),
    "models.loading": Rule(files=True),
    "models.judges.inception": Rule("models.loading", files=True),
    "models.own": Rule("models.loading"),
    "models.own.hugging_face_vqa": Rule("models.loading", files=True),
    "models.released": Rule("models", files=True),
    # What is built of them
    "data": Rule("worlds whole_files", lightning=True, files=True),
    "data.streets.edits": Rule("metrics worlds"),
    "data.converters": Rule("data worlds metrics", files=True),
    "explainers": Rule(
        "models losses tensors data.base data.batch declaration pixel_attack", lightning=True
    ),
    "explainers.pe.bins": Rule("data.base whole_files", files=True),
    "explainers.memory": Rule(files=True),
    "training": Rule("tensors models losses metrics data.base data.batch", lightning=True),
    "evaluation": Rule("metrics declaration pixel_attack whole_files", files=True),
    "evaluation.causes": Rule(
        "evaluation metrics declaration whole_files worlds.factors", files=True
    ),
    # The machinery of a run, which knows of everything below
    "run": Rule(
        "data models losses declaration evaluation explainers.base whole_files _moved package",
        lightning=True,
        hydra=True,
        files=True,
    ),
    "run.command_line": Rule("run.mistyped", hydra=True),
    "run.mistyped": Rule(hydra=True),
    "run.folder_names": Rule(hydra=True),
    "run.folder_lock": Rule(lightning=True, files=True),
    "run.loggers": Rule("evaluation", hydra=True, files=True, wandb=True),
    "run.memory": Rule(),
    "run.processes": Rule("models", lightning=True),
    "run.stopping": Rule(lightning=True),
    "benchmarks": Rule("models losses explainers run.memory"),
    "benchmarks.experiment": Rule("explainers.base run", hydra=True),
    "benchmarks.scoring": Rule("declaration evaluation run.memory benchmarks"),
    "benchmarks.optimizers": Rule("losses explainers run benchmarks", hydra=True),
    "benchmarks.explaining": Rule("explainers.base run benchmarks", hydra=True),
    "benchmarks.vqa_gan": Rule(
        "data.batch losses explainers run benchmarks", hydra=True, lightning=True
    ),
    "benchmarks.data": Rule("data worlds run.memory benchmarks.command", files=True),
    # The doors: the library, and the commands
    "library": Rule("run data explainers.base", hydra=True, files=True),
    "console": Rule(files=True),
    "causes": Rule("run evaluation evaluate data.reading models.loading", hydra=True, files=True),
    "train": Rule("run evaluate explainers.base sweep", hydra=True, files=True),
    "explain": Rule("run evaluate evaluation.run_folder sweep", hydra=True),
    "evaluate": Rule("run evaluation", hydra=True, files=True),
    "sweep": Rule("run evaluation.report", hydra=True, files=True),
    "gallery": Rule("run evaluation evaluate", hydra=True, files=True),
    "import_run": Rule("run evaluate evaluation.run_folder", hydra=True),
    "repair": Rule("run evaluation.report", hydra=True, files=True),
    "report": Rule("run evaluation evaluate", hydra=True, files=True),
    "reconstruct": Rule("run evaluation.report data.label_maps", hydra=True, files=True),
    "reproduce": Rule("run evaluation.report", hydra=True, files=True),
    "doctor": Rule("run data models", hydra=True, files=True),
    "publish": Rule("run data.converters.folder embedded_weights", hydra=True, files=True),
    "embedded_weights": Rule("run models.loading package", hydra=True, files=True),
}
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric"}
HYDRA = {"hydra", "omegaconf"}
WANDB = {"wandb"}
FILES = {"pickle", "pyarrow", "safetensors"}  # whoever imports these reads or writes files
FILE_CALLS = (
    *("open", "*.open", "*.load", "*.save", "*.load_file", "*.save_file", "*.mkdir", "*.unlink"),
    *(
        "*.read_text",
        "*.read_bytes",
        "*.write_text",
        "*.write_bytes",
        "*.read_csv",
        "*.to_csv",
        "np.savez*",
    ),
)


def module_name(path: Path) -> str:
    """`data.base` for cfexp/data/base.py, `data` for cfexp/data/__init__.py, `__init__` for
    cfexp/__init__.py.
    """
    parts = path.relative_to(ROOT / "cfexp").with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES_OF_CFEXP = sorted((ROOT / "cfexp").rglob("*.py"))
MODULES = {module_name(path) for path in FILES_OF_CFEXP}


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def imported(tree: ast.AST, name: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, also within functions, relative or by `import_module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = (
                f"cfexp.{name}"
                if (ROOT / "cfexp" / name).is_dir()
                else f"cfexp.{name}".rpartition(".")[0]
            )
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                is_module = f"{source}.{alias.name}".removeprefix("cfexp.") in MODULES
                yield node.lineno, f"{source}.{alias.name}" if is_module else source
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            yield from (
                (node.lineno, str(arg.value))
                for arg in node.args[:1]
                if isinstance(arg, ast.Constant)
            )


def violations(name: str, source: str) -> Iterator[str]:
    """What module `name` of cfexp does, line by line, that its rule does not allow."""
    part = max((part for part in RULES if within(name, part)), key=len, default=None)
    if part is None:
        yield f"cfexp.{name} is in no row of the table"
        return
    rule, tree = RULES[part], ast.parse(source)
    allowed = (part, "errors", "command_parser", *rule.cfexp.split())
    forbidden = (set() if rule.lightning else LIGHTNING) | (set() if rule.hydra else HYDRA)
    forbidden |= set() if rule.wandb else WANDB
    forbidden |= set() if rule.files else FILES
    for line, target in imported(tree, name):
        top, _, inner = target.partition(".")
        if top in forbidden or (
            top == "cfexp" and not any(within(inner or "package", other) for other in allowed)
        ):
            yield f"{line}: imports {target}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not rule.files:
            call = ast.unparse(node.func)
            if any(fnmatch(call, pattern) for pattern in FILE_CALLS):
                yield f"{node.lineno}: touches files by {call}()"


@pytest.mark.parametrize("path", FILES_OF_CFEXP, ids=module_name)
def test_a_module_uses_only_what_its_part_may(path: Path) -> None:
    assert list(violations(module_name(path), path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("models.vqa.mlb", "from cfexp.data.batch import VQABatch", "1: imports cfexp.data.batch"),
        ("models.vqa.mlb", "from cfexp import losses", "1: imports cfexp.losses"),
        ("models.vqa.mlb", "from ... import losses", "1: imports cfexp.losses"),
        (
            "models.vqa.mlb",
            "def f():\n    import cfexp.worlds.scenes",
            "2: imports cfexp.worlds.scenes",
        ),
        ("models.vqa.mlb", "importlib.import_module('cfexp.train')", "1: imports cfexp.train"),
        ("models.vqa.mlb", "import cfexp", "1: imports cfexp"),
        ("models.vqa.mlb", "from lightning.pytorch import Trainer", "1: imports lightning.pytorch"),
        ("models.vqa.mlb", "torch.load(path)", "1: touches files by torch.load()"),
        ("models.vqa.mlb", "(a / 'b').read_text()", "1: touches files by (a / 'b').read_text()"),
        ("losses", "import safetensors.torch", "1: imports safetensors.torch"),
        (
            "explainers.base",
            "from cfexp.data.questions.vqa import VQADataModule",
            "1: imports cfexp.data.questions.vqa",
        ),
        ("explainers.base", "from cfexp import metrics", "1: imports cfexp.metrics"),
        (
            "training.vqa_model",
            "from cfexp.explainers import base",
            "1: imports cfexp.explainers.base",
        ),
        (
            "evaluation.table",
            "from cfexp.explainers.base import Explanation",
            "1: imports cfexp.explainers.base",
        ),
        (
            "run.callbacks",
            "from cfexp.explainers.vqa_gan import X",
            "1: imports cfexp.explainers.vqa_gan",
        ),
        ("data.vqa", "from omegaconf import DictConfig", "1: imports omegaconf"),
        ("train", "import wandb", "1: imports wandb"),
        ("tools.plot", "", "cfexp.tools.plot is in no row of the table"),
        # And what is allowed:
        ("models.vqa.mlb", "from cfexp.models import pretrained", None),
        ("models.vqa.mlb", "from . import pretrained", None),
        (
            "data.vqa",
            "from cfexp.errors import InputError\nfrom cfexp.worlds.scenes import SceneParameters",
            None,
        ),
        ("explainers.base", "from cfexp import losses\nfrom cfexp.data import batch", None),
        ("models.loading.pretrained", "torch.load(path)", None),
        ("run.stages", "import cfexp, hydra, lightning", None),
    ],
)
def test_the_table_is_enforced(name: str, source: str, found: str | None) -> None:
    assert list(violations(name, source)) == ([] if found is None else [found])


@pytest.mark.parametrize("folder", ["cfexp", "tests"])
def test_no_file_is_long_and_none_is_called_utils(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
        assert "utils" not in path.relative_to(ROOT).with_suffix("").parts, path


def test_experiments_are_short_overlays_that_begin_with_their_command() -> None:
    folder = ROOT / "conf" / "experiment"
    for path in folder.rglob("*.yaml"):
        name = path.relative_to(folder).with_suffix("").as_posix()
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 25, name
        # `--help` shows the third line.
        package, command, description = lines[:3]
        assert package == "# @package _global_", name
        assert command.startswith("# python -m cfexp."), name
        assert f"+experiment={name}" in command.split(), name
        assert description.startswith("# "), name
