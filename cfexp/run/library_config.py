"""The config of what the library is asked for: an experiment, or a run in a folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cfexp.errors import InputError
from cfexp.run.checkpoints import with_its_checkpoints
from cfexp.run.command_line import with_explainer_chosen
from cfexp.run.composing import compose, composing
from cfexp.run.configuration import one_line, register_resolvers, run_config
from cfexp.run.explainer_stage import NAME, is_trained, require_explainer
from cfexp.run.mistyped import what_is_wrong


@contextmanager
def composing_for_user() -> Iterator[None]:
    """Where configs are composed: within a command, its own.

    What OmegaConf says of a config is the user's to mend, too: it is raised as InputError.
    """
    register_resolvers()
    with composing():
        try:
            yield
        except OmegaConfBaseException as error:
            raise InputError(one_line(error)) from None


def config_of(run_or_experiment: str | Path, overrides: Sequence[str]) -> DictConfig:
    """The config of an experiment with its overrides, or the one that a run was made with.

    Raises InputError where there is neither, and for overrides of a run.
    """
    if not isinstance(run_or_experiment, str | Path) or not str(run_or_experiment):
        raise InputError(
            f"give the name of an experiment or the folder of a run, got {run_or_experiment!r}"
        )
    if isinstance(overrides, str) or not all(isinstance(each, str) for each in overrides):
        expected = 'a list of settings, such as ["explainer.num_steps=50"]'
        raise InputError(f"overrides must be {expected}, got {overrides!r}")
    path = Path(run_or_experiment).expanduser()
    if (path / "config.yaml").is_file():
        if overrides:
            problem = f"{path} is a run, whose config is what it is"
            raise InputError(f"overrides are for experiments; {problem}")
        try:
            config = run_config(path)
        except InputError:
            raise
        except Exception as error:  # a damaged file makes the reader raise nearly anything
            reason = " ".join(str(error).split())
            raise InputError(f"{path / 'config.yaml'} cannot be read ({reason})") from None
        return with_its_checkpoints(config, path)
    try:
        asked = [f"+experiment={run_or_experiment}", *map(with_explainer_chosen, overrides)]
        return compose("explain", asked)
    except InputError:  # a file of the Hub
        raise
    # ValueError: data=1 for a choice.
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        reason = what_is_wrong(error, "explain", asked)
        what = "is no run (a folder with config.yaml), and as an experiment"
        raise InputError(f"{run_or_experiment} {what}: {reason}") from None


def name_weights(
    config: DictConfig, run_or_experiment: str | Path, overrides: Sequence[str]
) -> None:
    """Say where the weights of an explainer that is trained lie: of a run of `cfexp.train`, in the
    run itself.

    Raises InputError as `require_explainer`.
    """
    run = Path(run_or_experiment).expanduser()
    with open_dict(config):
        if not OmegaConf.is_dict(config.get("checkpoints")):
            config.checkpoints = {}
        if (
            (run / "config.yaml").is_file()
            and is_trained(config)
            and config.checkpoints.get(NAME) is None
        ):
            config.checkpoints[NAME] = str(run)
    require_explainer(config, [f"+experiment={run_or_experiment}", *overrides])
