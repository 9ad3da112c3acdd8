import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(
    ("script", "page"),
    [("write_columns.py", "run_folder.md"), ("write_configuration.py", "configuration.md")],
)
def test_pages_that_are_made_of_the_code_are_up_to_date(script: str, page: str) -> None:
    made = runpy.run_path(str(DOCS / script))["page"]()
    assert (DOCS / page).read_text(encoding="utf-8") == made, f"python docs/{script}"


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    built = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    page = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert "load_explainer" in page
    assert "What became of B queries" in page  # the docstring of Explained


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))])
def test_prose_is_at_most_100_columns_wide(path: Path) -> None:
    """Tables, pictures and what stands in fences may be wider."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and not line.startswith(("|", "![", "```", "# ", "    ")):
            assert len(line) <= 100, f"{path.name}, line {number}"
