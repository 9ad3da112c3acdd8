"""`python -m cfexp.import_run OUT query=DIR counterfactual=DIR`: make a run folder of
counterfactual images that another system made.
"""

import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cfexp.run.command_line import takes_paths, with_output_first
from cfexp.run.configuration import (
    CONFIG_PATH,
    StoppedBySigterm,
    one_line_errors,
    register_resolvers,
)
from cfexp.run.same_run import refuse_other_run

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="import_run")
@one_line_errors
@StoppedBySigterm()
def _main(config: DictConfig) -> None:
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.run.folder_lock import claimed

    folder = Path(HydraConfig.get().runtime.output_dir)
    with claimed(folder):
        _import(config, folder)


def main() -> None:
    """Read the images, ask the decision model, and score it all; killed, the same command goes on.

    The first argument is the run folder that is made.
    """
    sys.argv[1:] = with_output_first(sys.argv[1:])
    if not any(each.startswith(("output=", "-")) for each in sys.argv[1:]):
        print("error: name the run folder first: import_run OUT (see --help)", file=sys.stderr)
        sys.exit(2)
    _main()


def _import(config: DictConfig, folder: Path) -> None:
    from cfexp.evaluate import score_and_show
    from cfexp.run.imported import say_agreement, use_imported
    from cfexp.run.loggers import finish
    from cfexp.run.stages import assemble, explain_what_is_left
    from cfexp.run.without_effect import say_what_has_no_effect

    say_what_has_no_effect(config)
    if not any(each.startswith("name=") for each in HydraConfig.get().overrides.task):
        config.name = folder.name  # and not the experiment's, which explained nothing here
    use_imported(config)
    refuse_other_run(config, folder)
    fitted = assemble(config, folder, "predict")
    explain_what_is_left(fitted, folder)
    if fitted.trainer.is_global_zero:
        say_agreement(folder)
        score_and_show(folder, loggers=fitted.trainer.loggers)
    finish(fitted.trainer.loggers)


if __name__ == "__main__":
    main()
