"""What there is not is said in one line, with what was probably meant."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cfexp import doctor, evaluate, explain, gallery, train
from cfexp.errors import InputError
from cfexp.library import load_explainer
from cfexp.run.mistyped import nearest
from tests.commands import InProcess

OWN = ["+experiment=own_steex", "data.root=/nowhere"]
UNKNOWN = ": there is no setting of this name;"
SHOWN = "(--cfg job shows those that there are)"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (
            "data.imagesize=64",
            f": there is no setting of this name; is data.image_size meant? {SHOWN}",
        ),
        (
            "decison.label=x",
            f"{UNKNOWN} is decision.label meant? {SHOWN}",
        ),
        (
            "requires.decision.overrides=['steps=9']",
            ": settings of a stage are added: +requires.decision.overrides=['steps=9']",
        ),
        ("xyzzy=1", ": there is no setting of this name; --cfg job shows those that there are"),
        (
            "hydra.run.dirr=x",
            f"{UNKNOWN} is hydra.run.dir meant? {SHOWN}",
        ),
        (
            "data=ownn",
            ": could not find 'conf/data/ownn.yaml'; is own meant? there are bdd100k, celeba, "
            "celebamask_hq, faces, own, streets, vqa, vqav1",
        ),
        ("+data.side=32", ": the setting is there; leave out the +: data.side=32"),
        (
            "data.classes=a,b",
            ": is ambiguous; a list is data.classes=[a,b], a text \"data.classes='a,b'\", "
            "several runs need -m",
        ),
        (
            "experimnt=own_pgd",
            f"{UNKNOWN} is +experiment=own_pgd meant?",
        ),
        ("own_pgd", ": is +experiment=own_pgd meant?"),
        ("own_pdg", ": is +experiment=own_pgd meant?"),
        (
            "data.side",
            ": cannot be read; a setting is NAME=VALUE; what has blanks, commas or = needs "
            "\"NAME='VALUE'\"",
        ),
    ],
)
def test_a_setting_that_there_is_not(in_process: InProcess, argument: str, said: str) -> None:
    code, _, stderr = in_process(explain.main, *OWN, argument)
    assert (code, stderr) == (2, [f"error: {argument}{said}"])


def test_one_that_was_added(in_process: InProcess) -> None:
    code, _, stderr = in_process(explain.main, *OWN, "+data.imagesize=64")
    line = "error: data.imagesize=: OwnDataSet has no setting of this name; "
    assert (code, stderr[-1]) == (2, f"{line}is data.image_size meant?")
    # What was refused leaves no folder that holds nothing but its lock and its log.
    assert not [path for path in Path().rglob("*") if path.name in (".lock", "log.txt")]


@pytest.mark.parametrize("main", [doctor.main, evaluate.main, gallery.main, train.main])
def test_every_command_says_it(in_process: InProcess, main: Callable[[], None]) -> None:
    code, _, stderr = in_process(main, "hydra.job.chdirr=true")
    assert (code, len(stderr)) == (2, 1)
    assert "is hydra.job.chdir meant?" in stderr[0]


def test_a_path_alone_is_a_run_where_the_command_has_one(in_process: InProcess) -> None:
    for main, word in ((evaluate.main, "runs/x"), (evaluate.main, "own_pgd"), (gallery.main, "x")):
        code, _, stderr = in_process(main, word)
        assert (code, stderr) == (2, [f"error: {word}: is run={word} meant?"])
    code, _, stderr = in_process(evaluate.main, "steex_report")
    assert (code, stderr) == (2, ["error: steex_report: is +experiment=steex_report meant?"])


def test_a_choice_that_is_to_be_added(in_process: InProcess) -> None:
    for given, said in (
        ("experiment=own_pgd", "an experiment is added"),
        ("decision=torchscript", "decision is added"),
    ):
        code, _, stderr = in_process(explain.main, given, "data.root=/x")
        assert (code, stderr) == (2, [f"error: {given}: {said}: +{given}"])
    code, _, stderr = in_process(explain.main, "+experiments=own_pgd")
    line = "error: +experiments=: nothing reads a setting of this name; "
    assert (code, stderr[-1]) == (2, f"{line}is +experiment=NAME meant?")


def test_a_sweep_and_a_stage_and_the_library(in_process: InProcess) -> None:
    code, _, stderr = in_process(train.main, "-m", *OWN, "data.rooot=a,b")
    assert (code, len(stderr)) == (2, 1)
    assert "is data.root meant?" in stderr[0]
    overrides = "+requires.decision.overrides=['data.sidee=32']"
    code, _, stderr = in_process(explain.main, "+experiment=steex_driving", overrides)
    assert code == 2
    assert "the stage street_decision does not take 'data.sidee=32': " in stderr[-1]
    assert "is data." in stderr[-1]
    with pytest.raises(InputError, match=r"is data\.image_size meant\?"):
        load_explainer("steex_driving", ["data.imagesize=64"])


def test_the_nearest_name() -> None:
    assert nearest("imagesize", ["side", "image_size"]) == "image_size"
    assert nearest("rum", ["run", "output"]) == "run"
    assert nearest("zzz", ["run", "output"]) is None
