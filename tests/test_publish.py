"""`python -m cfexp.publish`: a stage as a folder that others load again."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn

from cfexp import embedded_weights, publish
from cfexp.models.loading.pretrained import load_network, read_state_dict
from cfexp.run.building import build
from cfexp.run.configuration import run_config
from cfexp.run.stages import WEIGHTS
from tests.commands import InProcess, Main

FIGURES = {"test/accuracy": 97.09, "groups": {"all": {"flips": {"value": 50.0, "n": 4}}}}


@pytest.fixture
def main(in_process: InProcess) -> Main:
    """Runs `python -m cfexp.publish ARGUMENTS` within this process."""
    return partial(in_process, publish.main)


def stage(folder: Path, *, name: str = "vqa_model", explainer: bool = False) -> nn.Linear:
    """What a training leaves in its folder."""
    folder.mkdir(parents=True)
    network = nn.Linear(3, 2)
    path = folder / ("checkpoints/last.ckpt" if explainer else "model.ckpt")
    path.parent.mkdir(exist_ok=True)
    torch.save({"state_dict": network.state_dict(), "epoch": 3} if explainer else
               network.state_dict(), path)  # fmt: skip
    content = {
        "name": name,
        "folder": str(folder),
        "data": {"root": "/home/somebody/vqa", "world": None},
        "checkpoints": {"features": "/home/somebody/a b/model.ckpt"},
        "network": {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 2},
        **({"explainer": {"_target_": "torch.nn.Linear"}} if explainer else {}),
    }
    (folder / "config.yaml").write_text(json.dumps(content))
    told = {
        "command": [
            "/home/somebody/cfexp/train.py",
            "+experiment=vqa_model",
            "data.root=/home/somebody/vqa",
            "hydra.run.dir=/home/somebody/runs",
            "+requires.x.overrides=['vgg_weights=/home/somebody/vgg.pth']",
        ],
        "seed": 7,
        "git_revision": None,
        "data_fingerprint": "scenes-0123",
        "checkpoints": {"features": {"path": "/home/somebody/f.ckpt", "sha256": "ab12"}},
        "versions": {"cfexp": "0.2", "torch": "2.13.0"},
        "machine": "a machine",
    }
    (folder / "provenance.json").write_text(json.dumps(told))
    (folder / "metrics.json").write_text(json.dumps(FIGURES))
    (folder / "explanations.png").write_bytes(b"a picture")
    return network


def facts_of(card: str) -> dict[str, object]:
    content = OmegaConf.to_container(OmegaConf.create(card.split("---\n")[1]))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def test_a_stage_of_the_cache_becomes_a_folder_that_loads_again(main: Main, tmp_path: Path) -> None:
    name = "mine-0123456789ab"
    folder = tmp_path / "cache" / "stages" / name
    network = stage(folder, name="mine")
    (folder / "vocabulary.json").write_text('{"words": []}')
    for asked, out in ((name, "a"), ("mine", "b"), (str(folder), "c")):
        code, stdout, stderr = main(asked, out, "cache_dir=cache", "license=CC-BY-4.0")
        assert code == 0, stderr
        assert stdout[-1] == f"to upload: hf upload owner/name {out}"
    a, *others = (tmp_path / each for each in "abc")
    made = {path.name: path.read_bytes() for path in a.iterdir()}
    assert {*made} == {"README.md", "config.yaml", "model.safetensors", "vocabulary.json"}
    for name_of, content in made.items():  # safetensors writes its metadata in any order
        if name_of != "model.safetensors":
            assert all((other / name_of).read_bytes() == content for other in others)
    again = load_network(nn.Linear(3, 2), a / "model.safetensors")
    assert torch.equal(again.weight, network.weight)
    card = made["README.md"].decode()
    assert facts_of(card) == {
        "license": "cc-by-4.0",
        "library_name": "cfexp",
        "tags": [
            *("cfexp", "counterfactual-explanations", "explainable-ai"),
            "visual-question-answering",
        ],
    }
    for said in (
        f"stage `{name}`",
        "| test/accuracy | 97.09 |",
        "| all: flips | 50 (n 4) |",
        "| seed | 7 |",
        "| data fingerprint | scenes-0123 |",
        "cfexp 0.2, torch 2.13.0",
        "| checkpoints | features ab12 |",
        "python -m cfexp.train +experiment=vqa_model data.root=vqa +requires",
        "['vgg_weights=vgg.pth']",
        "checkpoints.NAME=hf://owner/name/model.safetensors",
    ):
        assert said in card
    config = run_config(a)
    assert config["data"] == {"root": "vqa", "world": None}
    assert config["checkpoints"] == {"features": "model.ckpt"}
    assert all(b"somebody" not in content for content in made.values())


def test_a_run_of_an_explainer(main: Main, tmp_path: Path) -> None:
    network = stage(tmp_path / "l2=0.1", name="vqa_color", explainer=True)
    code, stdout, stderr = main("l2=0.1", "out", "repository=lab/colors")
    assert code == 0, stderr
    assert stdout[1] == "note: the card says license: unknown; license=NAME says it"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "config.yaml", "model.safetensors"),
    }
    kept = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(kept["weight"], network.weight)
    card = (tmp_path / "out" / "README.md").read_text()
    assert facts_of(card)["license"] == "unknown"
    assert "Nobody has said the licence" in card
    assert "+experiment=vqa_color checkpoints.explainer=hf://lab/colors/model.safetensors\n" in card


def test_shipped_weights_with_the_config_that_they_were_made_by(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = WEIGHTS.glob("street_decision-*")
    monkeypatch.setattr(embedded_weights, "WORLDS", embedded_weights.WORLDS[:1])  # the streets
    code, _, stderr = main("street_decision", "out", "cache_dir=none")
    assert code == 0, stderr
    model = tmp_path / "out" / "model.safetensors"
    there, here = read_state_dict(path), read_state_dict(model)
    assert there.keys() == here.keys()
    assert all(torch.equal(value, here[key]) for key, value in there.items())
    load_network(build(run_config(tmp_path / "out").network, "network"), model)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| test/accuracy/forward | 100 |" in card
    command = "python -m cfexp.explain +experiment=steex_driving checkpoints.decision="
    assert f"{command}hf://owner/name/model.safetensors\n" in card


def test_bad_input_is_one_line_and_leaves_no_folder(main: Main, tmp_path: Path) -> None:
    stages = tmp_path / "cache" / "stages"
    for name in ("mine-0123456789ab", "mine-ba9876543210", "half-0123456789ab"):
        stage(stages / name)
    (stages / "half-0123456789ab" / "metrics.json").unlink()
    stage(tmp_path / "damaged")
    (tmp_path / "damaged" / "provenance.json").write_text("{}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    good = "mine-0123456789ab"
    for arguments, line in (
        ([], "error: name stage and folder: publish STAGE FOLDER"),
        ([good], "error: name stage and folder"),
        ([good, "out", "more"], "error: more: expected publish STAGE FOLDER"),
        (["nothing", "out"], "error: stage=nothing: no such stage in cache/stages or among"),
        (["mine", "out"], f"error: stage=mine: there are several, name one of them: {good}, mine-"),
        (["empty", "out"], "error: stage=empty: there is no model.ckpt or checkpoints/last.ckpt"),
        (["half", "out"], "error: stage=cache/stages/half-0123456789ab: no metrics.json: the trai"),
        (["damaged", "out"], "error: stage=damaged: provenance.json or metrics.json is damaged"),
        ([good, "full"], f"error: {tmp_path}/full: exists and is not an empty folder"),
        ([good, "out", "license=do what"], "error: license=do what: expected a name of the Hugg"),
        ([good, "out", "repository=mine"], "error: repository=mine: expected OWNER/NAME"),
    ):
        code, _, stderr = main(*arguments, *(["cache_dir=cache"] if len(arguments) > 1 else []))
        assert (code, len(stderr)) == (2, 1), stderr
        assert stderr[0].startswith(line)
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
