"""`python -m cfexp.train +experiment=NAME`: train a network or an explainer; then explain and score
the test set.
"""

import shutil
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cfexp.run.command_line import typed
from cfexp.run.configuration import (
    CONFIG_PATH,
    StoppedBySigterm,
    one_line_errors,
    register_resolvers,
    resume_from,
)
from cfexp.run.same_run import refuse_other_run
from cfexp.sweep import as_member, sweepable

register_resolvers()


@sweepable
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="train")
@one_line_errors
@as_member
@StoppedBySigterm()
def main(config: DictConfig) -> None:
    """Train; then explain and score the test set. Everything is left in Hydra's output folder.

    Raises InputError for a folder that holds a run of another config, or that another process is at
    work in.
    """
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.run.folder_lock import claimed

    folder = Path(HydraConfig.get().runtime.output_dir)
    with claimed(folder):
        _train(config, folder)


def _train(config: DictConfig, folder: Path) -> None:
    from cfexp.explainers.base import Explainer
    from cfexp.run.feasibility import refuse_what_cannot_work
    from cfexp.run.loggers import finish
    from cfexp.run.output_names import say_outputs
    from cfexp.run.own_data import fill_in_from_data
    from cfexp.run.stages import finish_stage, fit, predict_label_maps, provide_stages
    from cfexp.run.without_effect import say_what_has_no_effect

    resume = resume_from(config.ckpt_path, folder)
    say_what_has_no_effect(config)
    fill_in_from_data(config)
    refuse_what_cannot_work(config)
    if config.get("predicts"):
        print(f"the label maps are described in {typed(predict_label_maps(config, folder))}")
        return
    say_outputs(config)
    provide_stages(config)
    refuse_other_run(config, folder, "training")
    fitted = fit(config, folder, resume=resume)
    if isinstance(fitted.module, Explainer):
        _explain_and_score(fitted, folder)
    else:
        scores = finish_stage(fitted, folder)
        if fitted.trainer.is_global_zero:
            for name, value in scores.items():
                print(f"{name:<40} {value:.2f}")
            print(f"everything lies in {typed(folder)}: metrics.json, model.ckpt, config.yaml")
    finish(fitted.trainer.loggers)


def _explain_and_score(fitted: Any, folder: Path) -> None:
    from cfexp.evaluate import score_and_show

    trainer = fitted.trainer
    if trainer.is_global_zero:
        _discard_stale_explanations(folder)
    trainer.strategy.barrier()
    trainer.predict(fitted.module, datamodule=fitted.data, return_predictions=False)
    if trainer.is_global_zero:
        score_and_show(folder, loggers=trainer.loggers)


def _discard_stale_explanations(folder: Path) -> None:
    """Remove what an earlier state of the explainer explained: it is older than the checkpoint."""
    made = [*folder.glob("explanations.parquet"), *folder.glob("explanations/records-*.jsonl")]
    for checkpoint in folder.glob("checkpoints/last.ckpt"):
        if any(path.stat().st_mtime_ns < checkpoint.stat().st_mtime_ns for path in made):
            shutil.rmtree(folder / "explanations")
            (folder / "explanations.parquet").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
