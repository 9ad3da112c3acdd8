"""The embedded world for VQA: procedural scenes of coloured shapes, written in VQAv1's own files.

A scene is a textured, almost grey background with a few shapes that do not overlap. Each shape has
one of eight colours around the colour circle, jittered towards another, so that a colour name is a
region of colours and not one value, and annotators disagree more about the colours in between.
`scene_graphs_*.json` holds the truth (shape, colour, size, box and mask of each object, and which
objects a question asks about); no model reads it, the metrics may.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.errors import InputError
from cfexp.worlds.cache import cached_world, check_types, draw_all, dump_json, parameters_key
from cfexp.worlds.scene_questions import (
    COLORS,
    SHAPES,
    SIZES,
    Question,
    SceneObject,
    ask,
    human_answers,
)

# Part of the cache key: raise it whenever the same parameters would give other files.
_VERSION = 2
_COCO_NAME = "COCO_{subset}_{image_id:012d}.jpg"


@dataclass(frozen=True)
class SceneParameters:
    """What the world depends on, and nothing else: the same parameters give the same bytes.

    `image_size` is in pixels (square); `min_objects` to `max_objects` shapes a scene;
    `disagreement` is the share of annotators who answer something else than the truth about a plain
    case.
    """

    seed: int = 0
    train_scenes: int = 4000
    val_scenes: int = 400
    image_size: int = 64
    min_objects: int = 3
    max_objects: int = 4
    disagreement: float = 0.06

    def __post_init__(self) -> None:
        """Check types and ranges; raises InputError."""
        check_types(self, shares=("disagreement",))
        if self.seed < 0:
            raise InputError(f"world.seed must be >= 0, got {self.seed}")
        if not 1 <= self.min_objects <= self.max_objects <= 5:
            bounds = "1 <= min_objects <= max_objects <= 5 (a scene has room for five)"
            given = f"min_objects={self.min_objects}, max_objects={self.max_objects}"
            raise InputError(f"world: objects must satisfy {bounds}, got {given}")
        if self.image_size < 32 or self.train_scenes < 1 or self.val_scenes < 1:
            needs = "image_size >= 32 and at least one scene a split"
            scenes = f"train_scenes={self.train_scenes}, val_scenes={self.val_scenes}"
            raise InputError(f"world: needs {needs}, got image_size={self.image_size}, {scenes}")
        if not 0 <= self.disagreement <= 0.3:
            raise InputError(f"world.disagreement must lie in [0, 0.3], got {self.disagreement}")

    @property
    def key(self) -> str:
        """A short hash of the parameters and this file's version: the name of the cache folder."""
        return parameters_key(_VERSION, self)


class Scene(NamedTuple):
    """One rendered scene."""

    image: NDArray[np.uint8]  # (S, S, 3) RGB
    objects: list[SceneObject]
    masks: list[NDArray[np.bool_]]  # one (S, S) an object


def cached_scenes(parameters: SceneParameters, cache_dir: Path) -> Path:
    """The folder of the world with these parameters under `cache_dir`, written now if it is not
    there.

    Raises InputError where `cache_dir` cannot be made or written to.
    """
    return cached_world("scenes", parameters.key, partial(write_scenes, parameters), cache_dir)


def write_scenes(parameters: SceneParameters, folder: Path) -> None:
    """Write the whole world into `folder` in VQAv1's layout, with a progress bar."""
    counts = {"train2014": parameters.train_scenes, "val2014": parameters.val_scenes}
    first_id = 1
    for split, (subset, count) in enumerate(counts.items()):
        (folder / subset).mkdir(parents=True, exist_ok=True)
        write = partial(_write_scene, parameters, split, folder / subset, first_id)
        written = list(draw_all(write, count, f"drawing {subset}"))
        first_id += count
        header = {"data_type": "mscoco", "data_subtype": subset, **_HEADER}
        questions = [question for each in written for question in each.questions]
        dump_json(
            folder / f"OpenEnded_mscoco_{subset}_questions.json",
            {**header, "task_type": "Open-Ended", "questions": questions},
        )
        annotations = [annotation for each in written for annotation in each.annotations]
        dump_json(
            folder / f"mscoco_{subset}_annotations.json", {**header, "annotations": annotations}
        )
        info = {"palette": COLORS, "parameters": asdict(parameters)}
        scenes = [each.scene for each in written]
        asked = {name: objects for each in written for name, objects in each.asked.items()}
        dump_json(
            folder / f"scene_graphs_{subset}.json",
            {"info": info, "scenes": scenes, "questions": asked},
        )


class _Written(NamedTuple):
    """What the files say of one scene, beside its picture."""

    scene: dict[str, Any]
    questions: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    asked: dict[str, list[int]]  # by question id, the objects that it asks about


def _write_scene(
    parameters: SceneParameters, split: int, folder: Path, first_id: int, index: int
) -> _Written:
    """Draw a scene, write its picture into `folder` (the subset's) and ask about it."""
    # A scene depends on its own number only, so more scenes never change the earlier ones.
    rng = np.random.default_rng([parameters.seed, split, index])
    scene = draw_scene(parameters, rng)
    image_id = first_id + index
    name = _COCO_NAME.format(subset=folder.name, image_id=image_id)
    Image.fromarray(scene.image).save(folder / name, quality=95, subsampling=0)
    written = _Written({"image_id": image_id, "objects": list(_described(scene))}, [], [], {})
    for k, question in enumerate(ask(scene.objects, rng)):
        question_id = image_id * 10 + k  # as in VQAv1
        written.questions.append(
            {"image_id": image_id, "question": question.text, "question_id": question_id}
        )
        written.annotations.append(_annotation(question, question_id, image_id, parameters, rng))
        written.asked[str(question_id)] = question.asked
    return written


_HEADER = {
    "info": {
        "description": "Procedural scenes of coloured shapes in the file format of VQA v1.0.",
        "url": "https://github.com/cfexp/cfexp",
        "version": "1.0",
        "year": 2026,
        "contributor": "cfexp",
        "date_created": "2026-11-22 00:00:00",
    },
    "license": {"url": "https://creativecommons.org/publicdomain/zero/1.0/", "name": "CC0 1.0"},
}


def _annotation(
    question: Question,
    question_id: int,
    image_id: int,
    parameters: SceneParameters,
    rng: np.random.Generator,
) -> dict[str, Any]:
    answers = human_answers(question, parameters.disagreement, rng)
    texts = [answer["answer"] for answer in answers]
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question_type": question.question_type,
        "answer_type": question.answer_type,
        "multiple_choice_answer": max(sorted(set(texts)), key=texts.count),
        "answers": answers,
    }


def _described(scene: Scene) -> Iterator[dict[str, Any]]:
    for thing, mask in zip(scene.objects, scene.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        yield {
            "shape": thing.shape,
            "color": thing.color,
            "size": thing.size,
            "box": [int(side) for side in box],
            "mask": encode_mask(mask),
        }


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """COCO's uncompressed run-length form of a (H, W) mask: counts of 0s and 1s in turn, column by
    column.
    """
    flat = np.concatenate(([False], mask.ravel(order="F")))
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate(([0], edges, [mask.size])))
    return {"size": list(mask.shape), "counts": [int(count) for count in counts]}


def decode_mask(mask: dict[str, list[int]]) -> NDArray[np.bool_]:
    """The (H, W) mask of `encode_mask`'s form; raises InputError where the counts do not add up to
    H * W.
    """
    height, width = mask["size"]
    counts = mask["counts"]
    if sum(counts) != height * width:
        raise InputError(
            f"mask: counts add up to {sum(counts)}, size {height}x{width} needs {height * width}"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def draw_scene(parameters: SceneParameters, rng: np.random.Generator) -> Scene:
    """Draw one scene; everything random in it comes from `rng`."""
    size = parameters.image_size
    unit = size / 64  # lengths below are pixels of a 64-pixel image
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    canvas = _background(x / unit, y / unit, rng)
    objects: list[SceneObject] = []
    masks: list[NDArray[np.bool_]] = []
    for center_x, center_y, radius, size_name in _places(parameters, rng):
        color, rgb, doubt = _color(rng)
        shape = str(rng.choice(list(SHAPES)))
        angle = rng.uniform(-0.25, 0.25)
        grain = rng.normal(0, 2.5, (size, size, 1))
        # Only this square is drawn on, to save time: no corner is farther out than 1.3 radii.
        near = tuple(
            slice(
                max(0, int((center - 1.4 * radius) * unit)), int((center + 1.4 * radius) * unit) + 1
            )
            for center in (center_y, center_x)
        )
        dx, dy = x[near] / unit - center_x, y[near] / unit - center_y
        u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        # Distances are in 64-pixel units; one pixel of soft edge.
        alpha = np.clip(0.5 - _DISTANCES[shape](u / radius, v / radius) * radius * unit, 0, 1)
        light = 1 - 0.10 * (dx + dy) / radius / 1.4  # lit from the upper left
        body = rgb * light[..., None] + grain[near]
        canvas[near] = canvas[near] * (1 - alpha[..., None]) + body * alpha[..., None]
        objects.append(SceneObject(shape, color, size_name, center_x / 64, center_y / 64, doubt))
        mask = np.zeros((size, size), dtype=bool)
        mask[near] = alpha > 0.5
        # Corners reach beyond the radius, and in one scene of 300 hide a pixel or two of an earlier
        # object.
        masks = [*(earlier & ~mask for earlier in masks), mask]
    if (
        len(objects) < parameters.min_objects
    ):  # the first ones left no room for the others: start over
        return draw_scene(parameters, rng)
    return Scene(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), objects, masks)


def _places(
    parameters: SceneParameters, rng: np.random.Generator
) -> Iterator[tuple[float, float, float, str]]:
    """Centres and radii that keep two units between any two objects, in 64-pixel units; fewer where
    no room is left.
    """
    placed: list[tuple[float, float, float]] = []
    wanted = int(rng.integers(parameters.min_objects, parameters.max_objects + 1))
    failures = 0
    while (
        len(placed) < wanted and failures < 20
    ):  # so many sizes in a row that did not fit: nor will any other
        failures += 1
        size_name = str(rng.choice(list(SIZES)))
        radius = SIZES[size_name]
        for _ in range(60):  # more tries than this mean that no room is left for so large an object
            cx, cy = rng.uniform(radius + 1, 63 - radius, 2)
            if all(np.hypot(cx - px, cy - py) > radius + pr + 2 for px, py, pr in placed):
                placed.append((cx, cy, radius))
                failures = 0
                yield cx, cy, radius, size_name
                break


def _color(rng: np.random.Generator) -> tuple[str, NDArray[np.float64], float]:
    """A colour name, an RGB that reads as it, and how near it lies to another name (0 to 1)."""
    names = list(COLORS)
    palette = np.array([COLORS[name] for name in names], dtype=float)
    while True:
        name, other = rng.choice(len(names), 2, replace=False)
        mix = rng.uniform(0, 0.3)
        rgb = (1 - mix) * palette[name] + mix * palette[other] + rng.normal(0, 6, 3)
        rgb *= rng.uniform(0.9, 1.06)
        distances = np.linalg.norm(palette - rgb, axis=1)
        nearest, second = np.partition(distances, 1)[:2]
        # The margin keeps the name readable after shading and JPEG.
        if distances[name] == nearest and nearest < 0.7 * second:
            return names[name], rgb, float(nearest / second)


def _background(x: NDArray[Any], y: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """A nearly grey texture: waves, stripes or checks over a gradient, with grain."""
    base = rng.uniform(95, 190) + rng.uniform(-12, 12, 3)
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 14)
    along = (np.cos(angle) * x + np.sin(angle) * y) / period * 2 * np.pi
    across = (np.cos(angle) * y - np.sin(angle) * x) / period * 2 * np.pi
    kind = rng.integers(3)
    if kind == 0:
        waves = np.sin(along) * np.cos(across * rng.uniform(0.3, 0.9))
    elif kind == 1:
        waves = np.clip(3 * np.sin(along), -1, 1)
    else:
        waves = np.clip(3 * np.sin(along), -1, 1) * np.clip(3 * np.sin(across), -1, 1)
    slope = rng.uniform(-12, 12) * (x - 32) / 32 + rng.uniform(-12, 12) * (y - 32) / 32
    grey = rng.uniform(6, 16) * waves + slope + rng.normal(0, 3, x.shape)
    texture: NDArray[Any] = base + np.asarray(grey)[..., None]
    return texture


def _polygon(u: NDArray[Any], v: NDArray[Any], corners: NDArray[Any]) -> NDArray[Any]:
    """Signed distance to a closed polygon of (N, 2) corners, negative inside."""
    distance = np.full(u.shape, np.inf)
    inside = np.zeros(u.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey, wx, wy = bx - ax, by - ay, u - ax, v - ay
        t = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        distance = np.minimum(distance, np.hypot(wx - ex * t, wy - ey * t))
        if ey != 0:
            inside ^= ((ay > v) != (by > v)) & (u < ex * wy / ey + ax)
    return np.where(inside, -distance, distance)


def _regular(points: int, inner: float = 1.0) -> NDArray[Any]:
    """Corners of a regular polygon of radius 1, or of a star where `inner` < 1 is the radius of its
    notches.
    """
    count = points if inner == 1.0 else 2 * points
    angles = -np.pi / 2 + 2 * np.pi * np.arange(count) / count
    radii = np.where(np.arange(count) % 2 == 0, 1.0, inner)
    return np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)


_TRIANGLE = _regular(3) * 1.2 + (0, 0.15)
_STAR = _regular(5, inner=0.52) * 1.2

# Signed distance of each shape for radius 1, scaled so that their areas are much the same.
_DISTANCES: dict[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
    "circle": lambda u, v: np.hypot(u, v) - 0.95,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) - 0.82,
    "triangle": lambda u, v: _polygon(u, v, _TRIANGLE),
    "star": lambda u, v: _polygon(u, v, _STAR),
    "cross": lambda u, v: np.minimum(
        np.maximum(abs(u) - 1.05, abs(v) - 0.42), np.maximum(abs(u) - 0.42, abs(v) - 1.05)
    ),
}
