"""Settings that nothing reads are said or refused."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from cfexp import explain
from cfexp.errors import InputError
from cfexp.run.configuration import register_resolvers
from cfexp.run.without_effect import refuse_unread, without_effect
from tests.commands import InProcess
from tests.tiny_streets import DRIVING

DRIVING_ALONE = "+experiment=steex_driving"


@pytest.fixture
def hydra() -> Iterator[None]:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        yield


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("command", "overrides", "setting", "said"),
    [
        (
            "explain",
            [DRIVING_ALONE, "image=a.jpg"],
            "data.predict_part=val",
            "image= is explained in its place",
        ),
        ("explain", [DRIVING_ALONE, "image=a.jpg"], "label=stop", "image= has no labels"),
        (
            "explain",
            [DRIVING_ALONE, "image=a.jpg"],
            "data.max_test_images=3",
            None,
        ),  # the first three
        ("explain", [DRIVING_ALONE], "data.predict_part=val", None),
        (
            "explain",
            [DRIVING_ALONE, "+layouts=predicted", "image=a.jpg", "label_map=a.png"],
            "checkpoints.segmenter=x",
            "label_map= gives the label maps",
        ),
        (
            "explain",
            [DRIVING_ALONE, "explainer.regions=[car]"],
            "regions=[road]",
            "explainer.regions= is given, too",
        ),
        ("explain", [DRIVING_ALONE], "regions=[road]", None),
        ("explain", ["+experiment=dive_smile"], "regions=[skin]", "has no such setting"),
        ("explain", ["+experiment=pe_smile"], "regions=[skin]", "has no such setting"),
        (
            "explain",
            [DRIVING_ALONE, "explainer.counter_class=go"],
            "counter_class=stop",
            "explainer.counter_class=",
        ),
        ("explain", [DRIVING_ALONE], "trainer.max_epochs=3", "nothing is trained here but stages"),
        (
            "explain",
            [DRIVING_ALONE],
            "+trainer.limit_test_batches=3",
            "nothing is trained here but stages",
        ),
        ("explain", [DRIVING_ALONE], "+trainer.limit_predict_batches=3", None),
        ("explain", [DRIVING_ALONE], "data.batch_size=3", "nothing is trained here but stages"),
        (
            "explain",
            [DRIVING_ALONE, "data.root=/x"],
            "data.world.seed=3",
            "data.root= is read in place",
        ),
        (
            "explain",
            [DRIVING_ALONE, "checkpoints.decision=x"],
            "+requires.decision.overrides=[seed=1]",
            "checkpoints.decision= is given, so the stage is not trained",
        ),
        (
            "train",
            ["+experiment=face_decision"],
            "data.predict_part=val",
            "a stage is trained and tested",
        ),
        ("train", ["+experiment=vqa_model"], "data.batch_size=3", "counts data.images_per_batch"),
        ("train", ["+experiment=vqa_color"], "data.batch_size=3", None),
        ("evaluate", ["run=x"], "mnac_published=true", "no oracle is given"),
        (
            "evaluate",
            ["run=x", "+requires.oracle.experiment=face_oracle"],
            "mnac_published=true",
            None,
        ),
        ("evaluate", ["run=x"], "face_verification_bgr=true", "no such network is given"),
    ],
)
def test_what_has_no_effect_is_said(
    command: str, overrides: list[str], setting: str, said: str | None
) -> None:
    setting = setting.replace("=[seed=1]", '=["seed=1"]')
    config = compose(command, overrides=[*overrides, setting])
    name = setting.lstrip("+").partition("=")[0]
    lines = list(without_effect(config, [name], command))
    if said is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(f"{name}= has no effect: ")
        assert said in line


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("command", "overrides", "setting", "refused"),
    [
        ("explain", [DRIVING_ALONE], "+steps=3", "nothing reads a setting of this name"),
        ("explain", [DRIVING_ALONE, "name=run_${steps}"], "+steps=3", None),
        (
            "explain",
            [DRIVING_ALONE],
            "+checkpoints.decison=x",
            "nothing reads a setting of this name",
        ),
        (
            "explain",
            [DRIVING_ALONE],
            "+checkpoints.segmenter=x",
            None,
        ),  # image= has label maps predicted
        ("explain", [DRIVING_ALONE], "+decision.path=x", "choose how your classifier is opened"),
        (
            "explain",
            [DRIVING_ALONE, "+decision=torchscript"],
            "+decision.scale=2",
            "nothing reads a setting",
        ),
        ("explain", [DRIVING_ALONE, "+decision=own"], "+decision.class.width=8", None),
        ("explain", [DRIVING_ALONE], "+objective={a: 1}", None),
        ("explain", [DRIVING_ALONE], "+requires.decision.overrides=[]", None),
        ("evaluate", ["run=x"], "+checkpoints.lpips=x", None),
        (
            "train",
            ["+experiment=face_decision"],
            "+epochs=3",
            "nothing reads a setting of this name",
        ),
    ],
)
def test_an_added_setting_that_nothing_reads_is_refused(
    command: str, overrides: list[str], setting: str, refused: str | None
) -> None:
    without = compose(
        command, overrides=overrides if "${steps}" not in overrides[-1] else overrides[:-1]
    )
    config = compose(command, overrides=[*overrides, setting])
    name = setting.lstrip("+").partition("=")[0]
    if refused is None:
        refuse_unread(config, [name], without)
    else:
        with pytest.raises(InputError, match=rf"^\+{name}=: {refused}"):
            refuse_unread(config, [name], without)


def test_the_command_says_it_and_limits_the_part_that_is_explained(
    in_process: InProcess,
    networks: list[str],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    main = partial(in_process, explain.main)
    few = [
        *DRIVING,
        *networks,
        "explainer.num_steps=0",
        "logger=none",
        "data.holdout_images=2",
        "name=few",
    ]
    code, stdout, stderr = main(
        *few, "data.predict_part=val", "data.max_test_images=1", "trainer.max_epochs=2"
    )
    assert code == 0, stderr
    assert any(line.startswith("note: trainer.max_epochs= has no effect: ") for line in stdout)
    (row,) = [line for line in stdout if line.split()[:1] == ["all"]][:1]
    assert row.split()[1] == "1"
    code, _, stderr = main(*few, "+stepz=1")
    assert code == 2
    assert stderr[-1].startswith("error: +stepz=: nothing reads a setting of this name")
