"""What an explainer says of its own explanations, for whoever stores, scores, shows or documents
them.

The declaration lies in the run folder (explainer.json): nothing after the explainer asks which
method made a run.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Start = Literal["query", "reconstruction"]


class Shown(NamedTuple):
    """How a number stands in the tables that people read."""

    header: str
    digits: int = 1
    table: bool = True  # in the main table of a run
    sweep: bool = True  # in the table of a sweep
    panel: str = ""  # the title of its panel in a sweep's plot; "" = none
    # The header of the same number of the reconstruction, beside it in a sweep's table; "" = none.
    floor: str = ""


class Column(NamedTuple):
    """A column of the run folder that an explainer adds to the contract's."""

    name: str
    meaning: str  # one line, for the docs
    shape: tuple[str, ...] = ()  # of one query's value: () = a number, ("R",) = one number a region
    unit: str = ""
    # of which number the tables have; of a rate the column is bool
    summary: Literal["mean", "rate", "none"] = "none"
    counted: str = "queries"  # what n of that number counts
    successes_only: bool = False  # the number is of successes only
    # the number is only of queries that there is something to explain of: those whose
    # reconstruction keeps the decision, and of which another class is asked for
    explained_only: bool = False
    known_from: float | None = None  # a smaller value says that there is none
    by_region: str = ""  # of shape ("R",): what the names of the regions' numbers begin with
    # bool: where it holds there is nothing to measure, and the query is counted apart
    counted_apart: bool = False
    shown: Shown | None = None


# Columns that several searches have.
RECONSTRUCTION_CLASS = Column(
    "reconstruction_class",
    "what the decision model says of the reconstruction: "
    "if not `query_class`, nothing is explained",
)
EVALUATIONS = Column(
    "evaluations",
    "how often the objective and its gradient were computed",
    summary="mean",
    counted="searches",
)


class Declaration(NamedTuple):
    """What holds for all explanations of a run."""

    explainer: str = ""  # what people call the method
    # What the edit starts from. An explainer that starts from the reconstruction declares
    # `reconstruction_class`, too: a flip that the reconstruction brings explains nothing.
    starts_from: Start = "query"
    columns: tuple[Column, ...] = ()
    # whether the tables tell each pair of classes, asked of and asked for, apart
    by_direction: bool = False
    class_names: tuple[str, ...] = ()  # of the decision's classes; () = not known
    # the label of the data set that the decision is about; None = not known
    label: str | None = None
    regions: tuple[str, ...] | None = None  # the regions that may change; None = all
    region_groups: tuple[
        str, ...
    ] = ()  # the groups of regions that were tried together, after the regions themselves
    # whether the counterfactual is one of the candidates, too; else they are further ones
    among_candidates: bool = False
    # what a run lacks that others have, and why: the picture `reconstruction`, and numbers by name
    without: Mapping[str, str] = {}

    def column(self, name: str) -> Column | None:
        """The column of that name; None where the explainer has none."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def region_column(self) -> Column | None:
        """The column that says how far each region was moved; None where the explainer does not
        say.
        """
        return next((column for column in self.columns if column.by_region), None)

    def to_json(self) -> dict[str, Any]:
        """The declaration as JSON takes it."""
        columns = [
            {**column._asdict(), "shown": None if column.shown is None else column.shown._asdict()}
            for column in self.columns
        ]
        return {**self._asdict(), "columns": columns, "without": dict(self.without)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Declaration":
        """What `to_json` made. Raises TypeError or ValueError for anything else."""
        known = {name: value for name, value in content.items() if name in cls._fields}
        for name in ("class_names", "region_groups", "regions"):
            known[name] = None if known.get(name) is None else tuple(known[name])
        columns = tuple(_column(column) for column in known.pop("columns", ()))
        return cls(**known, columns=columns)


def _column(content: Mapping[str, Any]) -> Column:
    known = {name: value for name, value in content.items() if name in Column._fields}
    shown = known.pop("shown", None)
    shape = tuple(known.pop("shape", ()))
    return Column(**known, shape=shape, shown=None if shown is None else Shown(**shown))
