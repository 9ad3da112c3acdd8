"""Sweeps as a user runs them: here, by launchers, by Optuna, with members that fail, again, and
with more values.
"""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cfexp import explain, sweep, train
from cfexp.evaluation.run_folder import RunFolder
from tests.commands import InProcess, Main
from tests.tiny_streets import DRIVING, write_networks

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One query of untrained networks, which is decoded and not searched."""
    networks = write_networks(tmp_path_factory.mktemp("networks"))
    cache = f"cache_dir={tmp_path_factory.mktemp('cache')}"
    return [
        "-m",
        *DRIVING,
        *networks,
        cache,
        *("data.max_test_images=1", "explainer.num_steps=0", "logger=none"),
    ]


@pytest.fixture
def main(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.explain ARGUMENTS` within this process."""
    monkeypatch.setenv("COLUMNS", "200")
    return partial(in_process, explain.main)


def only_sweep(folder: Path) -> Path:
    (found,) = (folder / "runs" / "steex_driving").iterdir()
    return found


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return {row["member"]: row for row in csv.DictReader(file)}


def states(folder: Path) -> dict[str, str]:
    return {name: row["state"] for name, row in rows(folder).items()}


def errors(stderr: list[str]) -> list[str]:
    return [line for line in stderr if line.startswith("error: ")]


def test_a_failed_member_is_reported_and_the_rest_go_on_and_are_not_run_twice(
    main: Main, few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, stdout, stderr = main(*few, "explainer.counter_class=left,go")
    assert code == 1
    message = "counter_class='left' is none of the classes ['stop', 'go']"
    failed, summary = errors(stderr)
    assert failed.startswith(f"error: counter_class-left: {message}")
    assert summary == "error: 1 of 2 members did not finish; the same command runs what is missing"
    assert not any("Traceback" in line for line in stderr)
    folder = only_sweep(tmp_path)
    assert folder.name.startswith("sweep_counter_class--")
    go, left = "counter_class-go", "counter_class-left"
    assert states(folder) == {go: "finished", left: "failed"}
    assert rows(folder)[go]["counter_class"] == "go"
    assert float(rows(folder)[go]["code_distance"]) == 0
    (shown,) = [line for line in stdout if line.startswith(f"failed: {left}: ")]
    assert message in shown
    assert any(re.match(r"\s*left\s+failed", line) for line in stdout)
    with Image.open(folder / "sweep.png") as plot:
        assert plot.width > 400
    made = (folder / go / "explanations.parquet").stat().st_mtime_ns
    code, stdout, stderr = main(*few, "explainer.counter_class=stop,left,go")
    assert (code, len(errors(stderr))) == (1, 2)
    assert any(line.startswith("has finished before: ") and line.endswith(go) for line in stdout)
    assert (folder / go / "explanations.parquet").stat().st_mtime_ns == made
    stop = "counter_class-stop"
    assert states(folder) == {go: "finished", left: "failed", stop: "finished"}
    assert main(*few, "explainer.counter_class=stop,go")[0] == 0  # of which nothing has to be run
    assert states(folder) == {go: "finished", stop: "finished"}

    def gives_up(*arguments: Any, **settings: Any) -> None:
        raise RuntimeError("a job was killed")

    monkeypatch.setattr("hydra.plugins.sweeper.Sweeper.validate_batch_is_legal", gives_up)
    code, stdout, _ = main(*few, "explainer.counter_class=stop,go")
    assert code == 1
    assert any(line.startswith("steex_driving: 2 members") for line in stdout)


def test_a_fault_of_ours_keeps_its_traceback_and_the_rest_go_on(
    main: Main, few: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("cfexp.evaluate.score_and_show", fail)
    code, _, stderr = main(*few, "explainer.proximity_weight=1,2", "hydra.sweep.dir=mine")
    assert code == 1
    assert sum(line.startswith("Traceback") for line in stderr) == 2
    assert states(tmp_path / "mine") == {
        f"explainer.proximity_weight-{weight}": "failed" for weight in (1, 2)
    }
    notes = [json.loads(path.read_text()) for path in (tmp_path / "mine").glob("*/member.json")]
    assert [note["error"] for note in notes] == ["RuntimeError: out of memory"] * 2


def test_the_papers_sweep_in_other_processes_by_joblib(
    main: Main, few: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    command = [
        *few[1:],
        "+sweep=proximity_weight",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=1",
    ]  # -m is in it
    code, stdout, stderr = main(*command)
    assert code == 0, stderr
    weights = ["0", "0.03", "0.1", "0.3", "1", "3"]
    found = rows(only_sweep(tmp_path))
    assert [row["explainer.proximity_weight"] for row in found.values()] == weights
    assert {row["state"] for row in found.values()} == {"finished"}
    (title,) = [
        number for number, line in enumerate(stdout) if line.startswith("steex_driving: 6 members")
    ]
    table = stdout[title:]
    assert [line.split()[0] for line in table if re.match(r" [\d.]+ +1 ", line)] == weights
    assert not any("identity" in line for line in table)  # it is not measured
    assert (only_sweep(tmp_path) / "sweep.png").is_file()


def test_submitit(main: Main, few: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    code, _, stderr = main(*few, "hydra/launcher=submitit_local")
    assert code == 0, stderr
    assert states(only_sweep(tmp_path)) == {"only": "finished"}  # as nothing is swept


def test_optuna_is_told_the_objective(main: Main, few: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    trials = [f"hydra.sweeper.{each}" for each in ("n_trials=2", "n_jobs=1", "sampler.seed=0")]
    command = [
        *few,
        "hydra/sweeper=optuna",
        *trials,
        "explainer.learning_rate=interval(0.01,0.1)",
        "hydra.sweep.dir=found",
    ]
    code, _, stderr = main(*command)
    assert (code, len(errors(stderr))) == (2, 1)
    assert "Optuna needs what to optimise: '+objective={METRIC: WEIGHT}'" in errors(stderr)[0]
    code, stdout, stderr = main(*command, "+objective={rms_change: 2, ssim: -1}")
    assert code == 0, stderr
    for row in rows(tmp_path / "found").values():
        expected = 2 * float(row["rms_change"]) - float(row["ssim"])
        assert float(row["objective"]) == pytest.approx(expected, rel=1e-4)
        assert 0.01 <= float(row["explainer.learning_rate"]) <= 0.1
    best = (tmp_path / "found" / "optimization_results.yaml").read_text()
    assert re.search(rf"best_value: {row['objective']}\b", best)  # without a search all are equal
    code, stdout, _ = main(
        *command, "+objective={rms_change: 2, ssim: -1}"
    )  # a seed's trials are the same
    assert (code, sum(line.startswith("has finished before: ") for line in stdout)) == (0, 2)
    code, _, stderr = main(*command, "+objective={ssmi: 1}")
    assert code == 1
    assert "objective: no 'ssmi' in " in errors(stderr)[0]
    assert set(states(tmp_path / "found").values()) == {"failed"}


def test_a_mistyped_setting_is_said_before_any_member_runs(
    main: Main, few: list[str], tmp_path: Path
) -> None:
    code, _, stderr = main(*few, "explainer.proximity_wait=1,2")
    assert code == 2
    assert "is explainer.proximity_weight meant?" in "\n".join(stderr)
    assert not any("Traceback" in line for line in stderr)
    assert list(only_sweep(tmp_path).iterdir()) == [only_sweep(tmp_path) / "multirun.yaml"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("hydra/launcher=joblib", "launcher=joblib is not installed: pip install 'cfexp[sweeps]'"),
        (
            "hydra/launcher=submitit_slurm",
            "launcher=submitit_slurm is not installed: pip install 'cfexp[sweeps]'",
        ),
        ("hydra/launcher=ray", "launcher=ray is not installed: pip install 'cfexp[ray]'"),
        ("+sweep=vqa_loss_weights", "sweeper=optuna is not installed: pip install 'cfexp[sweeps]'"),
        ("+sweep=proximity_weight", None),
    ],
)
@pytest.mark.parametrize("command", [explain, train])
def test_a_launcher_that_is_not_installed_is_one_line(
    in_process: InProcess,
    command: Any,
    argument: str,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "find_spec", lambda name: name if name == "hydra" else None)
    if said is None:
        sweep.refuse_missing_plugins([argument])
        return
    code, _, stderr = in_process(command.main, "-m", argument)
    assert code == 2
    (line,) = stderr
    assert line.startswith(f"error: hydra/{said}")


def test_the_table_can_be_made_again(in_process: InProcess, tmp_path: Path) -> None:
    code, _, stderr = in_process(sweep.main, "nowhere")
    assert (code, stderr) == (2, ["error: no sweep in nowhere: expected nowhere/*/member.json"])
    (tmp_path / "single" / "explanations").mkdir(parents=True)
    for folder in ("single", "."):
        code, _, stderr = in_process(sweep.main, folder)
        assert (code, stderr[0].partition("; ")[2]) == (
            2,
            "runs of their own are set side by side by python -m cfexp.evaluate run=[A,B]",
        )
    member = tmp_path / "all" / "a=1"
    member.mkdir(parents=True)
    (member / "member.json").write_text(
        '{"parameters": {"a": "1"}, "objective": null, "error": null}'
    )
    code, stdout, stderr = in_process(sweep.main, "all")
    assert code == 1
    assert "not finished: a=1" in stdout
    (member / "metrics.json").write_text('{"test/accuracy": 0.5}')
    code, stdout, _ = in_process(sweep.main, "all")
    assert code == 0
    assert any(line.split() == ["1", "0.500"] for line in stdout)
    (member / "member.json").write_text("{")
    code, _, stderr = in_process(sweep.main, "all")
    assert code == 2
    assert "member.json: cannot be read" in stderr[0]


def test_a_sweep_is_of_one_experiment(in_process: InProcess) -> None:
    command = ["-m", "+experiment=own_pgd,own_nearest", "data.root=/x"]
    code, _, stderr = in_process(explain.main, *command)
    assert (code, len(stderr)) == (2, 1)
    assert (
        "own_nearest: a sweep is of one experiment; -m +experiment=ONE +explainer=A,B" in stderr[0]
    )


def test_an_overlay_begins_with_its_command() -> None:
    for path in (CONF / "sweep").glob("*.yaml"):
        package, command, description = path.read_text(encoding="utf-8").splitlines()[:3]
        assert package == "# @package _global_"
        assert re.match(rf"# python -m cfexp\.(explain|train) -m .*\+sweep={path.stem}$", command)
        assert description.startswith("# ")


@pytest.mark.slow
def test_members_of_several_processes_each_run_alone(
    main: Main, few: list[str], tmp_path: Path
) -> None:
    """Their processes repeat a member's command, not the sweep's; that one's fails is its own
    affair.
    """
    pair = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
    more = ["data.max_test_images=3", "explainer.counter_class=left,go,stop"]
    code, _, stderr = main(*(each for each in few if "max_test_images" not in each), *pair, *more)
    folder = only_sweep(tmp_path)
    assert code == 1
    assert list(states(folder).values()) == ["finished", "failed", "finished"], stderr
    assert (
        "counter_class='left' is none of"
        in json.loads((folder / "sweep.json").read_text())[1]["error"]
    )
    for name in ("go", "stop"):
        assert RunFolder(folder / f"counter_class-{name}").keys() == {0, 1, 2}
    assert len(list((tmp_path / "runs" / "steex_driving").iterdir())) == 1


@pytest.mark.slow
def test_a_sweep_that_is_stopped_says_how_to_go_on(few: list[str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cfexp.explain",
        *few,
        "explainer.proximity_weight=1,2",
        "hydra.sweep.dir=mine",
    ]
    command += ["explainer.num_steps=10000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "mine" / "explainer.proximity_weight-1" / "provenance.json").is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "stopped; the same command goes on"
    assert not (tmp_path / "mine" / "explainer.proximity_weight-2").exists()


@pytest.mark.slow
def test_faces_are_judged_by_who_they_are(main: Main, tmp_path: Path) -> None:
    """With the shipped networks: the dearer the distance, the nearer the codes and the more the
    same person.
    """
    small = [
        "data.max_test_images=2",
        "data.eval_batch_size=2",
        "num_threads=1",
        "explainer.num_steps=10",
    ]
    weights = "explainer.proximity_weight=0,3"
    code, stdout, stderr = main(
        "-m", "+experiment=steex_smile", "+sweep=proximity_weight", weights, *small
    )
    assert code == 0, stderr
    (folder,) = (tmp_path / "runs" / "steex_smile").iterdir()
    none, dear = rows(folder).values()
    assert float(none["code_distance"]) > float(dear["code_distance"])
    assert float(none["identity_similarity"]) < float(dear["identity_similarity"])
    assert float(none["identity_similarity_reconstruction"]) == pytest.approx(
        float(dear["identity_similarity_reconstruction"])
    )
    assert any("identity" in line for line in stdout[-20:])


@pytest.mark.slow
def test_loss_weights_of_the_vqa_gan_by_optuna(in_process: InProcess, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    small = [
        "+overlay=smoke",
        "data.image_size=32",
        "num_threads=1",
        "logger=none",
        f"cache_dir={tmp_path}",
    ]
    command = [
        "-m",
        "+experiment=vqa_color",
        "+sweep=vqa_loss_weights",
        *small,
        "hydra.sweeper.n_trials=2",
    ]
    code, stdout, stderr = in_process(train.main, *command)
    assert code == 0, stderr
    (folder,) = (tmp_path / "runs" / "vqa_color").iterdir()
    assert all(float(row["objective"]) for row in rows(folder).values())
    assert len({row["explainer.l2_weight"] for row in rows(folder).values()}) == 2
    code, stdout, _ = in_process(train.main, *command)
    assert (code, sum(line.startswith("has finished before: ") for line in stdout)) == (0, 2)


@pytest.mark.slow
def test_ray(main: Main, few: list[str], tmp_path: Path) -> None:
    """On a cluster of this machine alone."""
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    code, _, stderr = main(*few, "hydra/launcher=ray", "explainer.counter_class=left,go")
    assert code == 1
    assert list(states(only_sweep(tmp_path)).values()) == ["finished", "failed"], stderr
