"""`python -m cfexp.evaluate run=PATH`: score a run folder; the explainer that made it is not needed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, ListConfig

from cfexp.command_line import takes_paths, typed
from cfexp.configuration import CONFIG_PATH, one_line_errors, register_resolvers, run_setting
from cfexp.errors import InputError

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="evaluate")
@one_line_errors
def main(config: DictConfig) -> None:
    """Score one run or several, and hold them against the figures to reach if the config names any."""
    from cfexp.evaluation.figures import compare
    from cfexp.explained import attack_on
    from cfexp.judging import load_judges, missing_judges, predictors
    from cfexp.stages import provide_stages, use_threads
    from cfexp.without_effect import say_what_has_no_effect

    say_what_has_no_effect(config)
    use_threads(config.num_threads)
    provide_stages(config)
    other_models = predictors(config)
    runs = [Path(run) for run in (config.run if isinstance(config.run, ListConfig) else [config.run])]
    judges_of = load_judges(config)
    if config.figures:
        _refuse_twice(runs)
    scores: dict[str, list[Any]] = {}
    for run in runs:
        of_run = score_and_show(
            run,
            era=config.era,
            predictors=other_models,
            judges=judges_of(run),
            missing=missing_judges(run, config),
            attack=attack_on(run, config),
        )
        scores.setdefault(experiment_of(run), []).append(of_run)
    if config.figures:
        compare(scores, [{str(key): value for key, value in figure.items()} for figure in config.figures])


def _refuse_twice(runs: Sequence[Path]) -> None:
    """Raise InputError where two runs have one name and the same seeds: they are no repetition of one another."""
    seen: dict[Any, Path] = {}
    for run in runs:
        which = experiment_of(run), run_setting(run, "seed"), run_setting(run, "data.world.seed")
        if (other := seen.setdefault(which, run)) is not run:
            problem = f"both are called {which[0]}, of seed {which[1]}"
            raise InputError(f"{other} and {run}: {problem}; the figures are of one each (name=NAME names a run)")


def experiment_of(run: Path) -> str:
    """The name of the experiment that left a run folder; the folder's own name if it does not say."""
    return str(run_setting(run, "name") or run.name)


def score_and_show(
    folder: Path,
    *,
    era: Any = "2021",
    predictors: Mapping[str, Any] | None = None,
    judges: Sequence[Any] = (),
    missing: Mapping[str, str] | None = None,
    attack: Any = None,
    loggers: Iterable[Any] = (),
) -> Any:
    """Score the run in `folder`, leave metrics.json, metrics.csv and counterfactuals.png there, and print the table.

    era: "2021", "2016", or the number, which is what Hydra makes of era=2016.
    """
    from cfexp.evaluation.attack_table import print_attack
    from cfexp.evaluation.closeness_table import print_closeness
    from cfexp.evaluation.gallery import counterfactual_sheet
    from cfexp.evaluation.run_folder import RunFolder
    from cfexp.evaluation.table import print_table, score_run
    from cfexp.loggers import log_results

    run = RunFolder(folder)
    year: Any = str(era)
    scores = score_run(run, era=year, predictors=predictors, judges=judges, missing=missing, attack=attack)
    scores.save(folder)
    sheet = folder / "counterfactuals.png"
    counterfactual_sheet(run, sheet, scores, title=experiment_of(folder))
    for logger in loggers:
        log_results(logger, scores, run, sheet)
    print_table(scores)
    print_closeness(scores)
    print_attack(scores)
    left = "metrics.json, metrics.csv, counterfactuals.png, explanations/, config.yaml"
    print(f"everything lies in {typed(folder)}: {left}")
    return scores


def answerer(checkpoint: Path) -> Any:
    """Another VQA model as a function (images (B, 3, H, W) in [-1, 1], records) -> answers.

    checkpoint: `model.ckpt` of a stage's folder, with its config.yaml and vocabulary.json beside it. Raises InputError
    where one of them is missing or does not fit.
    """
    from cfexp.data.vqa_vocabulary import Vocabulary
    from cfexp.judging import config_beside
    from cfexp.models.pretrained import load_network
    from cfexp.stages import build

    config = config_beside(checkpoint)
    vocabulary = Vocabulary.load(checkpoint.parent / "vocabulary.json")
    network = load_network(build(config.network, "network"), checkpoint)

    @torch.no_grad()
    def answer(images: torch.Tensor, records: Sequence[Mapping[str, Any]]) -> list[str]:
        asked = vocabulary.encode_all([record["question"] for record in records], config.data.max_question_length)
        logits = network(images, *map(torch.from_numpy, asked))
        return [vocabulary.answers[index] for index in logits.argmax(1).tolist()]

    return answer


if __name__ == "__main__":
    main()
