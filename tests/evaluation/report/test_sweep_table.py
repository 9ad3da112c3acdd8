"""The table and the plot of a sweep, of members as runs leave them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cfexp.declaration import Declaration
from cfexp.errors import InputError
from cfexp.evaluation.measure import directions, edits, pixels, vqa
from cfexp.evaluation.measure.networks import similarity
from cfexp.evaluation.report import sweep_table
from cfexp.evaluation.report.members import (
    Member,
    forget_unfinished,
    measured,
    members_of_runs,
    read_members,
    write_note,
)
from cfexp.evaluation.report.plot import COLORS, Line, Panel, Point, save_panels
from cfexp.evaluation.report.sweep_table import print_members, save_and_show
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.steex.steex import STEEX

IDENTITY = similarity("identity_similarity", lambda images: images.flatten(1))
OF_SEARCHES = {column.name: column.shown for column in STEEX.columns if column.shown is not None}
SUCCESS = next(measure for measure in directions.measures() if measure.name == "success_kept")
COLUMNS = {
    measure.name: measure.shown
    for measure in (*vqa.measures(), SUCCESS)
    if measure.shown is not None
}
COLUMNS |= OF_SEARCHES
COLUMNS |= {
    measure.name: measure.shown
    for measure in (*edits.of_declared(Declaration()), *pixels.measures(), IDENTITY)
    if measure.shown is not None
}
BLUE = np.array([int(COLORS[0][place : place + 2], 16) for place in (1, 3, 5)])
WEIGHTS = ("0", "0.03", "0.1", "0.3", "1", "3")


def write_member(
    sweep: Path, parameters: dict[str, str], metrics: dict[str, float] | None, **note: Any
) -> None:
    folder = sweep / ",".join(f"{name}={value}" for name, value in parameters.items())
    folder.mkdir(parents=True)
    write_note(folder, parameters, **note)
    if metrics is not None:
        rows = {
            name: {"value": value, "n": 20, "low": value - 1, "high": value + 1, "unit": ""}
            for name, value in metrics.items()
        }
        rows["unknown"] = {"value": None, "n": 0, "low": None, "high": None, "unit": ""}
        rows["rms_change"] = {
            "value": 9.0,
            "n": 1,
            "low": None,
            "high": None,
            "unit": "of 255",
        }  # no interval
        columns = [
            {"metric": name, **shown._asdict()} for name, shown in COLUMNS.items() if name in rows
        ]
        (folder / "metrics.json").write_text(
            json.dumps({"groups": {"all": rows, "a -> b": {}}, "columns": columns})
        )


def searched(weight: float, **more: float) -> dict[str, float]:
    return {"success_kept": 100 - weight, "code_distance": 5 - weight, "rms_change": 9.0, **more}


def shown(sweep: Path, width: int = 160) -> list[str]:
    console = Console(width=width, record=True)
    save_and_show(sweep, read_members(sweep), console)
    return console.export_text().splitlines()


def test_a_table_and_a_plot_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    sweep = tmp_path / "steex_smile" / "sweep_explainer.proximity_weight"
    for weight in reversed(WEIGHTS):
        identity = {
            "identity_similarity": 0.5 + float(weight) / 10,
            "identity_similarity_reconstruction": 0.9,
        }
        write_member(
            sweep, {"explainer.proximity_weight": weight}, searched(float(weight), **identity)
        )
    lines = shown(sweep)
    assert lines[0].strip() == "steex_smile: 6 members"
    table = [line.split() for line in lines if line.split()[:1] and line.split()[0] in WEIGHTS]
    assert [line[0] for line in table] == list(WEIGHTS)
    assert table[2] == ["0.1", "20", "99.9", "4.90", "9.0", "0.510", "0.900"]
    assert any("[98.9, 100.9]" in line for line in lines)  # below the 99.9
    with (sweep / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    distance = [rows[5][f"code_distance{of}"] for of in ("", "_n", "_low", "_high")]
    assert distance == ["2.0", "20", "1.0", "3.0"]
    assert (rows[5]["rms_change_n"], rows[5]["rms_change_low"]) == ("1", "")
    assert [row["explainer.proximity_weight"] for row in rows] == list(WEIGHTS)
    assert float(rows[2]["identity_similarity"]) == 0.51
    content = json.loads((sweep / "sweep.json").read_text())
    assert content[5]["metrics"]["code_distance"] == {
        "value": 2.0,
        "n": 20,
        "low": 1.0,
        "high": 3.0,
    }
    with Image.open(sweep / "sweep.png") as plot:
        drawn, width = np.asarray(plot.convert("RGB")), plot.width
    marked = (np.abs(drawn.astype(int) - BLUE).sum(-1) < 30).any(0)
    for third in range(3):  # success, distance and identity have a curve each
        assert marked[third * width // 3 : (third + 1) * width // 3].sum() > 150


def test_what_is_not_measured_has_no_column_and_what_failed_says_why(tmp_path: Path) -> None:
    write_member(tmp_path, {"a.b": "x"}, searched(0), objective=1.5)
    write_member(tmp_path, {"a.b": "y"}, None, error="out of memory")
    write_member(tmp_path, {"a.b": "z"}, None)
    lines = shown(tmp_path)
    assert not any("identity" in line or "flip" in line for line in lines)
    (row,) = [line.split() for line in lines if line.split()[:1] == ["x"]]
    assert row == ["x", "20", "100.0", "5.00", "9.0", "1.5"]
    assert "failed: a.b=y: out of memory" in lines
    assert "not finished: a.b=z" in lines
    with (tmp_path / "sweep.csv").open(newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == [
            "finished",
            "failed",
            "not finished",
        ]
    forget_unfinished(tmp_path)
    assert [member.name for member in read_members(tmp_path)] == ["a.b=x"]


def test_a_narrow_terminal_has_several_tables(tmp_path: Path) -> None:
    for name in ("pgd", "nearest_image"):
        identity = {"identity_similarity": 0.5, "identity_similarity_reconstruction": 0.9}
        write_member(tmp_path, {"explainer": name}, searched(0, **identity))
    lines = shown(tmp_path, width=70)
    assert max(map(len, lines)) <= 70
    assert sum(line.split()[:1] == ["nearest_image"] for line in lines) == 2
    assert not any("…" in line for line in lines)


def test_runs_are_told_apart_by_as_little_of_their_paths_as_does(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("steex/default", "pgd/default", "m" * 60)]
    for run, method in zip(runs, ("STEEX", "PGD", "PGD"), strict=True):
        RunFolder(run).declare(Declaration(method))
    told = [list(member.parameters.values()) for member in members_of_runs(runs[:2])]
    assert told == [["steex/default", "STEEX"], ["pgd/default", "PGD"]]
    assert members_of_runs(runs[1:])[0].parameters["run"] == "default"
    console = Console(width=100, record=True)
    print_members("runs", members_of_runs(runs), console)
    text = console.export_text()
    assert (text.count("m"), "…" in text) == (61, False)  # folded, not cut


def test_names_are_not_joined_by_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Panel] = []
    monkeypatch.setattr(
        sweep_table, "save_panels", lambda path, title, panels, *rest: drawn.extend(panels)
    )
    for key, values in (("names", ("pgd", "blend")), ("numbers", ("1", "0.1"))):
        for value in values:
            floor = {"identity_similarity": 0.5, "identity_similarity_reconstruction": 0.9}
            write_member(tmp_path / key, {"explainer": value}, searched(0, **floor))
        shown(tmp_path / key)
        assert {line.joined for panel in drawn for line in panel.lines} == {key == "numbers"}
        drawn.clear()
    lines = [Line("", [Point(0, 1.0), Point(1, 1.0)], joined=joined) for joined in (False, True)]
    widths = []
    for number, line in enumerate(lines):
        path = tmp_path / f"{number}.png"
        save_panels(path, "", [Panel("", [line])], [], "x")
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        widths.append((np.abs(pixels - BLUE).sum(-1) < 30).any(0).sum())
    assert widths[1] > 10 * widths[0]


def test_several_settings_a_cloud_of_trials_and_a_stage(tmp_path: Path) -> None:
    for number in range(3):
        for regions in ("[car]", "[sky]"):
            write_member(
                tmp_path / "grid", {"n": str(number), "regions": regions}, searched(number)
            )
    lines = shown(tmp_path / "grid")
    assert sum(line.split()[1:2] == ["[car]"] for line in lines) == 3
    for number in range(14):
        parameters = {"p": str(number / 7), "q": str(0.3 * number % 1)}
        write_member(
            tmp_path / "trials",
            parameters,
            {"flip_rate_right": 50, "accuracy_before": 9},
            objective=number,
        )
    assert any("objective" in line for line in shown(tmp_path / "trials"))
    with (
        Image.open(tmp_path / "grid" / "sweep.png") as grid,
        Image.open(tmp_path / "trials" / "sweep.png") as trials,
    ):
        assert grid.height > trials.height  # a legend
    stage = tmp_path / "stages" / "lr=1"
    stage.mkdir(parents=True)
    write_note(stage, {"lr": "1"})
    (stage / "metrics.json").write_text('{"test/accuracy": 0.25, "val/accuracy": 0.5}')
    assert [line.split() for line in shown(tmp_path / "stages") if line.split()[:1] == ["1"]] == [
        ["1", "0.250"]
    ]


def test_nothing_to_draw_leaves_no_plot(tmp_path: Path) -> None:
    (tmp_path / "sweep.png").write_bytes(b"of an earlier time")
    save_and_show(
        tmp_path, [Member("only", {}, {}, None, None)], Console(file=(tmp_path / "out").open("w"))
    )
    assert not (tmp_path / "sweep.png").exists()


def test_damaged_files_are_input_errors(tmp_path: Path) -> None:
    write_member(tmp_path, {"a": "1"}, {})
    (tmp_path / "a=1" / "metrics.json").write_text("[")
    with pytest.raises(InputError, match=r"metrics\.json: cannot be read"):
        measured(tmp_path / "a=1")


def test_one_point_and_no_interval_are_drawn(tmp_path: Path) -> None:
    panels = [Panel("b", [Line("", [Point(0, 1.0)])]), Panel("c", [])]
    save_panels(tmp_path / "a.png", "a", panels, [(0, "0")], "x")
    with Image.open(tmp_path / "a.png") as image:
        assert np.asarray(image.convert("L")).min() < 60


def test_what_is_no_number_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(
        '{"test/accuracy": NaN, "test/loss": 1.5, "val/loss": Infinity}'
    )
    assert list(measured(tmp_path)) == ["test/loss"]
