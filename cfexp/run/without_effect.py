"""Settings that a user gives and that nothing reads: said in a line, or refused where they can only
be a mistake.
"""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cfexp.errors import InputError
from cfexp.run.composing import compose
from cfexp.run.explainer_stage import is_trained
from cfexp.run.mistyped import added_choice


class Rule(NamedTuple):
    """Settings, by full name or pattern, that have no effect in some commands where `applies`, and
    why.
    """

    settings: tuple[str, ...]
    commands: tuple[str, ...]
    applies: Callable[[DictConfig], Any]
    reason: str


def _given(name: str) -> Callable[[DictConfig], bool]:
    return lambda config: OmegaConf.select(config, name, default=None) is not None


def _another(name: str) -> Callable[[DictConfig], bool]:
    """Whether the explainer was told otherwise."""
    return lambda config: not _lacks(name)(config) and config[name] != config.explainer[name]


def _lacks(name: str) -> Callable[[DictConfig], bool]:
    """Whether the explainer cannot be told."""
    return lambda config: name not in (config.get("explainer") or {})


def _no_label_map_is_predicted(config: DictConfig) -> bool:
    return not any(_given(name)(config) for name in ("image", "explainer.segmenter"))


def _by_image(config: DictConfig) -> Any:
    return OmegaConf.select(config, "data.group_by_image", default=False)


def _trains_no_explainer(config: DictConfig) -> bool:
    return not is_trained(config) or _given("checkpoints.explainer")(config)


_IN_PLACE = ("max_test_questions", "predict_part", "layouts", "source", "require_labels")
_OF_TRAINING = (
    *(
        "max_epochs",
        "min_epochs",
        "max_steps",
        "min_steps",
        "max_time",
        "overfit_batches",
        "accumulate_grad_batches",
    ),
    *(
        "limit_train_batches",
        "limit_val_batches",
        "limit_test_batches",
        "gradient_clip_val",
        "val_check_interval",
    ),
    *("check_val_every_n_epoch", "num_sanity_val_steps"),
)
_BOTH, _EXPLAIN, _TRAIN, _EVALUATE = ("explain", "train"), ("explain",), ("train",), ("evaluate",)
RULES = (
    Rule(
        tuple(f"data.{name}" for name in _IN_PLACE),
        _EXPLAIN,
        _given("image"),
        "image= is explained in its place",
    ),
    Rule(
        ("label", "evaluate"),
        _EXPLAIN,
        _given("image"),
        "image= has no labels, and nobody judges it",
    ),
    Rule(
        ("evaluate", "data.max_test_questions"),
        _EXPLAIN,
        _given("questions"),
        "questions= are explained in its place",
    ),
    Rule(
        (
            "explainer.segmenter*",
            "checkpoints.segmenter",
            "prefixes.segmenter",
            "requires.segmenter*",
        ),
        _EXPLAIN,
        _given("label_map"),
        "label_map= gives the label maps",
    ),
    Rule(
        ("checkpoints.segmenter", "prefixes.segmenter"),
        _EXPLAIN,
        _no_label_map_is_predicted,
        "the data set gives the label maps; +layouts=predicted has them predicted",
    ),
    Rule(
        ("regions",), _EXPLAIN, _another("regions"), "explainer.regions= is given, too, and counts"
    ),
    Rule(
        ("counter_answer",),
        _BOTH,
        _another("counter_answer"),
        "explainer.counter_answer= is given, too, and counts",
    ),
    *(
        Rule((name,), _BOTH, _lacks(name), "the explainer of this experiment has no such setting")
        for name in ("regions", "counter_class", "counter_answer")
    ),
    Rule(
        ("counter_class",),
        _EXPLAIN,
        _another("counter_class"),
        "explainer.counter_class= is given, too, and counts",
    ),
    Rule(
        (*(f"trainer.{name}" for name in _OF_TRAINING), "data.batch_size", "data.horizontal_flip"),
        _EXPLAIN,
        _trains_no_explainer,
        "nothing is trained here but stages, by their own settings: +requires.NAME.overrides=[...]",
    ),
    Rule(
        ("data.predict_part", "trainer.limit_predict_batches"),
        _TRAIN,
        _given("module"),
        "a stage is trained and tested, and explains nothing",
    ),
    Rule(
        ("data.batch_size",),
        _TRAIN,
        _by_image,
        "data.group_by_image=true counts data.images_per_batch",
    ),
    Rule(
        ("data.images_per_batch",),
        _TRAIN,
        lambda config: not _by_image(config),
        "it is for data.group_by_image=true",
    ),
    Rule(
        ("data.world.*",),
        _BOTH,
        _given("data.root"),
        "data.root= is read in place of an embedded world",
    ),
    Rule(
        ("objective",),
        _BOTH,
        lambda config: not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN,
        "Optuna asks for it (-m)",
    ),
    Rule(("name",), _EVALUATE, lambda _: True, "a run that is scored has its name already"),
    Rule(
        ("oracle_attributes", "mnac_published"),
        _EVALUATE,
        lambda config: (
            not _given("checkpoints.oracle")(config) and not _given("requires.oracle")(config)
        ),
        "no oracle is given: checkpoints.oracle=PATH",
    ),
    Rule(
        ("face_verification_bgr",),
        _EVALUATE,
        lambda config: not _given("checkpoints.face_verification")(config),
        "no such network is given: checkpoints.face_verification=PATH",
    ),
)
# Added by users, and looked for by name.
_ASKED_FOR = {"objective", "segmenter_experiment"}


def say_what_has_no_effect(config: DictConfig) -> None:
    """Print a line for each setting of this command that has no effect; to be called first.

    Raises InputError for an added setting (`+NAME=VALUE`) that nothing reads.
    """
    hydra = HydraConfig.get()
    command = str(hydra.job.config_name)
    overrides = OverridesParser.create().parse_overrides([*hydra.overrides.task])
    loader = GlobalHydra.instance().config_loader()
    added = [
        each
        for each in overrides
        if each.is_add() and not loader.get_group_options(each.key_or_group)
    ]
    if added:
        keys = {
            each.key_or_group for each in added
        }  # the same may be given once more, without a plus
        rest = [str(each.input_line) for each in overrides if each.key_or_group not in keys]
        refuse_unread(config, [each.key_or_group for each in added], compose(command, rest))
    for line in without_effect(config, [each.key_or_group for each in overrides], command):
        print(f"note: {line}")


def names_of(overrides: Sequence[str]) -> list[str]:
    """The full names of the settings that overrides are of."""
    parsed = OverridesParser.create().parse_overrides([*overrides])
    return [each.key_or_group for each in parsed]


def without_effect(config: DictConfig, given: Sequence[str], command: str) -> Iterator[str]:
    """Each of the settings that a command was given that has no effect, and why."""
    for name in given:
        for rule in RULES:
            matches = any(fnmatchcase(name, pattern) for pattern in rule.settings)
            if command in rule.commands and matches and rule.applies(config):
                yield f"{name}= has no effect: {rule.reason}"
        stage = name.split(".")[1] if name.startswith("requires.") and name.count(".") > 1 else None
        shapes = stage is not None and "network" in str(
            OmegaConf.select(config, f"requires.{stage}.overrides")
        )
        if stage is not None and not shapes and _given(f"checkpoints.{stage}")(config):
            reason = f"checkpoints.{stage}= is given, so the stage is not trained"
            yield f"{name}= has no effect: {reason}"


def refuse_unread(config: DictConfig, added: Sequence[str], without: DictConfig) -> None:
    """Raise InputError for a setting that was added and that nothing reads.

    without: the config as it is without them.
    """
    written = OmegaConf.to_yaml(config, resolve=False)
    for name in added:
        root, _, below = name.partition(".")
        if root == "decision" and below not in without.decision and "model" not in without.decision:
            remedy = "choose how your classifier is opened, e.g. +decision=torchscript (see --help)"
            raise InputError(f"+{name}=: {remedy}")
        read = root in without or root in _ASKED_FOR or f"${{{root}" in written
        if root in ("checkpoints", "prefixes") and "explainer" in config:
            predicted = (
                below == "segmenter" and "segmenter_experiment" in config
            )  # as image= wants it
            read = (
                predicted or below in (config.get("requires") or {}) or f"{root}.{below}" in written
            )
        elif root == "decision" and not below.startswith("class."):
            read = f"decision.{below}" in written
        if not read:
            hint = added_choice(f"{name}=NAME") or "--cfg job shows those that there are"
            raise InputError(f"+{name}=: nothing reads a setting of this name; {hint}")
