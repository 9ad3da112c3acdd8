"""`python -m cfexp.explain +experiment=NAME`: explain a model's decisions about a data set, or
about your own images (image=PATH).
"""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cfexp.run.configuration import (
    CONFIG_PATH,
    StoppedBySigterm,
    one_line_errors,
    register_resolvers,
)
from cfexp.run.same_run import refuse_other_run
from cfexp.sweep import as_member, sweepable

register_resolvers()


@sweepable
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="explain")
@one_line_errors
@as_member
@StoppedBySigterm()
def main(config: DictConfig) -> None:
    """Explain what is not explained yet, and score it all. Everything is left in Hydra's output
    folder.

    Raises InputError for a folder that holds a run of another config, or that another process is at
    work in.
    """
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.run.folder_lock import claimed

    folder = Path(HydraConfig.get().runtime.output_dir)
    with claimed(folder):
        _explain(config, folder)


def _explain(config: DictConfig, folder: Path) -> None:
    from cfexp.evaluate import score_and_show
    from cfexp.run.explainer_stage import (
        load_trained,
        require_explainer,
        trained_against_others,
    )
    from cfexp.run.feasibility import refuse_what_cannot_work
    from cfexp.run.judging import judges_asked_for
    from cfexp.run.loggers import finish
    from cfexp.run.output_names import say_outputs
    from cfexp.run.own_data import fill_in_from_data
    from cfexp.run.own_queries import asks_own, say_answers, use_own_queries
    from cfexp.run.stages import assemble, explain_what_is_left, provide_stages
    from cfexp.run.without_effect import say_what_has_no_effect

    say_what_has_no_effect(config)
    fill_in_from_data(config)
    require_explainer(config)
    own = asks_own(config)
    if own:
        say_outputs(config, ask=False)
        use_own_queries(config)
    else:
        refuse_what_cannot_work(config)
        say_outputs(config)
        provide_stages(config)
    for note in trained_against_others(config):
        print(f"note: {note}")
    refuse_other_run(config, folder)
    fitted = assemble(config, folder, "predict")
    if (checkpoint := config.checkpoints.get("explainer")) is not None:
        load_trained(fitted.module, checkpoint)  # type: ignore[arg-type]
    explain_what_is_left(fitted, folder)
    if fitted.trainer.is_global_zero:
        if own:
            say_answers(folder)
        score_and_show(folder, loggers=fitted.trainer.loggers, **judges_asked_for(folder, config))
    finish(fitted.trainer.loggers)


if __name__ == "__main__":
    main()
