from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from cfexp.data.own import made_maps
from cfexp.evaluation.measure import causes, regions
from cfexp.evaluation.measure.base import FLOOR, SUCCESSES, Measure, Measures
from cfexp.evaluation.measure.known import standard_measures
from cfexp.evaluation.measure.networks import (
    cout,
    dlib_distance,
    dlib_verification,
    face_similarity,
    fva,
    lpips,
    similarity,
)
from cfexp.evaluation.measure.oracle import Oracle, cd, mnac, mnac_published, oracle_frechet
from cfexp.evaluation.measure.sets import fid, kid
from cfexp.evaluation.report.closeness_table import print_closeness
from cfexp.evaluation.report.table import Absent, Row, Scores, score_run
from cfexp.evaluation.run_folder import Record, RunFolder
from cfexp.metrics.attributes import correlation_difference
from cfexp.metrics.distances import frechet_interval, kernel_interval
from cfexp.metrics.functional import bootstrap_interval, l1_change, ssim, wilson_interval
from tests.evaluation.run_writer import Pixels, picture, write_run

N = 8
SEEN = np.random.default_rng(0).integers(
    0, 256, size=(N, 3, 3)
)  # the colour of query, counterfactual, reconstruction
SUCCEED = np.arange(N) % 4 > 0


def colours(images: Tensor) -> Tensor:
    """What these judges see: the mean colour, 0 to 255."""
    return (images.mean((2, 3)) + 1) * 127.5


def shown(key: int, which: int) -> Pixels:
    red, green, blue = SEEN[key, which].tolist()
    return picture((red, green, blue))


def known(key: int, **changed: Any) -> Record:
    success = bool(SUCCEED[key])
    record = {
        "key": key,
        "image_id": f"{key}",
        "query_class": 0,
        "counter_class": 1,
        "reconstruction_class": 0,
    }
    record |= {
        "stored_class": int(success),
        "success": success,
        "stored_success": success,
        "flip_step": 1,
    }
    return {**record, "code_distance": 1.0, "region_change": [2.0, 0.5], **changed}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Pictures of one colour each; the label map's upper half is skin, the lower one hair, but
    for the last, all skin.
    """
    folder = tmp_path_factory.mktemp("runs") / "run"
    rows = [(known(key), shown(key, 0), shown(key, 1), None) for key in range(N)]
    written = write_run(folder, rows, data={"region_names": ["skin", "hair"]})
    (written.explanations / "label_map").mkdir()
    for key in range(N):
        Image.fromarray(shown(key, 2)).save(written.picture("reconstruction", key))
        label_map = np.zeros((32, 32), dtype=np.uint8)
        label_map[16:] = key < N - 1
        Image.fromarray(label_map).save(written.picture("label_map", key))
    return written


def scored(run: RunFolder, *measures: Measures) -> Scores:
    return score_run(run, [*standard_measures(), *measures])


def row(scores: Scores, name: str) -> Row:
    found = scores.find("all", name)
    assert isinstance(found, Row), found
    return found


def unchanged(folder: Path) -> RunFolder:
    return write_run(folder, [(known(key), shown(key, 0), shown(key, 0), None) for key in range(N)])


def test_floor_all_and_successes(run: RunFolder) -> None:
    scores = score_run(run)
    images = [run.images(name, range(N)) for name in ("query", "counterfactual", "reconstruction")]
    for name, function in (("l1", l1_change), ("ssim", ssim)):
        values = function(images[0], images[1]).double().numpy()
        floor = function(images[0], images[2]).double().numpy()
        found = row(scores, name)
        assert found[2:6] == pytest.approx((values.mean(), N, *bootstrap_interval(values)))
        assert row(scores, name + FLOOR).value == pytest.approx(floor.mean())
        of_successes = row(scores, name + SUCCESSES)
        assert of_successes[2:4] == pytest.approx((values[SUCCEED].mean(), SUCCEED.sum()))
        # Of the successes alone the number is another one, which is why both are printed.
        assert of_successes.value != pytest.approx(found.value, rel=0.01)


def test_faces(run: RunFolder) -> None:
    shift = 127.5 * torch.ones(3)

    def features(images: Tensor) -> Tensor:
        return colours(images) - shift

    scores = scored(run, fva(features), face_similarity(features))
    first, other = SEEN[:, 0] - 127.5, SEEN[:, 1] - 127.5
    cosine = (first * other).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(other, axis=1)
    same = int((cosine > 0.5).sum())
    assert 0 < same < N
    # The released script asks scipy's cosine distance to be above the threshold: of the same
    # pictures it says others.
    assert same != int((1 - cosine > 0.5).sum())
    assert row(scores, "fva")[2:6] == pytest.approx(
        (100 * same / N, N, *(100 * bound for bound in wilson_interval(same, N)))
    )
    assert row(scores, "face_similarity").value == pytest.approx(cosine.mean(), abs=1e-5)


def test_dlib_counts_only_where_it_finds_faces(run: RunFolder) -> None:
    def descriptors(images: Tensor) -> Tensor:
        seen = colours(images) / 255
        return torch.where(seen[:, :1] > 0.5, seen, torch.nan)

    scores = scored(run, dlib_verification(descriptors), dlib_distance(descriptors))
    found = (SEEN[:, :2, 0] > 127.5).all(1)
    distance = np.linalg.norm((SEEN[:, 0] - SEEN[:, 1]) / 255, axis=1)[found]
    assert 0 < found.sum() < N
    assert row(scores, "dlib_distance")[2:4] == pytest.approx((distance.mean(), found.sum()))
    assert row(scores, "dlib_verification").value == pytest.approx(100 * (distance < 0.6).mean())
    none = scored(run, dlib_verification(lambda images: torch.full((len(images), 2), torch.nan)))
    absent = none.find("all", "dlib_verification")
    assert isinstance(absent, Absent)
    assert absent.reason == "no queries in which dlib finds a face, before and after"


def attributes(images: Tensor) -> Tensor:
    """Three attributes, and the colours as features."""
    seen = colours(images)
    return torch.cat([seen - 127.5, seen / 100], dim=1)


ORACLE = Oracle(attributes, ["red", "green", "blue"], colours)


def hundredths(images: Tensor) -> Tensor:
    return colours(images) / 100


def test_an_oracle_of_attributes_and_its_distance(run: RunFolder) -> None:
    run.declare(run.declaration._replace(label="green"))
    scores = scored(run, mnac(ORACLE), oracle_frechet(ORACLE), cd(ORACLE))
    there = SEEN > 127.5
    changed = (there[:, 0] != there[:, 1]).sum(1)
    assert row(scores, "mnac")[2:4] == pytest.approx((changed.mean(), N))
    assert row(scores, "mnac_reconstruction").value == pytest.approx(
        (there[:, 0] != there[:, 2]).sum(1).mean()
    )
    assert row(scores, "mnac_successes").value == pytest.approx(changed[SUCCEED].mean())
    expected = frechet_interval(SEEN[:, 0] / 100, SEEN[:, 1] / 100)
    found = row(scores, "oracle_frechet")
    assert (found.value, found.low, found.high, found.n) == pytest.approx((*expected, N), rel=1e-3)
    floor = frechet_interval(SEEN[:, 0] / 100, SEEN[:, 2] / 100)
    assert row(scores, "oracle_frechet_reconstruction").value == pytest.approx(
        floor.value, rel=1e-3
    )
    of_successes = frechet_interval(SEEN[SUCCEED, 0] / 100, SEEN[SUCCEED, 1] / 100)
    assert row(scores, "oracle_frechet_successes").value == pytest.approx(
        of_successes.value, rel=1e-3
    )
    difference = correlation_difference(there[:, 0], there[:, 0], there[:, 1], 1)
    assert row(scores, "cd").value == pytest.approx(difference)
    assert row(scores, "cd").low <= difference <= row(scores, "cd").high
    assert not {each.metric for each in scores.rows if "fid" in each.metric}
    run.declare(run.declaration._replace(label="yellow"))
    reason = "the decision's label, yellow, is none of the oracle's attributes"
    assert scored(run, cd(ORACLE)).find("all", "cd") == Absent("all", "cd", reason)


def test_inception_gives_fid_and_kid(run: RunFolder) -> None:
    scores = scored(run, fid(hundredths), kid(hundredths))
    for name, interval in (("fid", frechet_interval), ("kid", kernel_interval)):
        assert row(scores, name).value == pytest.approx(
            interval(SEEN[:, 0] / 100, SEEN[:, 1] / 100).value, rel=1e-3
        )


def test_a_network_sees_each_picture_once(run: RunFolder) -> None:
    seen: list[int] = []

    def counting(images: Tensor) -> Tensor:
        seen.append(len(images))
        return colours(images)

    scored(run, fid(counting), kid(counting), similarity("s3", counting))
    assert seen == [N] * 3  # queries, counterfactuals, reconstructions


def test_unchanged_pictures_are_perfect(tmp_path: Path) -> None:
    def decide(images: Tensor, records: Sequence[Record]) -> Tensor:
        return torch.stack([torch.full((len(images),), 9.0), torch.zeros(len(images))], dim=1)

    every: list[Measures] = [
        *(similarity("s3", colours), fva(colours), face_similarity(colours)),
        *(
            dlib_verification(colours),
            dlib_distance(colours),
            fid(hundredths),
            kid(hundredths),
            cout(decide),
        ),
        *(mnac(ORACLE), mnac_published(ORACLE), oracle_frechet(ORACLE)),
        lpips(lambda first, second: (first - second).abs().mean((1, 2, 3))),
    ]
    scores = scored(unchanged(tmp_path / "run"), *every)
    perfect = {
        "s3": 1,
        "fva": 100,
        "face_similarity": 1,
        "dlib_verification": 100,
        "dlib_distance": 0,
        "mnac": 0,
    }
    perfect |= {
        "mnac_published": 0,
        "oracle_frechet": 0,
        "fid": 0,
        "kid": 0,
        "lpips": 0,
        "l1": 0,
        "l2": 0,
        "ssim": 1,
    }
    perfect |= {"cout": -1}
    for name, value in perfect.items():
        for ending in ("", FLOOR, SUCCESSES):
            assert row(scores, name + ending).value == pytest.approx(value, abs=1e-3), name + ending


def test_published_mnac_sees_a_pair_at_a_time(run: RunFolder) -> None:
    batches: list[int] = []

    def centred(images: Tensor) -> Tensor:
        batches.append(len(images))
        return colours(images) - colours(images).mean(0)  # what batch statistics do

    scores = scored(run, mnac_published(ORACLE._replace(of_pairs=centred)))
    # Of two images each logit lies at opposite sides of the mean: everything changes.
    assert row(scores, "mnac_published").value == pytest.approx(
        (SEEN[:, 0] != SEEN[:, 1]).sum(1).mean()
    )
    assert set(batches) == {2}


def test_the_transition_is_of_the_class_that_was_asked_for(tmp_path: Path) -> None:
    def decide(images: Tensor, records: Sequence[Record]) -> Tensor:
        bright = (images.mean((1, 2, 3)) > 0).float()
        return 50 * torch.stack([1 - bright, bright, torch.zeros_like(bright)], dim=1)

    rows = [
        (known(0), picture((0, 0, 0)), picture((255, 255, 255)), None),
        (
            known(1, counter_class=-1, stored_class=1),
            picture((0, 0, 0)),
            picture((255, 255, 255)),
            None,
        ),
        (
            known(2, counter_class=0),
            picture((0, 0, 0)),
            picture((255, 255, 255)),
            None,
        ),  # nothing to reach
    ]
    scores = scored(write_run(tmp_path / "run", rows), cout(decide))
    # Dark up to half of the pixels, bright after it; at exactly half the mean is 0, which is dark.
    assert row(scores, "cout")[2:4] == pytest.approx((-0.02, 2), abs=1e-3)


def test_too_few_for_a_distance_of_sets(tmp_path: Path) -> None:
    one = write_run(tmp_path / "run", [(known(1), picture(), picture((1, 2, 3)), None)])
    absent = scored(one, fid(colours)).find("all", "fid")
    assert absent == Absent("all", "fid", "no two queries")


def test_what_is_missing_is_said(run: RunFolder) -> None:
    scores = scored(
        run, Measure("fid", None, also=(FLOOR, SUCCESSES), missing="no checkpoints.inception=PATH")
    )
    for name in ("fid", "fid" + FLOOR, "fid" + SUCCESSES):
        assert scores.find("all", name) == Absent("all", name, "no checkpoints.inception=PATH")


def test_regions(run: RunFolder) -> None:
    scores = score_run(run)
    squares = ((SEEN[:, 1] - SEEN[:, 2]) ** 2).mean(1) ** 0.5
    assert row(scores, "region_pixels_skin")[2:4] == pytest.approx((squares.mean(), N), rel=1e-5)
    assert row(scores, "region_pixels_hair")[2:4] == pytest.approx(
        (squares[:-1].mean(), N - 1), rel=1e-5
    )
    assert row(scores, "region_codes_skin")[2:4] == (2, N)
    assert row(scores, "region_codes_hair")[2:4] == (0.5, N - 1)
    assert row(scores, "regions_changed").value == pytest.approx(100 * (squares > 10).mean())


def test_the_whole_image_is_no_region_to_tell_of(tmp_path: Path) -> None:
    assert regions.WHOLE == made_maps.WHOLE
    names = ["image"]
    row = (known(0), shown(0, 0), shown(0, 1), None)
    one = write_run(tmp_path / "run", [row], data={"region_names": names})
    (one.explanations / "label_map").mkdir()
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(one.picture("label_map", 0))
    told = {each.metric for each in score_run(one).rows}
    assert "rms_change" in told
    assert not {name for name in told if "region" in name}


def test_the_table_shows_floor_and_both_denominators(run: RunFolder) -> None:
    console = Console(record=True, width=120)
    scores = scored(run, mnac(ORACLE))
    print_closeness(scores, console)
    lines = {
        line.split()[0]: line.split() for line in console.export_text().splitlines() if line.strip()
    }
    found = row(scores, "mnac")
    assert lines["mnac"][:5] == [
        "mnac",
        "of",
        "3",
        f"{row(scores, 'mnac' + FLOOR).value:.3g}",
        f"{found.value:.3g}",
    ]
    assert lines["mnac"][-3:] == [
        str(N),
        f"{row(scores, 'mnac' + SUCCESSES).value:.3g}",
        str(SUCCEED.sum()),
    ]
    assert lines["skin"][:3] == ["skin", str(N), "2"]
    assert list(lines).index("skin") < list(lines).index(
        "hair"
    )  # the one whose codes moved most comes first


def test_identity_is_measured_of_the_counterfactual_and_of_the_reconstruction(
    tmp_path: Path,
) -> None:
    red, green, grey = (200, 55, 55), (55, 200, 55), (100, 100, 100)
    known = {
        "image_id": "a",
        "query_class": 0,
        "counter_class": 1,
        "stored_class": 1,
        "success": True,
    }
    record = {
        **known,
        "key": 0,
        "stored_success": True,
        "reconstruction_class": 0,
        "flip_step": 1,
        "code_distance": 1.0,
    }
    run = write_run(tmp_path / "run", [(record, picture(red), picture(green), None)])
    Image.fromarray(picture(grey)).save(run.picture("reconstruction", 0))
    scores = score_run(
        run,
        [
            *standard_measures(),
            similarity("identity_similarity", lambda images: (images.mean((2, 3)) + 1) * 127.5),
        ],
    )
    angles = {
        "identity_similarity": (red, green),
        "identity_similarity_reconstruction": (red, grey),
    }
    for name, (one, other) in angles.items():
        row = scores.find("all", name)
        assert isinstance(row, Row)
        cosine = np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)
        assert row.value == pytest.approx(cosine, abs=1e-5)
        assert row.n == 1
    # No street, no truth of causes: nothing is said of them.
    told = {row.metric for row in scores.rows} | {entry.metric for entry in scores.absent}
    assert not told & {measure.name for measure in (*causes.measures(), *causes.targeted())}
