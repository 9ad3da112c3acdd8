"""How far a counterfactual is from its query, as a network sees it that the user gives."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cfexp.declaration import Shown
from cfexp.evaluation.measure.base import BOTH, Chunk, Measure, See
from cfexp.evaluation.run_folder import Record
from cfexp.metrics.transition import counterfactual_transition

Decide = Callable[
    [Tensor, Sequence[Record]], Tensor
]  # images, records -> logits (B, K) of exclusive classes
# The thresholds of face verification: of a cosine *similarity* in VGGFace2's features (Jacob et al.
# 2022), and of the Euclidean distance that dlib's network was trained for.
SAME_FACE, DLIB_SAME_FACE = 0.5, 0.6
DLIB_FINDS = "queries in which dlib finds a face, before and after"


def similarity(name: str, features: See) -> Measure:
    """The cosine of a network's features, in [-1, 1]: `identity_similarity` of one that tells the
    embedded people apart, or `s3` of a self-supervised one (Jeanneret et al. 2023).
    """
    panel = f"{name.replace('_', ' ')}, cosine"
    shown = Shown(f"\n{name.partition('_')[0]}", 3, table=False, panel=panel, floor="its\nfloor")
    return Measure(name, lambda chunk: cosine(chunk, features), also=BOTH, shown=shown)


def fva(features: See) -> Measure:
    """The share of faces that still are the same person's, of VGGFace2's features.

    The cosine similarity must be above 0.5; the released script asks it of the *distance*.
    """

    def same(chunk: Chunk) -> Tensor:
        return (cosine(chunk, features) > SAME_FACE) * 100.0

    return Measure("fva", same, "%", kind="rate", also=BOTH, shown=Shown("\nFVA", table=False))


def face_similarity(features: See) -> Measure:
    """The mean similarity behind `fva`."""
    return Measure("face_similarity", lambda chunk: cosine(chunk, features), also=BOTH)


def dlib_verification(descriptors: See) -> Measure:
    """The same of dlib's network, under its own name: the same person within a Euclidean distance
    of 0.6.

    descriptors: see `dlib_faces.descriptors`, NaN where no face is found.
    """

    def same(chunk: Chunk) -> Tensor:
        found = _apart(chunk, descriptors)
        return torch.where(found.isnan(), found, (found < DLIB_SAME_FACE) * 100.0)

    return Measure("dlib_verification", same, "%", DLIB_FINDS, "rate", also=BOTH)


def dlib_distance(descriptors: See) -> Measure:
    """The mean distance behind `dlib_verification`."""
    return Measure(
        "dlib_distance", lambda chunk: _apart(chunk, descriptors), counted=DLIB_FINDS, also=BOTH
    )


def lpips(distance: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    """LPIPS (Zhang et al. 2018) of pairs of images."""
    return Measure("lpips", lambda chunk: distance(chunk.query, chunk.made), also=BOTH)


def cout(decide: Decide) -> Measure:
    """COUT by the model that was explained: of the class that was asked for, or that it became, and
    of the query's.
    """

    def transition(chunk: Chunk) -> Tensor:
        original = torch.tensor([record["query_class"] for record in chunk.records])
        asked = torch.tensor([_asked(record) for record in chunk.records])

        def probabilities(images: Tensor) -> Tensor:
            found = decide(images, chunk.records).softmax(1)
            return torch.stack(
                [found.gather(1, each[:, None])[:, 0] for each in (original, asked)], dim=1
            )

        found = counterfactual_transition(chunk.query, chunk.made, probabilities)
        return torch.where(original == asked, torch.nan, found)

    return Measure("cout", transition, counted="queries with another class to reach", also=BOTH)


def cosine(chunk: Chunk, features: See) -> Tensor:
    """(B,) of what a network sees before and after."""
    return torch.cosine_similarity(*chunk.seen(features), dim=1)


def _apart(chunk: Chunk, descriptors: See) -> Tensor:
    query, made = chunk.seen(descriptors)
    apart: Tensor = torch.linalg.vector_norm(query - made, dim=1)
    return apart


def _asked(record: Record) -> int:
    asked: int = record["counter_class"] if record["counter_class"] >= 0 else record["stored_class"]
    return asked
