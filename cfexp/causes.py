"""`python -m cfexp.causes run=PATH`: check whether a run's explanations name the true causes, by
drawing its scenes again with one thing changed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf

from cfexp.errors import InputError
from cfexp.run.command_line import takes_paths, typed
from cfexp.run.configuration import (
    CONFIG_PATH,
    StoppedBySigterm,
    one_line_errors,
    register_resolvers,
    run_config,
    run_setting,
)

register_resolvers()
PROVENANCE = "provenance.json"
WIDTH = 160  # characters of the tables
SHOWN = 12  # scenes among which the sheet looks for those that have a factor


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="causes")
@one_line_errors
@StoppedBySigterm()
def main(config: DictConfig) -> None:
    """Ask the model, and leave the tables and pictures; of several runs a curve, too.

    Raises InputError for a run whose causes are not known, and for settings that do not fit.
    """
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.run.folder_lock import claimed
    from cfexp.run.stages import use_threads

    given = config.run if _is_list(config.run) else [config.run]
    runs = [run for each in given for run in _runs_of(Path(each))]
    _check(config, runs)
    use_threads(config.num_threads)
    folder = _output(config, runs)
    with claimed(folder):
        if len(runs) == 1:
            _effects(runs[0], folder, config)
        else:
            _curve(runs, folder, config)
    print(f"everything lies in {typed(folder)}")


def _runs_of(folder: Path) -> list[Path]:
    """The folder, or of a sweep's its members."""
    is_run = any((folder / name).exists() for name in ("explanations", "explanations.parquet"))
    members = [] if is_run else sorted(path.parent for path in folder.glob("*/explainer.json"))
    return members or [folder]


def _is_list(value: Any) -> bool:
    return isinstance(value, ListConfig)


def _check(config: DictConfig, runs: Sequence[Path]) -> None:
    if type(config.tolerated) not in (int, float) or not 0 <= config.tolerated < 100:
        raise InputError(f"tolerated must be percent, 0 to 100, got {config.tolerated!r}")
    count = config.max_scenes
    if count is not None and (type(count) is not int or count < 1):
        raise InputError(f"max_scenes must be a whole number of at least 1, or null, got {count!r}")
    if not (config.factors is None or (_is_list(config.factors) and len(config.factors))):
        raise InputError(
            f"factors must be a list of names, as factors=[light,facade], got {config.factors!r}"
        )
    if len(runs) > 1 and (config.factors is None or len(config.factors) != 1):
        raise InputError("of several runs a curve of one factor is made: name it, factors=[facade]")
    if len(set(runs)) < len(runs):
        raise InputError("run names a run folder twice")


def _output(config: DictConfig, runs: Sequence[Path]) -> Path:
    if config.output is None:
        return (runs[0] if len(runs) == 1 else runs[0].parent) / "causes"
    folder = Path(config.output)
    if not folder.parent.is_dir():
        raise InputError(f"output={folder}: there is no folder {folder.parent}")
    return folder


def _effects(run: Path, folder: Path, config: DictConfig) -> Any:
    """What one run says; everything is left in `folder`."""
    from rich.console import Console

    from cfexp.evaluate import experiment_of
    from cfexp.evaluation.causes.effects import claims_of, effects_of
    from cfexp.evaluation.causes.interventions import Asked, ask, units_of
    from cfexp.evaluation.causes.report import save_and_show, save_sheet
    from cfexp.evaluation.run_folder import RunFolder
    from cfexp.run.explained import explained_model

    store = RunFolder(run)
    records = store.records()[: config.max_scenes]
    data = _data_of(run)
    factors = _chosen(config.factors, data.factors)
    groups = run_setting(run, "explainer.region_groups") or {}
    units = units_of(factors, groups)
    _check_size(store, records[0], data)
    decide = explained_model(run, config)
    made_by = {"run": run.name, "data": data.fingerprint, "models": _models(run, config)}
    asked = Asked(factors, units, data.region_names, made_by)
    folder.mkdir(parents=True, exist_ok=True)
    answers = ask(records, asked, data.scene, decide, folder)
    declaration = store.declaration
    names = declaration.class_names or ("first", "second")
    claims = claims_of(records, units, data.region_names, declaration, groups)
    effects = effects_of(records, answers, factors, units, claims, names, config.tolerated)
    save_and_show(
        effects, folder, title=experiment_of(run), made_by=made_by, console=Console(width=WIDTH)
    )
    shown = range(min(len(records), SHOWN))
    scenes = [
        data.scene(records[row]["image_id"], [each.name for each in factors]) for row in shown
    ]
    sheet = folder / "interventions.png"
    save_sheet(sheet, scenes, [answers[row] for row in shown], effects, names)
    return effects


def _curve(runs: Sequence[Path], folder: Path, config: DictConfig) -> None:
    from rich.console import Console

    from cfexp.evaluation.causes.curve import curve_point, save_and_show_curve
    from cfexp.evaluation.run_folder import RunFolder

    settings = {run: run_setting(run, config.over) for run in runs}
    for run, value in settings.items():
        if type(value) not in (int, float):
            raise InputError(f"over={config.over}: {run} has no number there, but {value!r}")
    points = []
    for run in sorted(runs, key=lambda run: float(settings[run])):
        effects = _effects(run, folder / run.name, config)
        points.append(curve_point(RunFolder(run), float(settings[run]), effects.factors[0]))
    factor = effects.factors[0].factor
    save_and_show_curve(points, factor, str(config.over), folder, Console(width=WIDTH))


def _data_of(run: Path) -> Any:
    """The embedded world of a run; raises InputError where its causes are not known."""
    from cfexp.run.building import build

    content = OmegaConf.select(run_config(run), "data")
    data = None if content is None else build(content, "data")
    if data is None or not data.factors:
        known = "those of the embedded streets and faces are (data=streets, data=faces)"
        raise InputError(f"run={run}: the causes of its data are not known; {known}")
    return data


def _check_size(store: Any, record: Any, data: Any) -> None:
    """Raise InputError where the run shows scenes of another size than the world draws."""
    size = store.images("query", [record["key"]]).shape[2:]
    drawn = data.scene(record["image_id"], []).image.shape[:2]
    if tuple(size) != drawn:
        sizes = f"are {size[0]}x{size[1]} pixels, and the world draws {drawn[0]}x{drawn[1]}"
        raise InputError(f"run={store.path}: its pictures {sizes}; explain them at that size")


def _chosen(names: ListConfig | None, factors: Sequence[Any]) -> tuple[Any, ...]:
    known = {factor.name: factor for factor in factors}
    for name in names or ():
        if name not in known:
            raise InputError(f"factors: there is no {name!r}; there are {', '.join(known)}")
    return tuple(factors) if names is None else tuple(known[name] for name in names)


def _models(run: Path, config: DictConfig) -> Any:
    """By which files the run's answers are made: of other files they are asked again."""
    from cfexp.data.reading.records import read_json
    from cfexp.models.loading.pretrained import file_hash

    given = config.checkpoints.get("explained")
    if given is not None:
        return {"explained": file_hash(Path(given))} if Path(given).is_file() else {}
    path = run / PROVENANCE
    made = read_json(path, "it is written beside the run") if path.is_file() else {}
    return {name: each["sha256"] for name, each in (made.get("checkpoints") or {}).items()}


if __name__ == "__main__":
    main()
