"""Stored runs over tiny streets, of a decision model that looks at the traffic light, and of one
with a planted bias that mostly looks at the facade.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cfexp.declaration import Column, Declaration
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.run_writer import Color, Pixels, write_run

REGIONS = ["road", "sky", "building", "traffic_light"]
FACADES: dict[str, Color] = {"blue": (40, 60, 180), "cream": (220, 200, 150)}
LAMPS: dict[bool, Color] = {False: (220, 20, 20), True: (20, 220, 20)}
HEIGHT, WIDTH = 16, 32
CLASSES = ("stop", "go")


def label_map() -> Pixels:
    regions = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    regions[:5] = REGIONS.index("sky")
    regions[5:10] = REGIONS.index("building")
    regions[2:8, 14:18] = REGIONS.index("traffic_light")
    return regions


def street(lamp: Color, facade: Color, shade: int = 0) -> Pixels:
    colors = np.array([(90, 90, 90), (150, 190 + shade % 40, 230), facade, lamp], dtype=np.uint8)
    return colors[label_map()]


def write_streets(
    path: Path,
    *,
    biased: bool,
    count: int = 64,
    truth: bool = True,
    codes: bool = True,
    regions: tuple[str, ...] | None = None,
    swept: bool = False,
) -> RunFolder:
    """A run of `count` queries. biased: three of four decisions follow the facade, and their
    explanations change it; the others, and all where not biased, follow the light.

    truth: whether the data set tells the causes. codes: whether the explainer tells how far each
    region's code was moved. regions: those that may change; None = all. swept: whether each region
    was tried alone, too.
    """
    rows = []
    for key in range(count):
        label = key % 2 == 1  # go
        facade = list(FACADES)[key // 2 % 2]
        by_facade = biased and key // 4 % 4 != 3
        go = facade == "cream" if by_facade else label
        query = street(LAMPS[label], FACADES[facade], key)
        other = "blue" if facade == "cream" else "cream"
        edited = (
            street(LAMPS[label], FACADES[other], key)
            if by_facade
            else street(LAMPS[not label], FACADES[facade], key)
        )
        moved = "building" if by_facade else "traffic_light"
        turned = regions is None or moved in regions
        known: dict[str, Any] = {
            "key": key,
            "image_id": f"street-{key:03d}",
            "labels": {"forward": int(label), "stop": int(not label), "clear": int(key % 3 == 0)},
            "query_class": int(go),
            "counter_class": 1 - int(go),
            "counterfactual_class": 1 - int(go) if turned else int(go),
            "stored_class": 1 - int(go) if turned else int(go),
            "success": turned,
            "stored_success": turned,
            "answer_before": CLASSES[go],
            "answer_after": CLASSES[go != turned],
        }
        if truth:
            known["truth"] = {
                "light": "green" if label else "red",
                "facade": facade,
                "file_name": f"{key}.png",
                "causal_regions": ["traffic_light"],
            }
        if codes:
            known["moves"] = [0.01 + (name == moved) for name in REGIONS]
        if swept:
            known["sweep_success"] = [int(name == moved) for name in REGIONS]
            known["sweep_smallest_set"] = [name == moved for name in REGIONS]
        rows.append((known, query, edited if turned else query, None))
    run = write_run(path, rows, data={"region_names": REGIONS})
    for key in range(count):
        file = run.picture("label_map", key)
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(label_map()).save(file)
    column = Column("moves", "how far each code was moved", ("R",), by_region="moved_")
    run.declare(
        Declaration(
            "somebody's search",
            columns=(column,) if codes else (),
            by_direction=True,
            class_names=CLASSES,
            label="forward",
            regions=regions,
        )
    )
    (path / "config.yaml").write_text(json.dumps({"name": "biased" if biased else "unbiased"}))
    return run
