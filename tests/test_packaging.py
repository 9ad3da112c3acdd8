"""What is declared agrees with what is there, and a built wheel works on its own."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "cfexp", "conf")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def python_folders() -> set[str]:
    return {
        str(path.parent.relative_to(ROOT)).replace(os.sep, ".")
        for path in (ROOT / "cfexp").rglob("*.py")
    }


def test_the_package_list_is_the_folders() -> None:
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert listed == sorted(python_folders() | {"cfexp.conf"})
    for folder in python_folders():
        assert (ROOT / folder.replace(".", os.sep) / "__init__.py").is_file(), folder


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras]):
        assert requirement.name in pinned, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pinned[requirement.name]), requirement


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    # In pieces, as this file is tracked too.
    patterns = (
        "/wo" r"rk/",
        "/ro" r"ot/",
        "/opt/" r"(pypi|wheels)",
        "python" r"hosted\.org",
        "--(extra-)?ind" r"ex-url",
    )
    pattern = re.compile("|".join(patterns).encode())
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file():  # else deleted but not yet committed
            found += [
                f"{name}: {match.group().decode()}" for match in pattern.finditer(path.read_bytes())
            ]
    assert found == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy: building in place leaves folders from which the next wheel would
    take stale files.
    """
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder / "dist"),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_weights_and_the_config_tree_and_no_tests(
    wheel: Path,
) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cfexp").rglob("*.py")}
    config = {
        f"cfexp/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")
    }
    assert "cfexp/conf/experiment/vqa_color.yaml" in config
    weights = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cfexp" / "weights").iterdir()}
    assert weights
    samples = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cfexp/samples").rglob("*")
        if path.is_file()
    }
    assert "cfexp/samples/traffic_lights/ATTRIBUTION.txt" in samples
    pages = {f"cfexp/evaluation/templates/{name}.html" for name in ("gallery", "report", "verdict")}
    others = {"cfexp/py.typed", "cfexp/conf/__init__.py"}
    assert names == modules | config | weights | samples | pages | others


def test_the_wheel_says_what_may_be_done_with_it(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (licence,) = (
            name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")
        )
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        assert b"License-Expression: Apache-2.0" in archive.read(metadata).splitlines()


def test_the_citation_is_of_this_version_and_names_both_papers() -> None:
    citation = OmegaConf.load(ROOT / "CITATION.cff")
    assert citation.version == PROJECT["version"]
    assert citation.license == PROJECT["license"]
    cited = {reference.url for reference in citation.references}
    assert cited == {url for name, url in PROJECT["urls"].items() if name.startswith("Paper")}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a new environment that holds the wheel, and sees this one's packages but not
    this checkout.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, str(wheel)], check=True, timeout=300)
    paths = {"base": str(folder), "platbase": str(folder)}
    # A .pth file's folder is searched, but the .pth files in that one (the editable cfexp's) are
    # not read.
    Path(sysconfig.get_path("purelib", vars=paths), "others.pth").write_text(
        sysconfig.get_path("purelib")
    )
    return python


def run(python: Path, folder: Path, *arguments: str) -> str:
    """Run a command in `folder`, in an environment that knows nothing of this checkout; what it
    printed.
    """
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CFEXP"))
    }
    environment |= {"CFEXP_CACHE": str(folder / "cache"), "WANDB_MODE": "offline"}
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_installed_wheel_lists_its_experiments_from_any_folder(
    installed: Path, tmp_path: Path
) -> None:
    where = run(
        installed, tmp_path, "-c", "import cfexp; print(cfexp.__file__, cfexp.__version__)"
    ).split()
    assert Path(where[0]).is_relative_to(installed.parents[1])
    assert where[1] == PROJECT["version"]
    assert "vqa_color " in run(installed, tmp_path, "-m", "cfexp.train", "--help")


@pytest.mark.slow
def test_an_installed_wheel_trains_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    printed = run(
        installed, tmp_path, "-m", "cfexp.train", "+experiment=vqa_color", "+overlay=smoke"
    )
    (folder,) = (tmp_path / "runs" / "vqa_color").iterdir()
    assert str(folder.relative_to(tmp_path)) in printed
    for name in ("config.yaml", "metrics.json", "metrics.csv", "counterfactuals.png"):
        assert (folder / name).is_file(), name
