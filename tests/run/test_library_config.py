"""What the library is asked for and cannot load is one line."""

from pathlib import Path
from typing import Any

import pytest

from cfexp import load_explainer
from cfexp.errors import InputError
from tests.tiny_streets import library_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return library_settings(tmp_path_factory.mktemp("networks"))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("",), "give the name of an experiment or the folder of a run, got ''"),
        ((None,), "give the name of an experiment or the folder of a run, got None"),
        (("steex_driving", "seed=1"), "overrides must be a list of settings, .*, got 'seed=1'"),
        (("steex_driving", [3]), r"overrides must be a list of settings, .*, got \[3\]"),
        (
            ("steex_driving", ["nothing=1"]),
            "steex_driving is no run .*: nothing=1: there is no setting of this name",
        ),
        (("steex_driving", ["seed=1,2"]), "steex_driving is no run .*: seed=1,2: is ambiguous"),
        (
            ("steex_driving", ["explainer=null"]),
            "steex_driving is no run .*: Config group override must be",
        ),
        (
            ("steex_driving", ["explainer.num_steps=many"]),
            "num_steps must be a whole number of at least 0, got 'many'",
        ),
        (
            ("steex_driving", ["explainer.learning_rate=.nan"]),
            "learning_rate must be a finite number of at least 0",
        ),
        (
            ("steex_driving", ["+decision=torchscript"]),
            "decision.class_names must be given: decision.class_names=VALUE",
        ),
        (("paper/steex_bdd",), "data.root must be given: data.root=VALUE"),
        (("steex_driving", [], "gpu"), "device='gpu' cannot be used"),
        (("steex_driving", [], "cuda:99"), "device='cuda:99' cannot be used"),
        (("steex_driving", [], "meta"), r"device='meta' cannot be used \(it holds no numbers\)"),
        (("steex_driving", [], None), "device=None cannot be used"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(
    given: tuple[Any, ...], line: str, settings: list[str]
) -> None:
    if (
        len(given) > 1
        and isinstance(given[1], list)
        and len(given[1]) == 1
        and isinstance(given[1][0], str)
    ):
        given = (given[0], [*settings[1:], *given[1]])
    with pytest.raises(InputError, match=f"^{line}") as raised:
        load_explainer(*given)
    assert "\n" not in str(raised.value)


def test_a_run_without_a_readable_config_is_one_line(tmp_path: Path) -> None:
    for content, line in (
        ("a: [", "cannot be read"),
        ("- 1", "holds no config of a run"),
        ("a: 1", "there is no explainer"),
    ):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(InputError, match=line) as raised:
            load_explainer(tmp_path)
        assert "\n" not in str(raised.value)
