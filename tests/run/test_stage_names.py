"""What is in a stage's name, setting by setting, and which data set a stage was trained on."""

import copy
import inspect
import json
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from cfexp.run.configuration import register_resolvers
from cfexp.run.same_run import counted, why_neutral
from cfexp.run.stage_names import (
    DATA_SETS,
    compose_stage,
    config_hash,
    describe_data_sets,
    stage_folder,
)
from cfexp.run.stages import fit
from cfexp.worlds.streets import StreetParameters, cached_streets

EXPERIMENTS = Path(__file__).parents[2] / "conf" / "experiment"
# Why every other setting of a stage is in its name. A setting that is in neither table fails the
# test below: say here why it changes a trained network's numbers, or in cfexp/run/same_run.py why
# it does not.
COUNTS = {
    "steps": "how long it is trained",
    "seed": "where the weights start, and each epoch's order",
    "predicts": "what a stage leaves",
    "module.*": "how it is trained: losses, their weights, optimizers and their rates",
    "network.*": "what is trained",
    "network": "likewise, where it is one of the sizes'",
    "callbacks.*": "may change a training; those that only look on are named in same_run.ONLOOKERS",
    "data._target_": "which data set",
    "data.root": "which files: by folder, see `stage_folder`",
    "data.oia_root": "likewise",
    "data.world.*": "which pictures are drawn, and how",
    "data.image_size": "what the network sees",
    "data.crop": "likewise",
    "data.layouts": "likewise",
    "data.horizontal_flip": "likewise",
    "data.attributes": "what it is taught",
    "data.num_answers": "likewise",
    "data.vocabulary_path": "likewise",
    "data.answers": "likewise, of a model that reads text",
    "data.max_question_length": "how much of a question it reads",
    "data.source": "which images it is trained on",
    "data.split": "likewise",
    "data.split_seed": "likewise",
    "data.part": "likewise",
    "data.group": "likewise",
    "data.mapped_only": "likewise",
    "data.classes": "likewise, and what it is taught",
    "data.label": "what it is taught",
    "data.labels_file": "likewise",
    "data.file_column": "which image a label is of",
    "data.label_maps": "which region each pixel is of",
    "data.one_mouth": "likewise",
    "data.side": "how large images are, where nobody says",
    "data.fingerprint": "which files",
    "data.first_test_id": "likewise",
    "data.holdout_images": "likewise",
    "data.require_labels": "likewise",
    "data.train_question_types": "likewise",
    "data.batch_size": "of how many samples a step is",
    "data.group_by_image": "likewise",
    "data.images_per_batch": "likewise",
    "data.seed": "the order of training",
    "trainer._target_": "the training loop",
    "trainer.precision": "how numbers are rounded",
    "trainer.deterministic": "which kernels add them up",
    "trainer.fast_dev_run": "how long it is trained",
    "trainer.max_*": "likewise",
    "trainer.min_*": "likewise",
    "trainer.limit_train_batches": "likewise",
    "trainer.overfit_batches": "on what it is trained",
    "trainer.accumulate_grad_batches": "of how many batches a step is",
    "trainer.gradient_clip_*": "how far a step goes",
    "trainer.val_check_interval": "a validation amid an epoch takes a random number from the rest",
    "trainer.reload_dataloaders_every_n_epochs": "so does a loader that is made anew",
    "trainer.use_distributed_sampler": "which samples a process sees",
    "trainer.plugins": "may change anything",
}
# These cfexp fills in itself.
FILLED_IN = {"logger", "callbacks", "default_root_dir"}


def looks_on(setting: str) -> bool:
    names = "progress", "last", "stopped", "cost"
    return setting.startswith(tuple(f"callbacks.{name}." for name in names))


def why_it_counts(setting: str) -> str | None:
    return next((why for pattern, why in COUNTS.items() if fnmatchcase(setting, pattern)), None)


def stages() -> list[str]:
    names = (
        path.relative_to(EXPERIMENTS).with_suffix("").as_posix()
        for path in EXPERIMENTS.rglob("*.yaml")
    )
    with_stage = (
        name
        for name in names
        if "# Stage" in (EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return sorted(with_stage)


def composed(experiment: str, *overrides: str, command: str = "train") -> DictConfig:
    return compose(command, overrides=[f"+experiment={experiment}", *overrides])


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        yield


def leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def another(value: Any) -> Any:
    """A value that is not this one."""
    if isinstance(value, bool):
        return not value
    return (
        value + 1
        if isinstance(value, int | float)
        else [*value, "more"]
        if isinstance(value, list)
        else "other"
    )


@pytest.mark.parametrize("experiment", stages())
def test_every_setting_of_a_stage_counts_for_a_reason_or_is_neutral_for_one(
    experiment: str,
) -> None:
    real = experiment.startswith(("paper/", "own_", "real_", "vqa_clothes"))
    given = ["data.root=/data"] if real else []
    of_celeba = experiment.startswith("real_faces_")
    own = experiment.startswith(("own_", "real_")) and not of_celeba
    given += ["data.label=state"] if own else []
    given += (
        ["pairs_root=/pairs"]
        if of_celeba and experiment.endswith(("_layouts", "_autoencoder", "_smile_decision"))
        else []
    )
    given += (
        ["vggface2_weights=x"] if experiment.startswith("paper/") and "oracle" in experiment else []
    )
    given += (
        ["celebamask_hq_root=/hq"]
        if experiment in ("paper/celeba_layouts", "paper/celeba_autoencoder")
        else []
    )
    config = composed(experiment, *given)
    kept, before = counted(config, "stage"), config_hash(config)
    changed = copy.deepcopy(config)
    for setting, value in leaves(OmegaConf.to_container(config, resolve=False)):
        neutral, counts = why_neutral(setting, "stage"), why_it_counts(setting)
        assert neutral or counts, setting
        is_kept = any(name == setting or name.startswith(f"{setting}.") for name in kept)
        assert is_kept == (neutral is None and value is not None and not looks_on(setting)), setting
        # `networks.*` counts where `network` refers to it.
        elsewhere = ("checkpoints.", "requires.", "networks.")
        if neutral and "." in setting and not setting.startswith(elsewhere):
            OmegaConf.update(changed, setting, another(value), merge=False)
    assert config_hash(changed) == before


def test_every_setting_of_the_trainer_is_known() -> None:
    for name in set(inspect.signature(lightning.Trainer).parameters) - FILLED_IN:
        setting = f"trainer.{name}"
        assert (why_neutral(setting, "stage") is None) != (why_it_counts(setting) is None), setting


def test_what_the_name_has_beside_single_settings(tmp_path: Path) -> None:
    base = config_hash(composed("face_autoencoder"))
    for same in (
        *(
            "callbacks.progress=null",
            "callbacks.last=null",
            "logger=none",
            "data.seed=0",
            "module.l1_weight=10",
        ),
        *(
            "+trainer.limit_val_batches=0",
            "+trainer.enable_progress_bar=false",
            "data.on_bad_sample=skip",
        ),
    ):
        assert config_hash(composed("face_autoencoder", same)) == base, same
    averaging = "lightning.pytorch.callbacks.StochasticWeightAveraging"
    for other in (
        *("callbacks.seed=null", "data.world.faces=70", "+requires.features.overrides=['seed=2']"),
        f"+callbacks.average={{_target_: {averaging}, swa_lrs: 0.1}}",
    ):
        assert config_hash(composed("face_autoencoder", other)) != base, other
    (tmp_path / "a.ckpt").write_bytes(b"a")
    shutil.copy(tmp_path / "a.ckpt", tmp_path / "copy.ckpt")
    (tmp_path / "b.ckpt").write_bytes(b"b")
    a, copied, b = (
        config_hash(composed("face_autoencoder", f"checkpoints.features={tmp_path}/{name}.ckpt"))
        for name in ("a", "copy", "b")
    )
    assert len({base, a, b}) == 3
    assert copied == a  # by what is in it


def test_a_file_that_weights_start_from_counts_by_what_is_in_it(tmp_path: Path) -> None:
    for name, content in (("a", b"a"), ("copy", b"a"), ("b", b"b")):
        (tmp_path / name).write_bytes(content)
    names = [
        config_hash(
            composed("paper/bdd_decision", "data.root=/data", f"densenet_weights={tmp_path / name}")
        )
        for name in ("a", "copy", "b")
    ]
    assert names[0] == names[1] != names[2]
    assert config_hash(composed("paper/bdd_decision", "data.root=/data")) not in names


def street_stage(root: Path, *overrides: str) -> tuple[DictConfig, str]:
    small = ["data.holdout_images=1", f"data.root={root}", *overrides]
    config = composed("steex_driving", *small, command="explain")
    return compose_stage(config.requires.autoencoder, config)


def begin(stage: DictConfig, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / DATA_SETS).write_text(json.dumps(describe_data_sets(stage)))


def test_a_stage_is_the_same_however_its_data_set_is_called_and_wherever_it_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cached_streets(StreetParameters(train_scenes=3, val_scenes=2), tmp_path).rename(
        tmp_path / "streets"
    )
    stage, name = street_stage(root)
    folder = tmp_path / "stages" / name
    begin(stage, folder)
    assert set(json.loads((folder / DATA_SETS).read_text())) == {"data", "requires.features.data"}
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    for spelled in (Path("streets"), Path("link"), tmp_path / "." / "stages" / ".." / "streets"):
        again, same = street_stage(spelled, "data.on_bad_sample=skip", "data.num_workers=2")
        assert same == name
        assert stage_folder(again, folder) == folder
    duplicate, same = street_stage(Path(shutil.copytree(root, tmp_path / "copy")))
    other = stage_folder(duplicate, folder)
    assert same == name
    assert other.parent == folder.parent
    assert other != folder  # a copy may differ in an image
    begin(duplicate, other)
    assert stage_folder(duplicate, folder) == other
    (tmp_path / "link").unlink()
    moved, _ = street_stage(root.rename(tmp_path / "elsewhere"))
    assert stage_folder(moved, folder) == folder
    next((tmp_path / "elsewhere" / "images").rglob("*.jpg")).write_bytes(b"another")
    assert stage_folder(street_stage(tmp_path / "elsewhere")[0], folder) != folder


def test_neutral_settings_change_no_number(tmp_path: Path) -> None:
    """Two short trainings that differ in what may have to do with numbers, and has not, to the last
    bit.
    """
    small = [
        "data.world.train_scenes=9",
        "data.world.val_scenes=3",
        "data.holdout_images=4",
        "data.batch_size=2",
    ]
    small += [
        f"cache_dir={tmp_path}",
        "logger=none",
        "callbacks.progress=null",
        "num_threads=1",
    ]
    small += ["trainer.max_epochs=2", "+trainer.limit_train_batches=2", "module.mixup=1"]
    others = [
        *(
            "data.eval_batch_size=1",
            "data.cache_images=false",
            "data.num_workers=1",
            "data.on_bad_sample=skip",
        ),
        *(
            "+trainer.limit_val_batches=1",
            "trainer.num_sanity_val_steps=1",
            "+trainer.check_val_every_n_epoch=2",
        ),
        *("trainer.log_every_n_steps=1", "data.max_test_images=1", "data.predict_part=val"),
    ]
    trained: list[dict[str, torch.Tensor]] = []
    for overrides in ([], others):
        config = composed("street_decision", *small, *overrides)
        trained.append(fit(config, tmp_path / str(len(trained))).module.state_dict())
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())
