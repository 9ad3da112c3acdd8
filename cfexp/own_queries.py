"""`image=` and `label_map=`: an experiment whose queries are a user's own images in place of its data set."""

from typing import Any

from hydra import compose
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cfexp.errors import InputError
from cfexp.feasibility import refuse_what_cannot_work
from cfexp.stages import build, provide_stages

# What +layouts=predicted adds to an experiment.
_PREDICTED = (("requires", "segmenter"), ("explainer", "segmenter"))


def use_own_images(config: DictConfig) -> None:
    """Let a config explain its `image`; says what is done to the images, and provides the stages.

    Without `label_map` their layouts are predicted. Raises InputError for what cannot be used, before anything is
    trained.
    """
    own: dict[str, Any] = {
        "_target_": "cfexp.data.own_images.OwnImages",
        "images": _listed(config.image),
        "label_maps": None if config.label_map is None else _listed(config.label_map),
        "data_set": data_set_without_files(config),
    }
    images = build(OmegaConf.create(own), "image")
    for line in images.check():
        print(line)
    if config.label_map is None:
        predict_layouts(config)
    else:
        take_layouts_as_given(config)
    refuse_what_cannot_work(config)
    provide_stages(config)
    with open_dict(config):
        # Images that are exchanged under the same name are another run.
        config.data = {**own, "fingerprint": images.fingerprint}
        config.evaluate = []  # who judges the data set's pictures was trained on its like alone


def data_set_without_files(config: DictConfig) -> Any:
    """The config's data set, as plain values, even where its `root` was not given: for its sizes and names alone.

    Raises InputError where there is none.
    """
    if config.get("data") is None:
        raise InputError("image= needs an experiment: +experiment=steex_driving (--help lists them)")
    data = config.copy()
    try:
        _ = data.data.get("root")
    except OmegaConfBaseException:
        data.data.root = None
    # A run of one's own images has them in place of its data set, and that within.
    return OmegaConf.to_container(data.data.get("data_set") or data.data, resolve=True)


def predict_layouts(config: DictConfig) -> None:
    """Have the layouts predicted by the experiment's segmenter, as +layouts=predicted; a no-op where they are anyway.

    Raises InputError for an experiment that knows none.
    """
    if config.explainer.get("segmenter") is not None:
        return
    if config.get("segmenter_experiment") is None:
        raise InputError("image= needs a layout: give label_map=MASK.png, as this experiment has no segmenter")
    # As it is written: what `${stage:segmenter}` stands for is of this config.
    overlay: Any = OmegaConf.to_container(compose("explain", overrides=["+layouts=predicted"]), resolve=False)
    with open_dict(config):
        for group, key in _PREDICTED:
            OmegaConf.update(config, f"{group}.{key}", overlay[group][key], force_add=True)
        config.checkpoints.setdefault("segmenter", None)


def take_layouts_as_given(config: DictConfig) -> None:
    """Have no layout predicted, and no network for it loaded."""
    with open_dict(config):
        config.explainer.segmenter = None
        if "segmenter" in config.requires:
            config.requires.segmenter = None
            config.checkpoints.pop("segmenter", None)


def _listed(given: Any) -> list[str]:
    return [str(each) for each in (given if isinstance(given, ListConfig) else [given])]
