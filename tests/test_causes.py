"""`python -m cfexp.causes` on runs over embedded streets of models whose causes are known."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cfexp import causes
from cfexp.evaluation.causes import interventions
from cfexp.evaluation.run_folder import Record
from tests.causal_runs import SeesBlue, SeesRed, write_causal_run
from tests.commands import InProcess, Main

FACTORS = "factors=[light,brake_lights,facade]"


@pytest.fixture
def main(in_process: InProcess) -> Main:
    """Runs `python -m cfexp.causes ARGUMENTS` within this process."""
    return partial(in_process, causes.main)


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return content


def test_what_is_a_cause_is_told_from_what_is_none(main: Main, tmp_path: Path) -> None:
    run = write_causal_run(tmp_path / "run", SeesRed, count=8)
    code, out, err = main(f"run={run}", FACTORS, "num_threads=1")
    assert (code, err) == (0, [])
    found = metrics(run / "causes")
    assert found["scenes"] == found["alike"]["n"] == 8
    assert found["alike"]["value"] == 100
    factors = found["factors"]
    assert factors["facade"]["cace"]["value"] == pytest.approx(0, abs=0.01)
    assert factors["facade"]["turned"] == {**factors["facade"]["turned"], "value": 0, "n": 8}
    assert factors["light"]["cace"]["value"] > 40
    # No other value than red is in the way of a go, and no scene here has a green light and goes.
    assert factors["light"]["sufficiency"]["value"] == 100
    assert factors["light"]["both"] == factors["light"]["turned"]
    assert factors["light"]["reverse"]["value"] == 0
    assert factors["light"]["claimed"] == factors["light"]["turned"]
    assert found["agreement"]["value"] == pytest.approx(1)
    assert any(line.startswith("rank correlation of what explanations claim") for line in out)
    assert "| light | red / green |" in (run / "causes" / "table.md").read_text()
    for picture in ("interventions.png", "claims.png"):
        assert Image.open(run / "causes" / picture).size[0] > 300


def test_a_killed_run_goes_on_and_ends_alike(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_causal_run(tmp_path / "run", SeesRed, count=3)
    arguments = (f"run={run}", "factors=[facade]", "num_threads=1")
    asked, answer = [], interventions._answer

    def counted(record: Record, *given: Any) -> interventions.Answer:
        asked.append(record["key"])
        return answer(record, *given)

    monkeypatch.setattr(interventions, "_answer", counted)
    assert main(*arguments)[0] == 0
    kept = run / "causes" / "interventions.jsonl"
    whole, table = kept.read_bytes(), (run / "causes" / "metrics.json").read_bytes()
    kept.write_bytes(whole[:-20])  # a torn last line
    assert main(*arguments)[0] == 0
    assert asked == [0, 1, 2, 2]
    assert kept.read_bytes() == whole
    assert (run / "causes" / "metrics.json").read_bytes() == table
    assert main(arguments[0], "factors=[sky]", "num_threads=1", "max_scenes=1")[0] == 0
    assert asked[4:] == [0]  # of other factors nothing is kept


def test_of_several_runs_there_is_a_curve(main: Main, tmp_path: Path) -> None:
    runs = [
        write_causal_run(tmp_path / network.__name__, network, count=2, bias=bias, swept=False)
        for network, bias in ((SeesBlue, 0.9), (SeesRed, 0.0))
    ]
    listed = f"run=[{runs[0]},{runs[1]}]"
    code, out, err = main(listed, "factors=[facade]", "output=curve", "num_threads=1")
    assert (code, err) == (0, [])
    curve = json.loads((tmp_path / "curve" / "curve.json").read_text(encoding="utf-8"))
    assert [point["at"] for point in curve["points"]] == [0.0, 0.9]
    assert [point["turned"]["value"] for point in curve["points"]] == [0, 100]
    assert [point["through"]["value"] for point in curve["points"]] == [0, 100]
    assert any("rises from point to point" in line for line in out)
    assert any(line.startswith("no rank correlation: the run tried no region") for line in out)
    assert (tmp_path / "curve" / "curve.png").is_file()
    assert not (tmp_path / "curve" / "SeesRed" / "claims.png").exists()
    # A folder of runs, as a sweep leaves one, stands for them.
    assert main(f"run={tmp_path}", "factors=[facade]", "num_threads=1")[0] == 0
    assert json.loads((tmp_path / "causes" / "curve.json").read_text(encoding="utf-8")) == curve


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: run must be given: run=VALUE"),
        (["run=nowhere"], "error: no explanations in nowhere: expected "),
        (["run=RUN", "factors=[moon]"], "error: factors: there is no 'moon'; there are light, "),
        (["run=RUN", "factors=light"], "error: factors must be a list of names, as factors="),
        (["run=RUN", "max_scenes=0"], "error: max_scenes must be a whole number of at least 1"),
        (["run=RUN", "tolerated=-1"], "error: tolerated must be percent, 0 to 100, got -1"),
        (["run=RUN", "output=no/where"], "error: output=no/where: there is no folder no"),
        (["run=[RUN,other]"], "error: of several runs a curve of one factor is made: name it"),
        (["run=[RUN,RUN]", "factors=[sky]"], "error: run names a run folder twice"),
        (["run=[RUN,o]", "factors=[sky]", "over=name"], "error: over=name: RUN has no number"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    main: Main, tmp_path: Path, arguments: list[str], message: str
) -> None:
    run = write_causal_run(tmp_path / "run", SeesRed, count=1)
    code, _, err = main(*(each.replace("RUN", str(run)) for each in arguments))
    assert (code, len(err)) == (2, 1), err
    assert err[0].startswith(message.replace("RUN", str(run)))


def test_a_run_at_another_size_than_the_worlds_is_refused(main: Main, tmp_path: Path) -> None:
    run = write_causal_run(tmp_path / "run", SeesRed, count=1)
    path = run / "config.yaml"
    larger = "world:\n    image_height: 80\n    image_width: 160"
    path.write_text(path.read_text(encoding="utf-8").replace("world:", larger), encoding="utf-8")
    code, _, err = main(f"run={run}")
    assert (code, len(err)) == (2, 1), err
    assert "its pictures are 64x128 pixels, and the world draws 80x160" in err[0]


@pytest.mark.parametrize("data", ["null", "{_target_: cfexp.data.faces.celeba.CelebADataModule}"])
def test_data_without_known_causes_are_refused(main: Main, tmp_path: Path, data: str) -> None:
    run = write_causal_run(tmp_path / "run", SeesRed, count=1)
    (run / "config.yaml").write_text(f"name: other\ndata: {data}\n", encoding="utf-8")
    code, _, err = main(f"run={run}")
    assert (code, len(err)) == (2, 1), err
    assert "the causes of its data are not known; those of the embedded streets" in err[0]
