"""Who judges how far a picture is from its query: pixels, and networks that the user gives.

A judge sees each picture once, and compares the query with the counterfactual and, as the floor of every such metric,
with the reconstruction: what the explainer changes of a picture that it edits nothing of. Every metric is printed of
all queries, and of the successes only, which published tables often are of without saying so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfexp.declaration import Shown
from cfexp.evaluation.metric import Metric, Values
from cfexp.evaluation.run_folder import Record
from cfexp.metrics.attributes import attributes_changed, correlation_difference
from cfexp.metrics.distances import Distance, bootstrap_error, frechet_interval, kernel_interval
from cfexp.metrics.functional import changed_fraction, l1_change, l2_distance, rms_change, ssim
from cfexp.metrics.transition import counterfactual_transition

FLOOR, SUCCESSES = "_reconstruction", "_successes"  # what the names of such metrics end in
QUERIES = "queries"
# What a network makes of images (B, 3, H, W) in [-1, 1]: (B, D).
See = Callable[[Tensor], Tensor]
# What was seen of B queries and of what was made of them, and their records -> (B,), NaN where it means nothing.
Compare = Callable[[Tensor, Tensor, Sequence[Record]], Tensor]
# What was seen of N queries and of what was made of them, and (N,) of which image each is.
Features = NDArray[np.floating[Any]]  # (N, D)
CompareSets = Callable[[Features, Features, NDArray[np.int64]], Distance]
Decide = Callable[[Tensor, Sequence[Record]], Tensor]  # images, records -> logits (B, K) of exclusive classes
# The thresholds of face verification: of a cosine *similarity* in VGGFace2's features (Jacob et al. 2022), and of the
# Euclidean distance that dlib's network was trained for.
SAME_FACE, DLIB_SAME_FACE = 0.5, 0.6


class Judge(NamedTuple):
    """Sees pictures, and compares what it saw."""

    see: See
    metrics: Mapping[str, Metric]  # of `compare` and `sets`
    compare: Mapping[str, Compare]
    sets: Mapping[str, CompareSets] = {}


def _pixels(images: Tensor) -> Tensor:
    return images


def _cosine(query: Tensor, other: Tensor, records: Sequence[Record]) -> Tensor:
    return torch.cosine_similarity(query, other, dim=1)


def _rate(happened: Tensor) -> Tensor:
    return happened * 100.0


def _same_face(query: Tensor, other: Tensor, records: Sequence[Record]) -> Tensor:
    return _rate(_cosine(query, other, records) > SAME_FACE)


PIXELS = Judge(
    see=_pixels,
    metrics={
        "l1": Metric("of 255", QUERIES),
        "l2": Metric("of [0, 1]", QUERIES),
        "rms_change": Metric("of 255", QUERIES, shown=Shown("RMS\nof 255", panel="RMS change, of 255")),
        "ssim": Metric("", QUERIES, shown=Shown("\nSSIM", 3, sweep=False)),
        "changed_fraction": Metric("%", QUERIES),
    },
    compare={
        "l1": lambda query, other, _: l1_change(query, other),
        "l2": lambda query, other, _: l2_distance(query, other),
        "rms_change": lambda query, other, _: rms_change(query, other),
        "ssim": lambda query, other, _: ssim(query, other),
        "changed_fraction": lambda query, other, _: 100 * changed_fraction(query, other),
    },
)


def similarity_judge(name: str, features: See) -> Judge:
    """The cosine of a network's features, in [-1, 1]: `identity_similarity` of one that tells the embedded people
    apart, or `s3` of a self-supervised one (Jeanneret et al. 2023).
    """
    shown = Shown(
        f"\n{name.partition('_')[0]}", 3, table=False, panel=f"{name.replace('_', ' ')}, cosine", floor="its\nfloor"
    )
    return Judge(features, {name: Metric("", QUERIES, shown=shown)}, {name: _cosine})


def face_judge(features: See) -> Judge:
    """FVA, the share of faces that still are the same person's, and the mean similarity behind it.

    features: VGGFace2's. The cosine similarity must be above 0.5; the released script asks it of the *distance*.
    """
    metrics = {
        "fva": Metric("%", QUERIES, is_rate=True, shown=Shown("\nFVA", table=False)),
        "face_similarity": Metric("", QUERIES),
    }
    return Judge(features, metrics, {"fva": _same_face, "face_similarity": _cosine})


def dlib_judge(descriptors: See) -> Judge:
    """The same of dlib's network, under its own name: the same person within a Euclidean distance of 0.6.

    descriptors: see `dlib_faces.descriptors`, NaN where no face is found.
    """

    def distance(query: Tensor, other: Tensor, records: Sequence[Record]) -> Tensor:
        apart: Tensor = torch.linalg.vector_norm(query - other, dim=1)
        return apart

    def same(query: Tensor, other: Tensor, records: Sequence[Record]) -> Tensor:
        found = distance(query, other, records)
        return torch.where(found.isnan(), found, _rate(found < DLIB_SAME_FACE))

    counted = "queries in which dlib finds a face, before and after"
    return Judge(
        descriptors,
        {"dlib_verification": Metric("%", counted, is_rate=True), "dlib_distance": Metric("", counted)},
        {"dlib_verification": same, "dlib_distance": distance},
    )


def oracle_judge(see: See, num_attributes: int, attribute: int | None) -> Judge:
    """MNAC, CD and a Frechet distance, which is no FID, of an oracle of attributes.

    see: images -> logits (B, K) and, behind them, features (B, D). attribute: the one that the decision is about; None
    = no CD.
    """

    def changed(query: Tensor, other: Tensor, records: Sequence[Record]) -> Tensor:
        return attributes_changed(query[:, :num_attributes], other[:, :num_attributes])

    def frechet(query: Features, other: Features, groups: NDArray[np.int64]) -> Distance:
        return frechet_interval(query[:, num_attributes:], other[:, num_attributes:], groups)

    def correlation(query: Features, other: Features, groups: NDArray[np.int64]) -> Distance:
        assert attribute is not None
        return _correlation(query[:, :num_attributes] > 0, other[:, :num_attributes] > 0, attribute, groups)

    metrics = {"mnac": Metric(f"of {num_attributes}", QUERIES), "oracle_frechet": Metric("", "two queries")}
    sets: dict[str, CompareSets] = {"oracle_frechet": frechet}
    if attribute is not None:
        metrics["cd"], sets["cd"] = Metric("", "two queries"), correlation
    return Judge(see, metrics, {"mnac": changed}, sets)


def _correlation(
    before: NDArray[np.bool_], after: NDArray[np.bool_], attribute: int, groups: NDArray[np.int64]
) -> Distance:
    def of_rows(counts: NDArray[np.int64]) -> float:
        drawn_before, drawn_after = np.repeat(before, counts, axis=0), np.repeat(after, counts, axis=0)
        return correlation_difference(before, drawn_before, drawn_after, attribute)

    value = correlation_difference(before, before, after, attribute)
    error = bootstrap_error(of_rows, len(before), groups)
    return Distance.of(value, error, scale=before.shape[1], lowest=0.0)


def published_mnac_judge(logits: See, num_attributes: int) -> Judge:
    """MNAC as the released script counts it: the oracle in training mode, with the batch statistics of one pair.

    logits: images (2, 3, H, W) -> (2, K) in that mode.
    """

    def changed(query: Tensor, other: Tensor, records: Sequence[Record]) -> Tensor:
        pairs = [logits(torch.stack(pair)) for pair in zip(query, other, strict=True)]
        before, after = torch.stack(pairs, dim=1)
        return attributes_changed(before, after)

    return Judge(_pixels, {"mnac_published": Metric(f"of {num_attributes}", QUERIES)}, {"mnac_published": changed})


def inception_judge(features: See) -> Judge:
    """FID and KID, of Inception's 2048 features."""
    metrics = {"fid": Metric("", "two queries"), "kid": Metric("", "two queries")}
    return Judge(features, metrics, {}, {"fid": frechet_interval, "kid": kernel_interval})


def lpips_judge(distance: Callable[[Tensor, Tensor], Tensor]) -> Judge:
    """LPIPS (Zhang et al. 2018) of pairs of images."""
    return Judge(_pixels, {"lpips": Metric("", QUERIES)}, {"lpips": lambda query, other, _: distance(query, other)})


def transition_judge(decide: Decide) -> Judge:
    """COUT by the model that was explained: of the class that was asked for, or that it became, and of the query's."""

    def transition(query: Tensor, other: Tensor, records: Sequence[Record]) -> Tensor:
        original = torch.tensor([record["query_class"] for record in records])
        asked = torch.tensor([_asked(record) for record in records])

        def probabilities(images: Tensor) -> Tensor:
            found = decide(images, records).softmax(1)
            return torch.stack([found.gather(1, each[:, None])[:, 0] for each in (original, asked)], dim=1)

        found = counterfactual_transition(query, other, probabilities)
        return torch.where(original == asked, torch.nan, found)

    return Judge(_pixels, {"cout": Metric("", "queries with another class to reach")}, {"cout": transition})


def _asked(record: Record) -> int:
    asked: int = record["counter_class"] if record["counter_class"] >= 0 else record["stored_class"]
    return asked


class SetMeasure(NamedTuple):
    """A metric of sets: what to compute of which rows."""

    compute: CompareSets
    query: Features
    other: Features
    rows: NDArray[np.bool_]  # (N,) those that count

    def score(self, member: NDArray[np.bool_], image_ids: NDArray[np.int64]) -> tuple[float, float, float, int]:
        """Value, interval and n of the rows in `member` (N,); n = 0 where fewer than two are left."""
        rows = self.rows & member
        n = int(rows.sum())
        if n < 2:
            return float("nan"), float("nan"), float("nan"), 0
        return *self.compute(self.query[rows], self.other[rows], image_ids[rows]), n


class Verdicts:
    """What all judges say of a run, collected chunk by chunk."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self.judges = (PIXELS, *judges)
        self._values: dict[str, list[Values]] = {}
        self._seen: dict[int, list[tuple[Features, ...]]] = {}

    def update(self, query: Tensor, reconstruction: Tensor, counterfactual: Tensor, records: Sequence[Record]) -> None:
        """Judge B explanations."""
        with torch.no_grad():
            for number, judge in enumerate(self.judges):
                seen = [judge.see(images) for images in (query, counterfactual, reconstruction)]
                for name, compare in judge.compare.items():
                    for ending, other in zip(("", FLOOR), seen[1:], strict=True):
                        found = compare(seen[0], other, records).double().cpu().numpy()
                        self._values.setdefault(name + ending, []).append(found)
                if judge.sets:
                    # As floats of their own width: of a large run these are gigabytes.
                    self._seen.setdefault(number, []).append(tuple(each.cpu().numpy() for each in seen))

    def finish(self, success: NDArray[np.bool_]) -> tuple[dict[str, Metric], dict[str, Values], dict[str, SetMeasure]]:
        """The metrics by name, the values of those of single queries, and what those of sets are computed of.

        success: (N,) of the queries in the order in which they came, whether the stored picture succeeds.
        """
        metrics: dict[str, Metric] = {}
        values: dict[str, Values] = {}
        sets: dict[str, SetMeasure] = {}
        for number, judge in enumerate(self.judges):
            for name, metric in judge.metrics.items():
                repeated = metric._replace(shown=None)
                metrics |= {name: metric, name + FLOOR: repeated}
                of_successes = metric.counted.replace(QUERIES, "successes")
                metrics[name + SUCCESSES] = repeated._replace(counted=of_successes)
            for name in judge.compare:
                values |= {key: np.concatenate(self._values[key]) for key in (name, name + FLOOR)}
                values[name + SUCCESSES] = np.where(success, values[name], np.nan)
            if judge.sets:
                query, other, floor = (np.concatenate(each) for each in zip(*self._seen[number], strict=True))
                everything = np.ones_like(success)
                for name, compute in judge.sets.items():
                    sets[name] = SetMeasure(compute, query, other, everything)
                    sets[name + FLOOR] = SetMeasure(compute, query, floor, everything)
                    sets[name + SUCCESSES] = SetMeasure(compute, query, other, success)
        return metrics, values, sets
