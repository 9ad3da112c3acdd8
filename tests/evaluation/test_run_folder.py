import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cfexp.errors import InputError
from cfexp.evaluation.run_folder import FORMAT_VERSION, VERSION_KEY, RunFolder, to_pixels
from tests.evaluation.run_folder_page import PAGE, documented
from tests.evaluation.run_writer import picture, record, square, write_run


def three(path: Path) -> RunFolder:
    known = (record(key, "red", "blue", truth="red", image_id=key) for key in (30, 10, 20))
    return write_run(path, [(each, picture(), picture((1, 2, 3)), square(0, 0)) for each in known])


def add(run: RunFolder, *keys: int, rank: int = 0) -> None:
    with run.writer(rank) as store:
        for key in keys:
            store.add(record(key, "red", "blue", truth="red"), {"query": picture()})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    run = three(tmp_path)
    for finished in (False, True):
        if finished:
            run.finish()
        assert run.keys() == {10, 20, 30}
        assert [each["key"] for each in run.records()] == [10, 20, 30]
        assert run.records()[0] == {
            **record(10, "red", "blue", truth="red", image_id=10),
            "has_truth_mask": True,
        }
    assert torch.equal(
        run.images("query", [10, 30]), (torch.full((2, 3, 32, 32), 100.0) / 127.5 - 1)
    )
    assert run.images("counterfactual", [20])[0, :, 5, 5].tolist() == pytest.approx(
        [c / 127.5 - 1 for c in (1, 2, 3)]
    )
    masks = run.masks([10, 20])
    assert masks.shape == (2, 1, 32, 32)
    assert masks.dtype == torch.bool
    assert np.array_equal(masks[0, 0], square(0, 0))
    assert not list(tmp_path.rglob("*.part"))


def test_every_level_survives_the_file(tmp_path: Path) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    images = levels.float() / 127.5 - 1
    with RunFolder(tmp_path).writer() as store:
        store.add({"key": 0}, {"query": to_pixels(images)[0]})
    assert torch.equal(RunFolder(tmp_path).images("query", [0]), images)


def test_the_table_at_the_end(tmp_path: Path) -> None:
    run = three(tmp_path)
    run.finish()
    table = pq.read_table(tmp_path / "explanations.parquet")
    assert table["key"].to_pylist() == [10, 20, 30]
    assert table.schema.metadata[VERSION_KEY] == str(FORMAT_VERSION).encode()
    assert table.to_pandas().set_index("key").loc[20, "answer_after"] == "blue"
    assert not list((tmp_path / "explanations").glob("*.jsonl"))


def test_the_table_opens_elsewhere(tmp_path: Path) -> None:
    three(tmp_path).finish()
    table = tmp_path / "explanations.parquet"
    assert pd.read_parquet(table).set_index("key").loc[[10, 30], "answer_before"].tolist() == [
        "red",
        "red",
    ]
    duckdb = pytest.importorskip("duckdb")
    query = f"select count(*), sum(key), max(len(answers)) from '{table}' where stored_success"
    assert duckdb.sql(query).fetchall() == [(3, 60, 10)]


def test_the_page_says_the_version_and_every_file() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"Version {FORMAT_VERSION}" in page
    assert VERSION_KEY.decode() in page
    assert {"explanations.parquet", "provenance.json", "config.yaml", "data.json"} <= documented(
        "Files"
    )


def test_finishing_twice_and_going_on_after_it(tmp_path: Path) -> None:
    run = three(tmp_path)
    run.finish()
    run.finish()
    with run.writer() as store:
        assert store.keys == {10, 20, 30}
        store.add({"key": 5, "new": 1.5}, {"query": picture()})
    run.finish()
    assert [each["key"] for each in run.records()] == [5, 10, 20, 30]
    assert run.records()[0]["new"] == 1.5
    assert run.records()[1]["new"] is None


def test_killed_between_the_table_and_the_lines(tmp_path: Path) -> None:
    run = three(tmp_path)
    lines = (tmp_path / "explanations/records-0.jsonl").read_bytes()
    run.finish()
    (tmp_path / "explanations/records-0.jsonl").write_bytes(lines)
    assert len(run.records()) == 3
    run.finish()
    assert pq.read_table(tmp_path / "explanations.parquet").num_rows == 3


def test_the_processes_are_merged(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    add(run, 1, 4, rank=0)
    add(run, 2, 3, rank=1)
    assert run.writer(2).keys == {1, 2, 3, 4}
    run.finish()
    assert [each["key"] for each in run.records()] == [1, 2, 3, 4]


def test_a_key_is_stored_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    add(run, 7)
    with run.writer(rank=1) as store, pytest.raises(ValueError, match="key 7 is stored already"):
        store.add(record(7, "red", "blue", truth="red"), {"query": picture()})


def test_killed_at_any_byte_of_a_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    add(run, 1, 2)
    path = tmp_path / "explanations/records-0.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole) + 1):
        path.write_bytes(whole[:length])
        left = {1, 2} if length == len(whole) else {1}
        assert run.keys() == left
        with run.writer() as store:
            assert store.keys == left
            if 2 not in left:
                store.add(record(2, "red", "blue", truth="red"), {"query": picture()})
        assert path.read_bytes() == whole


def test_the_torn_line_of_another_process_is_left_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    add(run, 1, rank=0)
    add(run, 2, 3, rank=1)
    path = tmp_path / "explanations/records-1.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    add(run, 3, rank=0)
    run.finish()
    assert [each["key"] for each in run.records()] == [1, 2, 3]


def write_on(path: Path) -> None:
    run = RunFolder(path)
    with run.writer() as store:
        for key in range(10_000):
            if key not in store.keys:
                store.add(
                    record(key, "red", "blue", truth="red"),
                    {"query": picture(), "truth_mask": square(0, 0)},
                )


def test_killed_for_real(tmp_path: Path) -> None:
    held = 0
    for seconds in (0.05, 0.11, 0.17):
        process = multiprocessing.get_context("fork").Process(target=write_on, args=(tmp_path,))
        process.start()
        time.sleep(seconds)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        keys = RunFolder(tmp_path).keys()
        assert keys == set(range(len(keys)))
        assert len(keys) >= held
        held = len(keys)
        if keys:
            RunFolder(tmp_path).images("query", sorted(keys))
            RunFolder(tmp_path).masks(sorted(keys))
    assert held > 0


# --- what is wrong with a folder


def test_no_run(tmp_path: Path) -> None:
    files = ".*/explanations/records-0.jsonl or .*/explanations.parquet"
    expected = f"no explanations in {tmp_path}: expected {files}"
    with pytest.raises(InputError, match=expected):
        RunFolder(tmp_path).records()
    assert RunFolder(tmp_path).keys() == set()
    with RunFolder(tmp_path).writer():
        pass
    with pytest.raises(InputError, match="stopped before its first explanation"):
        RunFolder(tmp_path).records()


def test_missing_picture(tmp_path: Path) -> None:
    run = three(tmp_path)
    (tmp_path / "explanations/query/20.png").unlink()
    with pytest.raises(InputError, match=r"explanations/query/20\.png is missing"):
        run.images("query", [10, 20])


def test_every_truncation_of_a_picture(tmp_path: Path) -> None:
    run = three(tmp_path)
    path = tmp_path / "explanations/query/20.png"
    whole = path.read_bytes()
    # Without its last chunk, which holds nothing, the picture is whole.
    for length in range(len(whole) - 20):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"explanations/query/20\.png: damaged PNG"):
            run.images("query", [20])


def test_pictures_of_two_sizes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.writer() as store:
        store.add({"key": 1}, {"query": picture(side=16)})
        store.add({"key": 2}, {"query": picture()[:20]})
    with pytest.raises(InputError, match=r"2\.png is 32x20 pixels, .*1\.png 16x16"):
        run.images("query", [1, 2])


@pytest.mark.parametrize(
    ("line", "problem"),
    [("{'key'", "damaged"), ("[1]", "no record"), ('{"key": "1"}', "no record")],
)
def test_damaged_line(tmp_path: Path, line: str, problem: str) -> None:
    run = RunFolder(tmp_path)
    add(run, 1)
    path = tmp_path / "explanations/records-0.jsonl"
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(InputError, match=rf"records-0\.jsonl: line 1 is .*{problem}"):
        run.records()


def test_damaged_table(tmp_path: Path) -> None:
    run = three(tmp_path)
    run.finish()
    (tmp_path / "explanations.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"explanations\.parquet: damaged Parquet"):
        run.records()


def test_table_of_another_version(tmp_path: Path) -> None:
    for version in (None, "3"):
        metadata = None if version is None else {VERSION_KEY: version.encode()}
        pq.write_table(
            pa.table({"key": [1]}).replace_schema_metadata(metadata),
            tmp_path / "explanations.parquet",
        )
        with pytest.raises(
            InputError, match=f"format version '{version or ''}', this cfexp reads 1 and 2"
        ):
            RunFolder(tmp_path).records()


def test_pictures_that_cannot_be_stored(tmp_path: Path) -> None:
    with RunFolder(tmp_path).writer() as store:
        for image in (picture().astype(float), picture()[..., :1], picture()[..., 0].astype(int)):
            with pytest.raises(ValueError, match="query must be"):
                store.add({"key": 1}, {"query": image})
        assert store.keys == set()


def test_data(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.data == {}
    assert run.palette is None
    (tmp_path / "data.json").write_text(json.dumps({"palette": {"red": [200, 10, 20]}}))
    assert run.palette == {"red": (200, 10, 20)}
    for damaged in ("{", "[]"):
        (tmp_path / "data.json").write_text(damaged)
        with pytest.raises(InputError, match=r"data\.json"):
            _ = run.data


def test_label_maps_of_runs_of_before_are_found_and_added_to(tmp_path: Path) -> None:
    run, label_map = RunFolder(tmp_path), np.full((4, 4), 3, np.uint8)
    add(run, 1)
    (tmp_path / "explanations/layout").mkdir()
    Image.fromarray(label_map).save(tmp_path / "explanations/layout/1.png")
    with run.writer() as store:
        store.add(record(2, "red", "blue", truth="red"), {"label_map": label_map})
    assert sorted(path.name for path in (tmp_path / "explanations/layout").iterdir()) == [
        "1.png",
        "2.png",
    ]
    for key in (1, 2):
        np.testing.assert_array_equal(run.label_map(key), label_map)
