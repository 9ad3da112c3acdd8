"""What a model relies on, by all explanations of a run: one self-contained page, made to be read on
a screen and on paper.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cfexp.evaluation.measure.base import Score
from cfexp.evaluation.measure.estimate import share_among
from cfexp.evaluation.reliance.clusters import Cluster, clusters_of
from cfexp.evaluation.reliance.edits import Edits, edits_of
from cfexp.evaluation.reliance.sets import Sets, of_directions
from cfexp.evaluation.reliance.suspects import LEVEL, Attribute, Verdict, all_tests, attribute_tests
from cfexp.evaluation.report.gallery import Album, label_map_overlay, page_template
from cfexp.evaluation.report.sheet import answers_of, difference
from cfexp.evaluation.run_folder import RunFolder, to_pixels

TYPICAL = 3  # cards of a cluster
ODD = 12  # cards of explanations that only odd regions turn
ATTRIBUTES = 20  # rows, those that go farthest with the decision
SMALL = 0.5  # percent: a region whose edits are smaller, and that never leads, is left out


class Report(NamedTuple):
    """What the page says."""

    edits: Edits
    sets: list[Sets]
    tests: list[Verdict]
    attributes: list[tuple[Attribute, Verdict]]
    clusters: list[Cluster]
    odd: list[int]  # rows of the explanations that only odd regions turn
    odd_means: str
    odd_share: Score

    @property
    def suspected(self) -> list[Verdict]:
        """The tests that found a shortcut, the most telling first."""
        return [test for test in self.tests if test.is_suspected]


def report_of(
    run: RunFolder, *, expected: Sequence[str] | None = None, tolerated: float = 5, seed: int = 0
) -> Report:
    """Find what a run's model relies on: all that the page shows, but for the pictures.

    run: of any explainer, finished or not. expected: the regions that may decide, by what a person
    knows; None = as the data tells. tolerated: percent of the explanations that may go through what
    is no cause. seed: of the clusters.

    Raises InputError as `edits_of`.
    """
    edits = edits_of(run, expected)
    attributes = attribute_tests(edits.everything, edits.declaration.label, tolerated)
    attributes.sort(key=lambda pair: (pair[1].p_value, -_gap(pair[0])))
    tests = all_tests(edits, tolerated, [test for _, test in attributes])
    sets = of_directions(edits)
    is_odd, means = _odd(edits, tolerated)
    turned = edits.turned
    odd_share = share_among(is_odd, turned)
    return Report(
        *(edits, sets, tests, attributes, clusters_of(edits, seed)),
        *([int(row) for row in np.flatnonzero(is_odd & turned)], means, odd_share),
    )


def write_report(report: Report, path: Path, *, title: str, max_width: int = 256) -> None:
    """Write the page. Pictures wider than `max_width` pixels are reduced to that.

    Raises InputError for a damaged picture of the run.
    """
    edits = report.edits
    album = Album(edits.run, max_width)
    cards = {
        row: _card(edits, row, album)
        for row in dict.fromkeys(
            [
                *(row for each in report.clusters for row in _typical(edits, each.rows, TYPICAL)),
                *_typical(edits, report.odd, ODD),
            ]
        )
    }
    template = page_template("report.html", spaced=_spaced, probability=_probability, score=_score)
    text = template.render(
        title=title,
        report=report,
        edits=edits,
        total=len(edits.everything),
        level=LEVEL,
        names=edits.declaration.class_names,
        clusters=[
            (each, [cards[row] for row in _typical(edits, each.rows, TYPICAL)])
            for each in report.clusters
        ],
        odd=[cards[row] for row in _typical(edits, report.odd, ODD)],
        attributes=report.attributes[:ATTRIBUTES],
        shown=lambda region: region.leads.value > 0 or region.edit.value >= SMALL,
        pictures=album.pictures,
        restricted=edits.declaration.regions,
    )
    path.write_text(text, encoding="utf-8", errors="replace")


def _odd(edits: Edits, tolerated: float) -> tuple[Any, str]:
    """(N,) the searches whose edit is mainly of an odd region, and what that means here."""
    leading = edits.leading
    if edits.causes_from:
        is_cause = np.take_along_axis(edits.is_cause, leading[:, None], axis=1)[:, 0]
        means = (
            f"what holds most of the edit is no cause of the decision (says {edits.causes_from})"
        )
        return edits.knows_causes & ~is_cause, means
    odd = np.zeros(len(leading), dtype=bool)
    everyone, *directions = edits.directions.values()
    for members in directions or [everyone]:
        rows = members & edits.turned
        counts = np.bincount(leading[rows], minlength=len(edits.regions))
        odd |= rows & (100 * counts[leading] < tolerated * max(rows.sum(), 1))
    means = (
        "the region that holds most of the edit does so in fewer than "
        f"{tolerated:g} % of the explanations of the direction; causes are not known"
    )
    return odd, means


def _typical(edits: Edits, rows: Iterable[int], count: int) -> list[int]:
    """The first rows, of different pictures."""
    seen: dict[str, int] = {}
    for row in rows:
        seen.setdefault(str(edits.records[row]["image_id"]), int(row))
    return [*seen.values()][:count]


def _card(edits: Edits, row: int, album: Album) -> dict[str, Any]:
    record, run = edits.records[row], edits.run
    key = record["key"]
    start, made = (
        run.images(name, [key]) for name in (edits.declaration.starts_from, "counterfactual")
    )
    pictures = [
        ("query", album.add("query", key)),
        ("counterfactual", album.add("counterfactual", key)),
    ]
    changed = to_pixels(difference(start, made)[0])
    pictures.append(("difference", album.embed(Image.fromarray(changed))))
    label_map = run.label_map(key)
    overlay = None
    if label_map is not None:
        overlay = album.embed(label_map_overlay(label_map, edits.shares[row].tolist()))
    before, after = answers_of(record)
    order = np.argsort(-edits.shares[row], kind="stable")[:3]
    causes = edits.causes[row]
    return {
        "key": key,
        "image": str(record["image_id"]),
        "question": record.get("question") or "",
        "before": before,
        "after": after,
        "pictures": pictures,
        "overlay": overlay,
        "regions": [
            (edits.regions[index], 100 * edits.shares[row, index])
            for index in order
            if edits.shares[row, index] >= 0.05
        ],
        "causes": [] if causes is None else sorted(causes),
    }


def _gap(attribute: Attribute) -> float:
    return abs(attribute.decided_with.value - attribute.decided_without.value)


def _spaced(name: str) -> str:
    return name.replace("_", " ") if name.strip() else "(empty)"


def _probability(value: float) -> str:
    return "below 0.0001" if value < 1e-4 else f"{value:.2g}"


def _score(score: Score) -> str:
    if not score.n:
        return "—"
    interval = "" if np.isnan(score.low) else f" [{score.low:.1f}, {score.high:.1f}]"
    return f"{score.value:.1f} %{interval}"
