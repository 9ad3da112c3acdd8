import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from cfexp.errors import InputError
from cfexp.run.configuration import register_resolvers, resume_from
from cfexp.run.stage_names import compose_stage, config_hash
from cfexp.run.stages import fit, provide_stages, use_threads

SMALL = ["+overlay=smoke", "data.image_size=32", "logger=none", "callbacks=none", "num_threads=1"]


def config(experiment: str, *overrides: str, cache: Path) -> DictConfig:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        return compose(
            "train",
            overrides=[f"+experiment={experiment}", *SMALL, f"cache_dir={cache}", *overrides],
        )


def prepared(experiment: str, *overrides: str, cache: Path) -> DictConfig:
    """As `config`, with stages provided; Hydra stays set up for them, as in the entry points."""
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        composed = compose(
            "train",
            overrides=[f"+experiment={experiment}", *SMALL, f"cache_dir={cache}", *overrides],
        )
        provide_stages(composed)
    return composed


def test_a_missing_stage_is_trained_once_and_a_changed_config_trains_another(
    tmp_path: Path,
) -> None:
    first = Path(prepared("vqa_color", cache=tmp_path).checkpoints.vqa_model)
    written = first.stat().st_mtime_ns
    assert {"model.ckpt", "vocabulary.json", "config.yaml", "provenance.json"} <= {
        p.name for p in first.parent.iterdir()
    }
    again = Path(
        prepared("vqa_color", "explainer.l2_weight=0.5", cache=tmp_path).checkpoints.vqa_model
    )
    assert (again, again.stat().st_mtime_ns) == (
        first,
        written,
    )  # the explainer's settings are not the stage's
    other = Path(
        prepared(
            "vqa_color",
            "+requires.vqa_model.overrides=['network.fusion.hidden_dim=32']",
            cache=tmp_path,
        ).checkpoints.vqa_model
    )
    assert other != first
    seeded = Path(prepared("vqa_color", "seed=1", cache=tmp_path).checkpoints.vqa_model)
    assert seeded not in (first, other)


def test_a_given_checkpoint_wins_and_must_exist(tmp_path: Path) -> None:
    given = tmp_path / "mine.ckpt"
    given.write_bytes(b"")
    assert prepared(
        "vqa_color", f"checkpoints.vqa_model={given}", cache=tmp_path
    ).checkpoints.vqa_model == str(given)
    assert not (tmp_path / "stages").exists()
    with pytest.raises(InputError, match=r"checkpoints.vqa_model=/nowhere.ckpt: no such file"):
        prepared("vqa_color", "checkpoints.vqa_model=/nowhere.ckpt", cache=tmp_path)


def test_the_hash_sees_what_changes_the_numbers_and_nothing_else(tmp_path: Path) -> None:
    base = config_hash(config("vqa_model", cache=tmp_path))
    places = ("trainer=ddp", "trainer.devices=4", "trainer.accelerator=cpu")
    for same in ("num_threads=2", "logger=csv", "ckpt_path=last", *places):
        assert config_hash(config("vqa_model", same, cache=tmp_path)) == base, same
    for other in ("seed=1", "module.optimizer.lr=0.1", "data.world.seed=3", "trainer.max_epochs=9"):
        assert config_hash(config("vqa_model", other, cache=tmp_path)) != base, other


def test_the_hash_sees_what_a_needed_stage_is_and_not_how_that_is_said(tmp_path: Path) -> None:
    def named(*overrides: str) -> str:
        quoted = ", ".join(f"'{each}'" for each in overrides)
        needed = f"requires.features={{experiment: street_decision, share: [], always: [{quoted}]}}"
        with initialize_config_module("cfexp.conf", version_base="1.3"):
            return config_hash(
                compose("train", overrides=["+experiment=street_autoencoder", needed])
            )

    base = named("seed=1", "trainer.max_epochs=2")
    assert named("trainer.max_epochs=2", "seed=1", "num_threads=7", "module.mixup=1.0") == base
    assert named("seed=1", "trainer.max_epochs=2", "module.mixup=0") != base


def test_fit_leaves_its_config_and_provenance(tmp_path: Path) -> None:
    fit(config("vqa_model", cache=tmp_path), tmp_path / "run")
    saved = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert saved.facts.num_answers == saved.module.network.fusion.num_answers  # resolved
    provenance = (tmp_path / "run" / "provenance.json").read_text()
    assert '"data_fingerprint": "scenes-' in provenance
    assert '"seed": 0' in provenance


def test_what_has_no_target_or_is_no_callback_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"callbacks.mine has no _target_"):
        fit(config("vqa_model", "+callbacks.mine={a: 1}", cache=tmp_path), tmp_path / "run")
    with pytest.raises(InputError, match=r"callbacks.mine must be a Callback, got Pure"):
        fit(
            config("vqa_model", "+callbacks.mine={_target_: pathlib.PurePath}", cache=tmp_path),
            tmp_path / "run",
        )


def test_resume_from(tmp_path: Path) -> None:
    assert resume_from(None, tmp_path) is None
    assert resume_from("last", tmp_path) is None
    with pytest.raises(InputError, match=r"ckpt_path=/nowhere.ckpt: no such file"):
        resume_from("/nowhere.ckpt", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.touch()
    with pytest.raises(InputError, match=r"last\.ckpt is no checkpoint of a training"):
        resume_from("last", tmp_path)
    torch.save({"epoch": 0}, checkpoint)
    assert resume_from("last", tmp_path) == checkpoint


OF_ALL = {
    "root": "/data",
    "on_bad_sample": "skip",
    "holdout_images": 7,
    "num_workers": 3,
    "cache_images": False,
}
OF_FACES = {**OF_ALL, "split": "celeba", "first_test_id": 28000}
OF_STREETS = {**OF_ALL, "oia_root": "/oia"}


@pytest.mark.parametrize(
    ("command", "experiment", "settings", "stages"),
    [
        # STEEX: decision, autoencoder, segmenter; of the embedded worlds what the autoencoder sees
        # with, too.
        ("explain", "steex_smile +layouts=predicted", OF_FACES, 4),
        ("explain", "steex_young +layouts=predicted", OF_FACES, 4),
        ("explain", "steex_driving +layouts=predicted", OF_STREETS, 4),
        ("explain", "paper/steex_celebamask_hq_smile", OF_FACES, 3),
        ("explain", "paper/steex_bdd", OF_ALL, 3),
        ("train", "vqa_color", OF_ALL, 1),
        ("train", "paper/vqa_color", OF_ALL, 1),
    ],
)
def test_every_stage_reads_the_data_set_as_the_run_that_needs_it(
    command: str, experiment: str, settings: dict[str, object], stages: int
) -> None:
    overrides = [
        *f"+experiment={experiment}".split(),
        *(f"data.{key}={value}" for key, value in settings.items()),
    ]
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        left, seen = [compose(command, overrides=overrides)], []
        while left:
            needs = left.pop()
            for requirement in needs.requires.values():
                stage, name = compose_stage(requirement, needs)
                assert {key: stage.data[key] for key in settings} == settings, name
                left.append(stage)
                seen.append(name)
    assert len(seen) == stages


def test_threads_are_as_many_as_asked_for_or_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = torch.get_num_threads()
    try:
        use_threads(3)
        assert torch.get_num_threads() == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        use_threads(None)
        assert torch.get_num_threads() == 3
        monkeypatch.delenv("OMP_NUM_THREADS")
        use_threads(None)
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    finally:
        torch.set_num_threads(before)
