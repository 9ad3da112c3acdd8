import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfexp.errors import InputError
from cfexp.evaluation.report.gallery import label_map_overlay, region_color, write_page
from cfexp.evaluation.report.table import score_run
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.run_writer import PALETTE, Pixels, painted, picture, record, square, write_run

HOSTILE = "</script><script>alert('&')</script>"
QUERY = painted(picture(), square(0, 0), PALETTE["red"])
REPAINTED = painted(picture(), square(0, 0), PALETTE["blue"])
REGIONS = ["sky", "traffic_light"]
# Elements that HTML never closes.
VOID = {"meta", "link", "input", "br", "img"}


class Nesting(HTMLParser):
    """Follows which elements are open; whatever is closed out of turn fails."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [
            value or "" for name, value in attributes if name in ("src", "href", "action")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(text)


def page_of(run: RunFolder, path: Path, **settings: Any) -> tuple[Nesting, dict[str, Any], str]:
    """The page of a run: what its elements are, its data, and its text."""
    write_page(run, path, **settings)
    text = path.read_text(encoding="utf-8")
    parsed = Nesting()
    parsed.feed(text)
    assert parsed.open == []
    data, _ = parsed.scripts
    return parsed, json.loads(data), text


def pixels_of(data: dict[str, Any], place: int, mode: str = "RGB") -> Pixels:
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(data["pictures"][place]))).convert(mode)
    )


def questions(path: Path, count: int = 4, **known: Any) -> RunFolder:
    """Colour questions, two an image, of which the first is not flipped."""
    records = [
        record(key, "red", "blue" if key else "red", truth="red", image_id=key // 2, **known)
        for key in range(count)
    ]
    mask = square(0, 0)
    return write_run(
        path, [(each, QUERY, REPAINTED, mask) for each in records], data={"palette": PALETTE}
    )


def searches(path: Path) -> RunFolder:
    """Two searches, the second of which the reconstruction flips; of the first the label map is
    stored.
    """
    rows = []
    for key in (0, 1):
        decided = {
            "query_class": 0,
            "counter_class": 1,
            "stored_class": 1,
            "reconstruction_class": key,
        }
        found = {
            "code_distance": 2.0,
            "flip_step": 3,
            "region_change": [0.5, 2.0],
            "question_type": None,
        }
        swept = {"sweep_success": [0, 1], "sweep_distance": [1.0, 2.0], "sweep_flip_step": [-1, 3]}
        known = record(key, "stop", "go", truth="", image_id=key)
        smallest = {
            "sweep_smallest_set": [False, True],
            "query_logits": [0.0, -1.0],
            "stored_logits": [0.0, 2.0],
        }
        rows.append(({**known, **decided, **found, **swept, **smallest}, QUERY, REPAINTED, None))
    run = write_run(path, rows, data={"region_names": REGIONS})
    label_map = square(0, 0).astype(np.uint8)
    run.picture("label_map", 0).parent.mkdir()
    Image.fromarray(label_map).save(run.picture("label_map", 0))
    return run


def test_a_page_of_questions_holds_all_of_them_and_their_pictures_exactly(tmp_path: Path) -> None:
    _, data, text = page_of(questions(tmp_path / "run"), tmp_path / "page.html", title="My run")
    assert "<h1>My run</h1>" in text
    assert [card["key"] for card in data["cards"]] == [0, 1, 2, 3]
    assert [card["outcome"] for card in data["cards"]] == [
        "not flipped",
        "flipped",
        "flipped",
        "flipped",
    ]
    assert data["outcomes"] == ["not flipped", "flipped"]
    first = data["cards"][0]
    assert (first["caption"], first["before"], first["after"], first["truth"]) == (
        "Question 0?",
        "red",
        "red",
        "red",
    )
    assert np.array_equal(pixels_of(data, first["pictures"]["query"]), QUERY)
    assert np.array_equal(pixels_of(data, first["pictures"]["counterfactual"]), REPAINTED)
    shade = pixels_of(data, first["pictures"]["truth"], "RGBA")
    assert (shade[..., 3] == 0).tolist() == square(0, 0).tolist()
    # What is asked of one picture, or left as it was, is embedded once: two pictures, and four
    # masks.
    assert len(data["pictures"]) == 2 + 4
    assert set(data["groups"]) == {"what color", "what color is the", "other", "all"}
    assert all(set(card["groups"]) == set(data["groups"]) for card in data["cards"])
    assert (data["before"], data["amplified"]) == ("query", 3)


def test_the_scores_are_those_of_the_table(tmp_path: Path) -> None:
    run = questions(tmp_path / "run", query_probability=0.75)
    _, data, _ = page_of(run, tmp_path / "page.html")
    place = data["scores"].index("rms change (of 255)")
    mean = np.mean([card["scores"][place] for card in data["cards"]])
    row = score_run(run).find("all", "rms_change")
    assert mean == pytest.approx(getattr(row, "value", None), rel=1e-3)
    assert data["cards"][0]["scores"][:2] == [0.75, None]
    assert not any("flip" in name or "checkerboard" in name for name in data["scores"])


def test_a_page_of_searches_shows_the_regions(tmp_path: Path) -> None:
    _, data, text = page_of(searches(tmp_path / "run"), tmp_path / "page.html")
    first, second = data["cards"]
    assert (first["outcome"], second["outcome"]) == ("flipped", "flipped by the reconstruction")
    assert (first["caption"], first["changes"]) == (
        "changed most: traffic light",
        [[1, 2.0], [0, 0.5]],
    )
    assert first["sweep"] == [["sky", 0, 1.0], ["traffic_light", 1, 2.0]]
    assert first["logits"] == [[0.0, -1.0], [0.0, 2.0]]
    assert [name for name, _ in data["regions"]] == REGIONS
    assert data["before"] == "reconstruction"
    overlay = pixels_of(data, first["pictures"]["label_map"], "RGBA")
    assert tuple(overlay[0, 0]) == (*region_color(1), 215)
    assert tuple(overlay[20, 20]) == (*region_color(0), 54)  # a quarter as far
    assert "label_map" not in second["pictures"]
    assert "Not scored" in text


def test_numbers_that_are_none_leave_a_page_that_a_browser_reads(tmp_path: Path) -> None:
    run = searches(tmp_path / "run")
    lines = run.explanations / "records-0.jsonl"
    broken = (
        lines.read_text()
        .replace("[0.5, 2.0]", "[NaN, 2.0, Infinity]")
        .replace("[0.0, -1.0]", "[NaN, -Infinity]")
    )
    lines.write_text(broken.replace('"sweep_distance": [1.0, 2.0]', '"sweep_distance": [1.0, NaN]'))
    (run.path / "metrics.json").write_text(
        '{"groups": {"all": {"fid": {"value": NaN, "n": 2, "low": NaN, "high": NaN, "unit": ""}}}}'
    )
    parsed, data, text = page_of(run, tmp_path / "page.html")
    assert not re.search(r"NaN|Infinity", parsed.scripts[0])
    first = data["cards"][0]
    assert (first["caption"], first["changes"]) == ("changed most: traffic light", [[1, 2.0]])
    assert first["logits"][0] == [None, None]
    assert first["sweep"][1] == ["traffic_light", 1, None]
    assert [name for name, _ in data["regions"]] == [
        *REGIONS,
        "region 2",
    ]  # one more than have a name
    assert "<td>fid</td><td>—</td><td>—</td><td>2</td>" in text


def test_answers_without_a_name_are_the_numbers_of_the_classes(tmp_path: Path) -> None:
    known = record(1, "red", "blue", truth="red") | {
        "answer_before": None,
        "question": "half of a letter: \ud83d",
    }
    del known["answer_after"]
    run = write_run(tmp_path / "run", [(known, QUERY, REPAINTED, None)])
    (run.path / "config.yaml").write_bytes(b"name: \xff")
    _, data, text = page_of(run, tmp_path / "page.html", title="\ud83d")
    (card,) = data["cards"]
    assert (card["before"], card["after"]) == ("1", "0")
    assert "<h1>?</h1>" in text


def test_a_damaged_table_is_said(tmp_path: Path) -> None:
    run = questions(tmp_path / "run", count=1)
    (run.path / "metrics.json").write_text('{"groups": ')
    with pytest.raises(InputError, match=r"metrics\.json: cannot be read"):
        write_page(run, tmp_path / "page.html")


def test_the_overlay_of_an_edit_of_nothing_is_clear() -> None:
    label_map = np.array([[0, 1]], dtype=np.uint8)
    assert np.asarray(label_map_overlay(label_map, [0.0, 0.0]))[..., 3].tolist() == [[0, 0]]
    assert len({region_color(index) for index in range(20)}) == 20


def test_all_text_is_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    run = questions(tmp_path / "run", count=1, question=HOSTILE)
    (run.path / "config.yaml").write_text(f"name: {HOSTILE}")
    metrics = {
        "groups": {
            HOSTILE: {"flip_rate": {"value": 50.0, "n": 2, "low": None, "high": None, "unit": "%"}}
        }
    }
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    parsed, data, text = page_of(run, tmp_path / "page.html", title=HOSTILE)
    assert len(parsed.scripts) == 2
    assert HOSTILE not in text
    assert "alert(&#39;&amp;&#39;)" in text
    assert data["cards"][0]["caption"] == HOSTILE
    assert "<td>flip_rate</td><td>50.0 %</td><td>—</td><td>2</td>" in text
    assert parsed.addresses == ["data:,"]
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|@import|innerHTML|\beval\b", text)


def test_the_first_of_a_large_run_and_reduced_pictures(tmp_path: Path) -> None:
    _, data, text = page_of(
        questions(tmp_path / "run"), tmp_path / "page.html", max_explanations=3, max_width=16
    )
    assert "The first 3 of 4 explanations by image and key: not selected" in text
    assert len(data["cards"]) == 3
    assert {pixels_of(data, place).shape for place in range(len(data["pictures"]))} == {(16, 16, 3)}
