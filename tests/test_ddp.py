"""`trainer=ddp`: commands by two processes on this machine's CPUs, as a user starts them, on very
small worlds.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from cfexp import explain, train
from cfexp.evaluation.run_folder import RunFolder
from cfexp.run.configuration import progress_of
from tests.commands import VQA_SMOKE, InProcess, Main
from tests.evaluation.run_writer import timeless
from tests.tiny_streets import DRIVING

TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
PICTURES = ("query", "reconstruction", "counterfactual", "label_map", "truth_mask")
# seconds for what takes thirty of a quiet core: a hang is to fail, a busy machine is not
PATIENCE = 600


@contextlib.contextmanager
def started(
    verb: str, *arguments: str, cwd: Path, cache: Path, **more: str
) -> Iterator[subprocess.Popen[str]]:
    """A command, which does not outlive this, nor do the processes that it starts."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CFEXP", "WANDB", "HYDRA"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", f"cfexp.{verb}", *arguments],
        cwd=cwd,
        env={**kept, "CFEXP_CACHE": str(cache), "OMP_NUM_THREADS": "1", **more},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def said(process: subprocess.Popen[str], code: int = 0) -> list[str]:
    """The lines of a command that must come to its end."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    return output.splitlines()


def run(verb: str, *arguments: str, cwd: Path, cache: Path, code: int = 0) -> list[str]:
    with started(verb, *arguments, cwd=cwd, cache=cache) as process:
        return said(process, code)


@pytest.fixture
def alone(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.VERB ARGUMENTS` within this process; the verb is the first argument."""
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    return lambda verb, *arguments: in_process(
        {"explain": explain, "train": train}[verb].main, *arguments
    )


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def same_explanations(one: Path, other: Path, count: int) -> None:
    """To the last bit, each query once, and nothing left over."""
    assert RunFolder(one).keys() == RunFolder(other).keys() == set(range(count))
    assert timeless(one).equals(timeless(other))
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    for name in PICTURES:
        pictures = [sorted((folder / "explanations" / name).iterdir()) for folder in (one, other)]
        assert len(pictures[0]) == count
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*pictures, strict=True)), name
    assert {path.name for path in one.rglob("*") if path.is_file()} == {
        path.name for path in other.rglob("*") if path.is_file()
    }


def search(networks: list[str], count: int) -> list[str]:
    return [
        *DRIVING,
        *networks,
        "explainer.num_steps=2",
        f"data.max_test_images={count}",
        "name=search",
    ]


def test_two_processes_explain_what_one_explains(
    alone: Main, networks: list[str], tmp_path: Path, cache: Path
) -> None:
    """Five queries: the second process has one less. They find the folder of the command by
    themselves.
    """
    command = search(networks, 5)
    printed = run("explain", *command, *TWO, cwd=tmp_path, cache=cache)
    (folder,) = (tmp_path / "runs" / "search").iterdir()
    assert len([line for line in printed if "everything lies in" in line]) == 1
    code, stdout, stderr = alone("explain", *command, f"hydra.run.dir={tmp_path / 'alone'}")
    assert code == 0, stderr
    same_explanations(tmp_path / "alone", folder, 5)
    table = (folder / "explanations.parquet").read_bytes()
    code, stdout, stderr = alone(
        "explain", *command, f"hydra.run.dir='{folder}'"
    )  # goes on with another number of them
    assert code == 0, stderr
    assert any(line.startswith("goes on after 5 explanations: ") for line in stdout)
    assert (folder / "explanations.parquet").read_bytes() == table


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
def test_fewer_queries_than_processes_and_as_many_for_each(
    count: int, alone: Main, networks: list[str], tmp_path: Path, cache: Path
) -> None:
    command = search(networks, count)
    assert alone("explain", *command, f"hydra.run.dir={tmp_path / 'alone'}")[0] == 0
    run("explain", *command, *TWO, f"hydra.run.dir={tmp_path / 'two'}", cwd=tmp_path, cache=cache)
    same_explanations(tmp_path / "alone", tmp_path / "two", count)
    again = run(
        "explain", *command, *TWO, f"hydra.run.dir={tmp_path / 'two'}", cwd=tmp_path, cache=cache
    )
    assert (
        len([line for line in again if line.startswith(f"goes on after {count} explanations: ")])
        == 1
    )


@pytest.mark.slow
def test_two_nodes_explain_what_one_explains(
    alone: Main, networks: list[str], tmp_path: Path, cache: Path
) -> None:
    """The same command on each; they start at once, and the second folder is the first."""
    command = [*search(networks, 5), f"hydra.run.dir={tmp_path / 'two'}"]
    command += [
        "trainer=ddp",
        "trainer.devices=1",
        "trainer.num_nodes=2",
        "trainer.accelerator=cpu",
    ]
    with socket.create_server(("127.0.0.1", 0)) as free:
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    nodes = [
        partial(started, "explain", *command, cwd=tmp_path, cache=cache, **meeting, NODE_RANK=k)
        for k in "01"
    ]
    with nodes[0]() as first, nodes[1]() as second:
        assert sum("everything lies in" in line for line in [*said(first), *said(second)]) == 1
    assert alone("explain", *search(networks, 5), f"hydra.run.dir={tmp_path / 'alone'}")[0] == 0
    same_explanations(tmp_path / "alone", tmp_path / "two", 5)


@pytest.mark.slow
def test_what_one_process_meets_ends_both(networks: list[str], tmp_path: Path, cache: Path) -> None:
    """An image that cannot be read, in the second one's share."""
    command = search(networks, 5)
    run("explain", *command, "explainer.num_steps=0", "name=draw", cwd=tmp_path, cache=cache)
    (image,) = cache.rglob("00000001-00000003.jpg")
    content = image.read_bytes()
    image.write_bytes(b"torn")
    try:
        with started("explain", *command, *TWO, cwd=tmp_path, cache=cache) as process:
            output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode != 0
        assert any(re.match("error: .*00000001-00000003.jpg", line) for line in output.splitlines())
    finally:
        image.write_bytes(content)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_run_goes_on(
    alone: Main, networks: list[str], tmp_path: Path, cache: Path
) -> None:
    command = [*search(networks, 6), "explainer.num_steps=40"]
    with started(
        "explain", *command, *TWO, "hydra.run.dir=two", cwd=tmp_path, cache=cache
    ) as process:
        while not list((tmp_path / "two").glob("explanations/counterfactual/*.png")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (second,) = (
            child for child in children if b"cfexp" in Path(f"/proc/{child}/cmdline").read_bytes()
        )
        os.kill(int(second), signal.SIGKILL)
        output, _ = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in output
    if process.returncode == 1:  # at the end it waited for the other
        assert (
            output.splitlines()[-1]
            == "error: another process of this run has ended; then the same command goes on"
        )
    else:  # Lightning looks every five seconds, and kills all that are left
        assert process.returncode == -signal.SIGKILL
        assert f"Child process with PID {second} terminated with code -9" in output
    assert len(RunFolder(tmp_path / "two").keys()) < 6
    run("explain", *command, *TWO, "hydra.run.dir=two", cwd=tmp_path, cache=cache)
    assert alone("explain", *command, f"hydra.run.dir={tmp_path / 'alone'}")[0] == 0
    same_explanations(tmp_path / "alone", tmp_path / "two", 6)


@pytest.mark.slow
def test_the_vqa_gan_is_trained_by_two_processes(tmp_path: Path, cache: Path) -> None:
    """Two epochs, so that after the warm-up of the first the discriminator is trained, too; its
    stage is trained first, by one.
    """
    two_epochs = ["trainer.max_epochs=2", "explainer.warmup_epochs=1"]
    printed = run("train", *VQA_SMOKE, *TWO, *two_epochs, cwd=tmp_path, cache=cache)
    assert len([line for line in printed if "is trained first" in line]) == 1
    folder = only(tmp_path / "runs" / "vqa_color")
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    steps = [
        {int(state["step"]) for state in each["state"].values()}
        for each in checkpoint["optimizer_states"]
    ]
    assert steps == [{2}, {1}]  # of an epoch 59 questions each are one batch
    keys = timeless(folder)["key"].to_pylist()
    assert (
        len(set(keys))
        == len(keys)
        == len(list((folder / "explanations" / "counterfactual").iterdir()))
        > 10
    )
    assert list((folder / "explanations").glob("records-*")) == []
    again = ["ckpt_path=last", "trainer.max_epochs=3", "explainer.warmup_epochs=1"]
    assert "goes on after 2 epochs" in "\n".join(
        run("train", *VQA_SMOKE, *TWO, *again, cwd=tmp_path, cache=cache)
    )
    assert (
        progress_of(only(tmp_path / "runs" / "vqa_color") / "checkpoints" / "last.ckpt").epochs == 3
    )


@pytest.mark.slow
def test_a_step_of_sean_by_two_processes_is_that_of_one_on_the_whole_batch(
    alone: Main, networks: list[str], tmp_path: Path, cache: Path
) -> None:
    """Both optimizers, with statistics over the batches of both processes; by SGD, which rounding
    moves little.
    """
    (features,) = (
        each.removeprefix("checkpoints.decision=") for each in networks if "decision" in each
    )
    command = [
        "+experiment=street_autoencoder",
        "data.world.train_scenes=12",
        "data.world.val_scenes=3",
        "seed=1",
    ]
    command += ["data.holdout_images=2", "data.eval_batch_size=2", "num_threads=1", "logger=csv"]
    command += ["network.base_channels=4", "network.style_dim=8"]
    command += ["+requires.features.overrides=['network.widths=[4,8]']"]
    command += [f"checkpoints.features={features}", "module.perceptual_layers=[1,1]"]
    command += [
        "module.warmup=0",
        "module.cooldown=0",
        "+trainer.limit_train_batches=1",
        "trainer.max_epochs=1",
    ]
    discriminator = (
        "{_target_:cfexp.models.discriminators.MultiscaleDiscriminator,num_regions:20,channels:4}"
    )
    sgd = "{_target_:torch.optim.SGD,_partial_:true,lr:0.1}"
    command += [f"module.discriminator={discriminator}", f"module.discriminator_optimizer={sgd}"]
    command += ["~module.generator_optimizer", f"+module.generator_optimizer={sgd}"]
    states = {}
    for name, more in (("alone", ["data.batch_size=4"]), ("two", ["data.batch_size=2", *TWO])):
        run("train", *command, *more, f"hydra.run.dir={name}", cwd=tmp_path, cache=cache)
        assert (tmp_path / name / "metrics.json").is_file()
        states[name] = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)[
            "state_dict"
        ]
    assert states["alone"].keys() == states["two"].keys()
    for name, expected in states["alone"].items():
        if name.endswith(
            "noise_scale"
        ):  # 0 in this step, but its gradient is by noise that each process draws itself
            continue
        torch.testing.assert_close(states["two"][name], expected, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_of_two_runs_that_need_a_stage_one_trains_it(killed: bool, tmp_path: Path) -> None:
    """The other waits, in one line; where the first is killed, it goes on with the stage."""
    cache, stages = tmp_path / "cache", tmp_path / "cache" / "stages"
    with started("train", *VQA_SMOKE, "hydra.run.dir=first", cwd=tmp_path, cache=cache) as first:
        while not list(stages.glob("*/checkpoints/last.ckpt")):
            assert first.poll() is None, first.communicate()
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)
        assert not list(stages.glob("*/model.ckpt"))
        with started(
            "train", *VQA_SMOKE, "hydra.run.dir=second", cwd=tmp_path, cache=cache
        ) as second:
            log = tmp_path / "second" / "log.txt"
            while not (log.is_file() and "waits for process" in log.read_text()):
                assert second.poll() is None, second.communicate()
                time.sleep(0.01)
            first.send_signal(signal.SIGKILL if killed else signal.SIGCONT)
            lines = said(second)
        assert killed or any("is trained first" in line for line in said(first))
    waits = [line for line in lines if line.startswith("waits for process ")]
    assert len(waits) == 1
    assert any("is trained first" in line for line in lines) == killed
    assert any(line.startswith("goes on after ") for line in lines) == killed
    assert (only(stages) / "model.ckpt").is_file()
    assert (tmp_path / "second" / "metrics.json").is_file()
