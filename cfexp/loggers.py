"""What a run's results are to loggers: figures for all, and tables, pictures and settings for those that take them."""

import math
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from cfexp.evaluation.gallery import card_table
from cfexp.evaluation.run_folder import RunFolder
from cfexp.evaluation.table import Scores


def log_results(logger: Any, scores: Scores, run: RunFolder, sheet: Path) -> None:
    """Give a Lightning logger the headline group's figures, which become a run's summary.

    wandb gets the whole table, the page of pictures `sheet`, its explanations as a table of pictures, and the run's
    settings: with the summary they are what a parallel-coordinates panel puts side by side.
    """
    if hasattr(logger, "log_table") and hasattr(logger, "log_image"):
        columns = ["group", "metric", "value", "n", "low", "high", "unit"]
        logger.log_table("test/table", columns=columns, data=[[_cell(cell) for cell in row] for row in scores.rows])
        logger.log_image("test/counterfactuals", images=[str(sheet)])
        columns, rows = card_table(run)
        logger.log_table("test/cards", columns=columns, data=[[_cell(cell) for cell in row] for row in rows])
        config = run.path / "config.yaml"
        if config.is_file():
            logger.log_hyperparams(OmegaConf.to_container(OmegaConf.load(config)))
    logger.log_metrics(
        {f"test/{row.group}/{row.metric}": row.value for row in scores.rows if row.group == scores.groups[0]}
    )
    logger.save()  # a CSV logger writes by itself while a trainer runs, not after


def _cell(cell: Any) -> Any:
    import wandb  # late: only who logs to it pays for it

    if isinstance(cell, float) and math.isnan(cell):
        return None  # the end of no interval
    return wandb.Image(cell) if isinstance(cell, Image.Image) else cell
