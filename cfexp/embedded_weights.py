"""`python -m cfexp.embedded_weights`: train the networks that cfexp ships again, for developers of
cfexp.

Each becomes a file in cfexp/weights/ under its experiment's name and config hash, in half
precision, with what made it and its test figures in the file's metadata. A stage uses a shipped
file only where its config hash is the same.
"""

import argparse
import json
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Thread

import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

import cfexp
from cfexp.command_parser import command_parser
from cfexp.models.loading.weights import save_weights
from cfexp.run.composing import composing
from cfexp.run.configuration import register_resolvers
from cfexp.run.explainer_stage import require_explainer

# The commands of each world whose stages are shipped; image= needs predicted label maps.
WORLDS = (
    (
        ("explain", "+experiment=steex_driving", "+layouts=predicted"),
        ("explain", "+experiment=pe_driving"),
        ("explain", "+experiment=dive_driving"),
    ),
    (
        ("explain", "+experiment=steex_smile", "+layouts=predicted"),
        ("evaluate", "+experiment=steex_faces_report"),
        ("explain", "+experiment=dive_smile"),
        ("explain", "+experiment=pe_smile"),
        ("explain", "+experiment=pe_young"),
    ),
    (("explain", "+experiment=vqa_color"),),
)
SAMPLES = {"traffic_lights": "real_traffic_lights"}  # on which data an experiment ships stages, too
VOCABULARY = "vocabulary.json"  # of a VQA model, shipped beside it: its words and answers


def main() -> None:
    """Train what is missing in the cache, the worlds side by side; write the files, delete those of
    other configs.
    """
    parser = command_parser(
        *("embedded_weights", __doc__),
        "--num-threads 1",
        "--rename",
        "--stages vqa_color --num-threads 2",
        "--sample traffic_lights --data-root lights --stages decision",
    )
    parser.add_argument(
        "--num-threads", type=int, help="of torch, for each world; by default half the cores"
    )
    parser.add_argument(
        "--cache-dir", help="where stages are trained; those there already are not trained again"
    )
    only = "train nothing: name the files as stages are named now, after a change of names alone"
    parser.add_argument("--rename", action="store_true", help=only)
    parser.add_argument(
        "--sample",
        choices=SAMPLES,
        help="the stages of a data set of photographs instead, into its samples; needs --data-root",
    )
    parser.add_argument("--data-root", help="the whole data set, as cfexp.data.convert leaves it")
    parser.add_argument(
        "--stages",
        nargs="+",
        metavar="STAGE",
        help="those that are trained again, the others stay as they are; all where none is named",
    )
    arguments = parser.parse_args()
    if (arguments.sample is None) != (arguments.data_root is None):
        parser.error("--sample and --data-root go together")
    from cfexp.run.stages import WEIGHTS  # late: --help answers at once

    if arguments.rename:
        rename(WEIGHTS)
        return
    if arguments.sample is not None:
        _ship_sample(arguments.sample, arguments)
        return
    num_threads = arguments.num_threads or max((os.cpu_count() or 1) // len(WORLDS), 1)
    if arguments.stages is not None:
        _forget(arguments.stages, WEIGHTS)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(WORLDS), mp_context=context, initializer=_end_with_parent) as pool:
        train = partial(
            _train,
            num_threads=num_threads,
            cache_dir=arguments.cache_dir,
            use_shipped_weights=arguments.stages is not None,
        )
        checkpoints = set().union(*pool.map(train, WORLDS))
    shipped = {path for path in checkpoints if path.parent == WEIGHTS}
    made = {_ship(checkpoint, WEIGHTS) for checkpoint in sorted(checkpoints - shipped)}
    kept = {path.stem for path in made | shipped}
    for path in WEIGHTS.iterdir():
        if path.name.partition(".")[0] not in kept:
            path.unlink()
    size = sum(path.stat().st_size for path in WEIGHTS.iterdir()) / 2**20
    print(f"{len(made)} stages, {size:.1f} MiB, in {WEIGHTS}")


def wanted_stages() -> dict[str, DictConfig]:
    """The stages that the commands of `WORLDS` need: their configs, by name."""
    from cfexp.run.stage_names import compose_stage

    register_resolvers()
    wanted: dict[str, DictConfig] = {}
    with composing():
        for command, *overrides in chain(*WORLDS):
            config = _composed(command, overrides)
            for each in config.requires.values():
                stage, name = compose_stage(each, config)
                wanted[name] = stage
    return wanted


def _composed(command: str, overrides: Sequence[str]) -> DictConfig:
    """A command's config; an explainer that is trained is one of its stages."""
    config = compose(command, overrides=[*overrides])
    if command == "explain":
        require_explainer(config, overrides)
    return config


def rename(folder: Path) -> None:
    """Give each shipped file its stage's new name, by the experiment: one of each is shipped."""
    for name in sorted(wanted_stages()):
        experiment = name.rpartition("-")[0]
        for path in folder.glob(f"{experiment}-*"):
            now = folder / f"{name}.{path.name.partition('.')[2]}"
            if path != now:
                print(f"{path.name} -> {path.rename(now).name}")


def _forget(stages: Sequence[str], folder: Path) -> None:
    """Delete the shipped files of these stages, so that they are trained again."""
    known = sorted({name.rpartition("-")[0] for name in wanted_stages()})
    if unknown := [stage for stage in stages if stage not in known]:
        raise SystemExit(f"--stages: {unknown[0]} is none of {', '.join(known)}")
    for path in [path for stage in stages for path in folder.glob(f"{stage}-*")]:
        path.unlink()


def _end_with_parent() -> None:
    """Else a pool's process outlives a parent that is killed."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _train(
    commands: Sequence[Sequence[str]],
    num_threads: int,
    cache_dir: str | None,
    *,
    use_shipped_weights: bool,
) -> set[Path]:
    """The checkpoints of the stages of some commands, trained where they are missing."""
    from cfexp.run.stages import provide_stages

    register_resolvers()
    checkpoints: set[Path] = set()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        for command, *overrides in commands:
            config = _composed(command, [*overrides, f"use_shipped_weights={use_shipped_weights}"])
            config.num_threads = num_threads
            if cache_dir is not None:
                config.cache_dir = cache_dir
            provide_stages(config)
            checkpoints |= {Path(checkpoint) for checkpoint in config.checkpoints.values()}
    return checkpoints


def _ship_sample(sample: str, arguments: argparse.Namespace) -> None:
    """Write the stages of a sample's experiment beside its photographs, trained where they are
    missing; the others of them stay as they are shipped.
    """
    from cfexp.run.own_data import fill_in_from_data
    from cfexp.run.stages import provide_stages

    register_resolvers()
    folder = Path(cfexp.__file__).parent / "samples" / sample
    overrides = [f"+experiment={SAMPLES[sample]}", "+layouts=predicted"]
    overrides += [f"data.root={arguments.data_root}", f"num_threads={arguments.num_threads or 1}"]
    if arguments.cache_dir is not None:
        overrides.append(f"cache_dir={arguments.cache_dir}")
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose("explain", overrides=overrides)
        again = arguments.stages or [*config.checkpoints]
        if unknown := [name for name in again if name not in config.checkpoints]:
            raise SystemExit(f"--stages: {unknown[0]} is none of {', '.join(config.checkpoints)}")
        for name in config.checkpoints:
            shipped = folder / f"{name}.safetensors"
            kept = name not in again and shipped.is_file()
            config.checkpoints[name] = str(shipped) if kept else None
        fill_in_from_data(config)
        provide_stages(config)
    for name, checkpoint in config.checkpoints.items():
        if checkpoint is not None and name in again:
            _ship(Path(checkpoint), folder, name, command="make real-traffic-lights")


def _ship(
    checkpoint: Path,
    folder: Path,
    name: str | None = None,
    command: str = "make embedded-weights",
) -> Path:
    """Write a trained stage's network, in half precision, with its figures and what made it; under
    its stage's name unless another is given.
    """
    state_dict = torch.load(checkpoint, map_location="cpu", weights_only=True)
    # Whole numbers (batches counted) stay as they are.
    halved = {
        name: (value.half() if value.is_floating_point() else value)
        for name, value in state_dict.items()
    }
    provenance = json.loads((checkpoint.parent / "provenance.json").read_text(encoding="utf-8"))
    figures = json.loads((checkpoint.parent / "metrics.json").read_text(encoding="utf-8"))
    path = folder / f"{name or checkpoint.parent.name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    metadata = {
        "command": command,
        "stage": checkpoint.parent.name,  # experiment and config hash
        "seed": str(provenance["seed"]),
        "data_fingerprint": provenance["data_fingerprint"],
        "versions": json.dumps(provenance["versions"]),
        "machine": provenance["machine"],
        "test_figures": json.dumps(figures),
    }
    save_weights(halved, path, metadata)
    vocabulary = checkpoint.parent / VOCABULARY
    explains = "explainer" in OmegaConf.load(checkpoint.parent / "config.yaml")
    if vocabulary.is_file() and not explains:  # an explainer has its VQA model's
        shutil.copyfile(vocabulary, folder / f"{path.stem}.{VOCABULARY}")
    print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB, {figures}")
    return path


if __name__ == "__main__":
    main()
