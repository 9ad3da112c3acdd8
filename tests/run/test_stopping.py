"""Trainings that end amid an epoch, whatever ends them, and go on with the very next batch."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfexp import train
from cfexp.explainers.vqa_gan import VQACounterfactualGAN
from cfexp.run.configuration import progress_of
from cfexp.training.classifier import ClassifierStage
from tests.commands import InProcess
from tests.survival import assert_same

COMMON = [
    "num_threads=1",
    "logger=none",
    "callbacks.progress=null",
    "ckpt_path=last",
    "trainer.max_epochs=2",
]
# Two epochs of three and of four batches each; of the stage with a rate by step and gradients of
# two batches a step.
TRAININGS = {
    "vqa": [
        "+experiment=vqa_color",
        "+overlay=smoke",
        "data.image_size=32",
        "trainer.limit_train_batches=3",
        "explainer.warmup_epochs=1",
    ],
    "stage": [
        *(
            "+experiment=street_decision",
            "data.world.train_scenes=20",
            "data.world.val_scenes=4",
            "data.batch_size=4",
        ),
        *("data.holdout_images=4", "network.widths=[4,8]", "+trainer.accumulate_grad_batches=2"),
        "+trainer.gradient_clip_val=1.0",
    ],
}
Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of undisturbed runs, by the training's name, as far as they were made."""
    return {"": tmp_path_factory.mktemp("undisturbed")}


@pytest.fixture
def run(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))

    def train_in(name: str, folder: Path, *more: str) -> tuple[int, list[str]]:
        code, stdout, stderr = in_process(
            train.main, *TRAININGS[name], *COMMON, *more, f"hydra.run.dir={folder}"
        )
        return code, stdout + stderr

    return train_in


@pytest.fixture
def undisturbed(run: Run, made: dict[str, Path]) -> Callable[[str], Path]:
    def of(name: str) -> Path:
        if name not in made:
            code, said = run(name, made[""] / name)
            assert code == 0, said
            made[name] = made[""] / name
        return made[name]

    return of


def ends_at(module: type, monkeypatch: pytest.MonkeyPatch, end: Callable[[], None]) -> None:
    """Call `end` in the second epoch's second batch."""
    original = module.training_step  # type: ignore[attr-defined]

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        if (self.current_epoch, batch_idx) == (1, 1):
            end()
        return original(self, batch, batch_idx)

    monkeypatch.setattr(module, "training_step", step)


# The GAN takes one step a batch in its first epoch, and two in each after that; the stage one in
# two batches.
@pytest.mark.parametrize(
    ("name", "limit", "behind"),
    [
        ("vqa", "+trainer.max_steps=5", (1, 1)),
        ("vqa", "+trainer.max_steps=2", (0, 2)),
        ("stage", "+trainer.max_steps=3", (1, 2)),
    ],
)
def test_a_training_that_max_steps_ends_goes_on_with_the_next_batch(
    name: str, limit: str, behind: tuple[int, int], run: Run, undisturbed: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    code, said = run(name, folder, limit)
    assert code == 0, said
    assert progress_of(folder / "checkpoints/last.ckpt") == behind
    code, said = run(name, folder)
    assert code == 0, said
    assert_same(folder, undisturbed(name))


def test_a_training_that_max_time_ends_goes_on_with_the_next_batch(
    run: Run, undisturbed: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    # No batch is done by then: the first that is ends it, and is followed by a validation, which
    # draws numbers, too.
    code, said = run("vqa", folder, "+trainer.max_time={seconds: 0.001}")
    assert code == 0, said
    assert progress_of(folder / "checkpoints/last.ckpt") == (0, 1)
    code, said = run("vqa", folder)
    assert code == 0, said
    assert_same(folder, undisturbed("vqa"))


@pytest.mark.parametrize("name", ["vqa", "stage"])
def test_ctrl_c_ends_a_training_after_its_batch(
    name: str, run: Run, undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, module = tmp_path / "run", {"vqa": VQACounterfactualGAN, "stage": ClassifierStage}[name]
    before = signal.getsignal(
        signal.SIGINT
    )  # a shell that starts a job in the background has it ignored
    with monkeypatch.context() as patched:
        ends_at(module, patched, lambda: os.kill(os.getpid(), signal.SIGINT))
        code, said = run(name, folder)
    assert code == 130
    place = "epoch 1, after 2 of its batches"
    assert said[-1] == f"stopped; the same command with ckpt_path=last goes on from {place}"
    assert signal.getsignal(signal.SIGINT) is before
    code, said = run(name, folder)
    assert code == 0, said
    assert_same(folder, undisturbed(name))


def test_ctrl_c_pressed_twice_ends_it_at_once(
    run: Run, undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        ends_at(ClassifierStage, patched, twice)
        code, _ = run("stage", folder)
    assert code == 130
    assert progress_of(folder / "checkpoints/last.ckpt") == (1, 0)  # amid a batch nothing is whole
    assert run("stage", folder)[0] == 0
    assert_same(folder, undisturbed("stage"))


def test_an_error_between_two_batches_leaves_what_is_whole(
    run: Run, undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

    original = _TrainingEpochLoop._save_loggers_on_train_batch_end

    def fails(self: Any) -> None:
        if (self.trainer.current_epoch, self.batch_idx) == (1, 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(self)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(_TrainingEpochLoop, "_save_loggers_on_train_batch_end", fails)
        code, said = run("stage", folder)
    assert code == 1
    assert said[-1].startswith(
        "error: No space left on device: make room; then the same command with ckpt_path=last"
    )
    assert progress_of(folder / "checkpoints/last.ckpt") == (1, 1)
    assert run("stage", folder)[0] == 0
    assert_same(folder, undisturbed("stage"))
