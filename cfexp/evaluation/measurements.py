"""What is measured of the explanations of a run folder, in one pass over its pictures: here every
number is made.

Each measure (see `cfexp.evaluation.measure.base`) gives the values of the queries, or a number of a
group. From there on all are treated alike: the same of the reconstruction and of the successes,
value, n and interval.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from cfexp.evaluation.directions import is_success
from cfexp.evaluation.groups import group_members, is_counted_apart
from cfexp.evaluation.measure import estimate
from cfexp.evaluation.measure.base import (
    FLOOR,
    RECONSTRUCTION,
    SUCCESSES,
    Chunk,
    Facts,
    Features,
    Measure,
    Measures,
    Members,
    Pooled,
    Score,
    See,
    Sets,
    Values,
    measures_of,
)
from cfexp.evaluation.measure.known import standard_measures
from cfexp.evaluation.run_folder import Record, RunFolder
from cfexp.metrics.vqa_text import Era

# Values of a float32 image tensor that are held at a time, 4 MB: 85 queries of 64 pixels, a dozen
# of 170. Larger ones leave the processor's cache.
CHUNK_VALUES = 2**20


class Measurements(NamedTuple):
    """All that was measured of a run's N explanations, in the order of (image_id, key)."""

    facts: Facts
    everyone: Mapping[str, Members]  # (N,) by group, the headline first
    measures: Mapping[str, Measure]  # by the name of the number
    values: Mapping[str, Values]  # (N,), or (N, 2) of ratios, by the name of the number
    seen: Mapping[
        See, tuple[Features, ...]
    ]  # (N, D) of queries, counterfactuals and reconstructions, by network
    success: Members  # (N,) that explain something

    @property
    def records(self) -> list[Record]:
        """(N) what is known of each."""
        return self.facts.records

    def score(self, name: str, group: str) -> Score:
        """A number of a group, its interval and its n, which is 0 where there is none."""
        measure, facts = self.measures[name], self.facts
        member = (self.everyone if measure.of_everyone else facts.members)[group]
        if isinstance(measure.of, Pooled):
            return measure.of.score(group)
        if isinstance(measure.of, Sets):
            query, made, floor = self.seen[measure.of.see]
            rows = member & self.success if measure.ending == SUCCESSES else member
            compared = floor if measure.ending == FLOOR else made
            return estimate.distance(measure.of, query, compared, rows, facts.image_ids)
        values = self.values[name][member]
        if measure.is_rate:
            return estimate.share(values)
        values = estimate.ratio(values) if measure.kind == "ratio" else values
        return estimate.mean(values, facts.image_ids[member], measure.unit)


def measure(
    run: RunFolder,
    measures: Sequence[Measures] | None = None,
    *,
    era: Era = "2021",
    count: int | None = None,
) -> Measurements:
    """Measure a run, or its first `count` explanations by image and key, a chunk of whole images at
    a time.

    measures: what to compute; None = the standard ones, which need no network.

    Raises InputError for whatever is missing or damaged in the run.
    """
    facts, everyone = _facts(run, era, count)
    chosen = measures_of(standard_measures() if measures is None else measures, facts)
    pools = dict.fromkeys(each.of.pool for each in chosen if isinstance(each.of, Pooled))
    networks = dict.fromkeys(each.of.see for each in chosen if isinstance(each.of, Sets))
    parts: dict[str, list[Values]] = {}
    seen: dict[See, list[tuple[Features, ...]]] = {}
    size = max(1, CHUNK_VALUES // run.images("query", [facts.records[0]["key"]]).numel())
    for rows in track(list(_chunks(facts.image_ids, size)), description="scoring", transient=True):
        chunk = _read(facts, rows)
        with torch.no_grad():
            for each in chosen:
                for name, of_chunk in _values(each, chunk):
                    parts.setdefault(name, []).append(of_chunk)
            for see in networks:
                # As floats of their own width: of a large run these are gigabytes.
                pictures = (*chunk.seen(see), chunk.floor.seen(see)[1])
                seen.setdefault(see, []).append(
                    tuple(features.cpu().numpy() for features in pictures)
                )
            for pool in pools:
                pool.update(chunk)
    values = {name: np.concatenate(found) for name, found in parts.items()}
    success = np.array([is_success(record) for record in facts.records])
    for each in chosen:
        if SUCCESSES in each.also and each.name in values:
            values[each.name + SUCCESSES] = np.where(success, values[each.name], np.nan)
    features = {
        see: tuple(map(np.concatenate, zip(*found, strict=True))) for see, found in seen.items()
    }
    numbers = {number.name: number for each in chosen for number in each.numbers}
    return Measurements(facts, everyone, numbers, values, features, success)


def _facts(run: RunFolder, era: Era, count: int | None) -> tuple[Facts, Mapping[str, Members]]:
    """What holds for all explanations, and the groups with the queries that are counted apart."""
    records = sorted(run.records(), key=lambda record: (record["image_id"], record["key"]))[:count]
    declaration = run.declaration
    # Numbered by their order: a data set's own may be names.
    image_ids = np.unique([record["image_id"] for record in records], return_inverse=True)[1]
    everyone = group_members(records, declaration)
    nowhere = np.array([is_counted_apart(declaration, record) for record in records])
    members = {group: member & ~nowhere for group, member in everyone.items()}
    return Facts(run, run.data, records, declaration, members, image_ids, era), everyone


def _values(each: Measure, chunk: Chunk) -> Iterator[tuple[str, Values]]:
    """The values of the queries of a chunk, and of a floor."""
    if each.of is None or isinstance(each.of, Sets | Pooled):
        return
    yield each.name, _numpy(each.of(chunk))
    if FLOOR in each.also:
        yield each.name + FLOOR, _numpy(each.of(chunk.floor))


def _numpy(values: Tensor | Values) -> Values:
    found: Values = (
        values.double().cpu().numpy() if isinstance(values, Tensor) else values.astype(np.float64)
    )
    return found


def _chunks(image_ids: NDArray[np.int64], size: int) -> Iterator[slice]:
    """Slices of at least `size` rows, but for the last, that keep the rows of an image together."""
    starts = np.flatnonzero(np.diff(image_ids, prepend=image_ids[0] - 1))
    first = 0
    for start in starts:
        if start - first >= size:
            yield slice(first, int(start))
            first = int(start)
    yield slice(first, len(image_ids))


def _read(facts: Facts, rows: slice) -> Chunk:
    run, records = facts.run, facts.records[rows]
    keys = [record["key"] for record in records]
    query, counterfactual = run.images("query", keys), run.images("counterfactual", keys)
    lacks = RECONSTRUCTION in facts.declaration.without  # then nothing that is of it is computed
    reconstruction = query if lacks else run.images(RECONSTRUCTION, keys)
    mask = torch.zeros_like(query[:, :1], dtype=torch.bool)
    masked = [row for row, record in enumerate(records) if record.get("has_truth_mask")]
    if masked:
        mask[masked] = run.masks([keys[row] for row in masked])
    return Chunk(
        facts, rows, records, query, reconstruction, counterfactual, mask, made=counterfactual
    )
