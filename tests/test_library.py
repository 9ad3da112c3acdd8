"""`from cfexp import load_explainer`, held against what the command leaves."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from PIL import Image

import cfexp
from cfexp import explain, load_explainer
from cfexp.configuration import register_resolvers
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.library import LoadedExplainer, Picture
from tests.commands import InProcess
from tests.tiny_streets import DRIVING, write_networks, write_segmenter

GUIDE = (Path(__file__).parents[1] / "docs" / "own_images_and_models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, and a layout."""
    folder = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for name, size in (("photo.jpg", (150, 300)), ("other.jpg", (64, 128))):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    Image.fromarray(draw.integers(0, 20, (32, 64), dtype=np.uint8)).save(folder / "mask.png")
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    networks = tmp_path_factory.mktemp("networks")
    cache = f"cache_dir={networks / 'cache'}"
    return [*DRIVING[1:], *write_networks(networks), write_segmenter(networks), "explainer.num_steps=2", cache]


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
    explainer: LoadedExplainer, settings: list[str], folder: Path, in_process: InProcess, tmp_path: Path
) -> None:
    command = ["+experiment=steex_driving", *settings, f"image={folder / 'photo.jpg'}", "hydra.run.dir=run"]
    code, _, stderr = in_process(explain.main, *command, "regions=[road,sky]", "counter_class=go")
    assert code == 0, stderr
    run = RunFolder(tmp_path / "run")
    (record,) = run.records()
    asked = {"regions": ["road", "sky"], "counter_class": "go"}
    for result in (
        explainer.explain(folder / "photo.jpg", regions=["road", "sky"], counter_class=1),
        load_explainer(tmp_path / "run").explain(Image.open(folder / "photo.jpg")),  # asks as the run did
        explainer.explain(run.images("query", [0]), **asked),  # type: ignore[arg-type]
    ):
        for name in ("query", "reconstruction", "counterfactual"):
            stored = run.images(name, [0])
            torch.testing.assert_close(getattr(result, name), stored, atol=1.01 / 127.5, rtol=0)
        assert result.success.tolist() == [record["stored_success"]]
        assert result.logits[0].tolist() == pytest.approx(record["stored_logits"], abs=1e-3)
        assert result.curves["decision"][0].tolist() == pytest.approx(record["decision_curve"], abs=1e-3)
        change = (result.codes - result.query_codes)[0].norm(dim=1)
        assert change.tolist() == pytest.approx(record["region_change"], abs=1e-3)
        assert result.counter_class.tolist() == [1]


def test_images_of_every_kind_with_layouts_of_every_kind(explainer: LoadedExplainer, folder: Path) -> None:
    photo = Image.open(folder / "photo.jpg")
    tensor = torch.from_numpy(np.asarray(photo).transpose(2, 0, 1) / 127.5 - 1).float()
    layout = torch.from_numpy(np.asarray(Image.open(folder / "mask.png")).copy()).long()
    images: list[Picture] = [folder / "photo.jpg", photo, tensor, str(folder / "other.jpg")]
    layouts: list[Picture] = [folder / "mask.png", Image.open(folder / "mask.png"), layout, layout]
    result = explainer.explain(images, layouts)
    assert result.counterfactual.shape == (4, 3, 64, 128)
    expected = layout.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert all(torch.equal(label_map, expected) for label_map in result.label_map)
    torch.testing.assert_close(result.query[0], result.query[1])
    assert (result.query[0] - result.query[2]).abs().mean() < 0.02  # the same, but for rounding on the way
    assert result.curves["proximity"].shape == (4, 2)
    # Without regions of its own a call is not bound by those of the last.
    assert (result.codes != result.query_codes).any(2).sum() > (
        explainer.explain(images, layouts, regions=["car"]).codes != result.query_codes
    ).any(2).sum()
    several = explainer.explain(torch.stack([tensor, tensor]), layout.expand(2, -1, -1))
    assert len(several.success) == 2


@pytest.mark.parametrize(
    ("images", "layouts", "line"),
    [
        ("nowhere.jpg", None, "nowhere.jpg: no such file"),
        ([], None, "there is no image to explain"),
        (
            torch.zeros(3, 64, 128, dtype=torch.uint8),
            None,
            r"images\[0\]: a tensor must be float \(3, H, W\) in \[-1, 1",
        ),
        (torch.full((3, 64, 128), 255.0), None, r"images\[0\]: a tensor must be float .* 255\.\.255"),
        (Image.new("RGB", (8, 8)), None, r"images\[0\]: is 8x8 pixels, too small"),
        (torch.zeros(2, 3, 64, 128), torch.zeros(64, 128).long(), "label_maps must be one for each image: 1 for 2"),
        (torch.zeros(3, 64, 128), torch.zeros(64, 128), r"label_maps\[0\]: a tensor must be whole numbers"),
        (torch.zeros(3, 64, 128), torch.full((64, 128), 20), r"label_maps\[0\]: label id 20 is none of 0\.\.19, 255"),
        (torch.zeros(3, 64, 128), torch.zeros(64, 64).long(), r"label_maps\[0\]: the label map is 64x64, its image"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    explainer: LoadedExplainer, images: object, layouts: object, line: str
) -> None:
    with pytest.raises(InputError, match=f"^{line}") as raised:
        explainer.explain(images, layouts)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_what_there_is_not_is_refused(explainer: LoadedExplainer, folder: Path, tmp_path: Path) -> None:
    photo, mask = folder / "photo.jpg", folder / "mask.png"
    with pytest.raises(InputError, match=r"^regions: 'cars' is none of road, "):
        explainer.explain(photo, mask, regions=["cars"])
    with pytest.raises(InputError, match=r"^counter_class=2 is none of the classes 0\.\.1: \['stop', 'go'\]$"):
        explainer.explain(photo, mask, counter_class=2)
    with pytest.raises(InputError, match=r"^nothing is no run \(a folder with config.yaml\), and as an experiment: "):
        load_explainer("nothing")
    (tmp_path / "config.yaml").write_text("data: {}\nexplainer: {_target_: cfexp.explainers.vqa_gan.X}\n")
    with pytest.raises(InputError, match=r"only searches \(steex_\.\.\.\) explain images by themselves$"):
        load_explainer(tmp_path)
    with pytest.raises(InputError, match=r"^overrides are for experiments; .* is a run, whose config is what it is$"):
        load_explainer(tmp_path, ["seed=1"])


COMMANDS = [
    line.replace("\\\n", " ").split("    #")[0].strip()
    for kind, block in BLOCKS
    if kind == ""
    for line in block.replace("\\\n", "").splitlines()
    if line.startswith("python -m cfexp.")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_guide_is_a_config(command: str) -> None:
    register_resolvers()
    verb, *overrides = command.removeprefix("python -m cfexp.").split()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose(verb, overrides=[override.strip("'\"") for override in overrides])
    assert config.get("decision") is None or config.explainer.class_names == config.decision.class_names


def test_the_guide_is_run(
    explainer: LoadedExplainer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(COMMANDS) > 10
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cfexp, "load_explainer", lambda *_: explainer, raising=False)
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "guide", "exec"), {})
    assert "success" in capsys.readouterr().out
