"""`python -m cfexp.evaluate run=PATH`: score a run folder; the explainer that made it is not needed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from cfexp.configuration import CONFIG_PATH, one_line_errors, register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="evaluate")
@one_line_errors
def main(config: DictConfig) -> None:
    """Score one run or several, and hold them against the figures to reach if the config names any."""
    from cfexp.evaluation.table import compare
    from cfexp.stages import provide_stages, use_threads

    use_threads(config.num_threads)
    provide_stages(config)
    given = {name: path for name, path in config.checkpoints.items() if path is not None}
    predictors = {name: answerer(Path(path)) for name, path in given.items()}
    runs = [Path(run) for run in (config.run if isinstance(config.run, ListConfig) else [config.run])]
    scores = {_experiment(run): score_and_show(run, era=config.era, predictors=predictors) for run in runs}
    if config.figures:
        compare(scores, [{str(key): value for key, value in figure.items()} for figure in config.figures])


def _experiment(run: Path) -> str:
    """The name of the experiment that left a run folder; the folder's own name if it does not say."""
    path = run / "config.yaml"
    return str(OmegaConf.load(path).name) if path.is_file() else run.name


def score_and_show(
    folder: Path, *, era: Any = "2021", predictors: Mapping[str, Any] | None = None, loggers: Iterable[Any] = ()
) -> Any:
    """Score the run in `folder`, leave metrics.json, metrics.csv and counterfactuals.png there, and print the table."""
    from cfexp.evaluation.gallery import counterfactual_sheet
    from cfexp.evaluation.run_folder import RunFolder
    from cfexp.evaluation.table import print_table, score_run

    run = RunFolder(folder)
    scores = score_run(run, era=era, predictors=predictors or {})
    scores.save(folder)
    sheet = folder / "counterfactuals.png"
    counterfactual_sheet(run, sheet, scores, title=_experiment(folder))
    for logger in loggers:
        _log_results(logger, scores, sheet)
    print_table(scores)
    print(f"everything lies in {folder}: metrics.json, metrics.csv, counterfactuals.png, explanations/, config.yaml")
    return scores


def _log_results(logger: Any, scores: Any, sheet: Path) -> None:
    """Give a logger that takes them the table and the page of pictures, and the overall figures as its summary."""
    if hasattr(logger, "log_table") and hasattr(logger, "log_image"):
        columns = ["group", "metric", "value", "n", "low", "high", "unit"]
        logger.log_table("test/table", columns=columns, data=[list(row) for row in scores.rows])
        logger.log_image("test/counterfactuals", images=[str(sheet)])
    logger.log_metrics(
        {f"test/{row.group}/{row.metric}": row.value for row in scores.rows if row.group == scores.groups[0]}
    )
    logger.save()  # a CSV logger writes by itself while a trainer runs, not after


def answerer(checkpoint: Path) -> Any:
    """Another VQA model as a function (images (B, 3, H, W) in [-1, 1], records) -> answers.

    checkpoint: `model.ckpt` of a stage's folder, with its config.yaml and vocabulary.json beside it. Raises InputError
    where one of them is missing or does not fit.
    """
    from cfexp.data.vqa_vocabulary import Vocabulary
    from cfexp.errors import InputError
    from cfexp.models.pretrained import load_network
    from cfexp.stages import build

    config_path = checkpoint.parent / "config.yaml"
    if not config_path.is_file():
        raise InputError(f"{checkpoint} has no config.yaml beside it: give the model.ckpt of a stage's folder")
    config = OmegaConf.load(config_path)
    vocabulary = Vocabulary.load(checkpoint.parent / "vocabulary.json")
    network = load_network(build(config.network, "network"), checkpoint)

    @torch.no_grad()
    def answer(images: torch.Tensor, records: Sequence[Mapping[str, Any]]) -> list[str]:
        words = [
            torch.tensor(vocabulary.encode(record["question"], config.data.max_question_length)) for record in records
        ]
        question = torch.nn.utils.rnn.pad_sequence(words, batch_first=True)
        logits = network(images, question, torch.tensor([len(ids) for ids in words]))
        return [vocabulary.answers[index] for index in logits.argmax(1).tolist()]

    return answer


if __name__ == "__main__":
    main()
