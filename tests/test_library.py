"""`from cfexp import load_explainer`, held against what the command leaves."""

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from PIL import Image

import cfexp
from cfexp import explain, load_explainer
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.library import LoadedExplainer, Picture
from cfexp.run.command_line import with_text_quoted
from cfexp.run.configuration import register_resolvers
from tests.commands import InProcess
from tests.tiny_streets import library_settings

GUIDE = (Path(__file__).parents[1] / "docs" / "own_images_and_models.md").read_text(
    encoding="utf-8"
)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, and a label map."""
    folder = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for name, size in (("photo.jpg", (150, 300)), ("other.jpg", (64, 128))):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    Image.fromarray(draw.integers(0, 20, (32, 64), dtype=np.uint8)).save(folder / "mask.png")
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return library_settings(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def explainer(settings: list[str]) -> LoadedExplainer:
    return load_explainer("steex_driving", settings)


def test_importing_cfexp_imports_no_torch() -> None:
    code = "import sys, cfexp; print('torch' in sys.modules, callable(cfexp.load_explainer))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_no_other_name_is_made_up() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_explainers'"):
        _ = cfexp.load_explainers  # type: ignore[attr-defined]


def test_a_result_is_what_the_command_stores(
    explainer: LoadedExplainer,
    settings: list[str],
    folder: Path,
    in_process: InProcess,
    tmp_path: Path,
) -> None:
    command = [
        "+experiment=steex_driving",
        *settings,
        f"image={folder / 'photo.jpg'}",
        "hydra.run.dir=run",
    ]
    code, _, stderr = in_process(explain.main, *command, "regions=[road,sky]", "counter_class=go")
    assert code == 0, stderr
    run = RunFolder(tmp_path / "run")
    (record,) = run.records()
    asked = {"regions": ["road", "sky"], "counter_class": "go"}
    for result in (
        explainer.explain(folder / "photo.jpg", regions=["road", "sky"], counter_class=1),
        load_explainer(tmp_path / "run").explain(
            Image.open(folder / "photo.jpg")
        ),  # asks as the run did
        explainer.explain(run.images("query", [0]), **asked),  # type: ignore[arg-type]
    ):
        for name in ("query", "reconstruction", "counterfactual"):
            stored = run.images(name, [0])
            torch.testing.assert_close(getattr(result, name), stored, atol=1.01 / 127.5, rtol=0)
        assert result.success.tolist() == [record["stored_success"]]
        assert result.logits[0].tolist() == pytest.approx(record["stored_logits"], abs=1e-3)
        assert result.curves["decision"][0].tolist() == pytest.approx(
            record["decision_curve"], abs=1e-3
        )
        change = (result.codes - result.query_codes)[0].norm(dim=1)
        assert change.tolist() == pytest.approx(record["region_change"], abs=1e-3)
        assert result.counter_class.tolist() == [1]


def test_images_of_every_kind_with_layouts_of_every_kind(
    explainer: LoadedExplainer, folder: Path
) -> None:
    photo = Image.open(folder / "photo.jpg")
    tensor = torch.from_numpy(np.asarray(photo).transpose(2, 0, 1) / 127.5 - 1).float()
    label_map = torch.from_numpy(np.asarray(Image.open(folder / "mask.png")).copy()).long()
    images: list[Picture] = [folder / "photo.jpg", photo, tensor, str(folder / "other.jpg")]
    label_maps: list[Picture] = [
        folder / "mask.png",
        Image.open(folder / "mask.png"),
        label_map,
        label_map,
    ]
    result = explainer.explain(images, label_maps)
    assert result.counterfactual.shape == (4, 3, 64, 128)
    expected = label_map.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert all(torch.equal(label_map, expected) for label_map in result.label_map)
    torch.testing.assert_close(result.query[0], result.query[1])
    assert (
        result.query[0] - result.query[2]
    ).abs().mean() < 0.02  # the same, but for rounding on the way
    assert result.curves["proximity"].shape == (4, 2)
    # Without regions of its own a call is not bound by those of the last.
    assert "regions_absent" in explainer.explain(images, label_maps, regions=["car"]).extras
    several = explainer.explain(torch.stack([tensor, tensor]), label_map.expand(2, -1, -1))
    assert "regions_absent" not in several.extras
    assert len(several.success) == 2


@pytest.mark.parametrize(
    ("images", "label_maps", "line"),
    [
        ("nowhere.jpg", None, "nowhere.jpg: no such file"),
        ([], None, "there is no image to explain"),
        (
            torch.zeros(3, 64, 128, dtype=torch.uint8),
            None,
            r"images\[0\]: a tensor must be float \(3, H, W\) in \[-1, 1",
        ),
        (
            torch.full((3, 64, 128), 255.0),
            None,
            r"images\[0\]: a tensor must be float .* 255\.\.255",
        ),
        (Image.new("RGB", (8, 8)), None, r"images\[0\]: is 8x8 pixels, too small"),
        (
            torch.zeros(2, 3, 64, 128),
            torch.zeros(64, 128).long(),
            "label_maps must be one for each image: 1 for 2",
        ),
        (
            torch.zeros(3, 64, 128),
            torch.zeros(64, 128),
            r"label_maps\[0\]: a tensor must be whole numbers",
        ),
        (
            torch.full((3, 64, 128), torch.nan),
            None,
            r"images\[0\]: a tensor must be float .* with NaN or infinity",
        ),
        (
            torch.full((3, 64, 128), -torch.inf),
            None,
            r"images\[0\]: a tensor must be float .* with NaN or infinity",
        ),
        (
            torch.zeros(3, 64, 128, dtype=torch.complex64),
            None,
            r"images\[0\]: a tensor must be float",
        ),
        (torch.zeros(0, 3, 64, 128), None, "there is no image to explain"),
        (np.zeros((0, 64, 128, 3), np.uint8), None, "there is no image to explain"),
        (torch.zeros(3, 0, 128), None, r"images\[0\]: a tensor must be float"),
        (torch.zeros(3, 8, 8), None, r"images\[0\]: is 8x8 pixels, too small"),
        (torch.zeros(64, 128), None, r"images\[0\]: a tensor must be float"),
        (
            np.zeros((64, 128, 3)),
            None,
            r"images\[0\]: an array must be uint8 \(H, W, 3\), .* got float64 \(64, 128, 3\)",
        ),
        (
            np.zeros((3, 64, 128), np.uint8),
            None,
            r"images\[0\]: an array must be uint8 \(H, W, 3\)",
        ),
        (
            np.array(["photo.jpg"]),
            None,
            r"images\[0\]: an array must be uint8 \(H, W, 3\), .* got <U9 \(1,\);",
        ),
        (
            None,
            None,
            r"images\[0\]: expected a path, a PIL image, an array or a tensor, got NoneType$",
        ),
        ([torch.zeros(3, 64, 128), 7], None, r"images\[1\]: expected a path, .* got int$"),
        ({"image": "photo.jpg"}, None, r"images\[0\]: expected a path, .* got dict$"),
        (torch.zeros(3, 64, 128), [], "label_maps is empty"),
        (torch.zeros(3, 64, 128), [None], r"label_maps\[0\]: expected a path, .* got NoneType$"),
        (
            torch.zeros(3, 64, 128),
            np.zeros((64, 128)),
            r"label_maps\[0\]: an array must be whole numbers .* float64",
        ),
        (
            torch.zeros(3, 64, 128),
            np.full((64, 128), -1),
            r"label_maps\[0\]: a tensor must be whole numbers .* -1\.\.-1",
        ),
        (
            torch.zeros(3, 64, 128),
            torch.zeros(64, 128).bool(),
            r"label_maps\[0\]: a tensor must be whole numbers",
        ),
        (
            torch.zeros(3, 64, 128),
            torch.zeros(0, 128).long(),
            r"label_maps\[0\]: a tensor must be whole numbers",
        ),
        (
            torch.zeros(3, 64, 128),
            torch.full((64, 128), 20),
            r"label_maps\[0\]: label id 20 is none of 0\.\.19, 255",
        ),
        (
            torch.zeros(3, 64, 128),
            torch.zeros(64, 64).long(),
            r"label_maps\[0\]: the label map is 64x64, its image",
        ),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    explainer: LoadedExplainer, images: object, label_maps: object, line: str
) -> None:
    with pytest.raises(InputError, match=f"^{line}") as raised:
        explainer.explain(images, label_maps)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_what_there_is_not_is_refused(
    explainer: LoadedExplainer, folder: Path, tmp_path: Path
) -> None:
    photo, mask = folder / "photo.jpg", folder / "mask.png"
    with pytest.raises(InputError, match=r"^regions: 'cars' is none of road, "):
        explainer.explain(photo, mask, regions=["cars"])
    with pytest.raises(
        InputError, match=r"^counter_class=2 is none of the classes 0\.\.1: \['stop', 'go'\]$"
    ):
        explainer.explain(photo, mask, counter_class=2)
    with pytest.raises(
        InputError,
        match=r"^nothing is no run \(a folder with config.yaml\), and as an experiment: ",
    ):
        load_explainer("nothing")
    (tmp_path / "config.yaml").write_text(
        "data: {}\nexplainer: {_target_: cfexp.explainers.vqa_gan.X}\n"
    )
    with pytest.raises(InputError, match=r"^explainer: .*'X'"):
        load_explainer(tmp_path)
    with pytest.raises(
        InputError,
        match=r"^overrides are for experiments; .* is a run, whose config is what it is$",
    ):
        load_explainer(tmp_path, ["seed=1"])


def test_arrays_are_taken_as_pictures_are(explainer: LoadedExplainer, folder: Path) -> None:
    photo, label_map = (
        Image.open(folder / "photo.jpg"),
        np.asarray(Image.open(folder / "mask.png")).astype(np.uint16),
    )
    pixels, expected = np.asarray(photo), explainer.explain(photo, Image.open(folder / "mask.png"))
    for images, label_maps in (
        (pixels, label_map),
        (pixels[None], label_map[None]),
        ([pixels], [label_map]),
    ):
        result = explainer.explain(images, label_maps)
        assert torch.equal(result.query, expected.query)
        assert torch.equal(result.counterfactual, expected.counterfactual)
        assert torch.equal(result.label_map, expected.label_map)


def test_it_explains_in_inference_mode_too(explainer: LoadedExplainer) -> None:
    draw = torch.Generator().manual_seed(0)
    image, label_map = 2 * torch.rand(3, 64, 128, generator=draw) - 1, torch.zeros(64, 128).long()
    expected = explainer.explain(image, label_map)
    with torch.inference_mode():
        found = explainer.explain(image * 1, label_map * 1)
    assert torch.equal(found.counterfactual, expected.counterfactual)


def test_tensors_in_0_to_1_are_warned_of(explainer: LoadedExplainer) -> None:
    image, label_map = torch.rand(3, 64, 128), torch.zeros(64, 128, dtype=torch.int64)
    with pytest.warns(
        UserWarning,
        match=r"^images: no tensor has a value below 0; they are taken as in \[-1, 1\] .*$",
    ):
        explainer.explain(image, label_map)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        explainer.explain(2 * image - 1, label_map)
        explainer.explain([image, 2 * image - 1], [label_map, label_map])  # of one batch


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"regions": "road"}, "regions must be a list of names, got 'road'"),
        ({"regions": [1]}, r"regions must be a list of names, got \[1\]"),
        ({"regions": 3}, "regions must be a list of names, got 3"),
        ({"regions": []}, "regions names no region: nothing could change"),
        ({"counter_class": True}, "counter_class must be a name or a whole number, got True"),
        ({"counter_class": 1.0}, r"counter_class must be a name or a whole number, got 1\.0"),
        ({"counter_class": [1]}, r"counter_class must be a name or a whole number, got \[1\]"),
        ({"counter_class": -1}, r"counter_class=-1 is none of the classes 0\.\.1"),
        ({"counter_class": "Go"}, "counter_class='Go' is none of the classes"),
    ],
)
def test_what_may_not_be_asked_for_is_one_line(
    explainer: LoadedExplainer, asked: dict[str, Any], line: str
) -> None:
    label_map = torch.zeros(64, 128, dtype=torch.int64)
    with pytest.raises(InputError, match=f"^{line}"):
        explainer.explain(torch.rand(3, 64, 128) * 2 - 1, label_map, **asked)
    result = explainer.explain(
        torch.rand(3, 64, 128) * 2 - 1,
        label_map,
        regions=("road",),
        counter_class=np.int64(1),  # type: ignore[arg-type]
    )
    assert result.counter_class.tolist() == [1]


class Softmax(torch.nn.Module):
    """Two classes, by probabilities."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))[:, :2].softmax(1)


def test_what_the_doctor_notes_is_warned_of(settings: list[str], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(Softmax()), path)
    own = [
        "+decision=torchscript",
        f"decision.path={path}",
        "decision.class_names=[a,b]",
        "decision.value_range=[0,1]",
    ]
    others = [
        setting
        for setting in settings
        if not setting.startswith(("checkpoints.decision", "+requires.decision"))
    ]
    with pytest.warns(
        UserWarning,
        match=r"^decision: the model's outputs all lie in 0\.\.1; if they are probabilities",
    ):
        load_explainer("steex_driving", [*others, *own])


COMMANDS = [
    line.replace("\\\n", " ").split("    #")[0].strip()
    for kind, block in BLOCKS
    if kind == ""
    for line in block.replace("\\\n", "").splitlines()
    if line.startswith("python -m cfexp.")
    and not line.startswith("python -m cfexp.publish ")  # of a folder, see test_publish
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_guide_is_a_config(command: str) -> None:
    register_resolvers()
    verb, *overrides = shlex.split(command.removeprefix("python -m cfexp."))
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose(verb, overrides=[with_text_quoted(override) for override in overrides])
    assert (
        "class_names" not in (config.explainer or {})
        or config.explainer.class_names == config.decision.class_names
    )


def test_the_guide_is_run(
    explainer: LoadedExplainer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(COMMANDS) > 10
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cfexp, "load_explainer", lambda *_: explainer, raising=False)
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "guide", "exec"), {})
    assert "success" in capsys.readouterr().out
