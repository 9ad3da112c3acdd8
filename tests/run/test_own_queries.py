"""`python -m cfexp.explain image=PHOTO` as a user calls it, and mistypes it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from cfexp import doctor, explain, gallery
from cfexp.evaluation.run_folder import RunFolder
from cfexp.models.classifiers import SmoothClassifier
from cfexp.run.configuration import register_resolvers
from cfexp.run.own_queries import predict_label_maps, take_label_maps_as_given
from cfexp.run.stage_names import compose_stage
from tests.commands import InProcess, Main
from tests.tiny_streets import DRIVING, write_networks, write_segmenter


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_segmenter(tmp_path_factory.mktemp("segmenter"))


@pytest.fixture
def main(in_process: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.explain ARGUMENTS` beside photo.png, with an empty cache that nothing
    may be put in.
    """
    monkeypatch.setenv("CFEXP_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 256, (150, 300, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return partial(in_process, explain.main)


def test_an_image_is_explained_into_a_run_folder(
    main: Main, in_process: InProcess, networks: list[str], segmenter: str, tmp_path: Path
) -> None:
    command = [
        *DRIVING,
        *networks,
        segmenter,
        "image=photo.png",
        "explainer.num_steps=1",
        "hydra.run.dir=run",
    ]
    command += ["regions=[car,road]", "counter_class=1"]
    code, stdout, stderr = main(*command)
    assert code == 0, stderr
    assert "photo.png: 300x150, RGBA over white, reduced to 128x64" in stdout
    run = RunFolder(tmp_path / "run")
    (record,) = run.records()
    assert (record["image_id"], record["counter_class"], set(record["labels"].values())) == (
        "photo",
        1,
        {None},
    )
    changed = [
        name
        for name, change in zip(run.data["region_names"], record["region_change"], strict=True)
        if change
    ]
    assert set(changed) <= {"car", "road"}
    label_map = run.label_map(0)
    assert label_map is not None
    assert label_map.shape == (64, 128)
    assert set(json.loads((tmp_path / "run" / "provenance.json").read_text())["checkpoints"]) == {
        *("decision", "autoencoder", "segmenter")
    }
    assert "not computed: decision_right (no searches whose label is known)" in " ".join(stdout)
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "metrics.csv",
        "counterfactuals.png",
    }
    assert not (tmp_path / "cache").exists()  # no data set was drawn, and nothing trained
    code, stdout, stderr = in_process(gallery.main, "run=run")
    assert code == 0, stderr
    assert stdout[-1].startswith("1 explanations, ")
    code, stdout, _ = main(*command)
    assert (code, any(line.startswith("goes on after 1 explanations: ") for line in stdout)) == (
        0,
        True,
    )
    Image.new("RGB", (300, 150)).save(tmp_path / "photo.png")
    code, _, stderr = main(*command)
    assert code == 2
    assert "run holds a run of another config: data.fingerprint=" in stderr[-1]


def test_a_drawn_layout_takes_the_segmenters_place(
    main: Main, networks: list[str], tmp_path: Path
) -> None:
    drawn = np.zeros((75, 150), dtype=np.uint8)
    drawn[:, 75:] = 13
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    command = [
        *DRIVING,
        *networks,
        "image=[photo.png]",
        "label_map=mask.png",
        "explainer.num_steps=0",
    ]
    code, _, stderr = main(*command, "counter_class=go", "hydra.run.dir=run")
    assert code == 0, stderr
    label_map = RunFolder(tmp_path / "run").label_map(0)
    assert label_map is not None
    assert np.array_equal(label_map, np.repeat([[0, 13]], 64, axis=1).repeat(64, axis=0))
    assert set(json.loads((tmp_path / "run" / "provenance.json").read_text())["checkpoints"]) == {
        *("decision", "autoencoder")
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["image=nowhere.jpg"], "image=nowhere.jpg: no such file or folder"),
        (["image=notes.txt"], "notes.txt: not a readable image (no JPEG or PNG or WEBP"),
        (
            ["image=small.png"],
            "small.png: is 20x20 pixels, too small for networks of 128x64; give at least 64x32",
        ),
        (
            ["image=photo.png", "label_map=small.png"],
            "small.png: the label map is 20x20, its image 300x150",
        ),
        (["image=photo.png", "label_map=many.png"], "many.png: label id 77 is none of 0..19, 255"),
        (["image=photo.png", "regions=[cars]"], "regions: 'cars' is none of road, sidewalk, "),
        (
            ["image=photo.png", "counter_class=left"],
            "counter_class='left' is none of the classes ['stop', 'go']",
        ),
        (
            ["image=photo.png", "counter_class=2"],
            "counter_class=2 is none of the classes 0..1: ['stop', 'go']",
        ),
        (["label_map=many.png"], "label_map= is the label map of image=: give both"),
        (
            ["image=photo.png", "segmenter_experiment=null"],
            "image= needs a label map: give label_map=MASK.png",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_user_has_wrong_is_one_line(
    main: Main, networks: list[str], segmenter: str, tmp_path: Path, more: list[str], message: str
) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    Image.new("L", (20, 20)).save(tmp_path / "small.png")
    Image.new("L", (300, 150), 77).save(tmp_path / "many.png")
    code, _, stderr = main(*DRIVING, *networks, segmenter, *more, "hydra.run.dir=wrong")
    errors = [line for line in stderr if line.startswith("error: ")]
    assert (code, len(errors)) == (2, 1), stderr
    assert message in errors[0]
    assert not any("Traceback" in line for line in stderr)


def test_an_image_alone_needs_an_experiment(main: Main) -> None:
    code, _, stderr = main("image=photo.png", "hydra.run.dir=wrong")
    assert (code, stderr[-1]) == (
        2,
        "error: image= needs an experiment: +experiment=steex_driving (--help lists them)",
    )


@pytest.mark.parametrize(
    ("experiment", "stage"),
    [("steex_driving", "street_segmenter"), ("steex_young", "face_segmenter")],
)
def test_the_layout_is_predicted_by_the_experiments_own_segmenter(
    experiment: str, stage: str
) -> None:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose("explain", overrides=[f"+experiment={experiment}"])
        predict_label_maps(config)
        asked = compose("explain", overrides=[f"+experiment={experiment}", "+layouts=predicted"])
        assert OmegaConf.to_container(config) == OmegaConf.to_container(asked)
        assert compose_stage(config.requires.segmenter, config)[1].startswith(f"{stage}-")
    take_label_maps_as_given(config)
    assert config.explainer.segmenter is None
    assert config.requires.segmenter is None


def scripted(path: Path, outputs: int) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(SmoothClassifier(outputs, (4, 8), with_coordinates=False)).eval()
    torch.jit.save(torch.jit.trace(network, torch.rand(2, 3, 64, 128)), path)  # type: ignore[no-untyped-call]
    return path


def test_a_classifier_of_ones_own_is_explained(
    main: Main, networks: list[str], segmenter: str, tmp_path: Path
) -> None:
    model = scripted(tmp_path / "model.pt", outputs=3)
    given = [each for each in networks if "decision" not in each]
    tiny = [each for each in DRIVING if "requires.decision" not in each]
    command = [
        *tiny,
        *given,
        segmenter,
        "image=photo.png",
        "+decision=torchscript",
        f"decision.path={model}",
    ]
    command += ["decision.value_range=[-1,1]", "explainer.num_steps=1", "hydra.run.dir=run"]
    code, _, stderr = main(*command, "decision.class_names=[cat,dog,bird]", "counter_class=bird")
    assert code == 0, stderr
    run = RunFolder(tmp_path / "run")
    (record,) = run.records()
    assert (record["counter_class"], len(record["query_logits"])) == (2, 3)
    assert record["answer_before"] in ("cat", "dog", "bird")
    with torch.no_grad():
        logits = torch.jit.load(model)(run.images("query", [0]))  # type: ignore[no-untyped-call]
    assert record["query_logits"] == pytest.approx(logits[0].tolist(), abs=1e-4)
    for wrong, line in (
        (
            ["decision.class_names=[a,b]"],
            "decision.class_names must name its 3 outputs, 3 names, got 2",
        ),
        ([], "decision.class_names must be given: decision.class_names=VALUE"),
    ):
        code, _, stderr = main(*command[:-1], *wrong, "hydra.run.dir=wrong")
        assert code == 2
        assert line in stderr[-1]
    path = f"decision.path={tmp_path / 'photo.png'}"
    code, _, stderr = main(*command[:-1], "decision.class_names=null", path, "hydra.run.dir=wrong")
    assert (code, f"{path} is not a TorchScript file" in stderr[-1]) == (2, True)
    first = [
        "+decision=torchscript",
        *(each for each in command if not each.startswith("+decision")),
    ]
    code, _, stderr = main(*first)
    assert (code, stderr[-1].split(",")[0]) == (
        2,
        "error: +decision=NAME must come after +experiment=NAME",
    )


def test_doctor_tries_a_classifier_of_ones_own(in_process: InProcess, tmp_path: Path) -> None:
    model = scripted(tmp_path / "model.pt", outputs=2)
    command = [
        "+facts.height=64",
        "+facts.width=128",
        "+decision=torchscript",
        f"decision.path={model}",
    ]
    command += ["decision.value_range=[-1,1]"]
    code, stdout, stderr = in_process(doctor.main, *command, "decision.class_names=[no,yes]")
    assert (code, stdout) == (0, [f"checked decision, {model}: errors of 0 kinds, notes of 0"]), (
        stderr
    )
    code, stdout, _ = in_process(
        doctor.main, *command, "decision.class_names=[no,yes]", "decision.output=2"
    )
    assert code == 1
    assert stdout[1].endswith("decision.output=2 is none of the model's outputs, 0..1")
    model.write_bytes(b"damaged")
    code, stdout, _ = in_process(doctor.main, *command, "decision.class_names=null")
    assert code == 1
    assert f"decision.path={model} is not a TorchScript file" in stdout[1]


@pytest.mark.parametrize(
    "more",
    [
        ["torchvision", "decision.arch=resnet18", "decision.num_outputs=2", "decision.prefix=net."],
        [
            "own",
            "decision.class._target_=cfexp.models.classifiers.SmoothClassifier",
            "+decision.class.num_outputs=2",
        ],
    ],
    ids=lambda more: more[0],
)
def test_doctor_loads_weights_into_a_network_that_is_named(
    in_process: InProcess, tmp_path: Path, more: list[str]
) -> None:
    from cfexp.models.own.classifier import torchvision_classifier

    torch.manual_seed(0)
    prefix = "net." if more[0] == "torchvision" else ""
    network = torchvision_classifier("resnet18", 2) if prefix else SmoothClassifier(2)
    path = tmp_path / "weights.pth"
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, path)
    command = [
        "+facts.height=64",
        "+facts.width=128",
        f"+decision={more[0]}",
        *more[1:],
        f"decision.path={path}",
    ]
    command += [
        "decision.class_names=[no,yes]",
        *([] if prefix else ["decision.value_range=[0,1]"]),
    ]
    code, stdout, stderr = in_process(doctor.main, *command)
    assert (code, len(stdout)) == (0, 1), [*stdout, *stderr]
    torch.save({"other": torch.zeros(1)}, path)
    code, stdout, _ = in_process(doctor.main, *command)
    assert code == 1
    assert "does not fit" in stdout[1]
