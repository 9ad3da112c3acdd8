"""Progressive Exaggeration by every door, on very few streets, with an untrained decision model."""

import json
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from cfexp import explain, load_explainer, train
from cfexp.evaluation.run_folder import RunFolder
from tests.commands import InProcess, Main
from tests.evaluation.run_writer import timeless
from tests.forked import Forked
from tests.tiny_streets import SMALL

TINY = [
    *("+experiment=pe_driving", *SMALL, "num_threads=1", "data.batch_size=2"),
    *("data.holdout_images=1", "trainer.max_epochs=1", "data.max_test_images=6"),
    *("explainer.generator.widths=[4,8]", "explainer.discriminator.widths=[4,8]"),
    *("explainer.critic_steps=1", "+requires.decision.overrides=['network.widths=[4,8]']"),
]


@pytest.fixture(scope="module")
def given(networks: list[str]) -> list[str]:
    return [*TINY, *(each for each in networks if each.startswith("checkpoints.decision="))]


@pytest.fixture
def main(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.explain ARGUMENTS` within this process."""
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    return partial(in_process, explain.main)


def pictures(folder: Path) -> dict[str, bytes]:
    found = folder / "explanations"
    return {str(path.relative_to(found)): path.read_bytes() for path in found.rglob("*.png")}


def test_it_is_trained_once_however_it_is_used_and_goes_on_when_killed(
    main: Main, in_process: InProcess, given: list[str], cache: Path, tmp_path: Path
) -> None:
    code, stdout, stderr = main(*given, f"hydra.run.dir={tmp_path / 'whole'}")
    assert code == 0, stderr
    assert any(line.startswith("stage explainer is trained first (once): ") for line in stdout)
    run = RunFolder(tmp_path / "whole")
    assert len(run.records()) == 6
    assert run.picture("candidate_10", 0).is_file()
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())["groups"]["all"]
    assert {"success_kept", "bin_correlation", "answer_at_bin_9"} <= metrics.keys()

    killed = tmp_path / "killed"
    there = f"hydra.run.dir={killed}"
    process = Forked("explain", *given, there, cwd=tmp_path, cache=cache)
    lines = killed / "explanations" / "records-0.jsonl"
    while not (lines.is_file() and lines.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, stdout, stderr = main(*given, f"hydra.run.dir={killed}")
    assert code == 0, stderr
    assert any(line.startswith("goes on after ") for line in stdout)
    assert pictures(killed) == pictures(tmp_path / "whole")
    assert timeless(killed).equals(timeless(tmp_path / "whole"))

    first = tmp_path / "first"
    code, stdout, stderr = main(*given, "explainer.choose=first", f"hydra.run.dir={first}")
    assert code == 0, stderr
    assert not any("is trained first" in line for line in stdout)

    code, _, stderr = in_process(
        train.main, *given, "logger=csv", f"hydra.run.dir={tmp_path / 'trained'}"
    )
    assert code == 0, stderr
    assert pictures(tmp_path / "trained") == pictures(tmp_path / "whole")
    last = torch.load(tmp_path / "trained" / "checkpoints" / "last.ckpt", weights_only=True)
    kinds = {name.partition(".")[0] for name in last["state_dict"]}
    assert kinds == {"generator", "discriminator"}

    Image.new("RGB", (200, 100), "gray").save(tmp_path / "own.png")
    code, stdout, stderr = main(
        *given,
        f"image={tmp_path / 'own.png'}",
        f"checkpoints.explainer={tmp_path / 'trained'}",
        f"hydra.run.dir={tmp_path / 'own'}",
    )
    assert code == 0, stderr
    (record,) = RunFolder(tmp_path / "own").records()
    assert len(record["candidate_probability"]) == 10


def test_the_library_takes_it(
    given: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    explainer = load_explainer("pe_driving", given[1:])
    found = explainer.explain(torch.full((3, 64, 128), -0.1))
    assert found.extras["candidates"].shape == (1, 10, 3, 64, 128)
