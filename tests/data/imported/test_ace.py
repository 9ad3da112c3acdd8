"""The output trees of ACE and DiME, written here by what is known of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cfexp.data.imported.ace import read_tree
from cfexp.data.imported.files import checked
from cfexp.data.imported.module import ImportedImages
from cfexp.errors import InputError
from tests.data.imported.trees import RECORD, empty_tree, grey, made, save


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A success and a failure of right decisions, and a success of a wrong one."""
    root = empty_tree(tmp_path / "out")
    made(root, "0000003", 10, 200)
    made(root, "0000005", 20, 30, cf_pred=0)
    made(root, "0000007", 30, 220, label=1)
    (root / "Results" / "smile" / "summary.yaml").write_text("{'flip rate': 0.5}")
    return root


def test_the_tree_is_read_with_its_records(tree: Path) -> None:
    found, size = checked(read_tree(tree))
    assert (found.problems, found.notes, size) == ([], [], (16, 16))
    assert [each.name for each in found.imported] == ["0000003", "0000005", "0000007"]
    success, failure, wrong = (each.reported for each in found.imported)
    assert success is not None
    assert success[:6] == (True, True, 0, 0, 1, 1)
    assert success.l_1 == pytest.approx(190 / 255)
    assert failure is not None
    assert failure[:6] == (False, True, 0, 0, 1, 0)
    assert wrong is not None
    assert wrong[:6] == (True, False, 1, 0, 1, 1)
    assert found.imported[2].query.parent.name == "Incorrect"


def test_what_is_stored_of_each(tree: Path) -> None:
    images = ImportedImages(ace=str(tree), label="Smiling")
    assert images.keys == [3, 5, 7]
    assert images.has_reports
    told = images.describe(7)
    assert told["image_id"] == 7
    assert told["labels"] == {"Smiling": 1}
    assert told["file"] == "Results/smile/IC/CCF/CF/0000007.png"
    assert told["reported"]["counterfactual_class"] == 1


def test_of_a_name_that_stands_twice_the_newer_counts_and_the_older_is_named(tree: Path) -> None:
    made(tree, "0000009", 10, 240, time=2_000)
    old = made(tree, "0000009", 10, 20, cf_pred=0, time=1_000)
    found = read_tree(tree)
    assert [each.name for each in found.imported].count("0000009") == 1
    newest = found.imported[-1]
    assert newest.counterfactual.parts[-3] == "CCF"
    assert newest.reported is not None
    assert newest.reported.success
    (note,) = found.notes
    assert note == f"{old} is older than {newest.counterfactual}, which counts"


def test_of_one_time_nobody_can_say(tree: Path) -> None:
    made(tree, "0000009", 10, 240, time=1_000)
    made(tree, "0000009", 10, 20, cf_pred=0, time=1_000)
    found = read_tree(tree)
    assert len(found.imported) == 3
    (problem,) = found.problems
    assert "are of one time, so that nobody can say which counts" in problem


def test_a_query_that_was_moved_by_a_rerun_is_found(tree: Path) -> None:
    original = tree / "Original"
    (original / "Correct" / "0000003.png").rename(original / "Incorrect" / "0000003.png")
    assert len(read_tree(tree).imported) == 3


def test_of_two_levels_the_explanation_is_taken_unless_the_other_is_asked_for(
    tmp_path: Path,
) -> None:
    for level, after in (("pre-explanation", 100), ("explanation", 200)):
        made(empty_tree(tmp_path, f"age/{level}"), "1", 10, after, experiment=f"age/{level}")
    for results, level in (
        (None, "explanation"),
        ("age", "explanation"),
        ("age/pre-explanation", "pre-explanation"),
    ):
        (only,) = read_tree(tmp_path, results).imported
        assert only.counterfactual.parts[-5] == level


def test_of_several_experiments_one_is_to_be_chosen(tree: Path) -> None:
    made(empty_tree(tree, "age"), "0000003", 10, 180, experiment="age")
    with pytest.raises(
        InputError, match="choose one of its experiments by results=NAME: age, smil"
    ):
        read_tree(tree)
    (only,) = read_tree(tree, "age").imported
    assert "age" in only.counterfactual.parts
    with pytest.raises(InputError, match=r"results=old: no folder .*; there are age, smile"):
        read_tree(tree, "old")


def no_value(tree: Path) -> None:
    made(tree, "0000009", 10, 200, record="label: 0\npred: 0\ntarget: 1\nl_inf: 0.1\nl_1: 0.1\n")


def no_number(tree: Path) -> None:
    made(tree, "0000009", 10, 200, target="one")


def a_fraction(tree: Path) -> None:
    made(tree, "0000009", 10, 200, label=0, record=RECORD.format(0.5, 0, 1, 1, 0.7, 0.7))


def negative(tree: Path) -> None:
    made(tree, "0000009", 10, 200, record=RECORD.format(-1, -1, 1, 1, 0.7, 0.7))


def of_another_outcome(tree: Path) -> None:
    made(tree, "0000009", 10, 200, record=RECORD.format(0, 0, 1, 0, 0.7, 0.7))


def of_another_decision(tree: Path) -> None:
    made(tree, "0000009", 10, 200, record=RECORD.format(1, 0, 1, 1, 0.7, 0.7))


def of_another_image(tree: Path) -> None:
    made(tree, "0000009", 10, 200, l_1=0.2)


def no_finite_number(tree: Path) -> None:
    made(tree, "0000009", 10, 200, l_inf="nan")


def no_text(tree: Path) -> None:
    made(tree, "0000009", 10, 200)
    (tree / "Results/smile/CC/CCF/Info/0000009.txt").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_value, "Info/0000009.txt: has no line `cf pred: value`"),
        (no_number, "Info/0000009.txt: target must be a whole number, got 'one'"),
        (a_fraction, "Info/0000009.txt: label must be a whole number, got '0.5'"),
        (negative, "Info/0000009.txt: a class is negative"),
        (of_another_outcome, "0000009.txt: cf pred is not the target, but lies in CC/CCF"),
        (of_another_decision, "0000009.txt: pred is not the label, but lies in CC/CCF"),
        (of_another_image, "CF/0000009.png says l_1 0.2, the images differ by 0.7451"),
        (no_finite_number, "CF/0000009.png says l_inf nan, the images differ by 0.7451"),
        (no_text, "Info/0000009.txt: cannot be read"),
    ],
)
def test_a_wrong_record_is_one_line_and_its_images_are_used(
    tree: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(tree)
    with pytest.raises(InputError) as stopped:
        ImportedImages(ace=str(tree)).check()
    assert said in str(stopped.value)
    images = ImportedImages(ace=str(tree), on_bad_sample="skip")
    lines = images.check()
    assert sum(said in line for line in lines) == 1
    assert lines[-1] == "4 counterfactuals of 16x16 pixels"


def test_without_a_record_the_folder_says_what_was_a_success(tree: Path) -> None:
    (tree / "Results/smile/CC/CCF/Info/0000003.txt").unlink()
    found = read_tree(tree)
    first = found.imported[0].reported
    assert first is not None
    assert first[:6] == (True, True, None, None, None, None)
    assert found.notes[0].startswith("1 of 3 counterfactuals have no record in Info")


def test_a_counterfactual_without_a_query_and_a_query_without_one(tree: Path) -> None:
    (tree / "Original/Correct/0000003.png").unlink()
    save(tree / "Original/Correct/0000011.png", grey(3))
    found = read_tree(tree)
    assert [each.name for each in found.imported] == ["0000005", "0000007"]
    assert "0000003.png has no query of that name in " in found.problems[0]
    assert found.notes[0].startswith("1 of 3 queries have no counterfactual, the first is 0000011")


def test_other_folders_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected .*/Results/EXP/CC/CCF/CF and .*/Original"):
        read_tree(tmp_path)
    (tmp_path / "Results" / "smile").mkdir(parents=True)
    with pytest.raises(InputError, match="choose one of its experiments by results=NAME: none"):
        read_tree(tmp_path)
    with pytest.raises(InputError, match=r"results=smile: neither .* holds CC or IC"):
        read_tree(tmp_path, "smile")
    empty_tree(tmp_path)
    with pytest.raises(InputError, match=r"no image in .*/Original/Correct or Incorrect"):
        read_tree(tmp_path)
    save(tmp_path / "Original/Correct/1.png", grey(3))
    with pytest.raises(InputError, match=r"no image in .*/smile/CC/CCF/CF or the three beside it"):
        read_tree(tmp_path)
