"""Are two runs different, or could the choice of images have made it so?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bench.api import DataError, UsageError
from bench.metrics.bootstrap import LEVEL, interval, resample_weights
from bench.metrics.registry import where_is
from bench.metrics.scoring import RESAMPLES, Evidence
from bench.metrics.types import FRACTION, Scores

MIN_IMAGES = 5
"""On fewer no difference has an interval or a p: two images can be redrawn in three ways only."""


@dataclass(frozen=True)
class Difference:
    """Two runs under one metric, on the same images.

    Attributes:
        first: name of a run.
        second: name of another.
        difference: value of ``first`` less that of ``second``, or None where one of them is undefined.
        low: lower end of the 95 % interval of the difference, paired over images; None where there is none, as on
            fewer than :data:`MIN_IMAGES` images.
        high: upper end.
        p: two-sided, of the difference being zero; None where there is none.
        p_holm: the same, corrected for all comparisons made together (Holm).
    """

    first: str
    second: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None

    @property
    def distinct(self) -> bool:
        """Whether the two can be told apart."""
        return self.p_holm is not None and self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Comparison:
    """Several runs under one metric.

    Attributes:
        protocol: name.
        metric: name.
        higher_is_better: direction.
        values: of each run.
        differences: of every two.
        ranks: of each run, 1 being best; runs that cannot be told from the best of a rank share it. None without value.
        n_images: on which all of them are compared.
        unit: of the values and their differences.
    """

    protocol: str
    metric: str
    higher_is_better: bool
    values: Mapping[str, float | None]
    differences: tuple[Difference, ...]
    ranks: Mapping[str, int | None]
    n_images: int = 0
    unit: str = FRACTION


def compare(
    runs: Mapping[str, Scores],
    protocol: str,
    metric: str | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare runs by paired bootstrap: in each resample all runs are summed over the same images.

    A run is scored with :class:`~bench.metrics.Scorer` from its predictions and the truth; what that keeps of each
    image is enough to sum any metric, AP included, anew for each resample. Nothing is averaged over images that the
    protocol pools.

    Args:
        runs: scores by name of the run, two or more, of the same images and parameters.
        protocol: name of a protocol that all were scored by.
        metric: name of one of its metrics; default the one that ranks.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UsageError: fewer than two runs, or a protocol or metric that one lacks.
        DataError: runs of different images, parameters or protocol versions.
    """
    if len(runs) < 2:
        raise UsageError("a comparison needs two runs or more")
    evidence = _common_evidence(runs, protocol)
    first = next(iter(runs.values())).protocols[protocol]
    metric = first.results[0].metric if metric is None else metric
    if metric not in {result.metric for result in first.results}:
        raise UsageError(
            f"protocol {protocol} has no metric {metric!r}",
            where_is(metric) or f"it has: {', '.join(r.metric for r in first.results)}",
        )
    results = {name: scores.protocols[protocol].result(metric) for name, scores in runs.items()}
    values = {name: result.value for name, result in results.items()}
    groups = next(iter(evidence.values())).groups
    weights = resample_weights(groups, resamples, seed) if len(groups) >= MIN_IMAGES else None
    spread = {}
    if weights is not None:
        spread = {
            name: found[metric]
            for name, known in evidence.items()
            if values[name] is not None and metric in (found := known.pools[protocol].resampled(weights))
        }
    differences = _holm([_difference(a, b, values, spread) for a, b in combinations(runs, 2)])
    result = first.result(metric)
    return Comparison(
        protocol,
        metric,
        result.higher_is_better,
        values,
        differences,
        _ranks(values, differences, result.higher_is_better),
        n_images=next(iter(runs.values())).n_images,
        unit=result.unit,
    )


def _common_evidence(runs: Mapping[str, Scores], protocol: str) -> dict[str, Evidence]:
    found: dict[str, Evidence] = {}
    reference_name, reference = next(iter(runs.items()))
    for name, scores in runs.items():
        if protocol not in scores.protocols:
            raise UsageError(f"{name} was not scored by protocol {protocol}")
        here, there = scores.protocols[protocol], reference.protocols[protocol]
        if (here.version, here.params) != (there.version, there.params):
            raise DataError(
                f"{reference_name} and {name} were scored by different rules of protocol {protocol}", "score them again"
            )
        evidence: Evidence = scores.evidence
        if (evidence.keys, evidence.groups) != (reference.evidence.keys, reference.evidence.groups):
            only = set(evidence.keys) ^ set(reference.evidence.keys)
            example = f", such as {min(only)}" if only else ""
            raise DataError(
                f"{reference_name} and {name} were scored on different images{example}",
                "compare runs of one data set version and split",
            )
        found[name] = evidence
    return found


def _difference(
    first: str, second: str, values: Mapping[str, float | None], spread: Mapping[str, NDArray[np.float64]]
) -> Difference:
    a, b = values[first], values[second]
    if a is None or b is None:
        return Difference(first, second, None, None, None, None, None)
    if first not in spread or second not in spread:
        return Difference(first, second, a - b, None, None, None, None)
    drawn = spread[first] - spread[second]
    low, high = interval(drawn)
    return Difference(first, second, a - b, low, high, None if low is None else _p(drawn), None)


def _p(drawn: NDArray[np.float64]) -> float:
    """Twice the share of resamples on the rarer side of zero; with the one that was observed, never 0."""
    defined = drawn[~np.isnan(drawn)]
    rarer = min(int(np.count_nonzero(defined <= 0)), int(np.count_nonzero(defined >= 0)))
    return min(1.0, 2 * (rarer + 1) / (defined.size + 1))


def _holm(differences: list[Difference]) -> tuple[Difference, ...]:
    """Holm's step-down correction over the differences that have a p (Scand. J. Statist. 6, 1979)."""
    tested = sorted((d.p, i) for i, d in enumerate(differences) if d.p is not None)
    corrected: dict[int, float] = {}
    worst = 0.0
    for done, (p, index) in enumerate(tested):
        worst = max(worst, min(1.0, p * (len(tested) - done)))
        corrected[index] = worst
    return tuple(
        Difference(d.first, d.second, d.difference, d.low, d.high, d.p, corrected.get(i))
        for i, d in enumerate(differences)
    )


def _ranks(
    values: Mapping[str, float | None], differences: tuple[Difference, ...], higher_is_better: bool
) -> dict[str, int | None]:
    distinct = {frozenset((d.first, d.second)) for d in differences if d.distinct}
    known = [(value, name) for name, value in values.items() if value is not None]
    order = [name for _, name in sorted(known, key=lambda pair: pair[0], reverse=higher_is_better)]
    ranks: dict[str, int | None] = dict.fromkeys(values)
    best = ""
    for place, name in enumerate(order, start=1):
        if not best or frozenset((best, name)) in distinct:
            best, ranks[name] = name, place
        else:
            ranks[name] = ranks[best]
    return ranks
