"""The gallery: a run as one self-contained HTML page, which opens from disk and asks nothing of the
network.
"""

import base64
import colorsys
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor

from cfexp.declaration import Declaration
from cfexp.errors import InputError
from cfexp.evaluation.measurements import Measurements, measure
from cfexp.evaluation.report.candidates import candidates_of
from cfexp.evaluation.report.sheet import (
    AMPLIFIED,
    PICTURES,
    answers_of,
    caption_of,
    outcome_of,
    pictures_of,
    region_moves,
    region_names,
)
from cfexp.evaluation.run_folder import Record, RunFolder

Color = tuple[int, int, int]
Json = dict[str, Any]

SHOWN = 5  # regions named on a card, those whose codes changed most
SHADE = 160  # of 255: how much is covered of what lies outside a truth mask
# Scores that every record has, before those that are measured.
PROBABILITIES = {
    "probability before": "query_probability",
    "probability after": "stored_probability",
}


def write_page(
    run: RunFolder,
    path: Path,
    *,
    title: str | None = None,
    max_explanations: int = 1000,
    max_width: int = 256,
) -> int:
    """Write the page of the first `max_explanations` explanations, by image and key; returns how
    many there are.

    Pictures wider than `max_width` pixels are reduced to that; smaller ones are embedded exactly.
    The table is that of `cfexp.evaluate`, where it was run; the scores on the cards are measured
    here.

    Raises InputError as `RunFolder.records` and `RunFolder.images`.
    """
    measurements = measure(run, count=max_explanations)
    records, declaration = measurements.records, run.declaration
    album = Album(run, max_width)
    regions = region_names(run, max(len(region_moves(declaration, record)) for record in records))
    scores = [name for name in measurements.measures if _is_score(name, measurements)]
    cards = [
        _card(run, declaration, record, album, regions)
        | {
            "groups": [name for name, member in measurements.everyone.items() if member[row]],
            "scores": [_number(record.get(name)) for name in PROBABILITIES.values()]
            + [_number(measurements.values[name][row]) for name in scores],
        }
        for row, record in enumerate(track(records, description="pictures", transient=True))
    ]
    data = {
        "cards": cards,
        "pictures": album.pictures,
        "scores": [*PROBABILITIES, *(_label(name, measurements) for name in scores)],
        "groups": list(measurements.everyone),
        "outcomes": list(dict.fromkeys(card["outcome"] for card in cards)),
        "regions": [
            [name, "#{:02x}{:02x}{:02x}".format(*region_color(index))]
            for index, name in enumerate(regions)
        ],
        "before": pictures_of(declaration)[-2],  # what the difference is from
        "amplified": AMPLIFIED,
    }
    text = page_template("gallery.html").render(
        title=title or run.name,
        shown=len(cards),
        total=len(run.keys()),
        groups=_json(run.path / "metrics.json").get("groups", {}),
        provenance=_text(run.path / "provenance.json"),
        config=_text(run.path / "config.yaml"),
        data=_finite(data),
    )
    path.write_text(text, encoding="utf-8", errors="replace")  # JSON may hold halves of characters
    return len(cards)


def region_color(index: int) -> Color:
    """A colour for region `index`, far from those of the others: hues a golden angle apart, vivid
    and pale in turn.
    """
    red, green, blue = colorsys.hsv_to_rgb(index * 0.381966 % 1, (0.85, 0.45)[index % 2], 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def region_colors(label_map: Tensor) -> Tensor:
    """The regions of label maps (B, H, W) in their colours: (B, 3, H, W) in [-1, 1]."""
    table = torch.tensor([region_color(index) for index in range(256)]) / 127.5 - 1
    return table[label_map].permute(0, 3, 1, 2)


def label_map_overlay(label_map: NDArray[np.uint8], change: Sequence[float]) -> Image.Image:
    """The regions of a label map (H, W) in their colours, the more opaque the farther their codes
    moved; (H, W) RGBA.

    change: (R,), of each region, finite; the one that moved farthest covers what is below it
    nearly, one that stayed not at all.
    """
    table = np.zeros((256, 4), dtype=np.uint8)
    farthest = max(change, default=0) or 1
    for index, moved in enumerate(change):
        table[index] = (*region_color(index), round(215 * moved / farthest))
    return Image.fromarray(table[label_map])


def _card(
    run: RunFolder,
    declaration: Declaration,
    record: Record,
    album: "Album",
    regions: Sequence[str],
) -> Json:
    """What the page shows of an explanation, but for its scores and groups."""
    key, moves = record["key"], region_moves(declaration, record)
    shown = (name for name in PICTURES if name not in declaration.without)
    pictures = {name: album.add(name, key) for name in shown}
    label_map = run.label_map(key)
    if label_map is not None and moves:
        pictures["label_map"] = album.embed(label_map_overlay(label_map, moves))
    if record.get("has_truth_mask"):
        mask = run.masks([key])[0, 0].numpy()
        pictures["truth"] = album.embed(
            Image.fromarray(np.where(mask, 0, SHADE).astype(np.uint8)), as_shade=True
        )
    farthest = sorted(range(len(moves)), key=lambda region: -moves[region])[:SHOWN]
    before, after = answers_of(record)
    return {
        "key": key,
        "image": str(record["image_id"]),
        "caption": caption_of(run, declaration, record),
        "outcome": outcome_of(declaration, record),
        "before": before,
        "after": after,
        "logits": [
            record[name]
            for name in ("query_logits", "stored_logits")
            if record.get(name) is not None
        ],
        "truth": record.get("multiple_choice_answer"),
        "changes": [[region, _number(moves[region])] for region in farthest if moves[region] > 0],
        "sweep": [
            [regions[unit], success, _number(record["sweep_distance"][unit])]
            for unit, success in enumerate(record.get("sweep_success") or [])
            if success >= 0 and unit < len(regions)
        ],
        "pictures": pictures,
        "candidates": [
            [album.add(each.picture, key), each.answer, _number(each.probability), each.success]
            for each in candidates_of(record)
        ],
    }


def page_template(name: str, **filters: Callable[..., str]) -> Template:
    """A page among the templates, in which whatever a run holds is escaped."""
    environment = Environment(
        loader=PackageLoader("cfexp.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)


class Album:
    """The page's pictures, each once: questions about one image share it."""

    def __init__(self, run: RunFolder, max_width: int) -> None:
        self.run, self.max_width = run, max_width
        self.pictures: list[str] = []
        self._places: dict[bytes, int] = {}

    def add(self, name: str, key: int) -> int:
        """The place of a picture of the run among the page's."""
        pixels = self.run.pixels(name, [key])[0]
        place = self._places.get(pixels.tobytes())
        return self.embed(Image.fromarray(pixels), pixels.tobytes()) if place is None else place

    def embed(
        self, picture: Image.Image, content: bytes | None = None, as_shade: bool = False
    ) -> int:
        """The place of another. content: to know it again by. as_shade: it is how much black covers
        what is below.
        """
        if as_shade:
            black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
            black.putalpha(picture)
            picture = black
        if picture.width > self.max_width:
            height = max(1, round(self.max_width * picture.height / picture.width))
            picture = picture.resize((self.max_width, height))
        file = io.BytesIO()
        # Without loss, a sixth smaller than PNG and in a third of its time; another tenth would
        # take twenty times as long. `quality` is here only how hard it tries.
        picture.save(file, "WEBP", lossless=True, quality=0, method=0)
        self.pictures.append(base64.b64encode(file.getvalue()).decode("ascii"))
        if content is not None:
            self._places[content] = len(self.pictures) - 1
        return len(self.pictures) - 1


def _is_score(name: str, measurements: Measurements) -> bool:
    """Whether a number is one of each explanation: no rate, none of groups, none of one region, no
    floor.
    """
    of, values = measurements.measures[name], measurements.values.get(name)
    return (
        of.kind == "mean"
        and not of.of_region
        and not of.ending
        and values is not None
        and not np.isnan(values).all()
    )


def _label(name: str, measurements: Measurements) -> str:
    unit = measurements.measures[name].unit
    return name.replace("_", " ") + (f" ({unit})" if unit else "")


def _number(value: float | None) -> float | None:
    """Four digits; None for what is not known."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _finite(content: Any) -> Any:
    """The same lists and objects, with None for numbers that JSON does not have: a browser would
    read nothing of it.
    """
    if isinstance(content, dict):
        return {name: _finite(each) for name, each in content.items()}
    if isinstance(content, list):
        return [_finite(each) for each in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _json(path: Path) -> Json:
    try:
        content: Json = _finite(json.loads(_text(path) or "{}"))
    except ValueError as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return content


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
