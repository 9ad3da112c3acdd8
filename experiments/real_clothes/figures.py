"""python experiments/real_clothes/figures.py RUN [RUN ...]: of runs of vqa_clothes, what the tables
of cfexp.evaluate do not say. How good are the answers where every colour counts alike? How good are
they about garments of one clear colour? Which colours do garments turn to, and how varied are they?

Clear: at the size the model sees, the median colour inside the true region is nearer to its name by
10 of 255 (RGB) than to any other; the answer, which is read from the whole photograph, has no part
in it. With `--json FILE` the figures are written there, too.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfexp.evaluation.run_folder import Palette, Record, RunFolder
from cfexp.metrics.functional import wilson_interval

CLEAR = 10  # of 255


def figures(run: RunFolder) -> dict[str, Any]:
    """Every figure as {value in percent, low, high, n}; means over the colours have no interval."""
    records = [record for record in run.records() if record["has_truth_mask"]]
    palette = run.palette
    assert palette is not None
    answers = [record["multiple_choice_answer"] for record in records]
    before, after = (
        np.array([record[key] == answer for record, answer in zip(records, answers, strict=True)])
        for key in ("answer_before", "answer_after")
    )
    medians = {
        name: np.array([_median(run, name, record) for record in records])
        for name in ("query", "counterfactual")
    }
    clear = np.array([_is_clear(median, palette) for median in medians["query"]])
    read = {name: [_name(median, palette) for median in values] for name, values in medians.items()}
    of_query = np.array(
        [name == answer for name, answer in zip(read["query"], answers, strict=True)]
    )
    now = np.array([record["answer_after"] for record in records])
    flips = before & ~after
    changed = np.array(
        [old != new for old, new in zip(read["query"], read["counterfactual"], strict=True)]
    )
    found: dict[str, Any] = {
        "the answer is what is read inside the mask at this size": _share(of_query),
        "accuracy before": _share(before),
        "accuracy after": _share(after),
        "accuracy before, mean over the colours": _balanced(before, answers),
        "accuracy after, mean over the colours": _balanced(after, answers),
        "flips of right answers, mean over the colours": _balanced(
            flips[before], [a for a, right in zip(answers, before, strict=True) if right]
        ),
        "accuracy before, clear colours": _share(before[clear]),
        "accuracy after, clear colours": _share(after[clear]),
        "flips whose garment is read otherwise than before": _share(changed[flips]),
    }
    asked, others = _energy(run, records)
    found["edit energy inside the asked garment"] = _mean(asked)
    found["edit energy inside other garments that can be asked about"] = _mean(others)
    for color in palette:
        of_color = np.array([answer == color for answer in answers])
        if of_color.any():
            found[f"{color}: accuracy before"] = _share(before[of_color])
            found[f"{color}: accuracy after"] = _share(after[of_color])
    turned = Counter(
        f"{answer} -> {new}" for answer, new, flip in zip(answers, now, flips, strict=True) if flip
    )
    found["most frequent turns"] = dict(turned.most_common(8))
    shares = np.array(list(Counter(now[flips].tolist()).values())) / max(flips.sum(), 1)
    # How many answers would be as varied if all were as frequent: 2 to the power of the entropy.
    found["new answers of flips, perplexity"] = {
        "value": round(float(2 ** -(shares * np.log2(shares)).sum()), 2),
        "n": int(flips.sum()),
    }
    return found


def _energy(run: RunFolder, records: list[Record]) -> tuple[list[float], list[float]]:
    """Of each edit, its share in percent inside the asked garment, and inside the others that are
    asked about on the same photograph; of edits that changed no pixel nothing.
    """
    masks = {record["key"]: run.masks([record["key"]])[0, 0].numpy() for record in records}
    of_image: dict[Any, NDArray[np.bool_]] = {}
    for record in records:
        known = of_image.get(record["image_id"], np.zeros_like(masks[record["key"]]))
        of_image[record["image_id"]] = known | masks[record["key"]]
    asked, others = [], []
    for record in records:
        key = record["key"]
        before, after = (
            run.pixels(name, [key])[0].astype(float) for name in ("query", "counterfactual")
        )
        energy = np.square(after - before).sum(-1)
        if energy.sum() > 0:
            asked.append(float(100 * energy[masks[key]].sum() / energy.sum()))
            other = of_image[record["image_id"]] & ~masks[key]
            others.append(float(100 * energy[other].sum() / energy.sum()))
    return asked, others


def _mean(values: list[float]) -> dict[str, float]:
    return {"value": round(float(np.mean(values)), 1), "n": len(values)}


def _median(run: RunFolder, name: str, record: Record) -> NDArray[np.float64]:
    """RGB in 0..255 inside the truth mask."""
    mask = run.masks([record["key"]])[0, 0].numpy()
    if not mask.any():
        return np.full(3, np.nan)
    median: NDArray[np.float64] = np.median(run.pixels(name, [record["key"]])[0][mask], axis=0)
    return median


def _distances(median: NDArray[np.float64], palette: Palette) -> NDArray[np.float64]:
    distances: NDArray[np.float64] = np.linalg.norm(
        np.array(list(palette.values())) - median, axis=1
    )
    return distances


def _name(median: NDArray[np.float64], palette: Palette) -> str:
    return list(palette)[int(_distances(median, palette).argmin())]


def _is_clear(median: NDArray[np.float64], palette: Palette) -> bool:
    nearest, second = np.sort(_distances(median, palette))[:2]
    return bool(second - nearest >= CLEAR)


def _share(values: NDArray[np.bool_]) -> dict[str, float]:
    low, high = wilson_interval(int(values.sum()), len(values))
    value = float(100 * values.mean()) if len(values) else float("nan")
    return {
        "value": round(value, 1), "low": round(100 * low, 1), "high": round(100 * high, 1),
        "n": len(values),
    }  # fmt: skip


def _balanced(values: NDArray[np.bool_], answers: list[str]) -> dict[str, float]:
    shares = [values[np.array(answers) == color].mean() for color in sorted(set(answers))]
    return {
        "value": round(float(100 * np.mean(shares)), 1),
        "colors": len(shares),
        "n": len(values),
    }


def main() -> None:
    """Print the figures of each run, with n and 95 % intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {path.name: figures(RunFolder(path)) for path in arguments.runs}
    for run, its in found.items():
        print(run)
        for name, figure in its.items():
            print(f"  {name}: {figure}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
