"""python experiments/real_traffic_lights/figures.py RUN [RUN ...]: of runs of real_traffic_lights,
what only traffic lights can be asked. Which region changed most? Which hue does the lamp have?

Hues are read from pixels by the converter's own rule. The light is the region housing and lamp; a
counterfactual may turn the lamp, or put it out and light another one of the same housing.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from cfexp.data.converters.traffic_lights import REGIONS, has_hue, lamp_of
from cfexp.evaluation.directions import has_something_to_explain
from cfexp.evaluation.run_folder import Record, RunFolder, to_pixels
from cfexp.metrics.functional import region_rms, wilson_interval


def figures(run: RunFolder) -> dict[str, list[bool]]:
    """Yes or no of each query that a figure is about."""
    found: dict[str, list[bool]] = {}

    def note(figure: str, record: Record, value: object) -> None:
        for name in (figure, f"  {record['answer_before']} -> {record['answer_after']}"):
            key = name if name == figure else f"{figure}:{name}"
            found.setdefault(key, []).append(bool(value))

    for record in run.records():
        if not has_something_to_explain(record):
            continue
        keys = [record["key"]]
        label_map = run.label_map(record["key"])
        assert label_map is not None
        found.setdefault("turned", []).append(bool(record["stored_success"]))
        if not record["stored_success"]:
            continue
        before, after = (run.images(name, keys) for name in ("reconstruction", "counterfactual"))
        by_codes = REGIONS[int(np.argmax(record["region_change"]))]
        rms = region_rms(before, after, torch.from_numpy(label_map)[None], len(REGIONS))[0]
        by_pixels = REGIONS[int(rms.nan_to_num(-1).argmax())]
        note("most changed in codes: lamp or housing", record, by_codes != "background")
        note("most changed in pixels (RMS): lamp or housing", record, by_pixels != "background")
        asked, was = record["answer_after"], record["answer_before"]
        lamp, light = label_map == REGIONS.index("lamp"), label_map > 0
        if lamp.any():
            note(
                "most changed in pixels (RMS): lamp, where there is one",
                record,
                by_pixels == "lamp",
            )
        of_own_hue = []
        for name, image in (("reconstruction", before), ("counterfactual", after)):
            pixels = to_pixels(image)[0]
            lit = {state: has_hue(pixels, state) & light for state in (was, asked)}
            of_own_hue.append(lit[was].sum())
            found_lamp = lamp_of(pixels, asked, light).any()
            more = lit[asked].sum() > lit[was].sum()
            note(f"in the light a lamp of the other hue is found: {name}", record, found_lamp)
            note(f"in the light more pixels have the other hue: {name}", record, more)
            if lamp.any():
                more = (lit[asked] & lamp).sum() > (lit[was] & lamp).sum()
                note(f"likewise where the lamp was: {name}", record, more)
        if lamp.any():
            dark = of_own_hue[1] < of_own_hue[0] / 2
            note("in the light less than half of its own hue is left", record, dark)
    return found


def main() -> None:
    """Print the figures of each run, with n and 95 % intervals."""
    for path in map(Path, sys.argv[1:]):
        print(path)
        for name, values in figures(RunFolder(path)).items():
            low, high = wilson_interval(sum(values), len(values))
            share = 100 * sum(values) / len(values)
            print(f"  {name}: {share:.1f} % [{100 * low:.1f}, {100 * high:.1f}], n {len(values)}")


if __name__ == "__main__":
    main()
