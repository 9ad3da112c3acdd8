"""Sweeps by Optuna that go on by their storage."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from cfexp.errors import InputError
from cfexp.run import optuna_storage
from cfexp.run.optuna_storage import go_on_by_storage
from tests.tiny_streets import DRIVING, write_networks

optuna: Any = pytest.importorskip("optuna")
sqlalchemy: Any = pytest.importorskip("sqlalchemy")
needs_sqlalchemy = pytest.mark.skipif(
    not sqlalchemy.__version__.startswith("1."), reason="see constraints.txt"
)


def sweeper(storage: str) -> DictConfig:
    return OmegaConf.create(
        {"storage": storage, "study_name": None, "n_trials": 5, "sampler": {"seed": 3}}
    )


@needs_sqlalchemy
def test_trials_that_are_finished_count_and_one_that_was_stopped_is_next(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(storage=storage, study_name="mine")
    for value in (0.1, 0.2):
        trial = study.ask()
        study.tell(trial, trial.suggest_uniform("x", value, value + 0.01))
    stopped = study.ask().suggest_uniform("x", 0, 1)
    config = sweeper(storage)
    go_on_by_storage(config, "mine")
    assert (config.study_name, config.n_trials, config.sampler.seed) == ("mine", 3, 6)
    again = optuna.load_study("mine", storage)
    assert again.ask().suggest_uniform("x", 0, 1) == stopped
    other = sweeper(storage)
    go_on_by_storage(other, "another")  # which has no trial yet
    assert (other.n_trials, other.sampler.seed) == (5, 3)


@needs_sqlalchemy
def test_a_storage_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"hydra\.sweeper\.storage=nonsense://x: NoSuchModuleError: Can't load plugin",
    ):
        go_on_by_storage(sweeper("nonsense://x"), "mine")
    with pytest.raises(
        InputError, match=r"hydra\.sweeper\.storage=sqlite:///\S+: .*unable to open database file"
    ):
        go_on_by_storage(sweeper(f"sqlite:///{tmp_path}/no/s.db"), "mine")


def test_a_newer_sqlalchemy_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"optuna": "2.10.1", "SQLAlchemy": "2.0.1"}
    monkeypatch.setattr(optuna_storage, "version", versions.__getitem__)
    with pytest.raises(
        InputError,
        match=r"2\.10\.1 does not work with SQLAlchemy 2\.0\.1: pip install 'SQLAlchemy==1",
    ):
        go_on_by_storage(sweeper("sqlite:///s.db"), "mine")


@pytest.mark.slow
@needs_sqlalchemy
def test_a_sweep_that_was_killed_goes_on_and_does_no_trial_twice(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    command = [
        sys.executable,
        "-m",
        "cfexp.explain",
        "-m",
        *DRIVING,
        *write_networks(tmp_path),
        "logger=none",
    ]
    command += [
        "data.max_test_images=4",
        "explainer.num_steps=20",
        f"cache_dir={tmp_path}",
        "hydra.sweep.dir=all",
    ]
    command += [
        "hydra/sweeper=optuna",
        "hydra.sweeper.storage=sqlite:///s.db",
        "+objective={rms_change: 1}",
    ]
    command += [f"hydra.sweeper.{each}" for each in ("n_trials=4", "n_jobs=1", "sampler.seed=0")]
    command += ["explainer.learning_rate=interval(0.01,0.1)"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        # The second member is at work.
        while len(list((tmp_path / "all").glob("*/explanations/records-0.jsonl"))) < 1 or not list(
            (tmp_path / "all").glob("*/metrics.json")
        ):
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    begun = {
        path.parent: (path.parent / "metrics.json").exists()
        for path in (tmp_path / "all").glob("*/member.json")
    }
    assert sorted(begun.values()) == [False, True]
    written = {
        folder: (folder / "explanations.parquet").stat().st_mtime_ns
        for folder, done in begun.items()
        if done
    }
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "goes on after 1 trials: sqlite:///s.db" in again.stdout
    members = {path.parent for path in (tmp_path / "all").glob("*/metrics.json")}
    assert len(members) == 4
    assert begun.keys() <= members  # and the one that was stopped is among them
    assert {
        folder: (folder / "explanations.parquet").stat().st_mtime_ns for folder in written
    } == written
    assert "has finished before" not in again.stdout
    (name,) = [
        each.study_name for each in optuna.get_all_study_summaries(f"sqlite:///{tmp_path}/s.db")
    ]
    trials = optuna.load_study(name, f"sqlite:///{tmp_path}/s.db").trials
    states = [trial.state.name for trial in trials]
    assert (states.count("COMPLETE"), states.count("FAIL")) == (4, 1)
    rates = [
        trial.params["explainer.learning_rate"]
        for trial in trials
        if trial.state.name == "COMPLETE"
    ]
    assert len(set(rates)) == 4
