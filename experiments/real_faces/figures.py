"""python experiments/real_faces/figures.py RESULTS --celeba DIR --pairs PAIRS --stages DIR
    --judge FILE RUN [RUN ...]

RESULTS: the results.json to write. --stages: the cache's folder of that name. Gathered is what
`python -m cfexp.explain` and its stages left, and what only faces can be asked:

- of the segmenter, by the held-out pairs of PAIRS: 19 regions and 17, and the two framings;
- of each run about smiles, by a network that nobody here trained (FILE, TorchScript, two logits:
  not happy, happy): does an edit move it the asked way? Beside the edit's own start, and of an
  attack in the pixels (a run by explainer=pgd) likewise.

Only numbers are written, no picture.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.label_maps.part_masks import region_of_value
from cfexp.data.own.data_set import OwnDataSet
from cfexp.evaluation.directions import has_something_to_explain
from cfexp.evaluation.run_folder import RunFolder
from cfexp.metrics.functional import bootstrap_interval, wilson_interval
from cfexp.models.loading.pretrained import load_network
from cfexp.models.segmenter import FramedSegmenter, SmallSegmenter
from cfexp.worlds.face_names import MOUTH, ONE_MOUTH_REGIONS, REGIONS

SMILING = 1  # both the class of the explained model and the logit of the judge
# The papers' centred 150 pixels of an aligned image, in pixels of CelebA-HQ's square of 154: its
# upper 5 rows lie outside of that.
SIDE, CENTRED = 154, (2, -5, 152, 145)
# Of a run's own figures, by group.
FIGURES = (
    *("decision_right", "reconstruction_psnr", "reconstruction_kept", "success_kept", "flip_rate"),
    *("l1", "l1_reconstruction", "evaluations", "epsilon"),
)
OPEN = 0.004  # of the picture; 16 pixels of 64x64
FROM_PROVENANCE = ("seed", "git_revision", "machine", "data_fingerprint", "versions")
Figure = dict[str, Any]
Judge = Callable[[Tensor], Tensor]


def rate(yes: Iterable[bool]) -> Figure:
    """A share in percent with its Wilson interval."""
    given = [bool(each) for each in yes]
    low, high = (100 * end for end in wilson_interval(sum(given), len(given)))
    value = 100 * sum(given) / len(given) if given else None
    return {"value": value, "low": low, "high": high, "n": len(given)}


@torch.inference_mode()
def of_segmenter(pairs: Path, checkpoint: Path) -> dict[str, Figure]:
    """Pixel accuracy and mean IoU in percent, of the regions that occur."""
    data = OwnDataSet(str(pairs), label=None, mapped_only=True, image_size=[64, 64])
    (batch,) = data.dataset("test").__getitems__(range(len(data.dataset("test"))))
    network = load_network(SmallSegmenter(len(REGIONS), width=24), checkpoint).eval()
    found = network(batch.image).argmax(1)
    merged = torch.tensor(region_of_value(ONE_MOUTH_REGIONS).tolist())
    figures = {"19 regions": _agreement(found, batch.label_map, REGIONS)}
    one_mouth = merged[found], merged[batch.label_map], ONE_MOUTH_REGIONS
    figures["17 regions, mouth and lips merged"] = _agreement(*one_mouth)
    # What a segmenter sees of CelebA in the papers' framing, imitated on these: the centred square,
    # as far as it lies inside, seen as it comes; and in the framing that it was trained on.
    cut, of = FramedSegmenter(torch.nn.Identity(), [64, 64], [SIDE, SIDE], CENTRED), [150, 150]
    shown = _Kept(cut)(batch.image)
    truth = _Kept(cut)(batch.label_map[:, None].float(), nearest=True)[:, 0].long()
    back = [-CENTRED[0], -CENTRED[1], SIDE - CENTRED[0], SIDE - CENTRED[1]]
    framed = FramedSegmenter(network, [64, 64], of, back)
    inside = slice(3, None)  # above it nothing is known: 5 of 150 rows
    for name, each in (("as it comes", network), ("in the segmenter's framing", framed)):
        regions = each(shown).argmax(1)[:, inside]
        figures[f"centred 150 pixels, {name}"] = _agreement(regions, truth[:, inside], REGIONS)
    return figures


def inner_mouths(celeba: Path, label_maps: Path) -> dict[str, Figure]:
    """How often a label map of the test part tells an open mouth, which gives a smile away."""
    data = CelebADataModule(str(celeba), layouts=str(label_maps), crop="celeba_hq")
    smiling = data.class_names.index("Smiling")
    found: dict[str, list[bool]] = {"smiling": [], "others": []}
    for record in data.records("test"):
        picture = data.reader.label_map(record)
        assert picture is not None
        group = "smiling" if record.labels[smiling] > 0 else "others"
        share = picture.histogram()[REGIONS.index(MOUTH)] / (picture.width * picture.height)
        found[group].append(share >= OPEN)
    return {name: rate(values) for name, values in found.items()}


class _Kept:
    """Images cut to a `FramedSegmenter`'s frame, at its size."""

    def __init__(self, framed: FramedSegmenter) -> None:
        self.framed = framed

    def __call__(self, images: Tensor, nearest: bool = False) -> Tensor:
        from cfexp.models.segmenter import _cut

        size, of = self.framed.image_size, self.framed.of
        return _cut(images, self.framed.frame, of, size, "nearest" if nearest else "bicubic")


def _agreement(found: Tensor, truth: Tensor, names: tuple[str, ...]) -> Figure:
    count = len(names)
    each = MulticlassJaccardIndex(count, average=None)(found, truth)
    return {
        "pixel_accuracy": 100 * float(MulticlassAccuracy(count, average="micro")(found, truth)),
        "mean_iou": 100 * float(MulticlassJaccardIndex(count)(found, truth)),
        "iou": {name: 100 * float(value) for name, value in zip(names, each, strict=True)},
        "n": len(found),
    }


@torch.inference_mode()
def of_judge(run: RunFolder, judge: Judge) -> dict[str, Figure]:
    """What the judge says of a run's successes, by direction and in all."""
    started = run.declaration.starts_from
    records = [
        record
        for record in run.records()
        if has_something_to_explain(record) and record["stored_success"]
    ]
    figures: dict[str, Figure] = {}
    for group in ("all", 0, 1):
        chosen = [each for each in records if group in ("all", each["query_class"])]
        if not chosen:
            continue
        keys = [record["key"] for record in chosen]
        before, after = (_happy(judge, run, name, keys) for name in (started, "counterfactual"))
        sign = torch.tensor([2.0 * (each["counter_class"] == SMILING) - 1 for each in chosen])
        moved = sign * (after - before)
        of = chosen[0]
        name = group if group == "all" else f"{of['answer_before']} -> {of['answer_after']}"
        low, high = bootstrap_interval(moved.numpy())
        figures[str(name)] = {
            "moves the asked way": rate((moved > 0).tolist()),
            "moves the asked way by 0.1 or more of its probability": rate(
                (sign * (after.sigmoid() - before.sigmoid()) > 0.1).tolist()
            ),
            "decides as asked": rate((sign * after > 0).tolist()),
            f"decided as asked of the {started}": rate((sign * before > 0).tolist()),
            "mean move in logits": {
                **{"value": float(moved.mean()), "low": low, "high": high, "n": len(chosen)}
            },
        }
    return figures


def _happy(judge: Judge, run: RunFolder, name: str, keys: list[int]) -> Tensor:
    """(N,) the logit of happy against not happy, of pictures as they are stored."""
    found = [judge(run.images(name, keys[at : at + 64])) for at in range(0, len(keys), 64)]
    logits = torch.cat(found)
    return logits[:, SMILING] - logits[:, 1 - SMILING]


def main() -> None:
    """Gather and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--celeba", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--stages", type=Path, required=True, help="the cache's folder stages")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    torch.set_num_threads(1)
    stages = {
        path.parent.name: path
        for name in ("metrics.json", "label_maps.json")
        for path in sorted(given.stages.glob(f"real_faces_*/{name}"))
    }

    def made(experiment: str) -> Path:
        found: list[Path] = [stages[name].parent for name in stages if name.startswith(experiment)]
        return found[0]

    judge: Judge = torch.jit.load(str(given.judge)).eval()  # type: ignore[no-untyped-call]
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "stages": {name: json.loads(path.read_text()) for name, path in stages.items()},
        "segmenter": of_segmenter(given.pairs, made("real_faces_segmenter") / "model.ckpt"),
        "an inner mouth is predicted of": inner_mouths(
            given.celeba, made("real_faces_layouts") / "label_maps"
        ),
        "runs": {},
    }
    for path in given.runs:
        run = RunFolder(path)
        results["runs"][path.name] = {
            "provenance": {
                name: value
                for name, value in json.loads((path / "provenance.json").read_text()).items()
                if name in FROM_PROVENANCE
            },
            "figures": {
                group: {name: each for name, each in of.items() if name in FIGURES}
                for group, of in json.loads((path / "metrics.json").read_text())["groups"].items()
            },
        }
        if run.declaration.label == "Smiling":
            results["runs"][path.name]["judge"] = of_judge(run, judge)
    given.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
