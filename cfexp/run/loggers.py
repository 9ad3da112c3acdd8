"""What a run's results are to loggers: figures for all, and tables, pictures and settings for those
that take them.
"""

import math
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cfexp.evaluation.report.sheet import card_pictures
from cfexp.evaluation.report.table import Scores
from cfexp.evaluation.run_folder import RunFolder

# Where wandb keeps files beside a run's own: in the home, unless the user says where.
_WANDB_FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}
_GIVEN = {name for name in _WANDB_FOLDERS if name in os.environ}


def keep_wandb_within(folder: Path) -> None:
    """Have wandb write nothing outside a run's folder; to be called before its logger is made."""
    for name in _WANDB_FOLDERS.keys() - _GIVEN:
        os.environ[name] = str(folder.absolute() / "wandb" / _WANDB_FOLDERS[name])


def log_results(logger: Any, scores: Scores, run: RunFolder, sheet: Path) -> None:
    """Give a Lightning logger the headline group's figures, which become a run's summary.

    wandb gets the whole table, the page of pictures `sheet`, its explanations as pictures, and the
    run's settings: with the summary they are what a parallel-coordinates panel puts side by side.
    All of it are media, which lie in the run's folder. A table of wandb's becomes an artifact as
    well, which an offline run names by its whole path on this machine: `wandb sync` finds none from
    elsewhere.
    """
    if hasattr(logger, "log_table") and hasattr(logger, "log_image"):
        import wandb  # late: only who logs to it pays for it

        columns = ["group", "metric", "value", "n", "low", "high", "unit"]
        logger.experiment.log({"test/table": wandb.Html(_table(columns, scores.rows))})
        logger.log_image("test/counterfactuals", images=[str(sheet)])
        pictures, captions = card_pictures(run)
        if pictures:
            logger.log_image("test/cards", images=pictures, caption=captions)
        config = run.path / "config.yaml"
        if config.is_file():
            logger.log_hyperparams(OmegaConf.to_container(OmegaConf.load(config)))
    logger.log_metrics(
        {
            f"test/{row.group}/{row.metric}": row.value
            for row in scores.rows
            if row.group == scores.groups[0]
        }
    )
    logger.save()  # a CSV logger writes by itself while a trainer runs, not after


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as HTML."""
    cells = [[_cell(each) for each in row] for row in rows]
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in cells]
    head = "".join(f"<th>{column}</th>" for column in columns)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "—" if math.isnan(value) else f"{value:.4g}"  # the end of no interval


def finish(loggers: Iterable[Any]) -> None:
    """Let Lightning's loggers end their runs.

    Else the next job of a sweep, in this process, would go on with this one's wandb run.
    """
    for logger in loggers:
        getattr(getattr(logger, "experiment", None), "finish", lambda: None)()
