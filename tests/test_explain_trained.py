"""`python -m cfexp.explain` of an explainer that is trained, from end to end on very few scenes."""

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from cfexp import explain, train
from cfexp.evaluation.run_folder import RunFolder
from cfexp.models.loading.pretrained import file_hash
from cfexp.run.configuration import register_resolvers
from cfexp.run.explainer_stage import require_explainer, trained_against_others
from cfexp.run.stage_names import compose_stage
from tests.commands import InProcess, Main
from tests.evaluation.run_writer import timeless
from tests.forked import Forked
from tests.test_explain import environment

SMALL = ["+overlay=smoke", "data.image_size=32", "num_threads=1"]
# One query a batch: only then does a run that was killed repeat an undisturbed one to the last bit.
COLOR = [
    "+experiment=vqa_color",
    *SMALL,
    "data.eval_batch_size=1",
    "trainer.limit_predict_batches=1.0",
]
PICTURES = ("query", "reconstruction", "counterfactual", "truth_mask")


@pytest.fixture
def main(in_process: InProcess, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.explain ARGUMENTS` within this process."""
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    return partial(in_process, explain.main)


def pictures(folder: Path) -> dict[str, bytes]:
    found = folder / "explanations"
    return {
        f"{name}/{path.name}": path.read_bytes()
        for name in PICTURES
        for path in (found / name).glob("*")
    }


def errors(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("error: ")]


def test_it_is_trained_as_cfexp_train_does_and_explains_the_same_pixels(
    main: Main, in_process: InProcess, cache: Path, tmp_path: Path
) -> None:
    more = ["data.max_test_questions=10"]
    code, stdout, stderr = main(*COLOR, *more, "hydra.run.dir=stage")
    assert code == 0, stderr
    assert any(line.startswith("stage explainer is trained first (once): ") for line in stdout)
    code, _, stderr = in_process(train.main, *COLOR, *more, "logger=csv", "hydra.run.dir=trained")
    assert code == 0, stderr
    provenance = json.loads((tmp_path / "stage" / "provenance.json").read_text())
    stage = Path(provenance["checkpoints"]["explainer"]["path"])
    assert stage.parents[1] == cache / "stages"
    weights = torch.load(stage, weights_only=True)
    last = tmp_path / "trained" / "checkpoints" / "last.ckpt"
    expected = torch.load(last, weights_only=True)["state_dict"]
    assert weights.keys() == expected.keys()
    assert {name.partition(".")[0] for name in weights} == {"generator", "discriminator"}
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    made = pictures(tmp_path / "trained")
    assert len(made) >= 4 * 10
    assert pictures(tmp_path / "stage") == made
    for number, place in enumerate((last, tmp_path / "trained", stage)):
        folder = tmp_path / f"given_{number}"
        code, stdout, stderr = main(
            *COLOR, *more, f"checkpoints.explainer={place}", f"hydra.run.dir={folder}"
        )
        assert code == 0, stderr
        assert not any("is trained first" in line for line in stdout)
        assert not any("trained against another" in line for line in stdout)
        assert pictures(folder) == made
    scores = [
        (tmp_path / name / "metrics.csv").read_bytes() for name in ("stage", "trained", "given_0")
    ]
    assert scores[0] == scores[1] == scores[2]


def test_what_is_killed_goes_on_with_the_same_command(
    main: Main, cache: Path, tmp_path: Path
) -> None:
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    assert main(*COLOR, f"hydra.run.dir={undisturbed}")[0] == 0
    there = f"hydra.run.dir={disturbed}"
    process = Forked("explain", *COLOR, there, cwd=tmp_path, cache=cache)
    lines = disturbed / "explanations" / "records-0.jsonl"
    while not (lines.is_file() and lines.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = RunFolder(disturbed).keys()
    assert 2 <= len(done) < len(RunFolder(undisturbed).keys())
    code, stdout, stderr = main(*COLOR, f"hydra.run.dir={disturbed}")
    assert code == 0, stderr
    assert any(line.startswith(f"goes on after {len(done)} explanations: ") for line in stdout)
    assert pictures(disturbed) == pictures(undisturbed)
    assert timeless(disturbed).equals(timeless(undisturbed))
    assert (disturbed / "metrics.csv").read_bytes() == (undisturbed / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    ("more", "same"),
    [
        (
            [
                "data.max_test_questions=3",
                "trainer.limit_predict_batches=1",
                "evaluate=['era=2016']",
            ],
            True,
        ),
        (
            ["trainer=ddp", "trainer.devices=2", "name=mine", "logger=none", "callbacks=explain"],
            True,
        ),
        (["explainer.memory_budget=1GiB", "data.eval_batch_size=7", "num_threads=2"], True),
        (["+objective={flip_rate_right: 1}"], True),
        (["explainer.l2_weight=0.3"], False),
        (["data.world.seed=3"], False),
        (["seed=1"], False),
        (["trainer.max_epochs=2"], False),
        (["explainer.counter_answer=red"], False),
        (["+requires.explainer.overrides=['data.batch_size=8']"], False),
        (
            ["requires.vqa_model.experiment=vqa_model", "+requires.vqa_model.overrides=['seed=1']"],
            False,
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_what_is_set_is_part_of_the_stages_name_if_it_trains(more: list[str], same: bool) -> None:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        names = []
        for overrides in (COLOR, [*COLOR, *more]):
            config = compose("explain", overrides=overrides)
            require_explainer(config, overrides)
            require_explainer(config, overrides)  # once more is no different
            names.append(compose_stage(config.requires.explainer, config)[1])
    assert (names[0] == names[1]) == same
    assert names[0].startswith("vqa_color-")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["checkpoints.explainer=/nowhere"], "checkpoints.explainer=/nowhere: no such file"),
        (
            ["checkpoints.explainer=."],
            "checkpoints.explainer=.: there is no model.ckpt or checkpoints/last.ckpt",
        ),
        (
            ["checkpoints.explainer=other.ckpt"],
            "checkpoints.explainer=other.ckpt does not fit VQACounterfactualGAN",
        ),
        (["explainer.memory_budget=1KiB"], "explainer.memory_budget: a single query takes "),
        (["explainer.memory_budget=lots"], "explainer.memory_budget must be such as 8GiB or 500MB"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_the_user_has_wrong_is_one_line(
    main: Main, tmp_path: Path, more: list[str], message: str
) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.ckpt")
    code, _, stderr = main(*COLOR, *more, "hydra.run.dir=wrong")
    (line,) = errors(stderr)
    assert (code, message in line) == (2, True), line
    assert not any("Traceback" in each for each in stderr)


def test_weights_trained_against_another_vqa_model_are_told(tmp_path: Path) -> None:
    for name in ("used", "own"):
        (tmp_path / f"{name}.ckpt").write_text(name)
    weights = tmp_path / "run/checkpoints/last.ckpt"
    config = OmegaConf.create(
        {"checkpoints": {"explainer": str(weights), "vqa_model": str(tmp_path / "used.ckpt")}}
    )
    assert not list(trained_against_others(config))  # nothing says against which
    weights.parent.mkdir(parents=True)
    for own in ("used", "own"):
        path = tmp_path / f"{own}.ckpt"
        made = {"vqa_model": {"path": str(path), "sha256": file_hash(path)}}
        (tmp_path / "run/provenance.json").write_text(json.dumps({"checkpoints": made}))
        told = (
            "checkpoints.explainer was trained against another vqa_model; "
            f"its own is checkpoints.vqa_model={path}"
        )
        assert list(trained_against_others(config)) == [told] * (own == "own")


def test_a_search_has_no_weights_of_its_own(main: Main) -> None:
    code, _, stderr = main(
        "+experiment=steex_driving", "checkpoints.explainer=x.ckpt", "hydra.run.dir=wrong"
    )
    problem = "this experiment's explainer is not trained; leave it out"
    assert (code, errors(stderr)) == (2, [f"error: checkpoints.explainer=x.ckpt: {problem}"])


def test_a_budget_of_memory_makes_no_other_pictures(main: Main, tmp_path: Path) -> None:
    larger = [each for each in COLOR if "eval_batch_size" not in each] + [
        "data.max_test_questions=20"
    ]
    assert main(*larger, "hydra.run.dir=whole")[0] == 0
    code, stdout, stderr = main(*larger, "explainer.memory_budget=4MiB", "hydra.run.dir=parts")
    assert code == 0, stderr
    (said,) = [line for line in stdout if line.startswith("memory_budget=4MiB: up to ")]
    assert 1 <= int(said.split()[3]) < 20
    whole, parts = (RunFolder(tmp_path / name) for name in ("whole", "parts"))
    keys = sorted(whole.keys())
    assert (
        whole.images("counterfactual", keys) - parts.images("counterfactual", keys)
    ).abs().max() < 1.01 / 127.5


def test_a_training_goes_on_with_its_own_run(
    main: Main, in_process: InProcess, tmp_path: Path
) -> None:
    """`ckpt_path=last` takes the newest training, not what was explained by its name."""
    few = [*COLOR, "data.max_test_questions=3"]
    assert main(*few)[0] == 0
    assert in_process(train.main, *few, "logger=csv")[0] == 0
    (explained,) = (
        path for path in (tmp_path / "runs" / "vqa_color").iterdir() if not path.name[:4].isdigit()
    )
    before = (explained / "log.txt").read_bytes()
    code, stdout, _ = in_process(train.main, *few, "logger=csv", "ckpt_path=last")
    assert code == 0
    assert any(line.startswith("goes on after 1 epochs") for line in stdout)
    assert (explained / "log.txt").read_bytes() == before


def test_a_sweep_trains_each_member(main: Main, cache: Path, tmp_path: Path) -> None:
    few = ["-m", *COLOR, "data.max_test_questions=3", "explainer.l2_weight=0.2,0.4"]
    for again in (False, True):
        code, stdout, stderr = main(*few)
        assert code == 0, stderr
        assert any("is trained first" in line for line in stdout) != again
        assert sum(line.startswith("has finished before") for line in stdout) == 2 * again
    (sweep,) = (tmp_path / "runs" / "vqa_color").iterdir()
    members = (sweep / f"explainer.l2_weight-{weight}" for weight in (0.2, 0.4))
    made = [json.loads((member / "provenance.json").read_text()) for member in members]
    assert len({each["checkpoints"]["explainer"]["sha256"] for each in made}) == 2
    assert len({each["checkpoints"]["vqa_model"]["sha256"] for each in made}) == 1
    assert len(pd.read_csv(sweep / "sweep.csv")) > 0


def test_another_model_judges_the_run_at_its_end(main: Main, tmp_path: Path) -> None:
    few = [*COLOR, "data.max_test_questions=20"]
    assert main(*few, "hydra.run.dir=one")[0] == 0
    made = json.loads((tmp_path / "one" / "provenance.json").read_text())["checkpoints"]
    other = f"'+checkpoints.transfer_model={made['vqa_model']['path']}'"
    code, _, stderr = main(*few, f"evaluate=['era=2016',{other}]", "hydra.run.dir=judged")
    assert code == 0, stderr
    scores = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert scores["era"] == "2016"
    assert any("transfer_model" in name for name in scores["groups"]["all"])


@pytest.mark.slow
def test_two_processes_explain_what_one_does(main: Main, cache: Path, tmp_path: Path) -> None:
    few = [*COLOR, "data.max_test_questions=40"]
    assert main(*few, "hydra.run.dir=one")[0] == 0
    command = [sys.executable, "-m", "cfexp.explain", *few, "trainer=ddp", "trainer.devices=2"]
    command += ["trainer.accelerator=cpu", f"hydra.run.dir={tmp_path / 'two'}"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(cache), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert pictures(tmp_path / "two") == pictures(tmp_path / "one")
