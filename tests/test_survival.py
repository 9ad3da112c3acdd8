"""Runs that are killed, stopped or starved of room, and end with what an undisturbed run leaves."""

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cfexp import explain, train
from cfexp.explainers.vqa_gan import VQACounterfactualGAN
from cfexp.run.configuration import progress_of
from cfexp.run.folder_lock import claimed
from tests.commands import VQA_SMOKE, InProcess, Main
from tests.survival import KINDS, Command, Moment, assert_same, random_moments
from tests.tiny_streets import DRIVING, write_networks

# Two epochs of three batches, and two to validate; then two batches of explanations.
VQA = [*VQA_SMOKE, "ckpt_path=last"]
VQA += ["trainer.max_epochs=2", "trainer.limit_train_batches=3", "data.eval_batch_size=8"]
# A stage whose learning rate has a schedule by step.
STAGE = [
    "+experiment=street_decision",
    "data.world.train_scenes=24",
    "data.world.val_scenes=4",
    "data.batch_size=4",
]
STAGE += ["data.holdout_images=4", "network.widths=[4,8]", "trainer.max_epochs=2"]
STAGE += ["num_threads=1", "logger=csv", "ckpt_path=last"]
SEARCH = [*DRIVING, "explainer.num_steps=3", "data.max_test_images=6"]


@pytest.fixture
def main(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.VERB ARGUMENTS` within this process; the verb is the first argument."""
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    return lambda verb, *arguments: in_process(
        {"train": train, "explain": explain}[verb].main, *arguments
    )


def search(tmp_path: Path, cache: Path, *more: str) -> Command:
    return Command("explain", [*SEARCH, *write_networks(tmp_path), *more], tmp_path, cache)


def test_a_search_survives(tmp_path: Path, cache: Path) -> None:
    moments = [Moment("write", 0.4), Moment("disk", 0.6), Moment("term", 0.3)]
    assert search(tmp_path, cache).survive(moments) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "seed"), [("search", 12, 0), ("vqa", 12, 1), ("stage", 6, 2)]
)
def test_thirty_random_moments(
    name: str, count: int, seed: int, tmp_path: Path, cache: Path
) -> None:
    workers = "data.num_workers=1"
    if name == "search":
        command = search(tmp_path, cache, workers)
    else:
        command = Command("train", [*(VQA if name == "vqa" else STAGE), workers], tmp_path, cache)
    runs = command.survive(random_moments(count, seed))
    print(
        f"{name}: {count} moments of {', '.join(KINDS)} in {runs} runs of {command.seconds:.1f} s"
    )


def test_sigterm_lets_a_training_go_on_with_the_very_next_batch(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = tmp_path / "undisturbed"
    code, _, stderr = main("train", *VQA, f"hydra.run.dir={undisturbed}")
    assert code == 0, stderr
    for step, expected in (("training_step", (1, 1)), ("validation_step", (1, 3))):
        folder, original = tmp_path / step, getattr(VQACounterfactualGAN, step)

        def stopped(self: Any, batch: Any, batch_idx: int, original: Any = original) -> Any:
            if (self.current_epoch, batch_idx) == (1, 0):
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, batch, batch_idx)

        with monkeypatch.context() as patched:
            patched.setattr(VQACounterfactualGAN, step, stopped)
            code, _, stderr = main("train", *VQA, f"hydra.run.dir={folder}")
        assert code == 128 + signal.SIGTERM
        where = f"goes on from epoch {expected[0]}, after {expected[1]} of its batches"
        assert stderr[-1] == f"stopped; the same command with ckpt_path=last {where}"
        assert progress_of(folder / "checkpoints" / "last.ckpt") == expected
        code, _, stderr = main("train", *VQA, f"hydra.run.dir={folder}")
        assert code == 0, stderr
        assert_same(folder, undisturbed)


# --- one run a folder


def held(folder: Path) -> subprocess.Popen[str]:
    """A process that has the folder, and a child that outlives it, as a data worker may."""
    code = f"""
import os, pathlib, time
from cfexp.run.folder_lock import claimed
with claimed(pathlib.Path({str(folder)!r})):
    if os.fork():
        print("held", flush=True)
    time.sleep(20)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_that_another_run_is_at_work_in_is_refused(main: Main, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = held(folder)
    try:
        for verb, command in (("explain", DRIVING), ("train", VQA)):
            code, _, stderr = main(verb, *command, f"hydra.run.dir={folder}")
            assert code == 2
            (line,) = [line for line in stderr if line.startswith("error: ")]
            assert line.startswith(f"error: {folder} is in use by process {process.pid} on ")
            assert line.endswith(": wait, or choose another hydra.run.dir")
        (folder / "config.yaml.1.partial").touch()
        process.kill()
        process.wait()
        with claimed(folder):  # at once, and what was half-written is gone
            assert not list(folder.glob("*.partial"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_file_system_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    with claimed(tmp_path):
        pass
    assert "cannot be locked (Operation not supported)" in caplog.text


def test_a_training_in_the_folder_of_another_config_is_refused(main: Main, tmp_path: Path) -> None:
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    assert main("train", *STAGE, folder, "trainer.max_epochs=1")[0] == 0
    for more in ("data.batch_size=8", "seed=3"):
        code, _, stderr = main("train", *STAGE, folder, more)
        (line,) = [line for line in stderr if line.startswith("error: ")]
        assert code == 2
        assert f"holds a run of another config: {more} instead of " in line
    assert main("train", *STAGE, folder, "data.num_workers=0", "trainer.max_epochs=1")[0] == 0


# --- a disk that is really full


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs a tmpfs, which root may mount")
    yield disk
    # Lazily: this process still has the log open.
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_said_in_one_line_and_the_run_goes_on(
    main: Main, tmp_path: Path, small_disk: Path
) -> None:
    command = [*SEARCH, *write_networks(tmp_path)]
    assert main("explain", *command, f"hydra.run.dir={tmp_path / 'undisturbed'}")[0] == 0
    folder, ballast = small_disk / "run", small_disk / "ballast"
    for left in (1, 3):  # times ten pages: the first few files, and some explanations
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(ballast, ballast.stat().st_size - left * 40_000)
        code, _, stderr = main("explain", *command, f"hydra.run.dir={folder}")
        said = [line for line in stderr if "No space left" in line]
        assert (code, len(said)) == (1, 1), stderr
        assert said[0].startswith("error: No space left on device")
        assert not any("Traceback" in line for line in stderr)
        ballast.unlink()
    assert main("explain", *command, f"hydra.run.dir={folder}")[0] == 0
    assert_same(folder, tmp_path / "undisturbed")
