"""`python -m cfexp.reproduce`: every experiment's commands compose, and a tiny one end to end."""

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cfexp import reproduce
from cfexp.reproduce import EXPERIMENTS, names, read_experiment, result_of, verdict
from cfexp.run.configuration import register_resolvers
from tests.commands import InProcess, Main
from tests.tiny_streets import untrained_networks

CONF = Path(__file__).parents[1] / "conf"
SMALL = [
    "data.world.train_scenes=3",
    "data.world.val_scenes=4",
    "data.cache_images=false",
    "explainer.num_steps=1",
]
TINY = [
    "+requires.autoencoder.overrides=['network.base_channels=4','network.style_dim=8']",
    "+requires.decision.overrides=['network.widths=[4,8]']",
]
ALL = [
    "vqa_accuracy_drop",
    "steex_table1",
    "steex_table2",
    "steex_table3",
    "steex_table4",
    "steex_table5",
]
ALL += ["steex_figure5", "steex_figure12", "steex_figure13", "dive_diversity"]


@pytest.fixture
def main(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.reproduce ARGUMENTS` within this process."""
    monkeypatch.setenv("COLUMNS", "200")
    return partial(in_process, reproduce.main)


def test_every_table_and_figure_is_there() -> None:
    assert names(EXPERIMENTS) == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_commands_compose(name: str) -> None:
    experiment = read_experiment(EXPERIMENTS / name)
    commands = [
        (command, [*rest, f"{reproduce.LIMITS[command]}=3"])
        for command, *rest in experiment["runs"].values()
    ]
    for run, given in experiment.get("evaluate", {}).items():
        assert run in experiment["runs"]
        commands.append(("evaluate", [*given, "run=nowhere"]))
    for line in experiment["paper_commands"]:
        found = re.fullmatch(r"python -m cfexp\.(\w+) (?:-m )?(.*)", line)
        assert found is not None, line
        assert "+experiment=paper/" in line
        commands.append((found[1], found[2].split()))
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for command, overrides in commands:
            assert compose(command, overrides=overrides) is not None


def test_a_tiny_run_is_held_against_the_paper(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(tmp_path / "cache"))
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = [*SMALL, *TINY, "callbacks.progress=null"]
        config = compose(
            "explain", overrides=["+experiment=steex_driving", *given, "+facts.num_regions=20"]
        )
    given += untrained_networks(config, ("decision", "autoencoder"), tmp_path)
    folder = tmp_path / "experiments" / "tiny"
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = [
        {"name": "PSNR", "run": "streets", "group": "all", "metric": "reconstruction_psnr"}
    ]
    rows += [
        {**rows[0], "name": "... wanted", "better": "lower", "paper": {"BDD100k": 1000}},
        {**rows[0], "metric": "x"},
        {**rows[0], "run": "faces"},
    ]
    content = {
        "title": "A tiny one",
        "runs": {
            "streets": ["explain", "+experiment=steex_driving"],
            "faces": ["explain", "+experiment=pe_smile"],
        },
        "rows": rows,
    }
    OmegaConf.save(OmegaConf.create(content), folder / "experiment.yaml")
    command = [
        "tiny",
        *given,
        "--leave-out",
        "faces",
        "--queries",
        "2",
        "--num-threads",
        "1",
        "--experiments",
        str(folder.parent),
    ]
    code, stdout, stderr = main(*command)
    assert code == 0, stderr
    results = json.loads((folder / "results.json").read_text())
    assert [row["verdict"] for row in results["rows"]] == [
        "for comparison",
        "reached",
        "not computed: this run has no such metric",
        "not run: --leave-out",
    ]
    assert results["rows"][0]["n"] == results["queries"] == 2
    assert results["runs"]["streets"]["seed"] == 0
    checkpoints = results["runs"]["streets"]["checkpoints"]
    assert set(checkpoints) == {"decision", "autoencoder"}
    assert (
        checkpoints["decision"]["path"] == f"{tmp_path.name}/decision.ckpt"
    )  # the same on every machine
    assert results["real_data"].startswith("not run")
    assert any("reached" in line and "1000 (BDD100k)" in line for line in stdout)
    (run,) = (tmp_path / "runs" / "reproduce").iterdir()
    table = (run / "explanations.parquet").stat().st_mtime_ns
    code, stdout, _ = main(*command)
    assert code == 0
    assert not any(line.startswith("python -m cfexp.explain") for line in stdout)  # it is finished
    assert (run / "explanations.parquet").stat().st_mtime_ns == table
    shutil.rmtree(run)
    code, stdout, _ = main("--experiments", str(folder.parent))
    assert code == 0
    assert any("tiny" in line and "2 queries" in line for line in stdout)


@pytest.mark.parametrize(
    ("value", "paper", "better", "expected"),
    [
        (97, {"CelebA": 96, "HQ": 96.5}, "higher", "reached"),
        (97, {"CelebA": 96, "HQ": 98}, "higher", "reached in part"),
        (97, {"CelebA": 98}, "higher", "not told apart"),
        (97, {"CelebA": 99.5}, "higher", "missed"),
        (97, {"CelebA": 99.5}, "lower", "reached"),
        (97, {"CelebA": 99.5}, None, "for comparison"),
        (97, None, "higher", "for comparison"),
    ],
)
def test_verdicts(
    value: float, paper: dict[str, float] | None, better: str | None, expected: str
) -> None:
    found = {"value": value, "low": value - 2, "high": value + 2, "n": 10, "unit": "%"}
    assert verdict({"paper": paper, "better": better}, found) == expected
    alone = {**found, "low": None, "high": None}
    assert verdict({"paper": paper, "better": better}, alone) == expected.replace(
        "missed", "not told apart"
    )


def test_why_a_number_is_missing_is_passed_on() -> None:
    row = {"name": "FID", "run": "a", "group": "all", "metric": "fid"}
    metrics = {"groups": {"all": {}}, "not_computed": {"all": {"fid": "no Inception weights"}}}
    assert result_of(row, metrics)["verdict"] == "not computed: no Inception weights"


@pytest.mark.parametrize(
    ("arguments", "content", "said"),
    [
        (["steex_tabel2"], None, "no experiment 'steex_tabel2' in .*; there are broken"),
        (["broken", "--queries", "0"], None, "--queries must be at least 1, got 0"),
        (["broken"], "title: a", "must have title, runs and rows, and else only"),
        (["broken"], "title: [", "experiment.yaml: "),
        (
            ["broken"],
            "{title: a, runs: {b: [fly]}, rows: []}",
            r"runs\.b must begin with explain or train, got",
        ),
        (
            ["broken"],
            "{title: a, runs: {b: [train]}, rows: [{name: c}]}",
            "a row has name, run .* got {'name': 'c'}",
        ),
        (
            ["broken", "--leave-out", "c"],
            "{title: a, runs: {b: [train]}, rows: []}",
            "--leave-out c: the runs are b",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    main: Main, tmp_path: Path, arguments: list[str], content: str | None, said: str
) -> None:
    (tmp_path / "all" / "broken").mkdir(parents=True)
    (tmp_path / "all" / "broken" / "experiment.yaml").write_text(content or "{}")
    code, _, stderr = main(*arguments, "--experiments", str(tmp_path / "all"))
    assert code == 2
    (line,) = stderr
    assert re.search(f"^error: .*{said}", line)
    code, _, stderr = main("--experiments", str(tmp_path / "nowhere"))
    remedy = "give a checkout's folder by --experiments"
    assert (code, stderr) == (2, [f"error: no experiments in {tmp_path / 'nowhere'}: {remedy}"])
