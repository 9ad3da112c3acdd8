"""`python -m cfexp.doctor` as a user calls it: on a data set, on checkpoints, and wrongly."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import nn

from cfexp import doctor, explain, train
from cfexp.evaluation.run_folder import RunFolder
from cfexp.models.classifiers import SmoothClassifier
from cfexp.run.configuration import register_resolvers
from cfexp.worlds.faces import FaceParameters, cached_faces, write_celeba
from cfexp.worlds.streets import StreetParameters, write_streets
from tests.commands import InProcess, Main
from tests.tiny_streets import untrained_networks

CONF = Path(__file__).parents[1] / "conf"
EXPERIMENTS = sorted(
    path.relative_to(CONF / "experiment").with_suffix("")
    for path in (CONF / "experiment").rglob("*.yaml")
    if "python -m cfexp.evaluate" not in path.read_text()
)
FACES = [
    "data=celebamask_hq",
    "data.first_test_id=20",
    "data.holdout_images=4",
    "data.image_size=[16,16]",
]
STREETS = ["data.world.train_scenes=3", "data.world.val_scenes=2", "data.holdout_images=1"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def root(cache: Path, tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(
            cached_faces(FaceParameters(faces=24, image_size=32), cache), tmp_path / "faces"
        )
    )


@pytest.fixture
def main(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.doctor ARGUMENTS` within this process, or another `verb`."""
    monkeypatch.setenv("CFEXP_CACHE", str(cache))

    def run(
        *arguments: str, verb: Callable[[], None] = doctor.main
    ) -> tuple[int, list[str], list[str]]:
        return in_process(verb, *arguments)

    return run


def saved(network: nn.Module, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def test_a_sound_data_set_has_notes_and_exit_code_0(main: Main, root: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, stdout, stderr = main(*FACES, f"data.root={root}")
    assert code == 0, stdout
    assert stdout[0] == f"checked {root} (24 images): errors of 0 kinds, notes of 2"
    assert all(line.startswith("note") for line in stdout[1:])
    assert len(stdout) == 3
    assert "100%" in stderr[-1]
    assert sorted(tmp_path.rglob("*")) == before  # nothing is left where it was called


def test_every_finding_is_one_line_and_errors_give_exit_code_1(main: Main, root: Path) -> None:
    for number in (3, 21):
        (root / "CelebA-HQ-img" / f"{number}.jpg").write_bytes(b"")
    (root / "CelebAMask-HQ-mask-anno" / "0" / "00009_skin.png").write_bytes(b"")
    (root / "identity_CelebA.txt").write_text("")
    code, stdout, _ = main(*FACES, f"data.root={root}")
    assert code == 1
    assert stdout[0] == f"checked {root} (24 images): errors of 3 kinds, notes of 1"
    assert stdout[1].split(maxsplit=2) == [
        "error",
        "1",
        f"{root / 'identity_CelebA.txt'}: the file is empty",
    ]
    _, times, rest = stdout[2].split(maxsplit=2)
    assert times == "2"
    assert rest.startswith(f"{root / 'CelebA-HQ-img' / '21.jpg'}: not a readable image")  # by name
    assert "00009_skin.png: not a readable image" in stdout[3]
    assert len(stdout) == 5


def test_a_training_on_the_same_root_stops_or_skips(main: Main, root: Path, tmp_path: Path) -> None:
    for number in (16, 21):
        (root / "CelebA-HQ-img" / f"{number}.jpg").write_bytes(b"")
    settings = [
        "trainer.max_epochs=1",
        "logger=none",
        "data.batch_size=4",
        "network.widths=[4]",
        "num_threads=1",
    ]
    experiment = [
        "+experiment=face_decision",
        f"data.root={root}",
        f"hydra.run.dir={tmp_path / 'run'}",
        *FACES[1:],
    ]
    code, _, stderr = main(*experiment, *settings, verb=train.main)
    assert (code, len(stderr)) == (2, 1)
    assert stderr[0].startswith(f"error: {root / 'CelebA-HQ-img' / '16.jpg'}: not a readable image")
    code, stdout, stderr = main(*experiment, *settings, "data.on_bad_sample=skip", verb=train.main)
    assert code == 0, stderr
    said = "\n".join(stdout + stderr)
    assert f"skipped: {root / 'CelebA-HQ-img' / '16.jpg'}: not a readable image" in said
    assert "1 images of the val part were skipped" in said
    assert "1 images of the test part were skipped" in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            (),
            "error: nothing to check: "
            "give data=NAME data.root=PATH, or network=NAME checkpoint=PATH (--help)",
        ),
        (("data=celeba",), "error: data.root must be given: data.root=VALUE"),
        (
            ("data=vqav1", "data.root=/nowhere"),
            "error: data.root=/nowhere is no folder; give the one that the",
        ),
        (
            ("checkpoint=a.ckpt",),
            "error: checkpoint= is checked against a network: give network=NAME",
        ),
        (
            ("network=smooth_classifier", "checkpoint=a.ckpt"),
            "error: Interpolation key 'facts.num_classes' not found",
        ),
        (
            ("data=celebamask_hq", "data.root=.", "data.split=val"),
            "error: data.split must be one of paper, celeba",
        ),
        (
            ("+checkpoints.decision=a.ckpt",),
            "error: checkpoints.decision: no network of this config is loaded from it",
        ),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_code_2(
    main: Main, arguments: tuple[str, ...], line: str
) -> None:
    code, stdout, stderr = main(*arguments)
    assert (code, stdout) == (2, [])
    assert len(stderr) == 1
    assert stderr[0].startswith(line)


def test_a_checkpoint_is_held_against_its_network(main: Main, tmp_path: Path) -> None:
    command = ["network=smooth_classifier", "+facts.num_classes=3"]
    network = SmoothClassifier(3, (16, 32, 64, 96))
    path = saved(network, tmp_path / "model.ckpt")
    assert main(*command, f"checkpoint={path}")[0] == 0
    _, (first, line), _ = main(
        "network=smooth_classifier", "+facts.num_classes=4", f"checkpoint={path}"
    )
    assert first == f"checked {path}: errors of 1 kind, notes of 0"
    assert line.startswith("error")
    assert f"{path} does not fit SmoothClassifier: " in line
    assert "misshaped" in line
    nn.init.constant_(next(network.parameters()), float("nan"))
    code, stdout, _ = main(*command, f"checkpoint={saved(network, path)}")
    assert code == 1
    assert stdout[1].endswith(" holds NaN or infinity")
    for content in (b"", b"<html>404</html>"):
        path.write_bytes(content)
        code, stdout, _ = main(*command, f"checkpoint={path}")
        assert code == 1
        assert f"{path} is no readable checkpoint" in stdout[1]
    code, stdout, _ = main(*command, f"checkpoint={tmp_path / 'no.ckpt'}")
    assert code == 1
    assert f"no checkpoint at {tmp_path / 'no.ckpt'}" in stdout[1]


def test_a_checkpoint_of_others_is_converted_first(main: Main, tmp_path: Path) -> None:
    path = saved(SmoothClassifier(3, (16, 32)), tmp_path / "latest_net_G.pth")
    command = ["network=sean", "+facts.num_regions=19", f"checkpoint={path}"]
    code, stdout, _ = main(*command, "released=sean")
    assert code == 1
    assert len(stdout) == 2
    assert "missing" in stdout[1]
    code, _, stderr = main(*command, "released=gan")
    assert (code, stderr) == (
        2,
        [
            "error: released must be one of "
            "mlb, sean, decision, segmenter, oracle, pe, tcvae, got 'gan'"
        ],
    )


def test_the_checkpoints_of_an_experiment_are_held_against_the_networks_loaded_from_them(
    main: Main, tmp_path: Path
) -> None:
    register_resolvers()
    command = ["+experiment=steex_driving", *STREETS]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("doctor", overrides=[*command, "+facts.num_regions=20"])
    given = untrained_networks(config, ("decision", "autoencoder"), tmp_path)
    decision, autoencoder = tmp_path / "decision.ckpt", tmp_path / "autoencoder.ckpt"
    code, stdout, _ = main(*command, *given)
    assert code == 0, stdout
    assert stdout[-1].endswith(f"{decision}, {autoencoder}: errors of 0 kinds, notes of 0")
    code, stdout, _ = main(*command, f"checkpoints.decision={autoencoder}")
    assert code == 1
    assert "does not fit SmoothClassifier" in stdout[1]


def test_label_maps_given_by_their_index_are_checked(main: Main, tmp_path: Path) -> None:
    write_celeba(FaceParameters(faces=12, image_size=32), tmp_path / "celeba")
    command = ["+experiment=paper/celeba_autoencoder", f"data.root={tmp_path / 'celeba'}"]
    code, stdout, _ = main(*command)  # the stage would predict them
    assert code == 0, stdout
    index, layouts = tmp_path / "stage" / "label_maps.json", tmp_path / "stage" / "label_maps"
    layouts.mkdir(parents=True)
    for path in (tmp_path / "celeba" / "img_align_celeba").iterdir():
        label_map = Image.new("L", (32, 32))
        label_map.paste(13, (8, 0, 24, 12))  # hair
        label_map.paste(1, (8, 12, 24, 28))  # skin
        label_map.paste(17, (8, 28, 24, 32))  # neck
        label_map.save(layouts / f"{path.stem}.png")
    index.write_text("{}")
    given = f"checkpoints.layouts={index}"
    code, stdout, _ = main(*command, given)
    assert code == 0, stdout
    assert stdout[0].endswith(f"(12 images), {index}: errors of 0 kinds, notes of 2")
    Image.new("L", (32, 32), 19).save(next(layouts.iterdir()))
    code, stdout, _ = main(*command, given)
    assert code == 1
    assert "label id 19 is none of 0..18" in stdout[1]
    index.unlink()
    code, stdout, _ = main(*command, given)
    assert code == 1
    assert f"{index}: cannot be read (No such file or directory)" in "\n".join(stdout)


def test_explaining_skips_bad_images_however_often_it_is_called(main: Main, tmp_path: Path) -> None:
    register_resolvers()
    small = ["data.eval_batch_size=1", "data.cache_images=false", "num_threads=1"]
    command = [
        "+experiment=steex_driving",
        *small,
        "+requires.decision.overrides=['network.widths=[4,8]']",
    ]
    command.append("+requires.autoencoder.overrides=['network.base_channels=4']")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("explain", overrides=[*command, "+facts.num_regions=20"])
    given = untrained_networks(config, ("decision", "autoencoder"), tmp_path)
    root = tmp_path / "streets"
    write_streets(StreetParameters(train_scenes=3, val_scenes=4), root)
    (root / "images" / "10k" / "val" / "00000001-00000002.jpg").write_bytes(b"")
    command += [
        *given,
        f"data.root={root}",
        "data.on_bad_sample=skip",
        "data.holdout_images=1",
        "explainer.num_steps=1",
    ]
    for _ in range(2):  # of which the second explains nothing but what is still missing
        code, stdout, stderr = main(
            *command, f"hydra.run.dir={tmp_path / 'run'}", verb=explain.main
        )
        assert code == 0, stderr
        assert "1 images of the test part were skipped" in "\n".join(stdout + stderr)
        records = RunFolder(tmp_path / "run").records()
        assert [record["image_id"] for record in records] == [
            f"00000001-0000000{k}" for k in (0, 1, 3)
        ]


@pytest.mark.parametrize("name", EXPERIMENTS, ids=str)
def test_every_experiment_can_be_checked(name: Path) -> None:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("doctor", overrides=[f"+experiment={name.as_posix()}"])
    assert config.name == name.as_posix()
