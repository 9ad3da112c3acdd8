"""The members of a sweep, and runs that are set side by side as if they were: what each is, and
what it measured.

A member is a folder in the sweep's folder with member.json, which says how its config differs from
the others' and whether it failed; what it measured is its own metrics.json.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cfexp.declaration import Shown
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.whole_files import write_whole

NOTE = "member.json"
FOLDER = "sweep_"  # what a sweep's folder is called, and then what is swept
FINISHED, FAILED, UNFINISHED = "finished", "failed", "not finished"


class Measured(NamedTuple):
    """A number of metrics.json; None for what is not known of it."""

    value: float
    n: int | None = None
    low: float | None = None
    high: float | None = None


class Member(NamedTuple):
    """One run of a sweep."""

    name: str  # of its folder
    parameters: Mapping[str, str]  # what of the config it does not share with the others
    metrics: Mapping[str, Measured]  # of the headline's group; empty where it has not finished
    objective: float | None
    error: str | None
    columns: Mapping[str, Shown] = {}  # how the metrics that people look at first are shown

    @property
    def state(self) -> str:
        """FINISHED, FAILED or UNFINISHED."""
        return FAILED if self.error is not None else FINISHED if self.metrics else UNFINISHED


def write_note(
    folder: Path,
    parameters: Mapping[str, str],
    *,
    objective: float | None = None,
    error: str | None = None,
) -> None:
    """Leave in a member's folder what its sweep wants to know."""
    content = {"parameters": dict(parameters), "objective": objective, "error": error}
    write_whole(folder / NOTE, json.dumps(content, indent=2) + "\n")


def forget_unfinished(sweep: Path) -> None:
    """Before members run: those that failed or did not finish earlier are members only if they run
    again.
    """
    for member in read_members(sweep):
        if member.state != FINISHED:
            (sweep / member.name / NOTE).unlink()


def read_members(sweep: Path) -> list[Member]:
    """All members in a sweep's folder, by parameters; raises InputError for a damaged file."""
    members = []
    for path in sweep.glob(f"*/{NOTE}"):
        note = _json(path)
        metrics, columns = measured(path.parent), _shown(path.parent)
        members.append(Member(name=path.parent.name, metrics=metrics, columns=columns, **note))
    return sorted(
        members,
        key=lambda member: [*map(order_of, member.parameters.values()), (2, 0, member.name)],
    )


def measured(run: Path) -> dict[str, Measured]:
    """The headline group's numbers in a run's metrics.json, or a stage's figures; empty where there
    is none yet.
    """
    path = run / "metrics.json"
    if not path.is_file():
        return {}
    content = _json(path)
    if "groups" in content:
        rows: Mapping[str, Any] = next(iter(content["groups"].values()), {})
        found = {
            name: Measured(row["value"], row["n"], row["low"], row["high"])
            for name, row in rows.items()
        }
    else:
        found = {name: Measured(value) for name, value in content.items()}
    return {
        name: row
        for name, row in found.items()
        if row.value is not None and math.isfinite(row.value)
    }


def _shown(run: Path) -> dict[str, Shown]:
    path = run / "metrics.json"
    columns = _json(path).get("columns", []) if path.is_file() else []
    return {column.pop("metric"): Shown(**column) for column in columns}


def members_of_runs(runs: Sequence[Path]) -> list[Member]:
    """Runs that are scored, each by itself, as members are: told apart by the end of their path,
    and by which method they are of. Raises InputError for a damaged file.
    """
    folders = [run.resolve() for run in runs]
    depth = next(
        (
            depth
            for depth in range(1, max(len(folder.parts) for folder in folders))
            if len({folder.parts[-depth:] for folder in folders}) == len(folders)
        ),
        1,
    )
    return [
        Member(
            name=folder.name,
            parameters={
                "run": "/".join(folder.parts[-depth:]),
                "method": RunFolder(folder).declaration.explainer,
            },
            metrics=measured(folder),
            objective=None,
            error=None,
            # Also those of a run's own main table: how many queries are left differs by method.
            columns={
                name: shown._replace(sweep=shown.sweep or shown.table)
                for name, shown in _shown(folder).items()
            },
        )
        for folder in folders
    ]


def order_of(value: str) -> tuple[int, float, str]:
    """Of the values of a setting: numbers by size, before anything else by the alphabet."""
    try:
        return 0, float(value), ""
    except ValueError:
        return 1, 0, value


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
