"""The embedded faces, written in CelebAMask-HQ's own files, and in CelebA's.

The limit of what they show, and of the real sets too: SEAN has one style code a region class. Both
lips have their own, but all of a face's skin shares one, and so do all strands of its hair; a code
can say what a region looks like throughout, not what happens at one spot of it, nor that its
outline moves. So each of the two attributes that are explained is decided by such looks, with the
label map fixed: Smiling by white teeth between bright lips (against dark, closed lips: the corners
of the mouth go up in 60 % of the smiles and in 40 % of the rest), Young by a smooth skin (against a
lined one) and hair that is not grey (that of old faces is, in 70 %).

`faces_truth.json` holds what each face was drawn from; no model reads it, the metrics may.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.errors import InputError
from cfexp.worlds.cache import cached_world, check_types, draw_all, dump_json, parameters_key
from cfexp.worlds.face_drawing import draw_faces
from cfexp.worlds.face_names import (
    CELEBA_ATTRIBUTES,
    CELEBA_IMAGES,
    FIRST_TEST_NUMBER,
    FIRST_VALIDATION_NUMBER,
    PARTS,
    REGIONS,
)
from cfexp.worlds.face_people import (
    CAUSAL_REGIONS,
    CONSTANT_ATTRIBUTES,
    Table,
    attributes_of,
    sample_faces,
    sample_people,
)

IMAGES, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
ALIGNED_IMAGES = "img_align_celeba"
# Part of the cache key: raise it whenever the same parameters would give other files.
_VERSION = 3
_CHUNK = 16  # faces drawn at once: their layers stay in the processor's cache
_MOST_FACES = 30_000  # as CelebAMask-HQ has; CelebA has numbers for many more
# The aligned images of CelebA, and the square of them that the 128-pixel version shows.
ALIGNED_SIZE, ALIGNED_CROP = (178, 218), (14, 34, 164, 184)
# The mask of the skin goes on below the features, as the annotators of CelebAMask-HQ drew it.
_FEATURES = (
    "nose",
    "glasses",
    "left_eye",
    "right_eye",
    "left_brow",
    "right_brow",
    "mouth",
    "upper_lip",
    "lower_lip",
)
_ON_FACE = np.array([255 * (name in ("skin", *_FEATURES)) for name in REGIONS], dtype=np.uint8)


@dataclass(frozen=True)
class FaceParameters:
    """What the world depends on, and nothing else: the same parameters give the same bytes.

    `faces` pictures of `image_size` x `image_size` pixels, of as many persons as makes four to
    eight pictures each.
    """

    seed: int = 0
    faces: int = 6000
    image_size: int = 64

    def __post_init__(self) -> None:
        """Check types and ranges; raises InputError."""
        check_types(self)
        if self.seed < 0:
            raise InputError(f"world.seed must be >= 0, got {self.seed}")
        if not 10 <= self.faces <= _MOST_FACES:
            raise InputError(f"world.faces must lie in 10..{_MOST_FACES}, got {self.faces}")
        if self.image_size < 32:
            least = "at least 32 (a mouth needs its pixels)"
            raise InputError(f"world.image_size must be {least}, got {self.image_size}")

    @property
    def key(self) -> str:
        """A short hash of the parameters and this file's version: the name of the cache folder."""
        return parameters_key(_VERSION, self)


class FaceWorld(NamedTuple):
    """Everything about the faces but their pixels; row i is image i of CelebAMask-HQ."""

    table: Table  # what each is drawn from
    attributes: NDArray[np.int64]  # (N, 40) of 1 and -1
    celeba_numbers: NDArray[np.int64]  # (N,) which image of CelebA it is, from 1; none is twice
    partition: NDArray[
        np.int64
    ]  # (N,) 0, 1 or 2: train, validation, test of CelebA; these share no person


def cached_faces(parameters: FaceParameters, cache_dir: Path) -> Path:
    """The folder with CelebAMask-HQ's files under `cache_dir`, written now if it is not there;
    raises InputError.
    """
    return cached_world(
        "faces", parameters.key, partial(write_celebamask_hq, parameters), cache_dir
    )


def cached_aligned_faces(parameters: FaceParameters, cache_dir: Path) -> Path:
    """The folder with CelebA's files, showing the same faces; written now if it is not there;
    raises InputError.
    """
    return cached_world("celeba", parameters.key, partial(write_celeba, parameters), cache_dir)


def sample_world(parameters: FaceParameters) -> FaceWorld:
    """Who is in the world's pictures, and their place in CelebA."""
    rng = np.random.default_rng(parameters.seed)
    count = parameters.faces
    pictures = rng.integers(4, 9, size=count // 4 + 1)
    ordered = np.repeat(np.arange(len(pictures)), pictures)[:count]
    # CelebA gives about 80, 10 and 10 % of its pictures to the three parts, and each person to one.
    part_of_person = np.zeros(len(pictures), dtype=np.int64)
    part_of_person[ordered[int(0.8 * count)] :] = 1
    part_of_person[ordered[int(0.9 * count)] :] = 2
    person = rng.permutation(ordered)
    partition = part_of_person[person]
    numbers = np.zeros(count, dtype=np.int64)
    ends = (1, FIRST_VALIDATION_NUMBER, FIRST_TEST_NUMBER, CELEBA_IMAGES + 1)
    for part in range(3):
        rows = np.flatnonzero(partition == part)
        numbers[rows] = ends[part] + rng.choice(
            ends[part + 1] - ends[part], len(rows), replace=False
        )
    table = sample_faces(sample_people(len(pictures), rng), person, rng)
    return FaceWorld(table, attributes_of(table), numbers, partition)


def write_celebamask_hq(parameters: FaceParameters, folder: Path) -> None:
    """Write the whole world into `folder` in CelebAMask-HQ's layout, with a progress bar."""
    world = sample_world(parameters)
    (folder / IMAGES).mkdir(parents=True)
    for number in range((parameters.faces - 1) // 2000 + 1):
        (folder / MASKS / str(number)).mkdir(parents=True)
    _draw(_Faces(world, parameters, folder, _write_masked), "drawing faces")
    names = [f"{index}.jpg" for index in range(parameters.faces)]
    rows = [
        f"{name}  {' '.join(str(v) for v in values)}"
        for name, values in zip(names, world.attributes, strict=True)
    ]
    header = [str(parameters.faces), " ".join(CELEBA_ATTRIBUTES) + " "]
    _write_lines(folder / "CelebAMask-HQ-attribute-anno.txt", [*header, *rows])
    lines = [f"{'idx':<12}{'orig_idx':<12}orig_file"]
    lines += [
        f"{index:<12}{number - 1:<12}{number:06d}.jpg"
        for index, number in enumerate(world.celeba_numbers)
    ]
    _write_lines(folder / "CelebA-HQ-to-CelebA-mapping.txt", lines)
    _write_celeba_lists(world, folder)
    _write_truth(world, parameters, names, folder)


def write_celeba(parameters: FaceParameters, folder: Path) -> None:
    """Write the faces as CelebA's aligned images of 178x218 pixels, the square in their middle
    being the picture.
    """
    world = sample_world(parameters)
    (folder / ALIGNED_IMAGES).mkdir(parents=True)
    _draw(_Faces(world, parameters, folder, _write_aligned), "drawing aligned faces")
    _write_celeba_lists(world, folder)
    _write_truth(
        world, parameters, [f"{number:06d}.jpg" for number in world.celeba_numbers], folder
    )


@dataclass(frozen=True)
class _Faces:
    """Draws and writes chunk i of the pictures; another process may do it."""

    world: FaceWorld
    parameters: FaceParameters
    folder: Path
    write: Callable[
        ["_Faces", int, NDArray[np.uint8], NDArray[np.uint8]], None
    ]  # face i's image and label map

    def __call__(self, chunk: int) -> None:
        start = chunk * _CHUNK
        rows = {name: values[start : start + _CHUNK] for name, values in self.world.table.items()}
        drawing = draw_faces(rows, self.parameters.image_size)
        for row, (image, label_map) in enumerate(zip(*drawing, strict=True)):
            self.write(self, start + row, image, label_map)


def _write_masked(
    faces: _Faces, index: int, image: NDArray[np.uint8], label_map: NDArray[np.uint8]
) -> None:
    Image.fromarray(image).save(faces.folder / IMAGES / f"{index}.jpg", quality=95, subsampling=0)
    masks = faces.folder / MASKS / str(index // 2000)
    for part, mask in part_masks(label_map):
        # The masks are many and small: compressing them harder saves no block of the disk.
        Image.fromarray(mask).save(masks / f"{index:05d}_{part}.png", compress_level=1)


def _write_aligned(
    faces: _Faces, index: int, image: NDArray[np.uint8], label_map: NDArray[np.uint8]
) -> None:
    (left, top, right, bottom), (width, height) = ALIGNED_CROP, ALIGNED_SIZE
    square = Image.fromarray(image).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    around = ((top, height - bottom), (left, width - right), (0, 0))
    path = faces.folder / ALIGNED_IMAGES / f"{faces.world.celeba_numbers[index]:06d}.jpg"
    Image.fromarray(np.pad(np.asarray(square), around, mode="edge")).save(
        path, quality=95, subsampling=0
    )


def _draw(faces: _Faces, description: str) -> None:
    for _ in draw_all(faces, -(-faces.parameters.faces // _CHUNK), description):
        pass


def part_masks(label_map: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The parts of an (S, S) label map, each with its (S, S) mask of 0 and 255; painted in order
    they give the map.
    """
    present = np.bincount(label_map.ravel(), minlength=len(REGIONS)) > 0
    for region, part in enumerate(PARTS, start=1):
        if part == "skin":
            yield part, _ON_FACE[label_map]
        elif present[region]:
            yield part, np.where(label_map == region, np.uint8(255), np.uint8(0))


def _write_celeba_lists(world: FaceWorld, folder: Path) -> None:
    """list_attr_celeba.txt, identity_CelebA.txt and list_eval_partition.txt, in the order of
    CelebA's numbers.
    """
    order = np.argsort(world.celeba_numbers)
    names = [f"{world.celeba_numbers[row]:06d}.jpg" for row in order]
    header = [str(len(order)), " ".join(CELEBA_ATTRIBUTES) + " "]
    # CelebA right-aligns to two characters, which puts two spaces before a positive.
    rows = [
        f"{name} {' '.join(f'{v:>2}' for v in world.attributes[row])}"
        for name, row in zip(names, order, strict=True)
    ]
    _write_lines(folder / "list_attr_celeba.txt", [*header, *rows])
    for file, values in (
        ("identity_CelebA.txt", world.table["person"] + 1),
        ("list_eval_partition.txt", world.partition),
    ):
        _write_lines(
            folder / file, [f"{name} {values[row]}" for name, row in zip(names, order, strict=True)]
        )


def _write_truth(
    world: FaceWorld, parameters: FaceParameters, names: Sequence[str], folder: Path
) -> None:
    single = {name: values for name, values in world.table.items() if values.ndim == 1}
    plain = {
        name: (each.round(3) if each.dtype.kind == "f" else each).tolist()
        for name, each in single.items()
    }
    faces = [
        {"file": name, **{key: values[row] for key, values in plain.items()}}
        for row, name in enumerate(names)
    ]
    info = {
        "parameters": asdict(parameters),
        "regions": REGIONS,
        "causal_regions": CAUSAL_REGIONS,
        "constant_attributes": CONSTANT_ATTRIBUTES,
    }
    dump_json(folder / "faces_truth.json", {"info": info, "faces": faces})


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
