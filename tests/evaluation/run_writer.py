"""Run folders from hand-made pictures, for tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cfexp.evaluation.run_folder import Record, RunFolder

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Color = tuple[int, int, int]

PALETTE: dict[str, Color] = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
SIDE = 32


def picture(color: Color = (100, 100, 100), side: int = SIDE) -> Pixels:
    return np.full((side, side, 3), color, dtype=np.uint8)


def square(row: int, column: int, size: int = 8, side: int = SIDE) -> Mask:
    mask = np.zeros((side, side), dtype=bool)
    mask[row : row + size, column : column + size] = True
    return mask


def painted(pixels: Pixels, mask: Mask, color: Color) -> Pixels:
    painted = pixels.copy()
    painted[mask] = color
    return painted


def record(
    key: int, before: str, after: str, *, truth: str, image_id: int = 1, **known: Any
) -> Record:
    """A record whose answers and classes agree; float and stored decisions are one unless `known`
    says otherwise.
    """
    answers = sorted({before, after, truth})
    return {
        "key": key,
        "image_id": image_id,
        "query_class": answers.index(before),
        "counter_class": -1,
        "counterfactual_class": answers.index(after),
        "stored_class": answers.index(after),
        "success": before != after,
        "stored_success": before != after,
        "answer_before": before,
        "answer_after": after,
        "question": f"Question {key}?",
        "question_type": "what color is the",
        "answer_type": "other",
        "answers": [truth] * 10,
        "multiple_choice_answer": truth,
        **known,
    }


def write_run(
    path: Path,
    explanations: Sequence[tuple[Record, Pixels, Pixels, Mask | None]],
    data: Mapping[str, Any] | None = None,
) -> RunFolder:
    """A run of (record, query, counterfactual, truth mask), not finished."""
    run = RunFolder(path)
    with run.writer() as store:
        for known, query, counterfactual, mask in explanations:
            images: dict[str, NDArray[Any]] = {
                "query": query,
                "reconstruction": query,
                "counterfactual": counterfactual,
            }
            if mask is not None:
                images["truth_mask"] = mask
            store.add({**known, "has_truth_mask": mask is not None}, images)
    if data is not None:
        (path / "data.json").write_text(json.dumps(data))
    return run


def timeless(run: Path) -> pa.Table:
    """The table of a finished run, less what no two runs have in common."""
    return pq.read_table(run / "explanations.parquet").drop(["seconds"])
