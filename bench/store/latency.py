"""What many timing samples say in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LatencySummary:
    """Of one phase of a run's predictions, over every timed image and round.

    Attributes:
        phase: ``total``, ``preprocess``, ``network`` or ``postprocess``.
        n: samples.
        median_ms: median, milliseconds an image.
        p95_ms: 95th percentile, milliseconds an image.
        iqr_ms: interquartile range, milliseconds.
        images_per_second: images over the time they took together.
    """

    phase: str
    n: int
    median_ms: float
    p95_ms: float
    iqr_ms: float
    images_per_second: float | None

    @classmethod
    def of(cls, phase: str, milliseconds: Iterable[float]) -> LatencySummary:
        """Summarise at least one sample; images per second are None where they took no time at all."""
        samples = sorted(milliseconds)
        total = sum(samples)
        return cls(
            phase=phase,
            n=len(samples),
            median_ms=percentile(samples, 50),
            p95_ms=percentile(samples, 95),
            iqr_ms=percentile(samples, 75) - percentile(samples, 25),
            images_per_second=1000.0 * len(samples) / total if total > 0 else None,
        )


def percentile(values: Sequence[float], percent: float) -> float:
    """The percentile of at least one value, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
