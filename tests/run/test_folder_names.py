"""What folders are called: safe in a shell and in Hydra's grammar, readable, and never one name for
two commands.
"""

import re
import shlex
from itertools import combinations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from cfexp.run.folder_names import LONGEST_NAME, folder_name, folders, under_one_name

COMMANDS = [
    ["seed=1"],
    ["seed=1", "trainer.max_epochs=3"],
    ["explainer.learning_rate=1e-05"],
    ["explainer.x=-1"],
    ["explainer.regions=[traffic_light]"],
    ["explainer.regions=[traffic,light]"],
    ["explainer.regions=[traffic, light]"],
    ["explainer.regions=traffic_light"],
    ["image='/photos of mine/a, b.jpg'"],
    ["image='/photos of yours/a, b.jpg'"],
    ["image=[/x/a.jpg,/x/b.jpg]", "counter_class=go"],
    ["data.root=/data/faces/"],
    ["data.root=/data/faces"],
    ["data.root=faces"],
    ["image=écran.jpg"],
    ["image=写真.jpg"],
    ["image=写.jpg"],
    ["explainer.class_names=${names}"],
    ["+objective={a: 1}"],
    ["~data.seed"],
    ['label="it\'s"'],
    ["a=b", "c=d"],
    ["a=b--c-d"],
    ["a=b-c"],
    ["a-b=c"],
    [f"label={'x' * 200}1"],
    [f"label={'x' * 200}2"],
]


@pytest.mark.parametrize("settings", COMMANDS, ids=str)
def test_a_name_needs_no_quoting(settings: list[str]) -> None:
    name = folder_name(settings)
    assert re.fullmatch(r"\w[\w.-]*", name, re.ASCII)
    assert len(name) <= LONGEST_NAME
    path = f"runs/steex/{name}"
    assert shlex.split(f"run={path}") == [f"run={path}"]
    assert OverridesParser.create().parse_override(f"run={path}").value() == path
    assert folder_name(settings) == name


def test_no_two_commands_share_a_name() -> None:
    for one, other in combinations(COMMANDS, 2):
        assert folder_name(one) != folder_name(other), (one, other)


def test_a_name_stays_readable() -> None:
    assert folder_name([]) == ""
    assert folder_name(["counter_class=go", "seed=1"]) == "counter_class-go--seed-1"
    for setting, start in (
        ("image='/photos of mine/a, b.jpg'", "image-a-b.jpg-"),
        ("data.root=/data/faces/", "data.root-faces-"),
        ("explainer.regions=[car,traffic_light]", "explainer.regions-car-traffic_light-"),
        ("image=écran.jpg", "image-ecran.jpg-"),
    ):
        assert re.fullmatch(re.escape(start) + "[0-9a-f]{8}", folder_name([setting])), setting


def test_a_users_own_name_may_make_folders_and_leads_nowhere_else() -> None:
    assert folders("paper/steex_bdd") == "paper/steex_bdd"
    assert folders("2026-11-28") == "2026-11-28"
    for name in ("my run", "a=b", "../x", "..", ".", "/tmp/x", "~/x", ""):
        assert re.fullmatch(r"(\w[\w.-]*/)*\w[\w.-]*", folders(name), re.ASCII), name
    assert folders("my run") != folders("my, run")


def test_a_setting_of_two_names_has_one_in_a_folders() -> None:
    assert (
        under_one_name("explainer.regions=[car]")
        == under_one_name("regions=[car]")
        == "regions=[car]"
    )
    assert under_one_name("explainer.counter_class") == "counter_class"
    assert under_one_name("explainer.region_groups={a: [b]}") == "explainer.region_groups={a: [b]}"
