"""What the doctor says of a folder of one's own beyond that it can be read."""

from pathlib import Path

from cfexp.data.checks.own import own_table
from cfexp.data.own.data_set import OwnDataSet
from tests.data.damage import findings_of
from tests.data.own.own_writer import name_by_patient, write_own


def test_groups_have_a_row_and_files_of_one_name_in_two_parts_a_note(tmp_path: Path) -> None:
    root = write_own(tmp_path / "set", table=False, maps=False)
    name_by_patient(root, ["cat", "dog"])
    said = {}
    for group in (None, "prefix:_"):
        data = OwnDataSet(str(root), group=group, cache_dir=str(tmp_path / "cache"))
        notes = [each.first for each in findings_of(data) if "names before '_'" in each.first]
        said[group] = {row.what.strip(): row for row in own_table(data)}, notes
    rows, (note,) = said[None]
    assert rows["groups"].found == "none"
    assert "of 20 names before '_', such as p" in note
    assert note.endswith("if each is a patient, data.group=prefix:_ keeps it in one part")
    assert "'cat' (output 0, or below 0)" in rows["class"].taken
    rows, notes = said["prefix:_"]
    assert rows["prefix:_"].found == "20 groups of up to 2 images"
    assert notes == []
