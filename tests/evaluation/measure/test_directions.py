import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfexp.data.streets.bdd100k import REGIONS, BDD100kDataModule
from cfexp.declaration import Column, Declaration
from cfexp.evaluation.measure import causes, columns, directions, vqa
from cfexp.evaluation.measure.base import Chunk, Facts, measures_of
from cfexp.evaluation.report.table import Absent, Row, print_table, score_run
from cfexp.evaluation.run_folder import Record, RunFolder, to_pixels
from cfexp.explainers.steex.steex import STEEX
from tests.evaluation.run_writer import picture, write_run

SHOWN = {
    "red": (235, 40, 30),
    "green": (40, 225, 100),
    "dark": (45, 42, 45),
    "orange": (250, 150, 60),
}
DECLARED = Declaration("STEEX", "reconstruction", STEEX.columns, by_direction=True)
LIGHT, CAR, SKY = (REGIONS.index(name) for name in ("traffic_light", "car", "sky"))
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> BDD100kDataModule:
    cache = str(tmp_path_factory.mktemp("cache"))
    return BDD100kDataModule(world={"train_scenes": 1, "val_scenes": 48}, cache_dir=cache)


def searched(streets: BDD100kDataModule, key: int, changed: int = LIGHT, **known: Any) -> Record:
    """What is stored of a search that succeeded, mostly by changing one region."""
    go = int(streets.describe(key)["truth"]["go"])
    change = [0.1] * len(REGIONS)
    change[changed] = 2.0
    decided = {
        "query_class": go,
        "reconstruction_class": go,
        "counter_class": 1 - go,
        "stored_class": 1 - go,
    }
    found = {
        "success": True,
        "stored_success": True,
        "flip_step": 7,
        "code_distance": 2.5,
        "region_change": change,
    }
    return {"key": key, **streets.describe(key), **decided, **found, **known}


def those(streets: BDD100kDataModule, **plan: Any) -> list[int]:
    """The keys of the streets of which the truth says this."""
    count = len(streets.dataset("test"))
    keys = [key for key in range(count) if plan.items() <= streets.describe(key)["truth"].items()]
    assert keys
    return keys


def image(streets: BDD100kDataModule, key: int) -> Tensor:
    return streets.dataset("test")[key].image


def lamps(streets: BDD100kDataModule, key: int) -> list[dict[str, Any]]:
    return [
        lamp for lamp in streets.describe(key)["truth"]["lamps"] if lamp["of"] == "traffic_light"
    ]


def edited(streets: BDD100kDataModule, key: int, only: int | None = None, **places: str) -> Tensor:
    """The street with the lamps at these places of all traffic lights, or of one, painted so."""
    pixels = to_pixels(image(streets, key))[0].copy()
    for lamp in lamps(streets, key):
        if lamp["place"] in places and only in (None, lamp["thing"]):
            pixels.reshape(-1, 3)[lamp["pixels"]] = SHOWN[places[lamp["place"]]]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def measured(record: Record, counterfactual: Tensor, **settings: Any) -> dict[str, float]:
    """The values that mean something, of a search whose reconstruction is 20 dB from its query."""
    query = torch.zeros_like(counterfactual)
    members = {"all": np.ones(1, dtype=bool)}
    data = {"region_names": REGIONS}
    facts = Facts(
        RunFolder("none"),
        data,
        [record],
        DECLARED._replace(**settings),
        members,
        np.zeros(1, dtype=np.int64),
    )
    pictures = query, query + 0.2, counterfactual
    chunk = Chunk(
        facts,
        slice(0, 1),
        [record],
        *pictures,
        torch.zeros(1, 1, 1, 1, dtype=torch.bool),
        counterfactual,
    )
    families = directions.measures(), causes.measures(), causes.targeted(), columns.measures
    values = {}
    for measure in measures_of(families, facts):
        assert callable(measure.of)
        values[measure.name] = float(measure.of(chunk)[0])
    assert values.pop("reconstruction_psnr") == pytest.approx(20, abs=1e-4)
    return {name: value for name, value in values.items() if not math.isnan(value)}


def test_a_red_light_that_turns_green_has_turned(streets: BDD100kDataModule) -> None:
    for key in those(streets, light="red"):
        record = searched(streets, key)
        assert measured(record, edited(streets, key, top="dark", bottom="green")) == {
            **{
                "reconstruction_kept": 100,
                "success_kept": 100,
                "code_distance": 2.5,
                "flip_step": 7,
            },
            **{"causal_region": 100, "lamps_turned": 100},
        }


def test_a_green_light_that_turns_red_has_turned(streets: BDD100kDataModule) -> None:
    for key in those(streets, light="green", go=True):
        right = edited(streets, key, top="red", bottom="dark")
        assert measured(searched(streets, key), right)["lamps_turned"] == 100
        for wrong in (
            {"top": "red"},
            {"top": "orange", "bottom": "dark"},
            {"middle": "red", "bottom": "dark"},
        ):
            assert (
                measured(searched(streets, key), edited(streets, key, None, **wrong))[
                    "lamps_turned"
                ]
                == 0
            )
        third = edited(streets, key, top="red", middle="red", bottom="dark")
        assert measured(searched(streets, key), third)["lamps_turned"] == 0


def test_a_light_that_is_no_cause_need_not_turn(streets: BDD100kDataModule) -> None:
    key = those(streets, light="green", car_ahead="braking")[0]
    found = measured(searched(streets, key), edited(streets, key, top="red", bottom="dark"))
    assert (found["causal_region"], "lamps_turned" in found) == (0, False)


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"top": "dark"},
        {"bottom": "green"},
        {"top": "orange", "bottom": "orange"},
        {"top": "green"},
    ],
)
def test_a_red_light_that_shows_something_else_has_not_turned(
    streets: BDD100kDataModule, places: dict[str, str]
) -> None:
    key = those(streets, light="red")[0]
    assert (
        measured(searched(streets, key), edited(streets, key, None, **places))["lamps_turned"] == 0
    )


def test_all_lights_of_a_street_must_turn(streets: BDD100kDataModule) -> None:
    two = [
        key
        for key in those(streets, light="red")
        if len({lamp["thing"] for lamp in lamps(streets, key)}) == 2
    ]
    one_of_two = edited(streets, two[0], only=0, top="dark", bottom="green")
    assert measured(searched(streets, two[0]), one_of_two)["lamps_turned"] == 0


def test_the_largest_change_must_be_in_a_region_that_is_a_cause(streets: BDD100kDataModule) -> None:
    braking = those(streets, light="none", car_ahead="braking")[0]
    red = those(streets, light="red", car_ahead="none")[0]
    for key, changed, causal in (
        (braking, CAR, 100),
        (braking, SKY, 0),
        (red, LIGHT, 100),
        (red, CAR, 0),
    ):
        found = measured(searched(streets, key, changed), image(streets, key))
        assert found["causal_region"] == causal
        # Lamps are asked about where the lights were changed, and nowhere else.
        assert ("lamps_turned" in found) == (changed == LIGHT)


def test_a_flip_by_the_reconstruction_is_counted_apart(streets: BDD100kDataModule) -> None:
    key = those(streets, light="red")[0]
    record = searched(streets, key, reconstruction_class=1, flip_step=0)
    found = measured(record, edited(streets, key, top="dark", bottom="green"))
    assert found == {"reconstruction_kept": 0, "code_distance": 2.5}
    answers = Column("answers", "of N", summary="mean", explained_only=True)
    for known, expected in (({"reconstruction_class": 1}, {}), ({}, {"answers": 8})):
        found = measured(
            searched(streets, key, answers=8, **known), image(streets, key), columns=(answers,)
        )
        assert {name: each for name, each in found.items() if name == "answers"} == expected


def test_a_query_that_is_of_the_class_asked_for_explains_nothing(
    streets: BDD100kDataModule,
) -> None:
    key = those(streets, light="green", go=True)[0]
    record = searched(streets, key, counter_class=1, flip_step=0)  # go was asked for, and go it was
    assert measured(record, image(streets, key)) == {
        "reconstruction_kept": 100,
        "code_distance": 2.5,
    }


def test_the_regions_that_may_change_are_held_against_the_causes(
    streets: BDD100kDataModule,
) -> None:
    light, car, both, other = (
        ("traffic_light",),
        ("car", "sky"),
        ("car", "traffic_light"),
        ("sky", "terrain"),
    )
    go = those(streets, light="green", car_ahead="coasting")[0]
    stop_for_both = those(streets, light="red", car_ahead="braking")[0]
    stop_for_car = those(streets, light="green", car_ahead="braking")[0]
    cases: list[tuple[int, tuple[str, ...], str]] = [
        *((go, light, "causal"), (go, car, "causal"), (go, other, "other")),
        *(
            (stop_for_both, light, "partial"),
            (stop_for_both, car, "partial"),
            (stop_for_both, both, "causal"),
        ),
        *(
            (stop_for_car, light, "other"),
            (stop_for_car, car, "causal"),
            (stop_for_car, (), "other"),
        ),
    ]
    for key, regions, kind in cases:
        for succeeded in (True, False):
            record = searched(streets, key, stored_success=succeeded)
            found = measured(record, image(streets, key), regions=regions)
            told = {name: value for name, value in found.items() if name.startswith("targeted_")}
            assert told == {f"targeted_{kind}_flip": 100 * succeeded}
    for left_out in ({"reconstruction_class": 1}, {"counter_class": 0}):
        found = measured(
            searched(streets, stop_for_car, **left_out), image(streets, stop_for_car), regions=car
        )
        assert not any(name.startswith("targeted_") for name in found)
    assert not any(
        name.startswith("targeted_") for name in measured(searched(streets, go), image(streets, go))
    )


def test_the_decision_is_right_where_it_is_the_label(streets: BDD100kDataModule) -> None:
    key = those(streets, light="red")[0]
    for known, right in (
        ({}, 100),
        ({"query_class": 1, "reconstruction_class": 1, "counter_class": 0}, 0),
    ):
        record = searched(streets, key, **known)
        assert measured(record, image(streets, key), label="forward")["decision_right"] == right
        # The other label is the opposite; one that nobody knows says nothing.
        assert measured(record, image(streets, key), label="stop")["decision_right"] == 100 - right
        assert "decision_right" not in measured(record, image(streets, key), label="confuse")
        unknown = {**record, "labels": {"forward": None}}
        assert "decision_right" not in measured(unknown, image(streets, key), label="forward")


def test_a_search_that_fails_counts_as_that_only(streets: BDD100kDataModule) -> None:
    key = those(streets, light="red")[0]
    record = searched(streets, key, stored_success=False, flip_step=-1)
    assert measured(record, image(streets, key)) == {
        "reconstruction_kept": 100,
        "success_kept": 0,
        "code_distance": 2.5,
    }
    # A flip on the last step that rounding to 8 bit undoes: no success, so no step either.
    assert (
        measured({**record, "flip_step": 99}, image(streets, key)).keys()
        == measured(record, image(streets, key)).keys()
    )


def test_photographs_have_no_truth_and_other_explainers_no_codes_nor_a_reconstruction_that_flips(
    streets: BDD100kDataModule,
) -> None:
    key = those(streets, light="red")[0]
    photograph = searched(streets, key)
    del photograph["truth"]
    expected = {
        "reconstruction_kept": 100,
        "success_kept": 100,
        "code_distance": 2.5,
        "flip_step": 7,
    }
    assert measured(photograph, image(streets, key)) == expected
    plain = {"key": 1, "image_id": 1, "query_class": 0, "counter_class": 1, "stored_success": True}
    assert measured(plain, image(streets, key)) == {"reconstruction_kept": 100, "success_kept": 100}


def test_a_run_of_searches_is_scored_though_nobody_asked_a_question(
    streets: BDD100kDataModule, tmp_path: Path
) -> None:
    red = those(streets, light="red")[:3]
    settings: list[dict[str, Any]] = [
        {},
        {"reconstruction_class": 1},
        {"stored_success": False, "stored_class": 0},
    ]
    rows = []
    for key, known in zip(red, settings, strict=True):
        query, turned = image(streets, key), edited(streets, key, top="dark", bottom="green")
        record = searched(streets, key, **known)
        record |= {"answer_before": "stop", "answer_after": ("stop", "go")[record["stored_class"]]}
        rows.append((record, to_pixels(query)[0], to_pixels(turned)[0], streets.truth_mask(key)))
    run = write_run(tmp_path / "run", rows, data=streets.description)
    run.declare(DECLARED._replace(regions=("traffic_light",), label="forward"))
    for _ in range(
        2
    ):  # as it is written, and merged: Parquet has the truth of the causes as it was
        scores = score_run(run)
        assert scores.groups == ("all", "stop -> go")
        assert scores.find("go -> stop", "success_kept") == Absent(
            *("go -> stop", "success_kept", "no searches whose reconstruction keeps the decision")
        )
        print_table(scores)
        expected = {
            **{
                "reconstruction_kept": (200 / 3, 3),
                "success_kept": (50, 2),
                "success_stored": (200 / 3, 3),
            },
            **{
                "targeted_causal_flip": (50, 2),
                "decision_right": (100, 3),
                "reconstruction_psnr": (58.92, 3),
            },
            **{
                "code_distance": (2.5, 3),
                "flip_step": (7, 1),
                "causal_region": (100, 1),
                "lamps_turned": (100, 1),
            },
        }
        for name, (value, count) in expected.items():
            row = scores.find("all", name)
            assert isinstance(row, Row)
            assert row.value == pytest.approx(value, rel=1e-4), name
            assert row.n == count, name
        told = {row.metric for row in scores.rows} | {entry.metric for entry in scores.absent}
        assert not told & {
            *(measure.name for measure in (*vqa.measures(), *vqa.colors())),
            "identity_similarity",
        }
        locality = scores.find("all", "edit_locality")
        assert isinstance(locality, Row)
        # What the reconstruction has flipped is no success, wherever successes are counted.
        of_successes = scores.find("all", "rms_change_successes")
        assert isinstance(of_successes, Row)
        assert of_successes.n == 1
        assert locality.value > 50  # the red lamp that forbids is half of what was painted
        run.finish()


def test_names_of_images_need_no_order_of_numbers(tmp_path: Path) -> None:
    records = [
        {
            "key": key,
            "image_id": name,
            "query_class": 0,
            "stored_class": 1,
            "success": True,
            "stored_success": True,
        }
        for key, name in enumerate(["b0000001", "a-2", "a-10"])
    ]
    run = write_run(
        tmp_path / "run", [(record, picture(), picture((90, 100, 100)), None) for record in records]
    )
    row = score_run(run).find("all", "rms_change")
    assert isinstance(row, Row)
    assert row.n == 3
    assert row.value == pytest.approx(10 / 3**0.5)
