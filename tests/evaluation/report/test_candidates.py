"""The candidates of an explanation in the sheet and on the gallery's page."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cfexp.evaluation.report.candidates import candidates_of, tile_size
from cfexp.evaluation.report.gallery import write_page
from cfexp.evaluation.report.sheet import counterfactual_sheet
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.run_writer import PALETTE, picture, record, write_run

TOLD = {
    "candidate_answers": ["not red", "red", "red"],
    "candidate_stored_probability": [0.9, 0.5, 0.75],
    "candidate_stored_success": [True, False, False],
}


def run_of(folder: Path, **told: Any) -> RunFolder:
    known = record(3, "red", "blue", truth="red", **told)
    run = write_run(folder, [(known, picture(), picture(PALETTE["blue"]), None)])
    for number, color in enumerate(PALETTE.values(), 1):
        path = run.picture(f"candidate_{number}", 3)
        path.parent.mkdir()
        Image.fromarray(picture(color)).save(path)
    return run


def test_a_record_tells_of_them_in_their_order() -> None:
    asked = {"query_class": 0, "counter_class": 1}
    found = candidates_of({**asked, **TOLD})
    assert [each.picture for each in found] == ["candidate_1", "candidate_2", "candidate_3"]
    assert found[0] == ("candidate_1", "not red", 0.9, True)
    assert candidates_of({"candidate_stored_success": None}) == []
    # What the reconstruction has flipped, or was never to be turned, succeeds in nothing.
    for known in ({**asked, "reconstruction_class": 1}, {"query_class": 1, "counter_class": 1}):
        assert not any(each.success for each in candidates_of({**known, **TOLD}))


def test_they_share_the_width_of_a_card() -> None:
    assert tile_size(Image.new("RGB", (64, 32)), 10, 486, 6, 160) == (43, 22)
    assert tile_size(Image.new("RGB", (64, 64)), 2, 486, 6, 160) == (160, 160)


def test_the_sheet_has_a_strip_of_them(tmp_path: Path) -> None:
    counterfactual_sheet(run_of(tmp_path / "with", **TOLD), tmp_path / "with.png")
    counterfactual_sheet(run_of(tmp_path / "without"), tmp_path / "without.png")
    with Image.open(tmp_path / "with.png") as one, Image.open(tmp_path / "without.png") as other:
        assert one.height > other.height + 32
        assert one.width == other.width
        pixels, plain = np.asarray(one), np.asarray(other)
    for color in (PALETTE["red"], PALETTE["green"]):
        assert (pixels == color).all(2).any()
        assert not (plain == color).all(2).any()


def test_the_gallery_has_them_with_their_decisions(tmp_path: Path) -> None:
    write_page(run_of(tmp_path / "run", **TOLD), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    (card,) = data["cards"]
    assert [row[1:] for row in card["candidates"]] == [
        ["not red", 0.9, True],
        ["red", 0.5, False],
        ["red", 0.75, False],
    ]
    # One of them is the counterfactual: its picture is in the page once.
    assert card["candidates"][2][0] == card["pictures"]["counterfactual"]
