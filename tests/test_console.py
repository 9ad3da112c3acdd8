"""The console script: what it lists, and what it becomes."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cfexp import console

ROOT = Path(__file__).parents[1]
SCRIPT = [sys.executable, "-c", "from cfexp.console import main; main()"]


def test_the_project_has_the_script() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"cfexp": "cfexp.console:main"}


def test_every_command_of_the_readme_is_listed_with_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    used = {
        name
        for path in texts
        for name in re.findall(r"python -m cfexp\.([a-z_.]*[a-z_])", path.read_text())
    }
    known = dict(console.commands())
    assert used <= known.keys()
    assert all(said and "\n" not in said and "`python -m" not in said for said in known.values())
    for arguments in ([], ["--help"], ["-h"]):
        sys.argv[1:], kept = arguments, sys.argv[1:]
        console.main()
        sys.argv[1:] = kept
        shown = capsys.readouterr().out.splitlines()
        assert shown[0].startswith("usage: cfexp COMMAND")
        assert [line.split()[0] for line in shown[2:]] == [*known]


def test_a_command_is_that_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    became = []
    monkeypatch.setattr("os.execv", lambda program, arguments: became.append((program, arguments)))
    monkeypatch.setattr(
        "sys.argv", ["/bin/cfexp", "train", "-m", "+experiment=vqa_color", "seed=0,1", "name=a b"]
    )
    console.main()
    again = [
        sys.executable,
        "-m",
        "cfexp.train",
        "-m",
        "+experiment=vqa_color",
        "seed=0,1",
        "name=a b",
    ]
    assert became == [(sys.executable, again)]


# That the module is what it becomes, test_a_command_is_that_of_the_module has of any arguments.
@pytest.mark.parametrize(
    "command",
    [pytest.param(["gallery", "--help"], marks=pytest.mark.slow), ["gallery", "run=none"]],
)
def test_it_says_what_the_module_says(command: list[str], tmp_path: Path) -> None:
    name, *arguments = command
    module = [sys.executable, "-m", f"cfexp.{name}", *arguments]
    ours, theirs = (
        subprocess.run(each, cwd=tmp_path, capture_output=True, text=True, check=False)
        for each in ([*SCRIPT, *command], module)
    )
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        theirs.returncode,
        theirs.stdout,
        theirs.stderr,
    )


def test_a_command_that_there_is_not() -> None:
    done = subprocess.run([*SCRIPT, "trian"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cfexp trian: no such command; there are causes, ")


def help_of(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `--help` of a command shows; of Hydra's, what its config says."""
    config = ROOT / "conf" / f"{name}.yaml"
    if config.exists():
        told: Any = OmegaConf.to_container(OmegaConf.load(config))
        return str(told["hydra"]["help"]["template"])
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"cfexp.{name}").main()
    return capsys.readouterr().out


def test_every_help_begins_with_three_examples_that_can_be_copied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiments = ROOT / "conf" / "experiment"
    for name, _ in console.commands():
        text = help_of(name, monkeypatch, capsys)
        before = re.split(r"^(?:options|positional|Experiments|Often|In general)", text, flags=re.M)
        examples = re.findall(rf"^  python -m cfexp\.{re.escape(name)}(?: .+)?$", before[0], re.M)
        assert len(examples) >= 3, text
        assert len(examples) == before[0].count("  python -m "), text  # none of another command
        for experiment in re.findall(r"\+experiment=(\S+)", " ".join(examples)):
            assert (experiments / f"{experiment}.yaml").exists(), (name, experiment)
