"""A further explainer is one file, one config, one test and a line of the docs; every door takes
it.
"""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from cfexp import explain, load_explainer
from cfexp.evaluation.run_folder import RunFolder
from tests.commands import InProcess
from tests.tiny_streets import DRIVING

ROOT = Path(__file__).parents[1]
SMALL = ("data.holdout_images=1", "data.max_test_images=2")
OWN_FILES = ("cfexp/explainers/{}.py", "conf/explainer/{}.yaml", "tests/explainers/test_{}.py")
THIS = "tests/test_other_explainers.py"
# Experiments use what is there; the explainer does without them.
FOLDERS = ("cfexp", "conf", "tests", ":!conf/experiment")


@pytest.mark.parametrize(
    ("name", "word"), [("pgd", "explainers.pgd"), ("nearest_unlike", "nearest_unlike")]
)
def test_a_further_explainer_is_named_in_its_own_files_alone(name: str, word: str) -> None:
    listed = subprocess.run(
        ["git", "grep", "-l", "--untracked", "-F", word, "--", *FOLDERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode > 1:
        pytest.skip("not a checkout of git's")
    own = {file.format(name) for file in OWN_FILES}
    assert all((ROOT / file).is_file() for file in own)
    assert own >= set(listed.stdout.split()) - {THIS} > set()


def test_the_library_takes_it_likewise(networks: list[str]) -> None:
    decision = [each for each in networks if each.startswith("checkpoints.decision=")]
    settings = [
        "explainer.epsilons=[8]",
        "explainer.num_steps=2",
        "checkpoints.autoencoder=nowhere.ckpt",
    ]
    explainer = load_explainer(
        "steex_driving", [*DRIVING[1:], "+explainer=pgd", *decision, *settings]
    )
    found = explainer.explain(torch.full((3, 64, 128), -0.1))
    assert found.extras["epsilon"].tolist() == [8]


@pytest.mark.parametrize("name", ["pgd", "nearest_unlike"])
def test_the_command_line_takes_it_in_place_of_the_experiments_own(
    in_process: InProcess,
    tmp_path: Path,
    cache: Path,
    networks: list[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    more = (
        ["explainer.num_steps=2", "explainer.epsilons=[8]"]
        if name == "pgd"
        else ["counter_class=stop"]
    )
    command = [*DRIVING, f"+explainer={name}", *SMALL, *networks, *more]
    code, _, stderr = in_process(explain.main, *command, f"hydra.run.dir={tmp_path}")
    assert code == 0, stderr
    run = RunFolder(tmp_path)
    assert len(run.records()) == 2
    assert "success_stored" in json.loads((tmp_path / "metrics.json").read_text())["groups"]["all"]
    assert (tmp_path / "counterfactuals.png").is_file()
    # The generator of the experiment's own search is no business of it.
    assert set(json.loads((tmp_path / "provenance.json").read_text())["checkpoints"]) == {
        "decision"
    }
