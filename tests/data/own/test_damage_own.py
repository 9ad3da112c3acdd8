"""What may be wrong with a data set of one's own: each kind is one line that names file, row and
column, and what to do.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from cfexp.data.checks.base import check_data
from cfexp.data.checks.findings import Findings
from cfexp.data.label_maps.module import PARTS
from cfexp.data.own.data_set import OwnDataSet
from cfexp.errors import InputError
from tests.data.own.own_damages import DAMAGES, Damage
from tests.data.own.own_writer import COUNT, write_own

_OF_A_TRAINING = ("no label said of several",)


def use(root: Path, **settings: Any) -> None:
    """Read everything, as a training would."""
    settings = {"label": "state", "cache_dir": str(root.parent / "cache"), **settings}
    data = OwnDataSet(str(root), **settings)
    data.settings()
    for part in PARTS:
        dataset = data.dataset(part)
        for row in range(len(dataset)):
            dataset[row]
    if data.maps.strays:  # a training does without; the doctor says so
        raise InputError(f"{data.maps.strays[0]}: is the label map of no image")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name.replace(" ", "_"))
def test_every_damage_is_one_line_that_says_where_and_what_to_do(
    tmp_path: Path, damage: Damage
) -> None:
    root = write_own(tmp_path / "set")
    damage.do(root)
    with pytest.raises(InputError) as caught:
        use(root, **damage.settings)
    line = str(caught.value)
    assert "\n" not in line
    assert re.search(damage.said, line), line

    findings = Findings()
    settings = {"label": "state", "cache_dir": str(tmp_path / "cache"), **damage.settings}
    try:  # the doctor finds it, too
        check_data(OwnDataSet(str(root), on_bad_sample="skip", **settings), findings, show=False)
    except InputError as error:
        findings.error(str(error))
    if damage.name not in _OF_A_TRAINING:
        assert findings.has_errors
        said = " ".join(finding.first for finding in findings)
        assert re.search(damage.said, said), said


def test_a_sound_folder_has_no_errors(tmp_path: Path) -> None:
    root, findings = write_own(tmp_path / "set"), Findings()
    use(root)
    data = OwnDataSet(str(root), cache_dir=str(tmp_path / "cache"), on_bad_sample="skip")
    assert check_data(data, findings, show=False) == COUNT
    assert not findings.has_errors
    assert len(DAMAGES) >= 30
