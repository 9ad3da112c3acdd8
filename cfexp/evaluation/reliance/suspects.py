"""Suspected shortcuts: what a decision seems to rest on and should not, each with its test.

A region is suspected where explanations go through it though it is no cause of the decision: by the
truth of the data set, or by what a person expects. Where neither is known, it is suspected if the
model is wrong more often where it leads than elsewhere. An attribute is suspected where decisions
go with it among queries of the same label. All p-values are times the number of tests (Bonferroni).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cfexp.evaluation.measure.base import Members, Score
from cfexp.evaluation.measure.estimate import share_among
from cfexp.evaluation.reliance.edits import Edits
from cfexp.evaluation.reliance.exact import at_least, more_often, within_strata
from cfexp.evaluation.run_folder import Record

LEVEL = 0.05  # of the corrected p-values
MAX_VALUES = 12  # an attribute of more is a name
_AT_MOST = "at most {:g} %, if decisions rest on their causes; exact binomial test, one-sided"
FEWEST = 5  # queries of a value, below which nothing is asked of it


class Verdict(NamedTuple):
    """One test, and what it found."""

    name: str  # the region, or "attribute = value"
    kind: str  # "region" or "attribute"
    found: str  # what was counted, as a sentence without its number
    score: Score  # in percent; of attributes the difference of two shares
    expected: str  # what is to be expected, and by which test it is refuted
    p_value: float  # as computed
    matters: bool  # whether the effect is larger than what is tolerated
    p_corrected: float = 1.0

    @property
    def said(self) -> str:
        """What was found, with its number."""
        unit = "%" if self.kind == "region" else "points"
        return f"{self.score.value:.1f} {unit} {self.found}"

    @property
    def is_suspected(self) -> bool:
        """Whether chance explains it badly, and it is large enough to matter."""
        return self.matters and self.p_corrected < LEVEL


def all_tests(
    edits: Edits, tolerated: float, attributes: Iterable[Verdict] | None = None
) -> list[Verdict]:
    """Every test that the run allows, the most telling first.

    tolerated: percent of the explanations that may go through what is no cause. attributes: those
    of `attribute_tests`, which count among them; None = made here.
    """
    if attributes is None:
        told = attribute_tests(edits.everything, edits.declaration.label, tolerated)
        attributes = (test for _, test in told)
    found = [
        *(_no_cause(edits, tolerated) if edits.causes_from else _wrong(edits, tolerated)),
        *_alone(edits, tolerated),
        *attributes,
    ]
    corrected = [test._replace(p_corrected=min(1.0, test.p_value * len(found))) for test in found]
    return sorted(
        corrected, key=lambda test: (not test.is_suspected, test.p_value, -test.score.value)
    )


def _no_cause(edits: Edits, tolerated: float) -> Iterator[Verdict]:
    """Of each region, how often it leads explanations whose cause it is not."""
    expected = _AT_MOST.format(tolerated)
    is_cause, knows = edits.is_cause, edits.knows_causes
    if edits.declaration.regions is not None:
        # Where only some regions may change, they lead whatever the model relies on.
        names = [name for name in edits.regions if name in edits.declaration.regions]
        columns = [edits.regions.index(name) for name in names]
        among = knows & ~is_cause[:, columns].any(1) & edits.present[:, columns].any(1)
        said = (
            "of searches that might change nothing else, where it is no cause, turned the decision"
        )
        yield from _tested(" + ".join(names), said, edits.turned, among, expected, tolerated)
        return
    for column, name in enumerate(edits.regions):
        among = edits.turned & knows & edits.present[:, column] & ~is_cause[:, column]
        said = "of explanations go mainly through it where it is no cause"
        yield from _tested(name, said, edits.leading == column, among, expected, tolerated)


def _alone(edits: Edits, tolerated: float) -> Iterator[Verdict]:
    """Of each region that a sweep changed alone, how often that turned what it is no cause of."""
    swept = np.array([record.get("sweep_success") is not None for record in edits.records])
    if not (swept.any() and edits.causes_from):
        return
    expected = _AT_MOST.format(tolerated)
    for column, name in enumerate(edits.regions):
        outcomes = np.array(
            [(each.get("sweep_success") or [-1] * (column + 1))[column] for each in edits.records]
        )
        among = (outcomes >= 0) & edits.knows_causes & ~edits.is_cause[:, column]
        said = "of searches in it alone turn the decision where it is no cause"
        yield from _tested(name, said, outcomes == 1, among, expected, tolerated)


def _tested(
    name: str, said: str, happened: Members, among: Members, expected: str, tolerated: float
) -> Iterator[Verdict]:
    n, count = int(among.sum()), int((happened & among).sum())
    if n:
        score = share_among(happened, among)
        p_value = at_least(count, n, tolerated / 100)
        yield Verdict(name, "region", said, score, expected, p_value, score.value > tolerated)


def _wrong(edits: Edits, tolerated: float) -> Iterator[Verdict]:
    """Of each region, how often the decision is wrong where it leads, against elsewhere."""
    label = edits.declaration.label
    labels = _labels(edits.records, label)
    if not is_binary(edits.everything) or edits.declaration.regions is not None:
        return
    classes = np.array([record["query_class"] for record in edits.records])
    known = edits.turned & (labels >= 0)
    wrong = known & (classes != labels)
    for column, name in enumerate(edits.regions):
        here = known & (edits.leading == column)
        there = known & ~here
        n, others = int(here.sum()), int(there.sum())
        if n < FEWEST or others < FEWEST:
            continue
        counts = int((wrong & here).sum()), int((wrong & there).sum())
        score = share_among(wrong, here)
        of_others = 100 * counts[1] / others
        expected = f"{of_others:.1f} %, as of the {others} others; Fisher's exact test, one-sided"
        said = f"of decisions are wrong about {label} where explanations go mainly through it"
        p_value = more_often(counts[0], n, counts[1], others)
        yield Verdict(
            name, "region", said, score, expected, p_value, score.value - of_others > tolerated
        )


class Attribute(NamedTuple):
    """How often the second class is decided with an attribute, and without it."""

    name: str
    decided_with: Score
    decided_without: Score


def attribute_tests(
    records: list[Record], label: str | None, tolerated: float
) -> list[tuple[Attribute, Verdict]]:
    """Of each attribute that the data set tells, whether decisions go with it at equal labels.

    Of decisions between two classes only; what says the same as the label cannot be asked.
    """
    labels = _labels(records, label)
    known = labels >= 0
    if not known.any() or not is_binary(records):
        return []
    decision = np.array([record["query_class"] == 1 for record in records])
    found = []
    for name, column in _attributes(records).items():
        if name == label:
            continue
        values = sorted({each for each in column if each is not None}, key=str)
        if len(values) < 2 or len(values) > MAX_VALUES:
            continue
        # Of yes and no, and of numbers 0 and 1, one says it all.
        asked = values[1:] if len(values) == 2 and not isinstance(values[0], str) else values
        rows = known & np.array([each is not None for each in column])
        for value in asked:
            has = np.array([each == value for each in column])
            if min((rows & has).sum(), (rows & ~has).sum()) < FEWEST:
                continue
            result = within_strata(decision[rows], has[rows], labels[rows].tolist())
            if not result.difference.n:
                continue
            shown = name if len(asked) == 1 else f"{name} = {value}"
            both = (share_among(decision, rows & each) for each in (has, ~has))
            attribute = Attribute(shown, *both)
            test = Verdict(
                shown,
                "attribute",
                f"more of the decisions with it than without it, at equal labels ({label})",
                result.difference,
                "0, if only the label decided; exact stratified test (Mantel-Haenszel), two-sided",
                result.p_value,
                abs(result.difference.value) > tolerated,
            )
            found.append((attribute, test))
    return found


def is_binary(records: list[Record]) -> bool:
    """Whether the decision is between two classes."""
    return {record["query_class"] for record in records} <= {0, 1}


def _labels(records: list[Record], label: str | None) -> NDArray[np.int64]:
    """(N,) the data set's label, 0 or 1; -1 where it is not known."""
    labels = [(record.get("labels") or {}).get(label) for record in records]
    return np.array([each if each in (0, 1) else -1 for each in labels], dtype=np.int64)


def _attributes(records: list[Record]) -> dict[str, list[str | bool | int | None]]:
    """What the data set tells of each query in a word, a yes or a no, by its name."""
    told = [
        {
            name: value
            for source in ("labels", "truth")
            if isinstance(record.get(source), dict)
            for name, value in record[source].items()
            if isinstance(value, str | bool) or (source == "labels" and value in (0, 1))
        }
        for record in records
    ]
    names = dict.fromkeys(name for each in told for name in each)
    return {name: [each.get(name) for each in told] for name in names}
