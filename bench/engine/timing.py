"""Latency at batch 1, end to end and by phase, in the way of ``torch.utils.benchmark``.

Warm-up predictions come before the first timed one and are thrown away. On a GPU the device is synchronised at every
boundary of a phase, so that a phase's time is the work done in it and not the work queued in it. Every sample is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from bench.api import Method
from bench.metrics.types import MetricResult

PHASES = ("preprocess", "network", "postprocess")
WARM_UP = {"cpu": 1, "cuda": 5}
"""Predictions before the first timed one, by kind of device."""

PROTOCOL = "timing"
VERSION = "1"


class PhaseClock:
    """Times one prediction: the whole, and each phase without the phases inside it.

    Args:
        synchronise: waits for the device; called at every boundary.
    """

    def __init__(self, synchronise: Callable[[], None] | None = None) -> None:
        self._synchronise = synchronise or (lambda: None)
        self._open: list[tuple[str, float]] = []
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """A phase; entering one inside another stops the outer one's watch."""
        now = self._now()
        if self._open:
            outer, begun = self._open[-1]
            self._add(outer, now - begun)
        self._open.append((name, now))
        try:
            yield
        finally:
            now = self._now()
            own, begun = self._open.pop()
            self._add(own, now - begun)
            if self._open:
                self._open[-1] = (self._open[-1][0], now)

    @contextmanager
    def whole(self) -> Iterator[dict[str, float]]:
        """One prediction; the yielded dictionary holds milliseconds by phase, and ``total``, once it is over."""
        self._seconds = {}
        milliseconds: dict[str, float] = {}
        begun = self._now()
        yield milliseconds
        milliseconds["total"] = (self._now() - begun) * 1e3
        milliseconds.update({name: seconds * 1e3 for name, seconds in self._seconds.items()})

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def _now(self) -> float:
        self._synchronise()
        return time.perf_counter()


@contextmanager
def on_clock(method: Method, clock: PhaseClock) -> Iterator[None]:
    """Let a method time its phases on ``clock``."""
    method.set_clock(clock)
    try:
        yield
    finally:
        method.set_clock(None)


def computed_here(method: Method, device: str) -> str:
    """What this process computes on: not the GPU of a tool in a process of its own, which answers when it is done."""
    return device if method.in_process else "cpu"


def synchroniser(device: str) -> Callable[[], None] | None:
    """What waits for a device: nothing on the CPU."""
    if device == "cpu":
        return None
    import torch

    return lambda: torch.cuda.synchronize(device)


def summary(totals: Sequence[float], peak_memory_bytes: int | None) -> list[MetricResult]:
    """The latency of a run as results: median, 95th percentile and interquartile range in ms, images/s, memory.

    Args:
        totals: milliseconds of each timed image, end to end.
        peak_memory_bytes: of the process, or of the GPU where there is one.
    """
    none = "no image was timed"

    def result(
        metric: str, unit: str, higher: bool, value: float | None, bounds: tuple[float, float] | None
    ) -> MetricResult:
        return MetricResult(
            metric,
            value,
            None if value is not None else none,
            unit,
            higher,
            bounds[0] if bounds else None,
            bounds[1] if bounds else None,
            len(totals),
        )

    times = np.asarray(totals, dtype=np.float64)
    if times.size == 0:
        return [result("latency_median", "ms", False, None, None)]
    median, p95 = (float(v) for v in np.percentile(times, [50, 95]))
    q1, q3 = np.percentile(times, [25, 75])
    bounds = interval_of_median(times)
    rate = (1e3 / bounds[1], 1e3 / bounds[0]) if bounds and bounds[0] > 0 else None
    results = [
        result("latency_median", "ms", False, median, bounds),
        result("latency_p95", "ms", False, p95, None),
        result("latency_iqr", "ms", False, float(q3 - q1), None),
        result("images_per_second", "images/s", True, 1e3 / median, rate),
    ]
    if peak_memory_bytes is not None:
        results.append(result("peak_memory", "bytes", False, float(peak_memory_bytes), None))
    return results


def interval_of_median(times: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the median from the order statistics (binomial, no assumption on the shape); None below 6."""
    from scipy.stats import binom

    n = len(times)
    if n < 6:
        return None
    lower = int(binom.ppf(0.025, n, 0.5))
    ordered = np.sort(times)
    return float(ordered[max(lower - 1, 0)]), float(ordered[min(n - lower, n - 1)])
