"""What a run cannot do, said by the setting's name before anything is trained.

The networks of a config are built on torch's `meta` device, where tensors have a shape and no
content, and are shown a batch of the run's size: that takes no time, and fails where the batch
itself would. A size is refused only where the same networks take another one; what fails for
another reason is left to the run.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, OmegaConf, open_dict
from torch.nn.utils import parametrizations

from cfexp.errors import InputError
from cfexp.explainers.base import Explainer
from cfexp.run.building import build
from cfexp.run.given_checkpoints import refuse_what_does_not_fit, with_facts
from cfexp.run.stage_networks import LOAD_NETWORK
from cfexp.run.stages import check_given, missing_stages

Size = tuple[int, int]  # height, width
# Float16 lacks the range: Adam's epsilon is zero in it, and weights become NaN. A GradScaler helps
# the mixed one.
PRECISIONS = ("64-true", "32-true", "bf16-true", "bf16-mixed", "16-mixed")
_POWERS = (2, 4, 8, 16, 32, 64, 128)
_LARGER = 9  # odd, so that a size so much larger is divided by the same powers of two
_FIXED = (224, 256, 299, 384, 448)  # of networks that take one size alone
_log = logging.getLogger(__name__)


def refuse_what_cannot_work(config: DictConfig, *, is_stage: bool = False) -> None:
    """Raise InputError for what the config, or a stage that it has trained first, asks of its
    networks in vain.

    That is settings of the trainer, sizes of the data, and where a stage comes first, what is wrong
    with the data, and a checkpoint that fits no network.
    """
    if all(config.get(key) is None for key in ("explainer", "module", "predicts")):
        return  # no experiment: who builds its parts says so
    check_given(config)
    module = refuse_sizes(config)
    _check_trainer(config, module)
    missing = list(missing_stages(config))
    if missing:
        _check_regions(config, module)
    for stage in missing:
        refuse_what_cannot_work(stage, is_stage=True)
    if missing or is_stage:  # else the data are read, and the networks loaded, first anyway
        _read(config)
        if (whole := with_facts(config)) is not None:
            refuse_what_does_not_fit(whole, _on_meta(whole))


def refuse_sizes(config: DictConfig) -> LightningModule | None:
    """Raise InputError for sizes of the data that the config's networks cannot take; returns those,
    without content.
    """
    module = _on_meta(config)
    if module is not None:
        _check_sizes(config, module)
    return module


def _check_trainer(config: DictConfig, module: LightningModule | None) -> None:
    trainer = _trainer(config)
    if module is None or trainer is None:
        return
    name, setting = (
        type(module).__name__,
        "explainer" if config.get("explainer") is not None else "module",
    )
    known = getattr(module, "precisions", PRECISIONS)
    if trainer.precision not in known:
        asked = config.trainer.precision
        raise InputError(f"trainer.precision={asked}: {name} computes in {', '.join(known)} only")
    fused = "module.generator_optimizer.fused"
    clipped = OmegaConf.select(config, "module.clip_norm") and OmegaConf.select(config, fused)
    if clipped and "mixed" in str(trainer.precision):  # Lightning would say so at the first step
        asked = f"trainer.precision={config.trainer.precision}"
        raise InputError(f"{asked}: a fused optimizer cannot clip there; set {fused}=false")
    if not module.automatic_optimization:
        _check_manual(trainer, f"{name} trains two networks in turns", setting)


def _trainer(config: DictConfig) -> Trainer | None:
    """The config's trainer, which refuses settings that there are not; None where a command has
    none.
    """
    if "_target_" not in (config.get("trainer") or {}):
        return None
    trainer: Trainer = build(
        config.trainer, "trainer", logger=False, enable_checkpointing=False, _convert_="all"
    )
    stage = config.get("module") is not None
    for name in (
        "max_epochs",
        "max_steps",
        "limit_train_batches",
        f"limit_{'test' if stage else 'predict'}_batches",
    ):
        if config.trainer.get(name) == 0:
            raise InputError(f"trainer.{name}=0 leaves nothing to do")
    return trainer


def _check_manual(trainer: Trainer, reason: str, setting: str) -> None:
    """Lightning refuses these two by a traceback, where a module takes the steps of its optimizers
    itself.
    """
    if trainer.accumulate_grad_batches != 1:
        given = f"trainer.accumulate_grad_batches={trainer.accumulate_grad_batches}"
        remedy = "take a larger data.batch_size or more devices"
        raise InputError(f"{given}: {reason}, and accumulates nothing; {remedy}")
    clip, algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
    if clip:
        given = f"trainer.gradient_clip_val={clip}"
        remedy = f"{setting}.clip_norm={clip}"
        raise InputError(f"{given}: {reason}, and clips each one's: {remedy}")
    if algorithm is not None and algorithm != "norm":
        raise InputError(
            f"trainer.gradient_clip_algorithm={algorithm.value}: {reason}, and clips by norm alone"
        )


def _on_meta(config: DictConfig) -> LightningModule | None:
    """The config's module with networks that have no content; None where there is none, or that
    cannot be.
    """
    key = "explainer" if config.get("explainer") is not None else "module"
    if config.get(key) is None or _size(config) is None:
        return None
    copy = config.copy()
    height, width = _size(config) or (1, 1)
    with open_dict(copy):
        # Any numbers do, where no size of an image depends on them.
        counts = {"num_regions": 3, "num_classes": 2, "num_words": 4, "num_answers": 4}
        copy.facts = {**counts, **config.facts, "height": height, "width": width}
        if OmegaConf.select(config, "decision.model") is not None:
            # A user's own, which its opener asks about images of this size.
            copy[key].decision_model = config.decision.get("stand_in") or {
                "_target_": "torch.nn.Identity"
            }
    content = _without_weights(OmegaConf.to_container(copy[key], resolve=True))
    # Of cells as many regions as are told, be it by a stage's network.
    if "num_regions" not in config.facts and (regions := _told_cells(content)):
        copy.facts.num_regions = regions
        content = _without_weights(OmegaConf.to_container(copy[key], resolve=True))
    with _without_content():
        try:
            module = build(OmegaConf.create(content), key)
        except (InputError, ImportError):
            raise
        except Exception as error:  # a network that cannot be built so
            _log.debug("%s cannot be built without content: %s", key, error)
            return None
    if not isinstance(module, LightningModule):
        return None
    return module.train(is_overridden("training_step", module))


@contextmanager
def _without_content() -> Iterator[None]:
    """Where tensors are made that have a shape alone, and no number is drawn that would change one
    drawn later.

    Spectral norm does not look for what is not there: it takes seconds.
    """
    nothing = patch.object(parametrizations._SpectralNorm, "_power_method", lambda *_: None)
    with torch.random.fork_rng(devices=[]), torch.device("meta"), nothing:
        yield


def _without_weights(content: Any) -> Any:
    """A plain config whose networks are neither loaded nor downloaded."""
    if isinstance(content, dict):
        if content.get("_target_") == LOAD_NETWORK:
            return _without_weights(content["network"])
        return {
            key: None if key == "weights" else _without_weights(value)
            for key, value in content.items()
        }
    return [_without_weights(each) for each in content] if isinstance(content, list) else content


def _told_cells(content: Any) -> int:
    """Of how many regions a plain config tells the cells, one by one; 0 = of none."""
    if isinstance(content, dict):
        if isinstance(cells := content.get("cells"), list):
            return len(cells)
        content = list(content.values())
    return max(map(_told_cells, content), default=0) if isinstance(content, list) else 0


def _size(config: DictConfig) -> Size | None:
    """Height and width of the config's images; None where it does not say, or not in numbers."""
    size = OmegaConf.select(config, "data.image_size") or OmegaConf.select(
        config, "data.data_set.image_size"
    )
    sides = [size, size] if isinstance(size, int) else list(size or ())
    return (
        (sides[0], sides[1])
        if len(sides) == 2 and all(type(each) is int and each > 0 for each in sides)
        else None
    )


def _check_sizes(config: DictConfig, module: Any) -> None:
    size, (setting, batch) = _size(config), _batch(config)
    if size is None or not hasattr(module, "looks"):
        return
    wrong: list[str] = []
    for role in module.looks(*_images(1, size)):
        if _fits(module, role, batch, size):
            continue
        network = type(getattr(module, role)).__name__
        called = network if role == "network" else f"the {role.replace('_', ' ')} ({network})"
        if _fits(module, role, batch + 1, size):
            needs = f"needs at least {batch + 1} images of this size in it"
            raise InputError(f"{setting}={batch}: {called} normalises over a batch, and {needs}")
        wrong += _remedy(partial(_fits, module, role, batch), size, called)
    if wrong:
        square = isinstance(OmegaConf.select(config, "data.image_size"), int)
        given = size[0] if square else f"[{size[0]},{size[1]}]"
        raise InputError(f"data.image_size={given}: sides must be {', '.join(wrong)}")


def _fits(module: Any, role: str, batch: int, size: Size) -> bool:
    """Whether one of the module's networks takes so many images of a size."""
    try:
        with _without_content():
            module.looks(*_images(batch, size))[role]()
    except Exception:  # torch has no type of its own for what does not fit
        return False
    return True


def _remedy(works: Callable[[Size], bool], size: Size, called: str) -> Iterator[str]:
    """What sides must be for a network that does not take `size`; nothing where no other size
    helps.
    """
    larger = (_LARGER * size[0], _LARGER * size[1])
    if not works(larger):
        for power in _POWERS:
            rounded = (-(-size[0] // power) * power, -(-size[1] // power) * power)
            if works((_LARGER * rounded[0], _LARGER * rounded[1])):
                yield f"multiples of {power} for {called}"
                return
        for side in _FIXED:
            if works((side, side)):
                yield f"[{side},{side}] for {called}"
                return
        return
    times = next(
        times for times in range(2, _LARGER + 1) if works((times * size[0], times * size[1]))
    )
    yield f"larger for {called}, such as [{times * size[0]},{times * size[1]}]"


def _batch(config: DictConfig) -> tuple[str, int]:
    """How many images a step of the training sees, and by which setting."""
    grouped = OmegaConf.select(config, "data.group_by_image", default=False)
    setting = "data.images_per_batch" if grouped else "data.batch_size"
    batch = OmegaConf.select(config, setting, default=None)
    synchronised = OmegaConf.select(config, "trainer.sync_batchnorm")
    processes = OmegaConf.select(config, "trainer.devices") if synchronised else 1
    return setting, max(batch if type(batch) is int else 2, 1) * (
        processes if type(processes) is int else 2
    )


def _read(config: DictConfig) -> None:
    """Read the data, which raises InputError for what is wrong with them, before stages take their
    time.

    Data that are named by a stage's checkpoint, such as a vocabulary, are read when that is there.
    """
    if config.get("data") is None or any(
        config.get(name) is not None for name in ("image", "questions")
    ):
        return
    if "checkpoints." in str(OmegaConf.to_container(config.data, resolve=False)):
        return
    data: Any = build(config.data, "data")
    trains = config.get("module") is not None
    data.prepare_data()
    data.setup("fit" if trains else "predict")
    if trains:
        data.train_dataloader()


def _check_regions(config: DictConfig, module: LightningModule | None) -> None:
    """Raise InputError for a region that the data do not have; those of image= are found later."""
    regions = getattr(module, "regions", None)
    if isinstance(module, Explainer) and regions is not None and config.get("image") is None:
        module.let_change(regions, build(config.data, "data").region_names)


def _images(batch: int, size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 3, H, W) and label maps (B, H, W) without content."""
    image = torch.zeros(batch, 3, *size, device="meta")
    return image, torch.zeros(batch, *size, device="meta", dtype=torch.int64)
