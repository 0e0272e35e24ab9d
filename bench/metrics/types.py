"""What scoring gives back: plain values that the engine stores and the command line prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FRACTION = "fraction"
"""Unit of scores and rates: 0 to 1. Reports may print percent."""
INSTANCES = "instances"
"""Unit of counts of cells."""


@dataclass(frozen=True)
class MetricSpec:
    """What a metric is, before anything is measured.

    Attributes:
        name: as it is printed and stored ("AP@0.5").
        higher_is_better: direction.
        meaning: one line.
        undefined: when, and why, it has no value.
        unit: of the value.
    """

    name: str
    higher_is_better: bool
    meaning: str
    undefined: str
    unit: str = FRACTION


@dataclass(frozen=True)
class MetricResult:
    """A number over a set of images; ``value`` None comes with a ``reason``.

    Attributes:
        metric: name.
        value: the number in ``unit``, or None where it is undefined or not applicable.
        reason: why there is no value.
        unit: of ``value``, ``low`` and ``high``.
        higher_is_better: direction.
        low: lower end of the 95 % interval, or None where none can be given.
        high: upper end.
        n: number of images behind the value.
    """

    metric: str
    value: float | None
    reason: str | None
    unit: str
    higher_is_better: bool
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ImageMetric:
    """The same for one image, with the counts of true positives, false positives and misses where it has them."""

    image_key: str
    metric: str
    value: float | None
    tp: int | None = None
    fp: int | None = None
    fn: int | None = None


@dataclass(frozen=True)
class ProtocolScores:
    """What one protocol says of a set of images.

    Attributes:
        name: of the protocol.
        version: of its rule.
        params: its parameters.
        results: the numbers, the one that ranks first.
        images: the same image by image, where the protocol has such values.
    """

    name: str
    version: str
    params: Mapping[str, Any]
    results: tuple[MetricResult, ...]
    images: tuple[ImageMetric, ...] = ()

    def __getitem__(self, metric: str) -> float | None:
        """The value of a metric."""
        return self.result(metric).value

    def result(self, metric: str) -> MetricResult:
        """The result of a metric.

        Raises:
            KeyError: the protocol has no such metric.
        """
        for result in self.results:
            if result.metric == metric:
                return result
        raise KeyError(metric)


@dataclass(frozen=True)
class Scores:
    """What all protocols say of a set of images.

    Attributes:
        n_images: images.
        n_truth: truths, crowd regions aside.
        n_predictions: predictions.
        protocols: by name, in the order asked for.
        evidence: what :func:`bench.metrics.compare` needs of it; no business of anyone else.
    """

    n_images: int
    n_truth: int
    n_predictions: int
    protocols: dict[str, ProtocolScores]
    evidence: Any = field(default=None, repr=False, compare=False)
