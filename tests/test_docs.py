import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_the_run_folder_is_what_the_explainers_declare() -> None:
    script = runpy.run_path(str(DOCS / "write_columns.py"))
    page = (DOCS / "run_folder.md").read_text(encoding="utf-8")
    assert page == script["page"](), "python docs/write_columns.py"
