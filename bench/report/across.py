"""Methods over several data sets: mean rank, Borda, and which differences of mean rank mean something.

Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006), sections 3.2.2 and 3.2.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.metrics.bootstrap import LEVEL


@dataclass(frozen=True)
class Standing:
    """A method over the data sets on which all methods have a value.

    Attributes:
        method: name.
        mean_rank: mean of its ranks, 1 being best; ties share the mean of their places.
        borda: how many methods it beats, summed over data sets; half a point for a tie.
        ranks: by data set.
    """

    method: str
    mean_rank: float
    borda: float
    ranks: Mapping[str, float]


@dataclass(frozen=True)
class Across:
    """Several methods over the data sets that they have in common.

    Attributes:
        standings: best mean rank first.
        datasets: those that count: every method has a value there.
        left_out: data set to the methods that have no value there.
        critical_difference: mean ranks that differ by less cannot be told apart at 95 % (Nemenyi); None with fewer
            than two methods or two data sets.
        friedman_p: of all methods being equally good (Friedman's chi-square); None as above.
        groups: methods that cannot be told apart, best first; every group has two or more.
    """

    standings: tuple[Standing, ...]
    datasets: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]
    critical_difference: float | None
    friedman_p: float | None
    groups: tuple[tuple[str, ...], ...]


def across(values: Mapping[str, Mapping[str, float]], methods: Sequence[str], better: Mapping[str, bool]) -> Across:
    """Rank methods over data sets.

    Args:
        values: data set to method to value; what is missing is not there.
        methods: that are compared.
        better: data set to whether higher is better there.
    """
    left_out = {
        name: tuple(m for m in methods if m not in found)
        for name, found in values.items()
        if any(m not in found for m in methods)
    }
    common = tuple(name for name in values if name not in left_out) if methods else ()
    table = np.array([[values[name][m] * (1 if better[name] else -1) for m in methods] for name in common])
    table = table.reshape(len(common), len(methods))
    ranks = np.array([_ranks(-row) for row in table]).reshape(table.shape)
    count = len(methods)
    if not common:
        return Across((), common, left_out, None, None, ())
    standings = sorted(
        (
            Standing(
                method,
                float(ranks[:, i].mean()),
                float((count - ranks[:, i]).sum()),
                {name: float(rank) for name, rank in zip(common, ranks[:, i], strict=True)},
            )
            for i, method in enumerate(methods)
        ),
        key=lambda standing: (standing.mean_rank, standing.method),
    )
    difference = critical_difference(count, len(common))
    return Across(tuple(standings), common, left_out, difference, _friedman(ranks), _groups(standings, difference))


def critical_difference(methods: int, datasets: int) -> float | None:
    """Nemenyi's: mean ranks that differ by at least as much are different at the 5 % level."""
    if methods < 2 or datasets < 2:
        return None
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(LEVEL, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * datasets))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the smallest 1; ties share the mean of their places."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=np.float64)


def _friedman(ranks: NDArray[np.float64]) -> float | None:
    datasets, methods = ranks.shape
    if methods < 2 or datasets < 2:
        return None
    from scipy.stats import chi2

    # With ties, the variance of the ranks is what it is, not that of 1 to k (Conover 1999, section 5.8).
    spread = float((ranks**2).sum()) - datasets * methods * (methods + 1) ** 2 / 4
    if spread <= 0:
        return 1.0
    sums = ranks.sum(axis=0) - datasets * (methods + 1) / 2
    statistic = (methods - 1) * float((sums**2).sum()) / spread
    return float(chi2.sf(statistic, methods - 1))


def _groups(standings: Sequence[Standing], difference: float | None) -> tuple[tuple[str, ...], ...]:
    """The longest stretches of mean ranks that no critical difference divides."""
    if difference is None:
        return ()
    found: list[tuple[int, int]] = []
    for first in range(len(standings)):
        last = first
        while last + 1 < len(standings) and standings[last + 1].mean_rank - standings[first].mean_rank < difference:
            last += 1
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return tuple(tuple(s.method for s in standings[first : last + 1]) for first, last in found)
