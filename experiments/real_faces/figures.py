"""python experiments/real_faces/figures.py RESULTS --celeba DIR --pairs PAIRS --stages DIR
    --judge FILE RUN [RUN ...]

RESULTS: the results.json to write. --stages: the cache's folder of that name. Gathered is what
`python -m cfexp.explain` and its stages left, and what only faces can be asked:

- of the segmenter, by the held-out pairs of PAIRS: 19 regions and 17, and the two framings;
- of each run about smiles, by two models: the classifier that was trained here, and a network that
  nobody here trained (FILE, TorchScript, two logits: not happy, happy). Does an edit move it the
  asked way, and does it decide as asked? Beside the edit's own start, of an attack in the pixels
  (a run by explainer=pgd), and of another photograph of the same person with the other label;
- of each run in which some regions may change: how many of its successes are left where their
  pixels alone are taken from the counterfactual, and all others from the reconstruction. What is
  not left, the generator drew elsewhere.

Only numbers are written, no picture.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.label_maps.part_masks import region_of_value
from cfexp.data.own.data_set import OwnDataSet
from cfexp.evaluation.directions import has_something_to_explain
from cfexp.evaluation.run_folder import RunFolder
from cfexp.metrics.functional import bootstrap_interval, wilson_interval
from cfexp.models.loading.pretrained import file_hash, load_network
from cfexp.models.segmenter import FramedSegmenter
from cfexp.run.building import build
from cfexp.run.configuration import run_config
from cfexp.run.judges import config_beside
from cfexp.worlds.face_names import MOUTH, ONE_MOUTH_REGIONS, REGIONS

SMILING = 1  # both the class of the explained model and the logit of the judge
# The papers' centred 150 pixels of an aligned image, in pixels of CelebA-HQ's square of 154: its
# upper 5 rows lie outside of that.
SIDE, CENTRED = 154, (2, -5, 152, 145)
# Of a run's own figures, by group.
FIGURES = (
    *("decision_right", "reconstruction_psnr", "reconstruction_kept", "success_kept", "flip_rate"),
    *("l1", "l1_reconstruction", "evaluations", "epsilon"),
    *(
        f"{name}{of}"
        for name in ("fid", "sfid", "kid", "dlib_verification", "dlib_distance", "mnac", "cd")
        for of in ("", "_successes", "_reconstruction")
    ),
)
OURS, OUTSIDE = "the classifier that was trained here", "the network that nobody here trained"
OPEN = 0.004  # of the picture; 16 pixels of 64x64
FROM_PROVENANCE = ("seed", "git_revision", "machine", "data_fingerprint", "versions")
Figure = dict[str, Any]
Judge = Callable[[Tensor], Tensor]  # images (N, 3, H, W) -> (N,), a smile where positive


def rate(yes: Iterable[bool]) -> Figure:
    """A share in percent with its Wilson interval."""
    given = [bool(each) for each in yes]
    low, high = (100 * end for end in wilson_interval(sum(given), len(given)))
    value = 100 * sum(given) / len(given) if given else None
    return {"value": value, "low": low, "high": high, "n": len(given)}


@torch.inference_mode()
def of_segmenter(pairs: Path, checkpoint: Path) -> dict[str, Figure]:
    """Pixel accuracy and mean IoU in percent, of the regions that occur: at the size at which it
    segments, and there where its label maps are used, at 64 pixels.
    """
    network = _stage_network(checkpoint).eval()
    size = list(config_beside(checkpoint).data.image_size)
    data = OwnDataSet(str(pairs), label=None, mapped_only=True, image_size=size)
    (batch,) = data.dataset("test").__getitems__(range(len(data.dataset("test"))))
    found = network(batch.image).argmax(1)
    merged = torch.tensor(region_of_value(ONE_MOUTH_REGIONS).tolist())
    figures = {"19 regions": _agreement(found, batch.label_map, REGIONS)}
    one_mouth = merged[found], merged[batch.label_map], ONE_MOUTH_REGIONS
    figures["17 regions, mouth and lips merged"] = _agreement(*one_mouth)
    small = _at_64(found), _at_64(batch.label_map), REGIONS
    figures["19 regions, at 64 pixels"] = _agreement(*small)
    # What a segmenter sees of CelebA in the papers' framing, imitated on these: the centred square,
    # as far as it lies inside, seen as it comes; and in the framing that it was trained on.
    cut, of = FramedSegmenter(torch.nn.Identity(), size, [SIDE, SIDE], CENTRED), [150, 150]
    shown = _Kept(cut)(batch.image)
    truth = _Kept(cut)(batch.label_map[:, None].float(), nearest=True)[:, 0].long()
    back = [-CENTRED[0], -CENTRED[1], SIDE - CENTRED[0], SIDE - CENTRED[1]]
    framed = FramedSegmenter(network, size, of, back)
    inside = slice(-(-5 * size[0] // 150), None)  # above it nothing is known: 5 of 150 rows
    for name, each in (("as it comes", network), ("in the segmenter's framing", framed)):
        regions = each(shown).argmax(1)[:, inside]
        figures[f"centred 150 pixels, {name}"] = _agreement(regions, truth[:, inside], REGIONS)
    return figures


def _at_64(label_maps: Tensor) -> Tensor:
    resized = F.interpolate(label_maps[:, None].float(), (64, 64), mode="nearest-exact")
    return resized[:, 0].long()


def _stage_network(checkpoint: Path) -> torch.nn.Module:
    network: torch.nn.Module = build(config_beside(checkpoint).network, "network")
    return load_network(network, checkpoint)


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
    records = _successes(run)
    figures: dict[str, Figure] = {}
    for group in ("all", 0, 1):
        chosen = [each for each in records if group in ("all", each["query_class"])]
        if not chosen:
            continue
        keys = [record["key"] for record in chosen]
        before, after = (
            _in_batches(judge, run.images(name, keys)) for name in (started, "counterfactual")
        )
        sign = torch.tensor([2.0 * (each["counter_class"] == SMILING) - 1 for each in chosen])
        of = chosen[0]
        name = group if group == "all" else f"{of['answer_before']} -> {of['answer_after']}"
        figures[str(name)] = _moves(sign, before, after, started)
    return figures


def _moves(sign: Tensor, before: Tensor, after: Tensor, started: str) -> Figure:
    """Of a judge's logits before and after; sign: +1 where a smile is asked for, -1 elsewhere."""
    moved = sign * (after - before)
    low, high = bootstrap_interval(moved.numpy())
    mean = {"value": float(moved.mean()), "low": low, "high": high, "n": len(moved)}
    return {
        "moves the asked way": rate((moved > 0).tolist()),
        "moves the asked way by 0.1 or more of its probability": rate(
            (sign * (after.sigmoid() - before.sigmoid()) > 0.1).tolist()
        ),
        "decides as asked": rate((sign * after > 0).tolist()),
        f"decided as asked of the {started}": rate((sign * before > 0).tolist()),
        "mean move in logits": mean,
    }


@torch.inference_mode()
def of_same_person(data: CelebADataModule, judge: Judge) -> Figure:
    """What the judge says of another photograph of the same person, with the other label: of each
    of the test part, the first there is.
    """
    dataset = data.dataset("test")
    smiling = dataset.labels[:, data.class_names.index("Smiling")]
    people = [record.identity for record in dataset.records]
    pairs = [
        (row, other)
        for row, person in enumerate(people)
        for other in [
            next(
                (
                    place
                    for place, each in enumerate(people)
                    if each == person and smiling[place] != smiling[row]
                ),
                None,
            )
        ]
        if other is not None
    ]
    (batch,) = dataset.__getitems__(range(len(dataset)))
    said = _in_batches(judge, batch.image)
    before, after = ([pair[place] for pair in pairs] for place in (0, 1))
    sign = torch.tensor([2.0 * float(smiling[row]) - 1 for row in after])
    return _moves(sign, said[before], said[after], "photograph")


@torch.inference_mode()
def of_these_regions(run: RunFolder, regions: list[str], explained: Judge) -> Figure:
    """Of a run's successes how many are left where only these regions' pixels change."""
    records, names = _successes(run), list(run.data["region_names"])
    numbers = [names.index(region) for region in regions]
    keys = [record["key"] for record in records]
    inside = torch.stack(
        [torch.isin(torch.tensor(run.label_map(key)), torch.tensor(numbers)) for key in keys]
    )
    made, floor = (run.images(name, keys) for name in ("counterfactual", "reconstruction"))
    said = _in_batches(explained, torch.where(inside[:, None], made, floor))
    others = _in_batches(explained, torch.where(inside[:, None], floor, made))
    sign = torch.tensor([2.0 * (each["counter_class"] == SMILING) - 1 for each in records])
    return {
        "successes left with these regions' pixels alone": rate((sign * said > 0).tolist()),
        "successes left with all other pixels alone": rate((sign * others > 0).tolist()),
    }


def _successes(run: RunFolder) -> list[dict[str, Any]]:
    return [
        record
        for record in run.records()
        if has_something_to_explain(record) and record["stored_success"]
    ]


def _in_batches(judge: Judge, images: Tensor) -> Tensor:
    return torch.cat([judge(each) for each in torch.split(images, 64)])


def _of_run(path: Path, judges: dict[str, Judge]) -> Figure:
    run, config = RunFolder(path), run_config(path)
    provenance = json.loads((path / "provenance.json").read_text())
    groups = json.loads((path / "metrics.json").read_text())["groups"]
    found: dict[str, Any] = {
        "provenance": {name: provenance[name] for name in FROM_PROVENANCE if name in provenance},
        "figures": {
            group: {name: each for name, each in of.items() if name in FIGURES}
            for group, of in groups.items()
        },
    }
    if run.declaration.label != "Smiling":
        return found
    found["explained"] = OURS if _explains_ours(config) else OUTSIDE
    found["judged by"] = {name: of_judge(run, judge) for name, judge in judges.items()}
    if config.get("regions"):
        explained = judges[found["explained"]]
        found["where it happens"] = of_these_regions(run, list(config.regions), explained)
    return found


def stages_of(folder: Path, stages: Path) -> list[Path]:
    """The folders of the stages that a run or a stage was made with, and of those that these were
    made with. A segmenter is told by its file's hash, which is what label maps keep of it.
    """
    if (maps := folder / "label_maps.json").is_file():
        wanted = json.loads(maps.read_text())["checkpoints"]["segmenter"]
        files = sorted(stages.glob("real_faces_segmenter-*/model.ckpt"))
        found = [path.parent for path in files if file_hash(path) == wanted]
    else:
        given = (run_config(folder).get("checkpoints") or {}).values()
        found = [path.parent for path in map(Path, filter(None, given))]
        found = [path for path in found if path.parent == stages]
    return [*found, *(further for path in found for further in stages_of(path, stages))]


def _told_of(stage: Path) -> Figure:
    name = "label_maps.json" if (stage / "label_maps.json").is_file() else "metrics.json"
    told: Figure = json.loads((stage / name).read_text())
    return told


def _explains_ours(config: Any) -> bool:
    return OmegaConf.select(config, "decision.model") is None


def _ours(checkpoint: Path) -> Judge:
    network = _stage_network(checkpoint).eval()
    config = config_beside(checkpoint)
    head = list(config.module.heads or config.data.attributes).index("Smiling")
    return lambda images: network(images)[:, head]


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
    stages = {path.name: path for run in given.runs for path in stages_of(run, given.stages)}

    def made(experiment: str) -> Path:
        (found,) = (path for name, path in stages.items() if name.startswith(f"{experiment}-"))
        return found

    network = torch.jit.load(str(given.judge)).eval()  # type: ignore[no-untyped-call]

    def outside(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits[:, SMILING] - logits[:, 1 - SMILING]

    configs = [run_config(path) for path in given.runs]
    explained = next(
        each for each in configs if _explains_ours(each) and each.decision.label == "Smiling"
    )
    judges: dict[str, Judge] = {
        OURS: _ours(Path(explained.checkpoints.decision)),
        OUTSIDE: outside,
    }
    data = CelebADataModule(str(given.celeba), image_size=[64, 64], crop="celeba_hq")
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "stages": {name: _told_of(stages[name]) for name in sorted(stages)},
        "segmenter": of_segmenter(given.pairs, made("real_faces_segmenter") / "model.ckpt"),
        "an inner mouth is predicted of": inner_mouths(
            given.celeba, made("real_faces_layouts") / "label_maps"
        ),
        "another photograph of the same person, with the other label": {
            name: of_same_person(data, judge) for name, judge in judges.items()
        },
        "runs": {path.name: _of_run(path, judges) for path in given.runs},
    }
    given.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
