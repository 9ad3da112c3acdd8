"""Paths on the command line, as another command printed them or a user's own folders are called."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cfexp.run.command_line import (
    quoted,
    typed,
    with_names_quoted,
    with_path_quoted,
    with_text_quoted,
)

ODD = [
    "a=b",
    "c, d",
    "e f",
    "[g]",
    "it's",
    '"h"',
    "1e3",
    "${i}",
    "j\\k",
    "l\\",
    "m;n",
    "plain",
    "été",
]


def value_of(argument: str) -> object:
    """What a command gets."""
    override = OverridesParser.create().parse_override(argument)
    config = OmegaConf.create({"value": override.value()})
    content: Any = OmegaConf.to_container(config, resolve=True)
    return content["value"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ODD:
        (tmp_path / name).mkdir()


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize(
    "key", ["run", "image", "ckpt_path", "checkpoints.decision", "+checkpoints.x", "data.root"]
)
def test_a_path_that_is_there_is_taken_as_it_is(key: str, name: str) -> None:
    (argument,) = shlex.split(f"{key}={typed(name)}")
    assert value_of(with_path_quoted(argument)) == name
    assert value_of(f"{key}={quoted(name)}") == name
    assert (
        with_path_quoted(f"{key}={quoted(name)}") == f"{key}={quoted(name)}"
    )  # as Hydra wants it, it is right as well


def test_lists_of_paths() -> None:
    assert value_of(with_path_quoted("run=[a=b,c, d,plain]")) == ["a=b", "c, d", "plain"]
    assert value_of(with_path_quoted("run=[plain,'e f']")) == ["plain", "e f"]
    assert with_path_quoted("run=[plain,more]") == "run=[plain,more]"


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir", "output"])
@pytest.mark.parametrize("name", ["new=1", "x, y", "[z]", "7", "with 'quotes'"])
def test_a_folder_that_is_to_be_made_may_have_any_name(key: str, name: str) -> None:
    assert value_of(with_path_quoted(f"{key}={name}")) == name


def test_what_is_not_there_is_said_by_the_command_and_not_by_the_grammar() -> None:
    assert value_of(with_path_quoted("image=not=here.jpg")) == "not=here.jpg"
    assert value_of(with_path_quoted("run=[not=here,plain]")) == ["not=here", "plain"]
    assert str(value_of(with_path_quoted("run=~/not=here"))) == str(Path.home() / "not=here")


def test_everything_else_is_left_to_the_grammar() -> None:
    for argument in (
        *(
            "-m",
            "--cfg",
            "seed=1,2",
            "image=plain,other",
            "checkpoints.decision=null",
            "output=null",
            "run=plain",
        ),
        *("hydra.run.dir=runs/${name}", "hydra.run.dir='a b'", "explainer.regions=[g]", "run="),
    ):
        assert with_path_quoted(argument) == argument


@pytest.mark.parametrize(
    "text",
    ["What color is it?", "Is it red, or blue?", "it's 1e3", '"quoted" within?', "[a]b", "x=y?"],
)
def test_a_question_is_taken_as_it_is(text: str) -> None:
    for key in ("question", "counter_answer", "explainer.counter_answer"):
        if text[0] not in "'\"":  # which is how a text is quoted
            assert value_of(with_text_quoted(f"{key}={text}")) == text
        assert value_of(with_text_quoted(f"{key}={quoted(text)}")) == text


@pytest.mark.parametrize("name", ["Läsion", "size (mm)", "Größe [cm]", "état: réel"])
def test_a_name_out_of_the_data_is_taken_as_it_is(name: str) -> None:
    for key in ("decision.label", "+data.group", "counter_class"):
        if value_of(f"{key}=x") == "x":
            assert value_of(with_names_quoted(f"{key}={name}")) == name


def test_names_in_lists_and_mappings_may_have_any_letters() -> None:
    named = with_names_quoted("data.classes=[Kätzchen, Hunde,größe 2]")
    assert value_of(named) == ["Kätzchen", "Hunde", "größe 2"]
    assert value_of(with_names_quoted("data.classes={1:Kätzchen,2:Hund}")) == {
        1: "Kätzchen",
        2: "Hund",
    }
    assert value_of(with_names_quoted("name=größe")) == "größe"
    for argument in ("decision.label=a", "decision.label=a,b", "-m", "data.classes=['ä',b]"):
        assert with_names_quoted(argument) == argument


def test_several_questions_are_told_apart_by_their_marks() -> None:
    asked = ["What color is it, really?", "Is it?"]
    assert value_of(with_text_quoted(f"question=[{', '.join(asked)}]")) == asked
    assert value_of(with_text_quoted("question=['Red, or blue','Is it?']")) == [
        "Red, or blue",
        "Is it?",
    ]
    for argument in ("question=null", "question=", "image=[a?,b?]", "-m", "counter_answer=${x}"):
        assert with_text_quoted(argument) == argument
    assert value_of(with_text_quoted("counter_answer=2")) == "2"
