"""`python -m cfexp.explain` from end to end, as a user starts, kills, repeats and mistypes it, on
few streets.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cfexp import explain
from cfexp.evaluation.run_folder import RunFolder
from cfexp.models.segmenter import SmallSegmenter
from cfexp.run.configuration import register_resolvers
from cfexp.run.stage_names import compose_stage
from tests.commands import InProcess, Main
from tests.evaluation.run_folder_page import documented
from tests.evaluation.run_writer import timeless
from tests.forked import Forked
from tests.tiny_streets import DRIVING

EXPERIMENTS = Path(__file__).parents[1] / "conf" / "experiment"


def environment(cache: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CFEXP", "WANDB", "HYDRA"))
    }
    return {**kept, "CFEXP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def start(*arguments: str, cwd: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cfexp.explain", *arguments],
        cwd=cwd,
        env=environment(cache),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def main(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.explain ARGUMENTS` within this process."""
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    return partial(in_process, explain.main)


def test_help_lists_what_explains(tmp_path: Path, cache: Path) -> None:
    stdout, _ = start("--help", cwd=tmp_path, cache=cache).communicate(timeout=120)
    listed = dict(re.findall(r"^    (\S+) +(\S.*)$", stdout, re.MULTILINE))
    assert "steex_driving" in listed
    for path in EXPERIMENTS.rglob("*.yaml"):
        name = path.relative_to(EXPERIMENTS).with_suffix("").as_posix()
        assert (name in listed) == ("cfexp.explain" in path.read_text().splitlines()[1]), name


def test_a_run_leaves_all_that_is_needed_and_is_not_done_twice(
    main: Main, networks: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = [
        *DRIVING,
        *networks,
        "explainer.num_steps=2",
        "data.max_test_images=5",
        f"hydra.run.dir={folder}",
    ]
    code, stdout, stderr = main(*command)
    assert code == 0, stderr
    assert "${" not in (folder / "config.yaml").read_text()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert set(provenance["checkpoints"]) == {"decision", "autoencoder"}
    assert re.fullmatch("[0-9a-f]{12}", provenance["checkpoints"]["decision"]["sha256"])
    data = json.loads((folder / "data.json").read_text())
    assert (data["region_names"][6], data["class_names"][0]) == ("traffic_light", "forward")
    records = RunFolder(folder).records()
    assert [record["image_id"] for record in records] == [f"00000001-{k:08x}" for k in range(5)]
    assert all(record["answer_before"] in ("stop", "go") for record in records)
    assert all(
        record["truth"]["causal_regions"] and len(record["region_change"]) == 20
        for record in records
    )
    rows = pd.read_csv(folder / "metrics.csv")
    assert rows[(rows.metric == "reconstruction_kept") & (rows.group == "all")].n.tolist() == [5]
    assert rows[rows.metric == "decision_right"].n.tolist()[:1] == [5]
    assert (folder / "counterfactuals.png").is_file()
    assert stdout[-1].startswith(f"everything lies in {folder}: metrics.json")
    table, scores = (
        (folder / "explanations.parquet").read_bytes(),
        (folder / "metrics.csv").read_bytes(),
    )
    code, stdout, _ = main(*command)
    assert code == 0
    assert any(line.startswith("goes on after 5 explanations: ") for line in stdout)
    assert (folder / "explanations.parquet").read_bytes() == table
    assert (folder / "metrics.csv").read_bytes() == scores


def test_one_search_has_one_folder_however_its_settings_are_spelt(
    main: Main, networks: list[str], tmp_path: Path
) -> None:
    few = [*DRIVING, *networks, "explainer.num_steps=1", "data.max_test_images=2"]
    for spelt in (
        ["regions=[car]", "counter_class=go"],
        [
            "explainer.counter_class=go",
            "explainer.regions=[car]",
            "explainer.memory_budget=1GB",
            f"cache_dir={tmp_path}",
        ],
    ):
        code, stdout, stderr = main(*few, *spelt)
        assert code == 0, stderr
    assert any(line.startswith("goes on after 2 explanations: ") for line in stdout)
    assert len([*(tmp_path / "runs" / "steex_driving").iterdir()]) == 1


def test_the_page_of_the_run_folder_knows_every_column(
    main: Main, networks: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    more = ["explainer.num_candidates=2", "explainer.sweep_regions=true", "data.max_test_images=1"]
    code, _, stderr = main(
        *DRIVING, *networks, *more, "explainer.num_steps=1", f"hydra.run.dir={folder}"
    )
    assert code == 0, stderr
    sections = (
        "every explanation",
        "few classes",
        "images",
        "embedded streets",
        "further answers",
        "STEEX",
    )
    written = set(pd.read_parquet(folder / "explanations.parquet").columns)
    assert written == documented(*sections) - {"regions_absent"}  # all may change
    assert set(json.loads((folder / "provenance.json").read_text())) == documented(
        "provenance.json"
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_killed_goes_on_with_the_same_command(
    how: signal.Signals, main: Main, networks: list[str], tmp_path: Path, cache: Path
) -> None:
    command = [*DRIVING, *networks, "explainer.num_steps=4"]
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    there = f"hydra.run.dir={disturbed}"
    process = Forked("explain", *command, there, cwd=tmp_path, cache=cache)
    lines = disturbed / "explanations" / "records-0.jsonl"
    while not (lines.is_file() and lines.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(how)
    _, said = process.communicate(timeout=30)
    if how == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert said.splitlines()[-1] == "stopped; the same command goes on"
    done = RunFolder(disturbed).keys()
    assert 2 <= len(done) < 8
    assert not (disturbed / "explanations.parquet").exists()
    code, stdout, stderr = main(*command, f"hydra.run.dir={disturbed}")
    assert code == 0, stderr
    assert any(line.startswith(f"goes on after {len(done)} explanations: ") for line in stdout)
    assert main(*command, f"hydra.run.dir={undisturbed}")[0] == 0
    assert (disturbed / "metrics.csv").read_bytes() == (undisturbed / "metrics.csv").read_bytes()
    assert timeless(disturbed).equals(timeless(undisturbed))
    for name in ("query", "reconstruction", "counterfactual", "truth_mask"):
        pictures = [
            sorted((folder / "explanations" / name).iterdir())
            for folder in (disturbed, undisturbed)
        ]
        assert len(pictures[0]) == 8
        assert all(
            one.read_bytes() == other.read_bytes() for one, other in zip(*pictures, strict=True)
        )


def test_a_command_has_a_folder_of_its_own_that_another_cannot_take(
    main: Main, networks: list[str], tmp_path: Path
) -> None:
    """The checkpoints' paths are among the overrides: the folder is neither nested nor too long."""
    command = [*DRIVING, *networks, "explainer.num_steps=1", "data.max_test_images=1", "name=mine"]
    assert main(*command)[0] == 0
    (folder,) = (tmp_path / "runs" / "mine").iterdir()
    assert (folder / "config.yaml").is_file()
    code, stdout, stderr = main(*command[::-1])  # in any order
    assert code == 0, stderr
    assert any(line.startswith("goes on after 1 explanations: ") for line in stdout)
    assert list((tmp_path / "runs" / "mine").iterdir()) == [folder]
    content = {path: path.read_bytes() for path in folder.rglob("*.*") if path.name != "log.txt"}
    code, _, stderr = main(*command, "explainer.regions=[car]", f"hydra.run.dir='{folder}'")
    (line,) = [line for line in stderr if line.startswith("error: ")]
    assert code == 2
    change = "explainer.regions=['car'] instead of None"
    assert f"holds a run of another config: {change}. Remove it, or choose" in line
    assert {
        path: path.read_bytes() for path in folder.rglob("*.*") if path.name != "log.txt"
    } == content


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["explainer.regions=[trafic_light]"],
            "regions: 'trafic_light' is none of road, sidewalk, ",
        ),
        (
            ["explainer.counter_class=left"],
            "counter_class='left' is none of the classes ['stop', 'go']",
        ),
        (
            ["checkpoints.decision=/nowhere.ckpt"],
            "checkpoints.decision=/nowhere.ckpt: no such file",
        ),
        ([f"checkpoints.autoencoder={__file__}"], "test_explain.py is no readable checkpoint"),
        (
            ["++requires.decision.overrides=['network.widths=[4,6]']"],
            "decision.ckpt does not fit SmoothClassifier: ",
        ),
        (
            ["data.predict_part=everything"],
            "data.predict_part must be one of train, val, test, got 'everything'",
        ),
        (["data.root=/nowhere"], "/nowhere"),
        (
            ["data.image_size=[60,120]"],
            "data.image_size=[60,120]: sides must be multiples of 16 for the autoencoder (SEAN)",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_the_user_has_wrong_is_one_line(
    main: Main, networks: list[str], more: list[str], message: str
) -> None:
    kept = [each for each in networks if not more[0].startswith(each.partition("=")[0])]
    code, _, stderr = main(*DRIVING, *kept, *more, "hydra.run.dir=wrong")
    (line,) = [line for line in stderr if line.startswith("error: ")]
    assert message in line
    assert not any("Traceback" in line for line in stderr)
    assert code == 2


def test_no_experiment_is_said_in_one_line(main: Main) -> None:
    code, _, stderr = main("hydra.run.dir=wrong")
    assert (code, [line for line in stderr if "choose an experiment" in line]) == (2, stderr[-1:])


def test_layouts_may_be_predicted_by_a_segmenter_of_ones_own(
    main: Main, networks: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    segmenter = tmp_path / "segmenter.ckpt"
    torch.save(SmallSegmenter(20, width=4).state_dict(), segmenter)
    few = [*DRIVING, *networks, "explainer.num_steps=0", "data.max_test_images=2"]
    predicted = [
        "+layouts=predicted",
        "+requires.segmenter.overrides=['network.width=4']",
        f"checkpoints.segmenter={segmenter}",
    ]
    for name, more in (("given", []), ("predicted", predicted)):
        code, _, stderr = main(*few, *more, f"hydra.run.dir={tmp_path / name}")
        assert code == 0, stderr
    provenance = json.loads((tmp_path / "predicted" / "provenance.json").read_text())
    assert set(provenance["checkpoints"]) == {"decision", "autoencoder", "segmenter"}
    given, other = (
        RunFolder(tmp_path / name).images("reconstruction", [0, 1])
        for name in ("given", "predicted")
    )
    assert (given != other).any(1).float().mean() > 0.5


@pytest.mark.parametrize(
    ("experiment", "stage"),
    [
        ("steex_driving", "street_segmenter"),
        ("steex_smile", "face_segmenter"),
        ("steex_young", "face_segmenter"),
    ],
)
def test_predicted_layouts_require_the_segmenter_of_the_same_world(
    experiment: str, stage: str
) -> None:
    register_resolvers()
    with initialize_config_dir(str(EXPERIMENTS.parent), version_base="1.3"):
        chosen = [f"+experiment={experiment}", "data.world.seed=3"]
        config = compose("explain", overrides=[*chosen, "+layouts=predicted"])
        required, name = compose_stage(config.requires.segmenter, config)
        assert "segmenter" not in compose("explain", overrides=chosen).requires
    assert name.rpartition("-")[0] == stage
    assert required.data.world.seed == 3
    loaded = OmegaConf.to_container(config.explainer.segmenter.network)
    assert OmegaConf.to_container(required.network) == loaded


def test_stages_are_trained_first_and_once(main: Main, tmp_path: Path, cache: Path) -> None:
    """From nothing: three classifiers, two of which are one, an autoencoder, and explanations."""
    # As many images as the default holdout of 200 leaves a batch of.
    world = ["data.world.train_scenes=236", "data.world.val_scenes=4", "data.eval_batch_size=2"]
    short = [
        "trainer.max_epochs=1",
        "+trainer.limit_train_batches=2",
        "+trainer.limit_val_batches=1",
    ]
    listed = ",".join(f"'{override}'" for override in short)
    inner = ",".join(f'"{override}"' for override in short)
    nested = f"'+requires.features.overrides=[{inner}]'"
    command = ["+experiment=steex_driving", *world, "explainer.num_steps=2", "num_threads=1"]
    command += [
        f"+requires.decision.overrides=[{listed}]",
        f"+requires.autoencoder.overrides=[{listed},{nested}]",
    ]
    command += ["hydra.run.dir=run"]
    code, _, stderr = main(*command)
    assert code == 0, "\n".join(stderr)
    stages = sorted(path.name.rpartition("-")[0] for path in (cache / "stages").iterdir())
    assert stages == ["street_autoencoder", "street_decision", "street_decision"]
    assert RunFolder(tmp_path / "run").keys() == {0, 1, 2, 3}
    written = {path: path.stat().st_mtime_ns for path in (cache / "stages").glob("*/model.ckpt")}
    code, stdout, _ = main(*command[:-1], "hydra.run.dir=again")
    assert code == 0
    assert not any("is trained first" in line for line in stdout)
    assert {path: path.stat().st_mtime_ns for path in written} == written
