"""An explainer that is trained is a stage of its own experiment, which `cfexp.explain` and the
library find, or train.

Its weights are `checkpoints.explainer`: given by the user, or in the cache under a name that says
by which settings.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from lightning import LightningModule
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from cfexp.errors import InputError
from cfexp.explainers.base import Explainer
from cfexp.models.loading.pretrained import check_fit, file_hash, read_state_dict
from cfexp.run.composing import compose
from cfexp.run.stage_networks import leave_out_unused_stages

NAME = "explainer"  # among `requires` and `checkpoints`
# What a training leaves, in its stage's folder and in its run's.
_LEFT = ("model.ckpt", "checkpoints/last.ckpt")
# What says who explains which queries, and who looks on: no part of a training.
_OF_EXPLAINING = (
    *("experiment", "name", "sweep", "objective", "logger*", "callbacks*"),
    *("checkpoints.explainer", "requires.explainer*"),
    # A stage is trained by one process, while the others wait.
    *(
        "trainer",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.strategy*",
        "trainer.sync_batchnorm",
    ),
)


def is_trained(config: DictConfig) -> bool:
    """Whether a config's explainer is one that is trained first, and not a search."""
    if config.get("explainer") is None:
        return False
    untrained = LightningModule.training_step
    return getattr(explainer_class(config), "training_step", untrained) is not untrained


def explainer_class(config: DictConfig) -> type[Explainer]:
    """The class of a config's explainer; raises InputError where there is none of that name, or
    none is named.
    """
    target = OmegaConf.select(config, "explainer._target_")
    if target is None:
        raise InputError(
            "there is no explainer: choose an experiment that has one (--help lists them)"
        )
    try:
        found = get_object(target)
    except (
        Exception
    ) as error:  # a module of somebody else's raises nearly anything when it is imported
        raise InputError(f"explainer: {' '.join(str(error).split())}") from None
    return cast(type[Explainer], found)


def require_explainer(config: DictConfig, overrides: Sequence[str] | None = None) -> None:
    """Require the stages of a config's explainer alone, and its own training among them if it is
    trained.

    config: of `cfexp.explain`, changed in place. overrides: what it was composed of, the experiment
    among it; None = what this command was given. Raises InputError where `checkpoints.explainer`
    holds no training's weights, or is given for a search, and where it is not given and there is no
    experiment that would train them.
    """
    leave_out_unused_stages(config)
    given = config.checkpoints.get(NAME)
    if not is_trained(config):
        if given is not None:
            problem = "this experiment's explainer is not trained; leave it out"
            raise InputError(f"checkpoints.explainer={given}: {problem}")
        with open_dict(config):
            config.checkpoints.pop(NAME, None)
        return
    own = (config.requires or {}).get(NAME) or {}
    if given is None and "experiment" not in own:
        if overrides is None:
            overrides = HydraConfig.get().overrides.task
        with open_dict(config):
            config.requires[NAME] = _requirement([*overrides], [*own.get("overrides", [])])
    elif given is not None:
        config.checkpoints[NAME] = str(weights_of(given))


def weights_of(place: str | Path) -> Path:
    """The file with an explainer's weights: itself, or in a run's or a stage's folder.

    Raises InputError where there is none.
    """
    path = Path(place).expanduser()
    if not path.exists():
        raise InputError(f"checkpoints.explainer={place}: no such file")
    if path.is_file():
        return path
    found = next((path / name for name in _LEFT if (path / name).is_file()), None)
    if found is None:
        lacks = f"there is no {' or '.join(_LEFT)}, as a training leaves them"
        raise InputError(f"checkpoints.explainer={place}: {lacks}")
    return found


def load_trained(explainer: Explainer, path: str | Path) -> None:
    """Load what a training left, a checkpoint of Lightning's or `model.ckpt`, and set the explainer
    to evaluation.

    Raises InputError for a file that is missing, damaged or of another explainer.
    """
    explainer.load_state_dict(trained_weights(explainer, path))
    explainer.eval()


def trained_weights(explainer: Explainer, path: str | Path) -> dict[str, Tensor]:
    """All weights of an explainer, as a training left them; raises as `load_trained`."""
    checkpoint: dict[str, Any] = {"state_dict": read_state_dict(path)}
    explainer.on_load_checkpoint(checkpoint)
    shapes = {name: tensor.shape for name, tensor in explainer.state_dict().items()}
    weights: dict[str, Tensor] = checkpoint["state_dict"]
    check_fit(shapes, weights, f"checkpoints.explainer={path}", type(explainer).__name__)
    return weights


def trained_against_others(config: DictConfig) -> Iterator[str]:
    """A note for each network of a config that is not the one which its explainer was trained
    against; an explainer that is given without its folder does not say.
    """
    given = config.checkpoints.get(NAME)
    folders = [] if given is None else list(Path(given).parents)[:2]
    told = next((path for each in folders if (path := each / "provenance.json").is_file()), None)
    if told is None:
        return
    with suppress(ValueError, AttributeError):  # a damaged file says nothing
        trained = json.loads(told.read_text(encoding="utf-8")).get("checkpoints", {})
        for name, path in config.checkpoints.items():
            was = trained.get(name, {})
            if path is not None and was and file_hash(path) != was.get("sha256"):
                its_own = f"its own is checkpoints.{name}={was.get('path')}"
                yield f"checkpoints.explainer was trained against another {name}; {its_own}"


def _requirement(overrides: Sequence[str], more: Sequence[str]) -> dict[str, object]:
    """The stage that trains, by the settings of a command that explains."""
    given = OverridesParser.create().parse_overrides(list(overrides))
    experiment = next((each.value() for each in given if each.key_or_group == "experiment"), None)
    if experiment is None:
        raise InputError(
            "the explainer is trained first: give +experiment=NAME, or checkpoints.explainer=PATH"
        )
    known = {*compose("train", [f"+experiment={experiment}"])}
    known |= {
        each.key_or_group.partition(".")[0] for each in given if each.is_add()
    }  # +decision=NAME decision.path=
    kept = [
        str(each.input_line)
        for each in given
        if not any(fnmatchcase(each.key_or_group, pattern) for pattern in _OF_EXPLAINING)
        and each.key_or_group.partition(".")[0] in known
    ]
    return {"experiment": experiment, "overrides": [*kept, *more]}
