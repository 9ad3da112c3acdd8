"""Interventions by drawing: the same scene, in which one thing alone is otherwise."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from cfexp.data.streets.bdd100k import REGIONS as STREET_REGIONS
from cfexp.worlds import face_factors, street_factors
from cfexp.worlds.face_factors import face_scene
from cfexp.worlds.face_names import REGIONS as FACE_REGIONS
from cfexp.worlds.faces import FaceParameters, sample_world
from cfexp.worlds.factors import Factor, Scene
from cfexp.worlds.street_factors import street_scene
from cfexp.worlds.streets import StreetParameters, draw_street

SCENES = 5
TABLE = sample_world(FaceParameters(faces=40)).table


@pytest.fixture(scope="module")
def streets() -> list[Scene]:
    return [street_scene(StreetParameters(), f"00000001-{key:08x}") for key in range(SCENES)]


@pytest.fixture(scope="module")
def faces() -> list[Scene]:
    return [face_scene(TABLE, row, 64) for row in range(SCENES)]


def near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask and the pixels beside it: an edge between two regions is a mixture of both."""
    grown: NDArray[np.bool_] = binary_dilation(mask, np.ones((3, 3)))
    return grown


def check(scenes: list[Scene], factors: tuple[Factor, ...], regions: tuple[str, ...]) -> None:
    seen = set()
    for scene in scenes:
        for factor in factors:
            if factor.name not in scene.drawn:
                continue
            seen.add(factor.name)
            first, second = scene.drawn[factor.name]
            assert (first != second).any()
            own = scene.own[factor.name]
            if own >= 0:  # the value that the scene has gives the scene
                assert (scene.drawn[factor.name][own] == scene.image).all(), factor.name
            if not factor.regions:
                continue
            numbers = [regions.index(name) for name in factor.regions]
            inside = np.isin(scene.label_map, numbers)
            for drawn in (first, second):
                assert (drawn == scene.image).all(2)[~inside].all(), factor.name
    assert seen == {factor.name for factor in factors}


def test_an_intervention_on_a_street_changes_the_pixels_of_its_region_alone(
    streets: list[Scene],
) -> None:
    unlabeled = len(STREET_REGIONS) - 1  # 255 in the files
    scenes = [scene._replace(label_map=np.minimum(scene.label_map, unlabeled)) for scene in streets]
    check(scenes, street_factors.FACTORS, STREET_REGIONS)


def test_an_intervention_on_a_face_changes_the_pixels_of_its_regions_alone(
    faces: list[Scene],
) -> None:
    check(faces, face_factors.FACTORS, FACE_REGIONS)


def test_a_street_is_that_of_the_files_and_has_the_values_of_its_plan(
    streets: list[Scene],
) -> None:
    for index, scene in enumerate(streets):
        street = draw_street(StreetParameters(), np.random.default_rng([0, 1, index]))
        assert (scene.image == street.image).all()
        assert ("light" in scene.drawn) == (street.plan.light != "none")
        assert scene.own["facade"] == (street.plan.facade != "blue")
        if street.plan.light != "none":
            assert scene.own["light"] == (street.plan.light == "green")


def test_what_an_intervention_adds_or_removes_leaves_the_rest_alone() -> None:
    rng = [np.random.default_rng([0, 1, 5]) for _ in range(2)]
    street = draw_street(StreetParameters(), rng[0])
    bare = draw_street(StreetParameters(), rng[1], {"light": "none", "car_ahead": "none"})
    things = near(np.isin(street.label_map, (5, 6, 13)) | np.isin(bare.label_map, (5, 6, 13)))
    assert rng[0].random() == rng[1].random()  # as many numbers were drawn
    # A car's shadow is the road's.
    assert (street.image == bare.image).all(2)[~things].mean() > 0.99
