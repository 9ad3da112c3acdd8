"""Galleries of hand-made runs for a browser: a large one, one of one card, and runs that mean no
good to a page.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cfexp.declaration import Declaration
from cfexp.evaluation.report.gallery import write_page
from cfexp.evaluation.report.table import score_run
from cfexp.evaluation.report.verdict import write_verdict_page
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.run_writer import (
    PALETTE,
    Mask,
    Pixels,
    painted,
    picture,
    record,
    square,
    write_run,
)

# What would run, were it ever taken for HTML: each leaves a mark that the tests look for.
SCRIPT = "</script><script>window.taken = 1</script>"
ELEMENT = "<img src=x onerror='window.taken = 1'>\"><b>bold</b>"
TEMPLATE = "{{ 7 * 7 }} ${window.taken = 1} `${1}` \\u0041 \\"
LONG = "Donaudampfschifffahrtsgesellschaft" * 8
HEBREW, ARABIC = "מה צבע הכלב?", "ما لون السيارة؟"
TURNED = "abc \u202e turned \u2066 round"  # overrides that nothing ends
HOSTILE = (
    SCRIPT,
    ELEMENT,
    TEMPLATE,
    LONG,
    HEBREW,
    ARABIC,
    TURNED,
    "__proto__",
    "constructor",
    "",
    "  ",
    "🐕‍🦺 \u0000 \x1b[31m",
)


def scene(seed: int, side: int = 64) -> Pixels:
    """A picture unlike any other: a coloured square somewhere on a plain ground."""
    rng = np.random.default_rng(seed)
    row, column, size = (int(number) for number in rng.integers(4, side // 2, 3))
    ground, ink = (tuple(int(level) for level in rng.integers(40, 220, 3)) for _ in range(2))
    plain = picture((ground[0], ground[1], ground[2]), side)
    return painted(plain, square(row, column, size, side), (ink[0], ink[1], ink[2]))


def page_of(run: RunFolder, title: str, scored: bool = True) -> Path:
    if scored:
        score_run(run).save(run.path)
    path = run.path / "gallery.html"
    write_page(run, path, title=title)
    return path


def large(folder: Path, count: int = 1000) -> Path:
    """Questions, two an image; every third is not flipped, of every tenth a truth mask is known."""
    rows: list[tuple[dict[str, Any], Pixels, Pixels, Mask | None]] = []
    for key in range(count):
        after = "red" if key % 3 == 0 else "blue"
        known = record(key, "red", after, truth="red", image_id=key // 2, query_probability=0.9)
        known |= {
            "question": f"What color is the {('bus', 'dog')[key % 2]} number {key}?",
            "stored_probability": 0.1,
        }
        mask = square(8, 8, 24, 64)
        query = scene(key // 2)
        edited = query if after == "red" else painted(query, mask, (20, key % 256, 200))
        rows.append((known, query, edited, None if key % 10 else mask))
    return page_of(
        write_run(folder, rows, data={"palette": PALETTE}), "A thousand questions", scored=False
    )


def one(folder: Path) -> Path:
    known = record(7, "red", "blue", truth="red")
    return page_of(write_run(folder, [(known, scene(0), scene(1), None)]), "One explanation")


def questions(folder: Path) -> Path:
    """Questions and answers of all kinds of text, and numbers that are none; of every second no
    mask is known.
    """
    rows: list[tuple[dict[str, Any], Pixels, Pixels, Mask | None]] = []
    for key, text in enumerate(HOSTILE):
        other = HOSTILE[key - 1]
        known = record(
            key,
            text,
            other,
            truth=text,
            image_id=key // 2,
            question=text,
            question_type=text or "none",
        )
        known |= {"image_id": text, "query_probability": math.nan, "stored_probability": math.inf}
        known |= {
            "query_logits": [math.nan, 1e300, -0.0],
            "stored_logits": [-math.inf, 5e-324, 1.0],
        }
        mask = square(4, 4) if key % 2 else None
        rows.append((known, picture((30 * key % 256, 90, 90)), picture(), mask))
    run = write_run(folder, rows, data={"palette": dict.fromkeys(HOSTILE, (1, 2, 3))})
    (folder / "config.yaml").write_text(
        "\n".join(f"{json.dumps(text)}: {text}" for text in HOSTILE)
    )
    (folder / "provenance.json").write_text(json.dumps({"command": HOSTILE}, ensure_ascii=False))
    return page_of(run, " ".join((SCRIPT, ELEMENT, HEBREW, LONG)))


def searches(folder: Path) -> Path:
    """Searches whose regions and classes are called so, whose changes are no numbers, and some
    without a label map.
    """
    regions = [text or "empty" for text in HOSTILE]
    rows: list[tuple[dict[str, Any], Pixels, Pixels, Mask | None]] = []
    for key, name in enumerate(HOSTILE):
        known = record(key, f"{name} 0", f"{name} 1", truth="", image_id=key)
        change = [
            float(place == key) + 0.1 for place in range(len(regions) + 1)
        ]  # of one no name is known
        change[(key + 1) % len(change)] = (math.nan, math.inf, 0.0)[key % 3]
        known |= {
            "query_class": 0,
            "counter_class": 1,
            "stored_class": 1,
            "reconstruction_class": key % 2,
        }
        known |= {
            "code_distance": math.nan if key % 2 else 1e12,
            "flip_step": 3,
            "question_type": None,
        }
        known |= {
            "region_change": [math.nan] * len(change) if key == 0 else change,
            "answer_type": None,
        }
        known |= {"sweep_success": [1] * len(regions), "sweep_distance": [math.nan] * len(regions)}
        known |= {
            "sweep_flip_step": [3] * len(regions),
            "sweep_smallest_set": [False] * len(regions),
        }
        del known["question"]
        rows.append((known, scene(key), scene(key + 1), None))
    run = write_run(folder, rows, data={"region_names": regions})
    run.picture("label_map", 0).parent.mkdir()
    for key in range(0, len(rows), 2):
        label_map = (square(0, 0, 32, 64) * key).astype(np.uint8)
        Image.fromarray(label_map).save(run.picture("label_map", key))
    return page_of(run, "Searches")


def verdicts(folder: Path) -> Path:
    """Six searches to be judged, of classes with names that mean no good, one of which failed."""
    rows: list[tuple[dict[str, Any], Pixels, Pixels, Mask | None]] = []
    for key in range(7):
        known = record(key, "0", "1" if key else "0", truth="0", image_id=key)
        rows.append((known, scene(key), scene(key + 10), None))
    run = write_run(folder, rows)
    run.declare(Declaration("Search", class_names=('stop, "now"', ELEMENT), by_direction=True))
    path = folder / "verdict.html"
    write_verdict_page(run, path, title=SCRIPT)
    return path
