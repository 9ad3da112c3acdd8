"""The output trees of the public diffusion explainers: DiME, ACE, and those that copied them.

    OUT/Original/{Correct,Incorrect}/0000123.png         the query, decided right or wrong
    OUT/Results/EXP/{CC,IC}/{CCF,ICF}/CF/0000123.png     the counterfactual
    OUT/Results/EXP/{CC,IC}/{CCF,ICF}/Info/0000123.txt   label, pred, target, cf pred, l_inf, l_1

C and I: correct and incorrect. EXP may hold the levels `explanation` and `pre-explanation`, of
which the first is refined from the second. A rerun with another outcome leaves the older file where
it was, so that a name can stand in several of the four folders: the newer file counts.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cfexp.data.imported.files import (
    Found,
    Imported,
    Reported,
    without_counterfactual,
)
from cfexp.errors import InputError

LEVEL = "explanation"
_QUERIES = {"CC": "Correct", "IC": "Incorrect"}
_OUTCOMES = ("CCF", "ICF")
_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "label": ("label", int),
    "pred": ("query_class", int),
    "target": ("counter_class", int),
    "cf pred": ("counterfactual_class", int),
    "l_inf": ("l_inf", float),
    "l_1": ("l_1", float),
}


def read_tree(root: Path, results: str | None = None) -> Found:
    """What is in the tree of one experiment.

    results: the folder below Results; None = the only one there, of two levels the explanation.
    Raises InputError for a tree of another form, and for an experiment that there is not.
    """
    experiment = _experiment(root, results)
    originals = {folder: _images(root / "Original" / folder) for folder in _QUERIES.values()}
    if not any(originals.values()):
        raise InputError(f"ace={root}: no image in {root / 'Original'}/Correct or Incorrect")
    problems: list[str] = []
    notes: list[str] = []
    standing: dict[str, list[Path]] = {}
    for clean in _QUERIES:
        for outcome in _OUTCOMES:
            for stem, path in _images(experiment / clean / outcome / "CF").items():
                standing.setdefault(stem, []).append(path)
    if not standing:
        raise InputError(f"ace={root}: no image in {experiment}/CC/CCF/CF or the three beside it")
    imported, recordless = [], 0
    for stem, paths in sorted(standing.items()):
        by_age = sorted(paths, key=_written)
        path = by_age[-1]
        if len(by_age) > 1 and _written(by_age[-2]) == _written(path):
            both = f"{path} and {by_age[-2]} are of one time"
            problems.append(f"{both}, so that nobody can say which counts: remove one")
            continue
        notes += [f"{old} is older than {path}, which counts" for old in by_age[:-1]]
        clean, outcome = path.parts[-4:-2]
        query = originals[_QUERIES[clean]].get(stem) or next(
            (files[stem] for files in originals.values() if stem in files), None
        )
        if query is None:
            problems.append(f"{path} has no query of that name in {root / 'Original'}")
            continue
        reported = Reported(success=outcome == "CCF", right=clean == "CC")
        record = path.parents[1] / "Info" / f"{stem}.txt"
        try:
            reported = _read_record(record, reported)
        except FileNotFoundError:
            recordless += 1
        except InputError as error:
            problems.append(str(error))
        imported.append(Imported(stem, query, path, reported=reported))
    if recordless:
        kept = "by their folders alone it is known what was counted as a success"
        notes.append(
            f"{recordless} of {len(imported)} counterfactuals have no record in Info: {kept}"
        )
    queries = {stem for files in originals.values() for stem in files}
    lacking = sorted(queries - standing.keys())
    return Found(imported, problems, [*notes, *without_counterfactual(lacking, len(queries))])


def _experiment(root: Path, results: str | None) -> Path:
    """The folder that holds CC and IC."""
    below = root / "Results"
    if not below.is_dir():
        raise InputError(f"ace={root}: expected {below}/EXP/CC/CCF/CF and {root / 'Original'}")
    if results is not None:
        below /= results
        if not below.is_dir():
            there = ", ".join(_names(root)) or "none"
            raise InputError(f"results={results}: no folder {below}; there are {there}")
        found = [each for each in (below, below / LEVEL) if _holds_outcomes(each)]
        if not found:
            raise InputError(
                f"results={results}: neither {below} nor {below / LEVEL} holds CC or IC"
            )
        return found[0]
    names = _names(root)
    chosen = [name for name in names if not name.endswith(f"/pre-{LEVEL}")] or names
    if len(chosen) != 1:
        listed = ", ".join(names) or "none"
        raise InputError(f"ace={root}: choose one of its experiments by results=NAME: {listed}")
    return below / chosen[0]


def _names(root: Path) -> list[str]:
    """The experiments of a tree, those of two levels twice."""
    below = root / "Results"
    deep = sorted(path for pattern in ("*", "*/*") for path in below.glob(pattern))
    return [path.relative_to(below).as_posix() for path in deep if _holds_outcomes(path)]


def _holds_outcomes(folder: Path) -> bool:
    return any((folder / clean).is_dir() for clean in _QUERIES)


def _images(folder: Path) -> dict[str, Path]:
    """The images of a folder, which may be empty or not there, by stem."""
    return {path.stem: path for path in sorted(folder.glob("*.png"))}


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def _read_record(path: Path, reported: Reported) -> Reported:
    """What a text record says, beside what its folder does.

    Raises FileNotFoundError where there is none, and InputError for one that is damaged or
    contradicts itself or its folder.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    told = dict(line.partition(":")[::2] for line in lines if line.strip())
    values: dict[str, Any] = {}
    for name, (field, kind) in _FIELDS.items():
        if name not in told:
            raise InputError(f"{path}: has no line `{name}: value`; the record is not used")
        try:
            values[field] = kind(told[name])
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            said = f"{name} must be {expected}, got {told[name].strip()!r}"
            raise InputError(f"{path}: {said}; the record is not used") from None
    classes = [values[field] for field, kind in _FIELDS.values() if kind is int]
    if min(classes) < 0:
        raise InputError(f"{path}: a class is negative; the record is not used")
    complete = reported._replace(**values)
    for name, same, folder in (
        ("pred", complete.query_class == complete.label, reported.right),
        ("cf pred", complete.counterfactual_class == complete.counter_class, reported.success),
    ):
        if same != folder:
            other = "label" if name == "pred" else "target"
            is_not = "is" if same else "is not"
            lies = f"but lies in {path.parts[-4]}/{path.parts[-3]}"
            raise InputError(f"{path}: {name} {is_not} the {other}, {lies}; the record is not used")
    return complete
