"""Writes what docs/run_folder.md says of the columns that each explainer declares: python
docs/write_columns.py
"""

import importlib
import pkgutil
from pathlib import Path

from cfexp import explainers
from cfexp.declaration import Column
from cfexp.explainers.base import Explainer

PAGE = Path(__file__).parent / "run_folder.md"
START, END = (
    f"<!-- {which}: python docs/write_columns.py -->" for which in ("columns", "end of columns")
)


def page() -> str:
    """The page with the tables of the explainers as they are now."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{_tables()}\n{END}{rest.partition(END)[2]}"


def _tables() -> str:
    for module in pkgutil.walk_packages(explainers.__path__, "cfexp.explainers."):
        importlib.import_module(module.name)
    found = sorted(_declaring(Explainer), key=lambda explainer: explainer.called)
    return "\n".join(map(_table, found))


def _declaring(kind: type[Explainer]) -> set[type[Explainer]]:
    below = {each for child in kind.__subclasses__() for each in _declaring(child)}
    return below | ({kind} if kind.called and kind.__module__.startswith("cfexp.") else set())


def _table(explainer: type[Explainer]) -> str:
    stored = [column for column in explainer.columns if len(column.shape) < 2]
    start = (
        f"### Declared by {explainer.called}\n\nIts edits start from the {explainer.starts_from}.\n"
    )
    if not stored:
        return start
    rows = [f"| `{column.name}` | {_type(column)} | {column.meaning} |" for column in stored]
    return "\n".join([start, "| column | of each query | |", "|---|---|---|", *rows, ""])


def _type(column: Column) -> str:
    kind = "bool" if column.counted_apart or column.summary == "rate" else "number"
    several = f"{column.shape[0]} {kind}s" if column.shape else kind
    return f"{several}, {column.unit}" if column.unit else several


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
