"""`python -m cfexp.import_run`: anybody's counterfactual images become a run folder that every
command takes.
"""

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from cfexp import evaluate, explain, gallery, import_run
from cfexp.evaluation.measure.candidates import candidate_lpips
from cfexp.evaluation.report.table import Row, score_run
from cfexp.evaluation.run_folder import RunFolder
from tests.commands import InProcess, Main
from tests.data.imported.trees import RECORD, empty_tree, folders, grey, made, save
from tests.evaluation.run_writer import timeless
from tests.tiny_streets import DRIVING

LEVELS = {"1": (10, 200), "2": (220, 30), "3": (40, 60), "4": (210, 90)}


class Bright(nn.Module):
    """Whether an image in [0, 1] is brighter than middle grey."""

    def forward(self, images: Tensor) -> Tensor:
        return 20 * (images.mean((1, 2, 3))[:, None] - 0.5)


@pytest.fixture
def main(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Main:
    monkeypatch.setenv("COLUMNS", "160")
    return partial(in_process, import_run.main)


@pytest.fixture
def decision(tmp_path: Path) -> list[str]:
    """The overrides that let brightness decide."""
    path = tmp_path / "bright.pt"
    torch.jit.save(torch.jit.script(Bright()), path)
    opened = ["+decision=torchscript", f"decision.path={path}", "decision.value_range=[0,1]"]
    return [*opened, "decision.class_names=[dark,bright]", "num_threads=1"]


def metrics(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return content


def test_two_folders_become_a_run(main: Main, tmp_path: Path, decision: list[str]) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    (tmp_path / "labels.csv").write_text("image,bright\n1.jpg,0\n2.jpg,1\n3.jpg,1\n")
    command = ["out", f"query={query}", f"counterfactual={counterfactual}", *decision]
    given = ["labels=labels.csv", "decision.label=bright", "method=Painter"]
    code, stdout, stderr = main(*command, *given)
    assert code == 0, stderr
    assert "note: 4 counterfactuals of 16x16 pixels" in stdout
    assert any(
        "labels.csv says nothing of 1 of 4 images, the first is 4" in line for line in stdout
    )
    run = RunFolder(tmp_path / "out")
    records = run.records()
    assert [record["key"] for record in records] == [1, 2, 3, 4]
    assert [record["stored_success"] for record in records] == [True, True, False, True]
    assert records[0]["answer_before"] == "dark"
    assert records[0]["labels"] == {"bright": 0}
    # The decision model was asked about what the PNG holds.
    images = run.images("counterfactual", [record["key"] for record in records])
    asked = Bright()((images + 1) / 2)[:, 0]
    assert torch.allclose(asked, torch.tensor([each["stored_logits"][1] for each in records]))
    found = metrics(tmp_path / "out")
    assert found["groups"]["all"]["success_stored"]["value"] == 75
    assert found["groups"]["all"]["decision_right"] | {"low": 0, "high": 0} == {
        **{"value": 66.667, "n": 3, "unit": "%"},
        **{"low": 0, "high": 0},
    }
    assert set(found["groups"]) == {"all", "dark -> bright", "bright -> dark"}
    lacks = found["not_computed"]["all"]
    for name in ("reconstruction", "l1_reconstruction"):
        assert lacks[name] == "no reconstructions were imported"
    assert lacks["success_float"] == "only 8-bit images were imported"
    assert lacks["code_distance"] == "imported images come without codes"
    assert lacks["regions_changed"] == "imported images come without label maps"
    assert run.declaration.explainer == "Painter"
    assert not (tmp_path / "out/explanations/reconstruction").exists()
    assert (tmp_path / "out/counterfactuals.png").is_file()


def test_gallery_and_attack_take_it(
    main: Main, in_process: InProcess, tmp_path: Path, decision: list[str]
) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    code, _, stderr = main("out", f"query={query}", f"counterfactual={counterfactual}", *decision)
    assert code == 0, stderr
    code, stdout, stderr = in_process(gallery.main, "run=out")
    assert code == 0, stderr
    assert stdout[-1].startswith("4 explanations")
    code, stdout, stderr = in_process(
        evaluate.main, "run=out", "attack=pgd", "attack.num_steps=2", "num_threads=1", "cout=true"
    )
    assert code == 0, stderr
    found = metrics(tmp_path / "out")
    assert found["groups"]["all"]["attack_counterfactual_success"]["value"] == 75
    assert found["groups"]["all"]["cout"]["n"] == 4
    assert found["not_computed"]["all"]["attack_counterfactual_rounding"] == "no successes in float"


def test_a_run_of_ours_as_folders_scores_the_same(
    main: Main,
    in_process: InProcess,
    tmp_path: Path,
    cache: Path,
    networks: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    short = ["data.holdout_images=1", "data.max_test_images=5", "explainer.num_steps=3"]
    code, _, stderr = in_process(explain.main, *DRIVING, *short, *networks, "hydra.run.dir=ours")
    assert code == 0, stderr
    given = [f"{name}=ours/explanations/{name}" for name in ("query", "counterfactual")]
    more = "reconstruction=ours/explanations/reconstruction"
    only = [each for each in networks if "decision" in each]
    experiment = [*DRIVING[:1], *(each for each in DRIVING if "decision" in each)]
    for out, folders_given in (("two", given), ("three", [*given, more])):
        code, _, stderr = main(out, *folders_given, *experiment, *only, "num_threads=1")
        assert code == 0, stderr
        ours, theirs = metrics(tmp_path / "ours")["groups"], metrics(tmp_path / out)["groups"]
        assert set(theirs) == set(ours)
        compared = 0
        for group, numbers in theirs.items():
            for name, number in numbers.items():
                # Of two folders nobody can say what the reconstruction keeps.
                if out == "three" or name != "success_kept":
                    assert number == ours[group][name], (out, group, name)
                    compared += 1
        assert compared > 10
    assert "reconstruction_psnr" in metrics(tmp_path / "three")["groups"]["all"]


def test_an_ace_tree_with_another_opinion(main: Main, tmp_path: Path, decision: list[str]) -> None:
    tree = empty_tree(tmp_path / "tree")
    made(tree, "0000001", 10, 200)
    made(tree, "0000002", 220, 30, label=1, pred=1, cf_pred=0)
    made(tree, "0000003", 10, 90)  # a success to them, and none to us
    made(tree, "0000004", 30, 180, cf_pred=0)  # and the other way round
    made(tree, "0000005", 200, 240)  # whose query we decide otherwise
    old = made(tree, "0000001", 10, 20, cf_pred=0, time=1_000)
    code, stdout, stderr = main("out", f"ace={tree}", "method=ACE", *decision)
    assert code == 0, stderr
    assert any(line.startswith(f"note: {old} is older than ") for line in stdout)
    said = "the decision model here sees {} of {} otherwise"
    assert f"reported successes (CCF): {said.format(1, 4)}" in stdout
    assert f"reported failures (ICF): {said.format(1, 1)}" in stdout
    assert "reported decisions about queries: 1 of 5 are otherwise here" in stdout
    records = RunFolder(tmp_path / "out").records()
    assert [record["image_id"] for record in records] == [1, 2, 3, 4, 5]
    assert [record["outcome_agrees"] for record in records] == [1, 1, 0, 0, 1]
    assert [record["decision_agrees"] for record in records] == [1, 1, 1, 1, 0]
    assert records[0]["reported"]["counter_class"] == 1
    everything = metrics(tmp_path / "out")["groups"]["all"]
    assert everything["reported_success"]["value"] == 80
    assert everything["outcome_agrees"]["value"] == 60
    assert everything["decision_agrees"]["value"] == 80
    # The label is that of the records.
    assert everything["decision_right"]["value"] == 80


def test_further_counterfactuals_are_candidates(
    main: Main, tmp_path: Path, decision: list[str]
) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    for seed, levels in (("b", (190, 20, 30, 80)), ("c", (120, 230, 140, 250))):
        for stem, level in zip(LEVELS, levels, strict=True):
            save(tmp_path / seed / f"{stem}.png", grey(level))
    given = [f"query={query}", f"counterfactual={counterfactual}", "further=[b,c]", *decision]
    code, _, stderr = main("out", *given)
    assert code == 0, stderr
    run = RunFolder(tmp_path / "out")
    assert [record["candidate_stored_success"] for record in run.records()] == [
        [True, False],
        [True, False],
        [False, True],
        [True, False],
    ]
    measure = candidate_lpips(lambda first, second: (first - second).abs().mean((1, 2, 3)))
    found = score_run(run, [measure]).find("all", "candidate_lpips")
    assert isinstance(found, Row)
    assert found.n == 4
    (tmp_path / "c/2.png").unlink()
    code, _, stderr = main("other", *given)
    assert code == 2
    assert "2.png has no further[1] of that name in " in stderr[0]


def test_killed_it_goes_on_to_the_same_run(
    main: Main, tmp_path: Path, decision: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    given = [f"query={query}", f"counterfactual={counterfactual}", *decision, "batch_size=1"]
    code, _, stderr = main("whole", *given)
    assert code == 0, stderr
    # What a run that was killed after two of four leaves: their lines, and half a third.
    shutil.copytree("whole", "stopped")
    run = tmp_path / "stopped"
    lines = [json.dumps(record) + "\n" for record in RunFolder(run).records()]
    (run / "explanations/records-0.jsonl").write_text("".join(lines[:2]) + lines[2][:40])
    (run / "explanations.parquet").unlink()
    for key in (3, 4):
        (run / f"explanations/counterfactual/{key}.png").unlink()
    code, stdout, stderr = main("stopped", *given)
    assert code == 0, stderr
    assert "goes on after 2 explanations: " in "\n".join(stdout)
    assert timeless(run).equals(timeless(tmp_path / "whole"))
    code, _, stderr = main("stopped", *given, "method=Other")
    assert code == 2
    assert len(stderr) == 1
    assert "holds a run of another config: method=Other instead of None" in stderr[0]


def test_other_spellings_of_a_path_are_the_same_run(
    main: Main, tmp_path: Path, decision: list[str]
) -> None:
    folders(tmp_path, LEVELS)
    assert main("out", "query=query", "counterfactual=counterfactual", *decision)[0] == 0
    whole = [f"query={tmp_path / 'query'}", f"counterfactual={tmp_path}/./counterfactual"]
    code, stdout, stderr = main("out", *whole, *decision)
    assert code == 0, stderr
    assert any("goes on after 4 explanations" in line for line in stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out"], "error: nobody decides: say who does by +experiment="),
        (["query=query"], "error: name the run folder first: import_run OUT (see --help)"),
        (
            ["out", "query=query", "DECISION"],
            "error: give query=DIR and counterfactual=DIR, or ace",
        ),
        (["out", "BOTH", "DECISION", "batch_size=0"], "error: batch_size must be a whole number"),
        (["out", "BOTH", "DECISION", "starts_from=reconstruction"], "error: starts_from=reconstr"),
        (["out", "BOTH", "DECISION", "starts_from=end"], "error: starts_from must be query or "),
        (["out", "BOTH", "DECISION", "counter_class=grey"], "error: counter_class='grey' is none"),
        (["out", "BOTH", "DECISION", "labels=none.csv"], "error: labels="),
        (["out", "BOTH", "+experiment=vqa_color"], "error: imported images are decided by a class"),
        (["out", "query=none", "counterfactual=counterfactual", "DECISION"], "error: query="),
    ],
)
def test_what_is_wrong_is_one_line(
    main: Main, tmp_path: Path, decision: list[str], arguments: list[str], said: str
) -> None:
    folders(tmp_path, LEVELS)
    meant = {"DECISION": decision, "BOTH": ["query=query", "counterfactual=counterfactual"]}
    given = [each for argument in arguments for each in meant.get(argument, [argument])]
    code, _, stderr = main(*given)
    assert code == 2
    assert len(stderr) == 1, stderr
    assert stderr[0].startswith(said)


def test_a_class_that_the_decision_model_lacks(
    main: Main, tmp_path: Path, decision: list[str]
) -> None:
    tree = empty_tree(tmp_path / "tree")
    made(tree, "0000001", 10, 200, record=RECORD.format(0, 0, 7, 7, 0.745, 0.745))
    code, _, stderr = main("out", f"ace={tree}", *decision)
    assert code == 2
    assert stderr == [
        "error: class 7 was asked for, the decision model knows 0..1: "
        "who decides must know the classes of who made the images"
    ]


def test_help_has_three_commands_to_copy(main: Main) -> None:
    code, stdout, _ = main("--help")
    assert code == 0
    examples = [line for line in stdout if re.match(r"\s+python -m cfexp\.import_run OUT ", line)]
    assert len(examples) == 3


def test_the_table_is_parquet_like_any(main: Main, tmp_path: Path, decision: list[str]) -> None:
    folders(tmp_path, LEVELS)
    assert main("out", "query=query", "counterfactual=counterfactual", *decision)[0] == 0
    table = pd.read_parquet(tmp_path / "out/explanations.parquet")
    assert table.file.tolist() == ["1.png", "2.png", "3.png", "4.png"]
