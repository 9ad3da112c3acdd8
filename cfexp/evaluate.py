"""`python -m cfexp.evaluate run=PATH`: score a run folder, whichever explainer made it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, ListConfig

from cfexp.errors import InputError
from cfexp.run.command_line import takes_paths, typed
from cfexp.run.configuration import CONFIG_PATH, one_line_errors, register_resolvers, run_setting

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="evaluate")
@one_line_errors
def main(config: DictConfig) -> None:
    """Score one run or several, set several side by side, and hold them against the goals if the
    config names any.
    """
    from cfexp.evaluation.report.goals import compare
    from cfexp.evaluation.report.members import members_of_runs
    from cfexp.evaluation.report.sweep_table import print_members
    from cfexp.run.judging import measures_on
    from cfexp.run.stages import provide_stages, use_threads
    from cfexp.run.without_effect import say_what_has_no_effect

    say_what_has_no_effect(config)
    use_threads(config.num_threads)
    provide_stages(config)
    runs = [
        Path(run) for run in (config.run if isinstance(config.run, ListConfig) else [config.run])
    ]
    goals = [
        {str(key): value for key, value in goal.items()} for goal in config.goals or config.figures
    ]
    if goals:
        _refuse_twice(runs)
    scores: dict[str, list[Any]] = {}
    built: dict[str, Any] = {}
    for run in runs:
        of_run = score_and_show(run, era=config.era, measures=measures_on(run, config, built))
        scores.setdefault(experiment_of(run), []).append(of_run)
    if len(runs) > 1:
        print_members(f"{len(runs)} runs side by side", members_of_runs(runs))
    if goals:
        compare(scores, goals)


def _refuse_twice(runs: Sequence[Path]) -> None:
    """Raise InputError where two runs have one name and the same seeds: they are no repetition of
    one another.
    """
    seen: dict[Any, Path] = {}
    for run in runs:
        which = experiment_of(run), run_setting(run, "seed"), run_setting(run, "data.world.seed")
        if (other := seen.setdefault(which, run)) is not run:
            problem = f"both are called {which[0]}, of seed {which[1]}"
            raise InputError(
                f"{other} and {run}: {problem}; goals are of one each (name=NAME names a run)"
            )


def experiment_of(run: Path) -> str:
    """The name of the experiment that left a run folder; the folder's own if it does not say."""
    return str(run_setting(run, "name") or run.name)


def score_and_show(
    folder: Path,
    *,
    era: Any = "2021",
    measures: Sequence[Any] | None = None,
    loggers: Iterable[Any] = (),
) -> Any:
    """Score the run in `folder`, leave metrics.json, metrics.csv and counterfactuals.png there, and
    print the table.

    era: "2021", "2016", or the number, which is what Hydra makes of era=2016.
    """
    from cfexp.evaluation.report.attack_table import print_attack
    from cfexp.evaluation.report.bins import show_bins
    from cfexp.evaluation.report.closeness_table import print_closeness
    from cfexp.evaluation.report.sheet import counterfactual_sheet
    from cfexp.evaluation.report.table import print_table, score_run
    from cfexp.evaluation.run_folder import RunFolder
    from cfexp.run.loggers import log_results

    run = RunFolder(folder)
    year: Any = str(era)
    scores = score_run(run, measures, era=year)
    scores.save(folder)
    sheet = folder / "counterfactuals.png"
    title = " by ".join(filter(None, (experiment_of(folder), run.declaration.explainer)))
    counterfactual_sheet(run, sheet, scores, title=title)
    for logger in loggers:
        log_results(logger, scores, run, sheet)
    print_table(scores)
    print_closeness(scores)
    show_bins(scores, folder)
    print_attack(scores)
    left = "metrics.json, metrics.csv, counterfactuals.png, explanations/, config.yaml"
    print(f"everything lies in {typed(folder)}: {left}")
    return scores


if __name__ == "__main__":
    main()
