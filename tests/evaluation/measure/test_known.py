"""The files of conf/measure/: each names a function that there is, and says what it is in its
second line.
"""

from pathlib import Path
from pkgutil import resolve_name

import pytest

from cfexp.errors import InputError
from cfexp.evaluation.measure.base import Measure
from cfexp.evaluation.measure.known import Known, in_order, known_files, make, standard_measures

FOLDER = Path(__file__).parents[3] / "conf" / "measure"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_names_a_function_and_what_it_computes(path: Path) -> None:
    package, description = path.read_text(encoding="utf-8").splitlines()[:2]
    assert package == f"# @package measure.{path.stem}"
    assert description.startswith("# ")
    known = Known.of(path.stem, known_files()[path.stem])
    assert callable(resolve_name(known.target))


def test_the_folder_is_the_list() -> None:
    assert set(known_files()) == {path.stem for path in FOLDER.glob("*.yaml")}
    names = [each.name for each in in_order(known_files())]
    assert names[:2] == ["answers", "language_sensitivity"]  # the first columns of the tables
    assert names[-1] == "transfer"
    needless = [each for each in in_order(known_files()) if not each.needs]
    assert len(standard_measures()) == len(needless)
    assert not {"fid", "cout", "attack"} & {each.name for each in needless}


def test_what_is_no_measure() -> None:
    with pytest.raises(
        InputError,
        match=r"measure\.fdi is no measure, for it has no _target_; there are answers, .*fid, fva",
    ):
        Known.of("fdi", {"splits": 2})
    with pytest.raises(InputError, match=r"measure\.x: .*nowhere"):
        make(Known.of("x", {"_target_": "cfexp.nowhere.x"}), {})
    with pytest.raises(InputError, match=r"measure\.x: .*unexpected keyword argument 'of'"):
        make(Known.of("x", {"_target_": "cfexp.evaluation.measure.pixels.measures"}), {"of": 1})


def test_a_name_that_two_measures_have_would_hide_one() -> None:
    names = [each.name for made in standard_measures() if isinstance(made, list) for each in made]
    assert len(names) == len(set(names)) > 10
    assert all(
        isinstance(each, Measure)
        for made in standard_measures()
        if isinstance(made, list)
        for each in made
    )
