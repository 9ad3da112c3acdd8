"""`python -m cfexp.repair run=PATH`: train a run's decision model further with the counterfactuals
of the run, or of several rounds, and measure the gain.
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, ListConfig

from cfexp.run.command_line import takes_paths, typed
from cfexp.run.configuration import (
    CONFIG_PATH,
    StoppedBySigterm,
    one_line_errors,
    register_resolvers,
)

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="repair")
@one_line_errors
@StoppedBySigterm()
def main(config: DictConfig) -> None:
    """Train with the counterfactuals and with the controls; killed, the same command goes on."""
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.run.folder_lock import claimed

    _check(config)
    given = config.run if isinstance(config.run, ListConfig) else [config.run]
    runs = [Path(each) for each in given]
    folder = runs[-1] / "repair" if config.output is None else Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        _repair(config, runs, folder)


def _repair(config: DictConfig, runs: list[Path], folder: Path) -> None:
    from cfexp.evaluation.report.gain import check_groups, gains, show_gains
    from cfexp.run import repairing
    from cfexp.run.stages import use_threads

    use_threads(config.num_threads)
    task = repairing.task_of(runs, config)
    images = repairing.images_to_test_on(task)
    check_groups(images.factors, config.groups)
    verdicts = None if config.verdicts is None else Path(config.verdicts).expanduser()
    settings = {"epochs": config.epochs, "share": config.share, "rate": config.rate}
    checkpoints = {
        name: repairing.train_on(task, name, examples, folder / name, **settings)
        for name, examples in repairing.examples_of(task, _labels(config), verdicts).items()
    }
    rows = gains(repairing.judged(task, images, checkpoints), config.groups)
    show_gains(rows, repairing.SAID, folder)
    repaired = typed(checkpoints[repairing.REPAIRED])
    print(f"the repaired model: checkpoints.decision={repaired}")
    print(f"everything lies in {typed(folder)}: table.md, metrics.json, and a folder a training")


def _labels(config: DictConfig) -> Any:
    """Who says what a counterfactual is."""
    if config.labels is not None:
        return config.labels
    return "truth" if config.verdicts is None else "verdicts"


def _check(config: DictConfig) -> None:
    """Raise InputError for a setting out of range."""
    from cfexp.errors import InputError

    if isinstance(config.run, ListConfig) and not config.run:
        raise InputError("run names no run folder")
    labels = _labels(config)
    if labels not in (known := ("truth", "verdicts", "query")):
        raise InputError(f"labels must be {', '.join(known)} or null, got {labels!r}")
    if (labels == "verdicts") != (config.verdicts is not None):
        raise InputError(f"labels={labels} and verdicts={config.verdicts} do not go together")
    if type(config.epochs) is not int or config.epochs < 1:
        raise InputError(f"epochs must be a whole number of at least 1, got {config.epochs!r}")
    if type(config.share) not in (int, float) or not 0 < config.share < 1:
        raise InputError(f"share must lie between 0 and 1, got {config.share!r}")
    if type(config.rate) not in (int, float) or not config.rate > 0:
        raise InputError(f"rate must be positive, got {config.rate!r}")
    if not (config.groups is None or isinstance(config.groups, ListConfig)):
        raise InputError(f"groups must be a list, as groups=[facade], got {config.groups!r}")


if __name__ == "__main__":
    main()
