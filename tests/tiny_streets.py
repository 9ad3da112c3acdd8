"""The experiment on streets with tiny untrained networks, which are given as a user gives trained
ones.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig

from cfexp.models.segmenter import SmallSegmenter
from cfexp.run.configuration import register_resolvers
from cfexp.run.stage_networks import stage_network

# One query a batch: only then does a run that was killed repeat an undisturbed one to the last bit.
SMALL = [
    "data.world.train_scenes=3",
    "data.world.val_scenes=8",
    "data.eval_batch_size=1",
    "data.cache_images=false",
]
TINY = [
    "+requires.autoencoder.overrides=['network.base_channels=4','network.style_dim=8']",
    "+requires.decision.overrides=['network.widths=[4,8]']",
]
DRIVING = ["+experiment=steex_driving", *SMALL, *TINY, "num_threads=1"]


def write_networks(folder: Path) -> list[str]:
    """Write the networks; returns the overrides that give them."""
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose("explain", overrides=[*DRIVING, "+facts.num_regions=20"])
    return untrained_networks(config, ("decision", "autoencoder"), folder)


def library_settings(folder: Path) -> list[str]:
    """What the library is given beside the experiment, with the networks in a new folder."""
    networks = [*write_networks(folder), write_segmenter(folder)]
    return [*DRIVING[1:], *networks, "explainer.num_steps=2", f"cache_dir={folder / 'cache'}"]


def untrained_networks(config: DictConfig, stages: Sequence[str], folder: Path) -> list[str]:
    """Write the networks of a config's stages, as a user gives checkpoints; returns the overrides
    that give them.
    """
    torch.manual_seed(0)
    for name in stages:
        network = instantiate(stage_network(name, _parent_=config, _root_=config).network)
        torch.save(network.state_dict(), folder / f"{name}.ckpt")
    return [f"checkpoints.{name}={folder / name}.ckpt" for name in stages]


def write_segmenter(folder: Path) -> str:
    """Write the network of +layouts=predicted; returns the override that gives it."""
    torch.manual_seed(0)
    path = folder / "segmenter.ckpt"
    torch.save(SmallSegmenter(20, width=16).state_dict(), path)
    return f"+checkpoints.segmenter={path}"
