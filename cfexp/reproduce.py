"""`python -m cfexp.reproduce NAME`: compute a table or figure of the papers on the embedded worlds,
beside the paper's numbers.

`experiments/NAME/experiment.yaml` names the runs, what is measured of each and the paper's numbers.
Runs that are finished are not run again, one that was stopped goes on; what comes out is left in
`experiments/NAME/results.json`.
"""

import importlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError  # type: ignore[import-untyped]

from cfexp.command_parser import command_parser
from cfexp.errors import InputError
from cfexp.evaluation.report.table import shown, table_of
from cfexp.run.command_line import quoted, typed
from cfexp.run.folder_names import folder_name

EXPERIMENTS = Path(__file__).parents[1] / "experiments"  # a checkout's
KEYS = {"title", "note", "paper_commands", "runs", "evaluate", "rows"}
ROW_KEYS = {"name", "run", "group", "metric", "paper", "better"}
# What limits the queries of a run, by the command that makes it.
LIMITS = {"explain": "data.max_test_images", "train": "data.max_test_questions"}
REACHED, IN_PART, OPEN, MISSED, COMPARISON = (
    "reached",
    "reached in part",
    "not told apart",
    "missed",
    "for comparison",
)
FROM_PROVENANCE = ("seed", "git_revision", "machine", "data_fingerprint", "checkpoints", "versions")


def main() -> None:
    """Run one experiment, or list them."""
    parser = command_parser(
        *("reproduce", __doc__),
        "",
        "steex_table2",
        "steex_table2 --queries 16 --num-threads 1",
    )
    parser.add_argument("name", nargs="?", help="of the experiment; without one they are listed")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="for each run, e.g. trainer.accelerator=cpu",
    )
    parser.add_argument("--queries", type=int, default=64, help="of each run")
    parser.add_argument(
        "--num-threads", type=int, help="of torch; by default OMP_NUM_THREADS, or one for each core"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="where runs lie")
    parser.add_argument(
        "--experiments", type=Path, default=EXPERIMENTS, help="the folder of experiments"
    )
    left = "a run that is not made, such as one whose training takes long; may be given again"
    parser.add_argument("--leave-out", action="append", default=[], metavar="RUN", help=left)
    arguments = parser.parse_intermixed_args()
    try:
        if arguments.name is None:
            print_list(arguments.experiments)
            return
        if arguments.queries < 1:
            raise InputError(f"--queries must be at least 1, got {arguments.queries}")
        folder = arguments.experiments / arguments.name
        experiment = read_experiment(folder)
        experiment["runs"] = without(experiment["runs"], arguments.leave_out)
        threads = "null" if arguments.num_threads is None else str(arguments.num_threads)
        folders = run_all(
            experiment, arguments.runs, arguments.queries, threads, arguments.overrides
        )
        results = results_of(experiment, folders, arguments.queries, arguments.overrides)
        path = folder / "results.json"
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        print_results(str(experiment["title"]), results)
        print(f"{typed(path)}; on the paper's own data: {results['real_data']}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def read_experiment(folder: Path) -> dict[str, Any]:
    """What experiment.yaml in `folder` says; raises InputError where it is missing or says
    something else.
    """
    path = folder / "experiment.yaml"
    if not path.is_file():
        known = ", ".join(names(folder.parent)) or "none: give a checkout's folder by --experiments"
        raise InputError(f"no experiment {folder.name!r} in {folder.parent}; there are {known}")
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not {"title", "runs", "rows"} <= set(content) <= KEYS:
        raise InputError(
            f"{path} must have title, runs and rows, and else only {', '.join(sorted(KEYS))}"
        )
    for name, run in content["runs"].items():
        if not isinstance(run, list) or not run or run[0] not in LIMITS:
            raise InputError(
                f"{path}: runs.{name} must begin with {' or '.join(LIMITS)}, got {run!r}"
            )
    for row in content["rows"]:
        if (
            not {"name", "run", "group", "metric"} <= set(row) <= ROW_KEYS
            or row["run"] not in content["runs"]
        ):
            keys = "name, run (one of runs), group, metric, paper, better"
            raise InputError(f"{path}: a row has {keys}; got {row}")
    return content


def without(runs: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    """The runs but those left out; raises InputError for one that there is not, and where none
    remains.
    """
    if unknown := [name for name in left_out if name not in runs]:
        raise InputError(f"--leave-out {unknown[0]}: the runs are {', '.join(runs)}")
    kept = {name: run for name, run in runs.items() if name not in left_out}
    if not kept:
        raise InputError("--leave-out: no run is left")
    return kept


def names(experiments: Path) -> list[str]:
    """The experiments in a folder."""
    return sorted(path.parent.name for path in experiments.glob("*/experiment.yaml"))


def run_all(
    experiment: Mapping[str, Any], runs: Path, queries: int, threads: str, overrides: Sequence[str]
) -> dict[str, Path]:
    """The folder of each run, after running what is not finished and scoring it; exits as a command
    that fails.
    """
    folders = {}
    for name, (command, *arguments) in experiment["runs"].items():
        settings = [f"{LIMITS[command]}={queries}", *overrides]
        folders[name] = folder = runs / folder_name([name, *settings])
        common = [
            *arguments,
            *settings,
            f"name={name}",
            f"num_threads={threads}",
            f"hydra.run.dir={quoted(folder)}",
        ]
        if command == "train":
            common.append("ckpt_path=last")
        if not (folder / "metrics.json").is_file():
            call(command, common)
    for name, folder in folders.items():
        given = (experiment.get("evaluate") or {}).get(name, [])
        call("evaluate", [f"run={quoted(folder)}", *given, f"num_threads={threads}"])
    return folders


def call(command: str, arguments: Sequence[str]) -> None:
    """Run `python -m cfexp.COMMAND ARGUMENTS` in this process; exits with its code where that is
    not 0.
    """
    print(f"python -m cfexp.{command} {shlex.join(arguments)}", flush=True)
    before = sys.argv
    sys.argv = [f"cfexp.{command}", *arguments]  # Hydra reads it, and the run's provenance says it
    try:
        importlib.import_module(f"cfexp.{command}").main()
    finally:
        sys.argv = before


def results_of(
    experiment: Mapping[str, Any],
    folders: Mapping[str, Path],
    queries: int,
    overrides: Sequence[str],
) -> dict[str, Any]:
    """What was measured, of what, and a verdict a row, as results.json has it."""
    metrics = {name: _json(folder / "metrics.json") for name, folder in folders.items()}
    provenance = {name: _json(folder / "provenance.json") for name, folder in folders.items()}
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "world": "embedded",
        "real_data": "not run: neither the data sets nor the hardware were at hand",
        "queries": queries,
        "overrides": list(overrides),
        "runs": {name: made_by(made) for name, made in provenance.items()},
        "rows": [result_of(row, metrics.get(row["run"])) for row in experiment["rows"]],
    }


def made_by(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json keeps of a run's provenance.json: of a checkpoint's path what is the same
    on every machine.
    """
    kept = {key: provenance.get(key) for key in FROM_PROVENANCE}
    checkpoints = (kept["checkpoints"] or {}).items()
    return kept | {
        "checkpoints": {
            name: {**made, "path": "/".join(Path(made["path"]).parts[-2:])}
            for name, made in checkpoints
        }
    }


def result_of(row: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """A row with what metrics.json says of it, and the verdict. metrics: None = it was left out."""
    if metrics is None:
        return {**row, "value": None, "verdict": "not run: --leave-out"}
    group, metric = row["group"], row["metric"]
    found = metrics["groups"].get(group, {}).get(metric)
    if found is None:
        reason = metrics["not_computed"].get(group, {}).get(metric, "this run has no such metric")
        return {**row, "value": None, "verdict": f"not computed: {reason}"}
    return {**row, **found, "verdict": verdict(row, found)}


def verdict(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Whether a number is at least as good as the paper's: as all of them, as some, or as none.

    Of the last the interval may still hold one of them, and without an interval nobody knows: then
    they are not told apart. Without a number, or a direction that is better, it stands there for
    comparison.
    """
    paper, better = list((row.get("paper") or {}).values()), row.get("better")
    if not paper or better is None:
        return COMPARISON
    reached = [
        found["value"] >= each if better == "higher" else found["value"] <= each for each in paper
    ]
    if any(reached):
        return REACHED if all(reached) else IN_PART
    low, high = found["low"], found["high"]
    return OPEN if low is None or any(low <= each <= high for each in paper) else MISSED


def print_results(title: str, results: Mapping[str, Any]) -> None:
    """Paper, ours, interval and verdict side by side."""
    table = table_of(
        f"{title} ({results['world']}, {results['date']})",
        "",
        "paper",
        "ours",
        "95 %",
        "n",
        "verdict",
    )
    table.columns[-1].justify = "left"
    for row in results["rows"]:
        paper = (
            ", ".join(f"{value} ({of})" for of, value in (row.get("paper") or {}).items()) or "—"
        )
        if row["value"] is None:
            table.add_row(row["name"], paper, "—", "—", "—", row["verdict"], style="dim")
            continue
        value, interval = shown(row["value"], row["low"], row["high"])
        ours = f"{value} {row['unit']}".rstrip()
        table.add_row(row["name"], paper, ours, interval, str(row["n"]), row["verdict"])
    Console().print(table)


def print_list(experiments: Path) -> None:
    """Every experiment, and what was measured last."""
    if not names(experiments):
        raise InputError(
            f"no experiments in {experiments}: give a checkout's folder by --experiments"
        )
    table = table_of("python -m cfexp.reproduce NAME", "name", "last measured", "what it is")
    table.columns[-1].justify = "left"
    for name in names(experiments):
        path, last = experiments / name / "results.json", "not yet"
        if path.is_file():
            results = _json(path)
            last = f"{results['date']}, {results['queries']} queries"
        table.add_row(name, last, read_experiment(experiments / name)["title"])
    Console().print(table)


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return content


if __name__ == "__main__":
    main()
