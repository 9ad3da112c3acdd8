"""Folders and trees of counterfactuals as other systems leave them, for tests."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 16
RECORD = "label: {}\npred: {}\ntarget: {}\ncf pred: {}\nl_inf: {}\nl_1: {}\n"


def grey(level: int, side: int = SIDE) -> Image.Image:
    """One channel, of one level."""
    return Image.fromarray(np.full((side, side), level, dtype=np.uint8))


def save(path: Path, image: Image.Image, time: int | None = None) -> Path:
    """An image at a path whose folder is made; time: when it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    if time is not None:
        os.utime(path, (time, time))
    return path


def folders(root: Path, levels: Mapping[str, tuple[int, int]]) -> tuple[Path, Path]:
    """Folders of JPEG queries and PNG counterfactuals, of one level each, by stem."""
    query, counterfactual = root / "query", root / "counterfactual"
    for stem, (before, after) in levels.items():
        save(query / f"{stem}.jpg", grey(before).convert("RGB"))
        save(counterfactual / f"{stem}.png", grey(after).convert("RGB"))
    return query, counterfactual


def made(
    root: Path,
    name: str,
    before: int,
    after: int,
    *,
    label: int = 0,
    pred: int = 0,
    cf_pred: int = 1,
    experiment: str = "smile",
    time: int | None = None,
    record: str | None = None,
    **changed: Any,
) -> Path:
    """One counterfactual of a tree, grey, with its query and its text record, where ACE leaves
    them. The class asked for is the other one.
    """
    clean = ("CC", "Correct") if pred == label else ("IC", "Incorrect")
    outcome = "CCF" if cf_pred == 1 - pred else "ICF"
    folder = root / "Results" / experiment / clean[0] / outcome
    save(root / "Original" / clean[1] / f"{name}.png", grey(before))
    path = save(folder / "CF" / f"{name}.png", grey(after), time)
    distance = abs(after - before) / 255
    values: dict[str, Any] = {"label": label, "pred": pred, "target": 1 - pred, "cf pred": cf_pred}
    values |= {"l_inf": distance, "l_1": distance, **changed}
    (folder / "Info").mkdir(exist_ok=True)
    text = RECORD.format(*values.values()) if record is None else record
    (folder / "Info" / f"{name}.txt").write_text(text)
    return path


def empty_tree(root: Path, experiment: str = "smile") -> Path:
    """All the folders of an experiment, without an image."""
    for clean in ("CC", "IC"):
        for outcome in ("CCF", "ICF"):
            for kind in ("CF", "Noise", "SM", "Info"):
                folder = root / "Results" / experiment / clean / outcome / kind
                folder.mkdir(parents=True, exist_ok=True)
    for original in ("Correct", "Incorrect"):
        (root / "Original" / original).mkdir(parents=True, exist_ok=True)
    return root
