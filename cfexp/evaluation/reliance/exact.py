"""The tests: exact, so that few explanations claim no more than they can."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cfexp.evaluation.measure.base import NOTHING, Score


def at_least(happened: int, among: int, chance: float) -> float:
    """The probability that `happened` or more of `among` happen, each by `chance`: binomial."""
    return float(stats.binomtest(happened, among, chance, alternative="greater").pvalue)


def more_often(here: int, of_here: int, there: int, of_there: int) -> float:
    """Fisher's exact test, one-sided: the probability of so many here, or more, if here and there
    were alike.
    """
    table = [[here, of_here - here], [there, of_there - there]]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


class Stratified(NamedTuple):
    """What an attribute does to a decision among queries that are alike in their label."""

    difference: (
        Score  # percent of the decisions with it less percent of those without; Mantel-Haenszel
    )
    p_value: float


def within_strata(
    decision: NDArray[np.bool_], attribute: NDArray[np.bool_], stratum: Sequence[int]
) -> Stratified:
    """Whether decisions (N,) go with an attribute (N,) among queries of the same stratum (N,).

    The exact form of the test of Mantel and Haenszel (1959): given its margins, each stratum's
    count is hypergeometric if attribute and decision are independent, and the sum of the counts is
    distributed as their convolution. Two-sided: twice the smaller tail. The interval is normal, by
    the variance after Agresti and Caffo (2000). n: the queries of strata that have both, with the
    attribute and without it.
    """
    total, offset, distribution = 0, 0, np.ones(1)
    weights, differences, variances, n = [], [], [], 0
    for each in np.unique(stratum):
        rows = np.asarray(stratum) == each
        has, yes = attribute[rows], decision[rows]
        with_it, without = int(has.sum()), int((~has).sum())
        if not with_it or not without:
            continue
        n += with_it + without
        first, second = int((yes & has).sum()), int((yes & ~has).sum())
        low, high = max(0, first + second - without), min(with_it, first + second)
        support = np.arange(low, high + 1)
        of_stratum = stats.hypergeom.pmf(support, with_it + without, first + second, with_it)
        distribution = np.convolve(distribution, of_stratum)
        total, offset = total + first, offset + low
        weights.append(with_it * without / (with_it + without))
        differences.append(first / with_it - second / without)
        smooth = (
            ((first + 1) / (with_it + 2), with_it + 2),
            ((second + 1) / (without + 2), without + 2),
        )
        variances.append(sum(share * (1 - share) / count for share, count in smooth))
    if not weights:
        return Stratified(NOTHING, 1.0)
    place = total - offset
    tails = distribution[: place + 1].sum(), distribution[place:].sum()
    weight = np.array(weights) / sum(weights)
    mean = 100 * float(weight @ differences)
    half = 100 * float(stats.norm.ppf(0.975) * np.sqrt(weight**2 @ variances))
    score = Score(mean, max(-100.0, mean - half), min(100.0, mean + half), n)
    return Stratified(score, float(min(1.0, 2 * min(tails))))
