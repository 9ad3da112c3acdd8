"""Repair from a run folder to the table: labels by the truth or by a person, controls, and going
on.
"""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf, open_dict
from PIL import Image

from cfexp import gallery, repair
from cfexp.declaration import Declaration
from cfexp.evaluation.run_folder import RunFolder
from cfexp.models.classifiers import SmoothClassifier
from tests.commands import InProcess, Main
from tests.evaluation.run_writer import record

COUNT = 6
OUT = ["output=out", "num_threads=1"]
STREETS = ["data.world.train_scenes=20", "data.world.val_scenes=10", "data.holdout_images=4"]
STAGE = [*STREETS, "network.widths=[4,8]", "data.batch_size=8", "callbacks=none"]


@pytest.fixture
def main(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Main:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(in_process, repair.main)


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an untrained model on the first of 16 training images, whose counterfactuals are the
    queries with another sky; in the first one no lamp is lit, so that nobody can tell what it is.
    """
    folder = tmp_path_factory.mktemp("streets")
    torch.manual_seed(0)
    torch.save(SmoothClassifier(1, (4, 8)).state_dict(), folder / "decision.ckpt")
    decision = {"experiment": "street_decision", "overrides": STAGE, "share": []}
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose(
            "explain",
            overrides=[
                "+experiment=steex_driving",
                *STREETS,
                "data.predict_part=train",
                f"cache_dir={folder / 'cache'}",
                f"checkpoints.decision={folder / 'decision.ckpt'}",
            ],
        )
        data: Any = instantiate(config.data)
        network = {"_target_": "cfexp.models.classifiers.SmoothClassifier", "num_outputs": 1}
        with open_dict(config):
            config.requires = {"decision": decision}
            config.explainer = {
                "decision_model": {
                    "_target_": "cfexp.models.loading.pretrained.load_network",
                    "network": {**network, "widths": [4, 8]},
                    "checkpoint": "${checkpoints.decision}",
                },
                "head": 0,
            }
            config.facts, config.folder = data.facts, str(folder / "run")
    run = RunFolder(folder / "run")
    run.declare(Declaration("Tint", class_names=("stop", "go"), label="forward", by_direction=True))
    with run.writer() as store:
        for key in range(COUNT):
            query = np.asarray(Image.open(data.records("train")[key].image).convert("RGB"))
            store.add(_record(data, key), {"query": query, **_edited(data, key, query)})
    run.finish()
    OmegaConf.save(config, run.path / "config.yaml", resolve=True)
    (run.path / "data.json").write_text(json.dumps(data.description))
    return run.path


def _record(data: Any, key: int) -> dict[str, Any]:
    known = {"query_class": 0, "counter_class": 1, "stored_class": 1, **data.describe(key)}
    return {**record(key, "stop", "go", truth="stop"), **known}


def _edited(data: Any, key: int, query: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    edited = query.copy()
    edited[:4] = 255 - edited[:4]
    if key == 0:
        for lamp in data.truth(data.explained(key).image_id)["lamps"]:
            edited.reshape(-1, 3)[lamp["pixels"]] = 120  # neither lit nor dark
            edited.reshape(-1, 3)[lamp["pixels"][:1]] = 255
    label_map = data.dataset("train")[key].label_map[0].numpy().astype(np.uint8)
    return {"reconstruction": query, "counterfactual": edited, "label_map": label_map}


def test_it_trains_on_and_says_what_that_gained(main: Main, streets: Path, tmp_path: Path) -> None:
    arguments = [f"run={streets}", f"output={tmp_path / 'out'}", "num_threads=1", "share=0.25"]
    code, stdout, stderr = main(*arguments, "groups=[]")
    assert code == 0, stderr
    said = "\n".join(stdout)
    assert "of 6 counterfactuals that turned the model are used" in said
    assert "% right of 10 test images that the run did not explain" in said
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [*metrics] == ["before", "repaired", "ordinary", "queries"]
    assert all(each["accuracy"]["n"] == 10 for each in metrics.values())
    assert "gain" in metrics["repaired"]
    assert "counterfactuals" in (tmp_path / "out" / "table.md").read_text()
    truths = {row["key"]: row["truth"]["go"] for row in RunFolder(streets).records()}
    tables = {}
    for name in ("repaired", "ordinary", "queries"):
        lines = (tmp_path / "out" / name / "more.csv").read_text().splitlines()
        assert lines[0] == "image,label_map,forward"
        tables[name] = [line.split(",") for line in lines[1:]]
    repaired = {int(Path(row[0]).stem): row for row in tables["repaired"]}
    assert len(tables["ordinary"]) == len(tables["queries"]) == len(repaired) >= COUNT - 1
    assert all(int(row[2]) == truths[key] for key, row in repaired.items())
    assert all(Path(row[0]).parts[-2] == "query" for row in tables["queries"])
    state = torch.load(tmp_path / "out" / "repaired" / "model.ckpt", weights_only=True)
    SmoothClassifier(1, (4, 8)).load_state_dict(state)
    before = torch.load(streets.parent / "decision.ckpt", weights_only=True)
    assert not all(torch.equal(state[name], value) for name, value in before.items())
    # What is done is not done again, and another training does not take its place.
    was = (tmp_path / "out" / "repaired" / "model.ckpt").stat().st_mtime_ns
    assert main(*arguments, "groups=[facade]")[0] == 0
    assert (tmp_path / "out" / "repaired" / "model.ckpt").stat().st_mtime_ns == was
    code, _, stderr = main(*arguments, "rate=0.1")
    assert code == 2
    assert "holds a run of another config: module.optimizer.lr=" in stderr[-1]


def test_a_person_says_what_each_is(main: Main, streets: Path, tmp_path: Path) -> None:
    verdicts = tmp_path / "verdicts.csv"
    verdicts.write_text("key,verdict\r\n0,unusable\r\n1,go\r\n2,go\r\n3,stop\r\n")
    asked = [f"run={streets}", f"verdicts={verdicts}", f"output={tmp_path / 'out'}"]
    code, stdout, stderr = main(*asked, "num_threads=1", "share=0.25")
    assert code == 0, stderr
    said = "\n".join(stdout)
    assert "3 of 6 counterfactuals that turned the model are used" in said
    assert "the model is wrong about 1 of them, right about 2" in said
    lines = (tmp_path / "out" / "repaired" / "more.csv").read_text().splitlines()
    keys = [int(Path(line.split(",")[0]).stem) for line in lines[1:]]
    assert keys == [1, 2, 3, 3]  # what it gets wrong is drawn as often as what it gets right
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["1", "1", "0", "0"]
    assert [*json.loads((tmp_path / "out" / "metrics.json").read_text())] == [
        *("before", "repaired", "ordinary")
    ]


def test_the_query_says_what_each_is_of_all_rounds(
    main: Main, streets: Path, tmp_path: Path
) -> None:
    rounds = [tmp_path / "one", tmp_path / "two"]
    for each in rounds:
        shutil.copytree(streets, each, ignore=shutil.ignore_patterns("repair"))
    arguments = [f"run=[{rounds[0]},{rounds[1]}]", "labels=query", "num_threads=1", "share=0.25"]
    code, _, stderr = main(*arguments)
    assert code == 2
    assert "labels=query: in " in stderr[-1]
    assert "every region could change" in stderr[-1]
    for each in rounds:
        run = RunFolder(each)
        run.declare(run.declaration._replace(regions=("sky",)))
    code, stdout, stderr = main(*arguments)
    assert code == 0, stderr
    truths = {row["key"]: row["truth"]["go"] for row in RunFolder(streets).records()}
    stops = [key for key, go in truths.items() if not go]  # it says go of all: right of the others
    assert f"{2 * len(stops)} of 12 counterfactuals that turned" in "\n".join(stdout)
    lines = (rounds[1] / "repair" / "repaired" / "more.csv").read_text().splitlines()[1:]
    places = [(Path(row.split(",")[0]).parents[2].name, row.rpartition(",")[2]) for row in lines]
    assert sorted(places) == sorted((name, "0") for name in ("one", "two") for _ in stops)
    metrics = json.loads((rounds[1] / "repair" / "metrics.json").read_text())
    assert [*metrics] == ["before", "repaired", "ordinary"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("key,verdict\n1,maybe\n", "line 2: a verdict must be one of stop, go, unusable, got 'may"),
        ("key,verdict\n1,go\n1,go\n", "line 3: key 1 stands there twice"),
        ("image,label\n1,go\n", "line 2: expected the columns key and verdict, and a number as"),
        ("key,verdict\n", "has no row below its first line"),
        ("key,verdict\n2,unusable\n", "6 counterfactuals turned the model; verdicts="),
    ],
)
def test_a_file_of_verdicts_that_is_none_is_one_line(
    main: Main, streets: Path, tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "verdicts.csv").write_text(text)
    code, _, stderr = main(f"run={streets}", f"verdicts={tmp_path / 'verdicts.csv'}", *OUT)
    assert code == 2
    assert len(stderr) == 1
    assert problem in stderr[0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["epochs=0"], "epochs must be a whole number of at least 1, got 0"),
        (["share=1"], "share must lie between 0 and 1, got 1"),
        (["rate=no"], "rate must be positive, got 'no'"),
        (["groups=facade"], "groups must be a list, as groups=[facade], got 'facade'"),
        (["groups=[weather]"], "groups: 'weather' is nothing that is known of test images; there"),
        (["labels=mine"], "labels must be truth, verdicts, query or null, got 'mine'"),
        (["labels=query", "verdicts=a.csv"], "labels=query and verdicts=a.csv do not go together"),
        (["verdicts=none.csv"], "verdicts=none.csv is no readable CSV file"),
    ],
)
def test_a_setting_out_of_range_is_one_line(
    main: Main, streets: Path, arguments: Sequence[str], problem: str
) -> None:
    code, _, stderr = main(f"run={streets}", "output=out", "num_threads=1", *arguments)
    assert code == 2
    assert stderr[-1].startswith(f"error: {problem}")


def test_a_model_that_no_stage_trains_is_one_line(
    main: Main, streets: Path, tmp_path: Path
) -> None:
    config = OmegaConf.load(streets / "config.yaml")
    config.requires = {"decision": None}
    OmegaConf.save(config, tmp_path / "config.yaml")
    code, _, stderr = main(f"run={tmp_path}", "num_threads=1")
    assert code == 2
    assert "names no stage that trains the model it explained" in stderr[-1]


def test_the_page_of_verdicts(in_process: InProcess, streets: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, stdout, stderr = in_process(
        gallery.main, f"run={streets}", "verdict=true", f"output={page}"
    )
    assert (code, stderr) == (0, [])
    assert stdout[-1].startswith("6 explanations")
    text = page.read_text()
    assert '"verdicts": ["stop", "go", "unusable"]' in text
    assert "connect-src" not in text
    assert "http" not in text.replace("http-equiv", "")
