"""The command line from end to end, as a user starts, mistypes, stops and resumes it, on a very
small world.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cfexp import evaluate, train
from cfexp.evaluation.run_folder import RunFolder
from cfexp.run.configuration import progress_of
from tests.commands import InProcess, Main
from tests.evaluation.run_folder_page import documented
from tests.evaluation.run_writer import timeless

EXPERIMENTS = Path(__file__).parents[1] / "conf" / "experiment"
# 32 pixels is the least for the generator's four halvings that leaves the VQA model a map of more
# than one cell.
SMALL = ["+overlay=smoke", "data.image_size=32", "num_threads=1"]
COLOR = ["+experiment=vqa_color", *SMALL]
CSV = [*COLOR, "logger=csv"]
PAPER = ["+experiment=vqa_color_paper", *CSV[1:]]
# Six short epochs: long enough to be stopped in.
LONG = [*CSV, "trainer.max_epochs=6", "trainer.limit_train_batches=3"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def environment(cache: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CFEXP", "WANDB", "HYDRA"))
    }
    return {**kept, "CFEXP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def start(verb: str, *arguments: str, cwd: Path, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"cfexp.{verb}", *arguments],
        cwd=cwd,
        env=environment(cache),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == code, stdout + stderr
    return stdout, stderr


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, list[str]]:
    """The folder that a run leaves, and the lines that it prints."""
    cwd = tmp_path_factory.mktemp("finished")
    stdout, _ = finish(start("train", *COLOR, cwd=cwd, cache=cache))
    return only(cwd / "runs" / "vqa_color"), stdout.splitlines()


def test_help_lists_every_experiment_in_a_line_at_once(tmp_path: Path, cache: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    stdout, _ = finish(start("train", "--help", cwd=tmp_path, cache=cache))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 3
    experiments = {
        path.relative_to(EXPERIMENTS).with_suffix("").as_posix()
        for path in EXPERIMENTS.rglob("*.yaml")
    }
    assert {"vqa_color", "paper/vqa_color"} <= experiments
    listed = dict(re.findall(r"^    (\S+) +(\S.*)$", stdout, re.MULTILINE))
    for name in experiments:
        path = EXPERIMENTS / f"{name}.yaml"
        assert (name in listed) == ("cfexp.train" in path.read_text().splitlines()[1]), name


def test_a_run_leaves_all_that_is_needed(finished: tuple[Path, list[str]]) -> None:
    folder, printed = finished
    config = (folder / "config.yaml").read_text()
    assert "${" not in config
    assert "name: vqa_color" in config
    provenance = json.loads((folder / "provenance.json").read_text())
    assert set(provenance) == documented("provenance.json")
    assert len(pd.read_csv(folder / "metrics.csv")) > 20
    with Image.open(folder / "counterfactuals.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 5
    explained = pd.read_parquet(folder / "explanations.parquet")
    classes = "few classes" if "query_logits" in explained else "many classes"
    assert set(explained.columns) == documented("every explanation", "questions", classes)
    assert set(explained.key) == RunFolder(folder).keys()
    assert len(list((folder / "explanations" / "counterfactual").iterdir())) == len(explained) > 10
    assert (folder / "grids" / "epoch_000.png").is_file()
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(checkpoint["optimizer_states"]) == 2
    assert not any(key.startswith("decision_model.") for key in checkpoint["state_dict"])
    assert list(folder.rglob("*.partial")) == []
    assert (folder / "log.txt").read_text().strip()
    table = next(number for number, line in enumerate(printed) if "before and after" in line)
    assert any(re.match(r" what color +\d+ +[\d.]+ +[\d.]+", line) for line in printed[table:])
    assert printed[-1].startswith(f"everything lies in {folder}: metrics.json")


def test_the_loggers_have_the_figures_and_the_pictures(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    figures = json.loads((folder / "metrics.json").read_text())["groups"]["what color"]
    logged = pd.read_csv(folder / "csv" / "version_0" / "metrics.csv")
    assert logged["val/flip_rate"].notna().any()
    assert logged["test/what color/rms_change"].dropna().item() == pytest.approx(
        figures["rms_change"]["value"], rel=1e-3
    )
    (media,) = (folder / "wandb").glob("offline-run-*/files/media")
    for logger_key in ("val/counterfactuals", "test/counterfactuals"):
        with Image.open(next((media / "images").glob(f"{logger_key}_*.png"))) as image:
            assert min(image.size) > 30
    (table,) = (media / "html" / "test").glob("table_*.html")
    assert "rms_change" in table.read_text()


@pytest.fixture
def main(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.VERB ARGUMENTS` within this process; the verb is the first argument."""
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    return lambda verb, *arguments: in_process(
        {"train": train, "evaluate": evaluate}[verb].main, *arguments
    )


def test_evaluate_gives_the_same_numbers_again(
    finished: tuple[Path, list[str]], main: Main
) -> None:
    folder, printed = finished
    before, table = (
        json.loads((folder / "metrics.json").read_text()),
        (folder / "metrics.csv").read_text(),
    )
    for name in ("metrics.json", "metrics.csv"):
        (folder / name).unlink()
    code, stdout, _ = main("evaluate", f"run={folder}")
    assert code == 0
    again = json.loads((folder / "metrics.json").read_text())
    assert (again["groups"], (folder / "metrics.csv").read_text()) == (before["groups"], table)
    for group, reasons in before[
        "not_computed"
    ].items():  # beside those, what the judges need that were not given
        assert reasons.items() <= again["not_computed"][group].items()
    assert stdout[-1] == printed[-1]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train", "choose an experiment, e.g. +experiment=vqa_color"),
        (
            "train +experiment=vqa_color data.root=/nowhere",
            "VQAv1 not found in data.root=/nowhere: expected /nowhere/",
        ),
        ("train +experiment=paper/vqa_color", "data.root must be given: data.root=VALUE"),
        ("train +experiment=paper/vqa_model", "data.root must be given: data.root=VALUE"),
        (["train", *CSV, "ckpt_path=/nowhere.ckpt"], "ckpt_path=/nowhere.ckpt: no such file"),
        (["train", *CSV, f"ckpt_path={__file__}"], "test_train.py is no checkpoint of a training"),
        (
            ["train", *CSV, "checkpoints.vqa_model=/nowhere"],
            "checkpoints.vqa_model=/nowhere: no such file",
        ),
        (
            ["train", *CSV, "explainer.counter_answer=mauve"],
            "counter_answer='mauve' is no answer of the VQA model: ",
        ),
        (
            ["train", *PAPER, "explainer.mask_weight=1"],
            "mask_weight=1 needs a generator with mask=true",
        ),
        (
            ["train", *CSV, "data.batch_size=0"],
            "data.batch_size must be an integer of at least 1, got 0",
        ),
        (
            ["train", *CSV, "data.image_size=50"],
            "data.image_size=50: sides must be multiples of 16 for the generator",
        ),
        (
            ["train", *CSV, "+explainer.foo=1"],
            "explainer.foo=: VQACounterfactualGAN has no setting of this name",
        ),
        (["train", *CSV, "trainer.accelerator=gpux"], "trainer: Error in call to target"),
        (
            ["train", *CSV, "trainer.max_epochs=???"],
            "trainer.max_epochs must be given: trainer.max_epochs=VALUE",
        ),
        ("evaluate", "run must be given: run=VALUE"),
        ("evaluate run=/nowhere", "no explanations in /nowhere: expected "),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_what_the_user_has_wrong_is_one_line(
    main: Main, command: str | list[str], message: str
) -> None:
    code, _, stderr = main(*(command.split() if isinstance(command, str) else command))
    # Warnings come in two lines, the second of which is code.
    (line,) = [line for line in stderr if "Warning" not in line and not line.startswith("  ")]
    assert line.startswith("error: ")
    assert message in line
    assert code == 2
    assert not Path("runs", "evaluate").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*CSV, "explainer.foo=1"], "explainer.foo=1: there is no setting of this name"),
        (
            ["+experiment=vqa_colour"],
            "find 'conf/experiment/vqa_colour.yaml'; is vqa_color",
        ),
    ],
)
def test_what_hydra_does_not_know_is_said_without_a_traceback(
    main: Main, arguments: list[str], message: str
) -> None:
    code, _, stderr = main("train", *arguments)
    assert code == 2
    assert message in "\n".join(stderr)
    assert "Traceback" not in "\n".join(stderr)


def test_a_process_says_it_in_one_line_too(tmp_path: Path, cache: Path) -> None:
    _, stderr = finish(
        start("train", "+experiment=vqa_color", "data.root=/nowhere", cwd=tmp_path, cache=cache), 2
    )
    assert re.fullmatch(r"error: VQAv1 not found in data.root=/nowhere: .*\n", stderr)


def tensors(checkpoint: Path) -> dict[str, Any]:
    """All that a training is, flat: weights, both optimizers with their moments, and the epoch."""
    content = torch.load(checkpoint, weights_only=True)
    flat = dict(content["state_dict"])
    for number, optimizer in enumerate(content["optimizer_states"]):
        for index, state in optimizer["state"].items():
            flat |= {f"{number}.{index}.{name}": value for name, value in state.items()}
    return {**flat, "epoch": torch.tensor(content["epoch"])}


def test_what_is_killed_and_stopped_goes_on_to_the_same_weights(
    tmp_path: Path, cache: Path, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    disturbed.mkdir()
    assert main("train", *LONG, f"hydra.run.dir={undisturbed}")[0] == 0

    def stop(epochs: int, number: signal.Signals, *more: str) -> tuple[str, str]:
        """Start or go on, and send a signal as soon as so many epochs are done."""
        process = start("train", *LONG, *more, cwd=disturbed, cache=cache)
        found = (disturbed / "runs" / "vqa_color").glob
        wait_until(
            process,
            lambda: any(
                progress_of(path).epochs >= epochs for path in found("*/checkpoints/last.ckpt")
            ),
        )
        process.send_signal(number)
        return finish(process, -number if number == signal.SIGKILL else 128 + number)

    stop(1, signal.SIGKILL)
    folder = only(disturbed / "runs" / "vqa_color")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    for number in (signal.SIGINT, signal.SIGTERM):
        done = progress_of(checkpoint).epochs
        stdout, stderr = stop(done + 1, number, "ckpt_path=last")
        assert (
            f"goes on after {done} epochs" in stdout
        )  # and so many batches, where Ctrl-C came amid one
        epochs, batches = progress_of(checkpoint)
        said = f"stopped; the same command with ckpt_path=last goes on from epoch {epochs}"
        amid = f", after {batches} of its batches" if batches else ""
        assert (stderr.splitlines()[-1], "Traceback" in stderr) == (said + amid, False)
        assert not any(
            (folder / name).exists()
            for name in ("metrics.json", "explanations.parquet", "explanations")
        )
    monkeypatch.chdir(disturbed)
    assert main("train", *LONG, "ckpt_path=last")[0] == 0
    assert only(disturbed / "runs" / "vqa_color") == folder
    expected, got = tensors(undisturbed / "checkpoints" / "last.ckpt"), tensors(checkpoint)
    assert got.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(got[name], expected[name])] == []
    assert (folder / "metrics.csv").read_bytes() == (undisturbed / "metrics.csv").read_bytes()
    assert timeless(folder).equals(timeless(undisturbed))


def test_a_stage_that_is_killed_goes_on_and_is_never_used_by_halves(
    finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    undisturbed = Path(
        json.loads((finished[0] / "provenance.json").read_text())["checkpoints"]["vqa_model"][
            "path"
        ]
    )
    # Worker processes, as they are given their first indices early; that must make no difference.
    command = ["train", *CSV, "+requires.vqa_model.overrides=['data.num_workers=1']"]
    process = start(*command, cwd=tmp_path, cache=tmp_path)
    wait_until(
        process, lambda: any((tmp_path / "stages").glob("vqa_model-*/checkpoints/last.ckpt"))
    )
    process.kill()
    process.wait()
    stage = only(tmp_path / "stages")
    assert not (stage / "model.ckpt").exists()
    (stage / "model.ckpt.1.partial").write_bytes(
        undisturbed.read_bytes()[:1000]
    )  # as if killed while writing
    # Not in this process, whose threads, which other tests have started, a forked loader may wait
    # for in vain.
    stdout, _ = finish(start(*command, cwd=tmp_path, cache=tmp_path))
    assert any(re.match(r"goes on after \d+ epochs: ", line) for line in stdout.splitlines())
    assert stage.name == undisturbed.parent.name
    expected, got = (
        torch.load(path, weights_only=True) for path in (undisturbed, stage / "model.ckpt")
    )
    assert [name for name in expected if not torch.equal(got[name], expected[name])] == []


def test_more_training_makes_the_explanations_anew(
    finished: tuple[Path, list[str]], main: Main
) -> None:
    folder, _ = finished
    before = pd.read_parquet(folder / "explanations.parquet")
    again = [f"hydra.run.dir={folder}", "ckpt_path=last", "trainer.max_epochs=2"]
    assert main("train", *CSV, *again)[0] == 0
    after = pd.read_parquet(folder / "explanations.parquet")
    assert before.key.equals(after.key)
    assert not before.counterfactual_probability.equals(after.counterfactual_probability)
    assert main("train", *CSV, *again)[0] == 0  # nothing is left to train
    assert pd.read_parquet(folder / "explanations.parquet").equals(after)


def test_every_job_of_a_sweep_has_a_folder_and_a_wandb_run_of_its_own(
    tmp_path: Path, cache: Path
) -> None:
    finish(start("train", "-m", *COLOR, "explainer.l2_weight=0.1,0.2", cwd=tmp_path, cache=cache))
    sweep = only(tmp_path / "runs" / "vqa_color")
    for weight in (0.1, 0.2):
        job = f"explainer.l2_weight-{weight}"
        assert f"l2_weight: {weight}\n" in (sweep / job / "config.yaml").read_text()
        assert (sweep / job / "metrics.json").is_file()
        assert len(list((sweep / job / "wandb").glob("offline-run-*"))) == 1
