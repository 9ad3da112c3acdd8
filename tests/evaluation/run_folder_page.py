"""What docs/run_folder.md names, for tests that compare it with what runs write."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "run_folder.md"


def documented(*sections: str) -> set[str]:
    """The names in the first column of the tables under these headings, which begin so."""
    names: set[str] = set()
    for section in sections:
        heading = rf"^#+ (?:Columns of |Declared by )?{re.escape(section)}[^\n]*\n(.*?)(?=^#|\Z)"
        (text,) = re.findall(
            heading, PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE | re.IGNORECASE
        )
        rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
        names |= {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    return names
