"""What a protocol is: a metric family with exact rules and a version.

To add one, write a module beside this one with a subclass of :class:`SumProtocol` (metrics that are ratios of sums
over images) or of :class:`Protocol`, and name the module in :mod:`bench.metrics.registry`.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import UsageError
from bench.metrics.matching import Match
from bench.metrics.types import ImageMetric, MetricSpec

NO_SCORES = "not applicable: the predictions carry no confidence scores"
"""The reason beside a metric that ranks predictions, where they have no rank."""


@dataclass(frozen=True)
class Value:
    """A number, or the reason why there is none."""

    value: float | None
    reason: str | None = None


class Pool(ABC):
    """The evidence of all images under one protocol, ready to be summed with any weights."""

    @abstractmethod
    def values(self) -> dict[str, Value]:
        """Every metric over all images, each counted once."""

    @abstractmethod
    def resampled(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Every metric over images counted several times or not at all.

        Args:
            weights: (R, n_images), how often each image counts in each of R resamples.

        Returns:
            float64 (R,) for each metric, NaN where a resample leaves it undefined.
        """

    @abstractmethod
    def images(self, keys: Sequence[str]) -> list[ImageMetric]:
        """The metrics that one image has by itself."""


class Protocol(ABC):
    """A metric family.

    Attributes:
        name: by which it is asked for.
        version: changes whenever a number could; results of another version are set aside.
        title: how it is written in a heading.
        source: where the rule is published.
        empties: what images without truth, without predictions, or without both, mean here.
        overlaps: whether overlapping predictions are scored as they are.
        Params: a frozen dataclass of parameters, every one with a default.

    Args:
        params: an instance of ``Params``; default its defaults.
        classes: names of the classes, in the order of ``Instances.class_ids``.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    empties: ClassVar[str]
    overlaps: ClassVar[bool]
    Params: ClassVar[type[Any]]

    def __init__(self, params: Any = None, classes: Sequence[str] = ("cell",)) -> None:
        self.params = self.Params() if params is None else params
        self.classes = tuple(classes)

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Names of its parameters."""
        return tuple(f.name for f in dataclasses.fields(cls.Params))

    @classmethod
    def make(cls, overrides: Mapping[str, Any] | None = None, classes: Sequence[str] = ("cell",)) -> Protocol:
        """The protocol with some parameters set; strings are converted to each one's type.

        Raises:
            UsageError: no such parameter, or a value that does not fit it.
        """
        known = cls.parameters()
        default = cls.Params()
        values = {}
        for key, value in (overrides or {}).items():
            if key not in known:
                raise UsageError(
                    f"protocol {cls.name} has no parameter {key!r}", f"it has: {', '.join(sorted(known)) or 'none'}"
                )
            values[key] = _converted(cls.name, key, value, getattr(default, key))
        return cls(cls.Params(**values), classes)

    @property
    @abstractmethod
    def metrics(self) -> tuple[MetricSpec, ...]:
        """Its metrics; the one that ranks comes first."""

    @abstractmethod
    def measure(self, match: Match) -> Any:
        """What must be kept of one image: compact, picklable."""

    @abstractmethod
    def pool(self, evidence: Sequence[Any], scored: bool) -> Pool:
        """Bring the evidence of all images together.

        Args:
            evidence: of each image, in order.
            scored: whether the predictions carry confidence scores.
        """


class SumProtocol(Protocol):
    """A protocol whose every metric is a ratio of sums over images.

    An image becomes a row of numbers; rows are added; :meth:`ratios` turns sums into metrics. So the point value, a
    bootstrap resample and a single image go one and the same way.
    """

    @abstractmethod
    def measure(self, match: Match) -> tuple[float, ...]:
        """The row of one image."""

    @abstractmethod
    def ratios(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The metrics of sums of rows.

        Args:
            sums: float64 (columns, ...).

        Returns:
            float64 (...) for each metric, NaN where undefined.
        """

    def image_counts(self, row: Sequence[float], metric: str) -> tuple[int, int, int] | None:
        """True positives, false positives and misses of an image under a metric, where it has them."""
        return None

    def image_metrics(self) -> tuple[str, ...]:
        """The metrics reported image by image; default all."""
        return tuple(m.name for m in self.metrics)

    def pool(self, evidence: Sequence[Any], scored: bool) -> Pool:
        """Bring the rows of all images together."""
        return _SumPool(self, [tuple(map(float, row)) for row in evidence])


class _SumPool(Pool):
    def __init__(self, protocol: SumProtocol, rows: list[tuple[float, ...]]) -> None:
        self._protocol = protocol
        self._rows = rows
        self._undefined = {m.name: m.undefined for m in protocol.metrics}

    def values(self) -> dict[str, Value]:
        # Exactly rounded sums: the order of the images changes no bit.
        sums = np.array([math.fsum(column) for column in zip(*self._rows, strict=True)])
        values = {}
        for name, value in self._protocol.ratios(sums).items():
            number = float(value)
            values[name] = Value(None, self._undefined[name]) if math.isnan(number) else Value(number)
        return values

    def resampled(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        return self._protocol.ratios((weights.astype(np.float64) @ np.array(self._rows)).T)

    def images(self, keys: Sequence[str]) -> list[ImageMetric]:
        ratios = self._protocol.ratios(np.array(self._rows).T)
        found = []
        for metric in self._protocol.image_metrics():
            for key, row, value in zip(keys, self._rows, ratios[metric].tolist(), strict=True):
                counts = self._protocol.image_counts(row, metric) or (None, None, None)
                found.append(ImageMetric(key, metric, None if math.isnan(value) else value, *counts))
        return found


def ratio(numerator: NDArray[np.float64] | float, denominator: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """``numerator / denominator``, NaN (undefined) where the denominator is 0."""
    below = np.asarray(denominator, dtype=np.float64)
    above = np.broadcast_to(np.asarray(numerator, dtype=np.float64), below.shape)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0)


def threshold_name(threshold: float) -> str:
    """An IoU threshold as it stands in a metric's name: 0.5, 0.75."""
    return f"{threshold:g}"


def check_thresholds(protocol: str, thresholds: Sequence[float], *, low: float = 0.0) -> None:
    """Raise UsageError unless there is a threshold and all lie in [low, 1)."""
    if not thresholds or not all(low <= t < 1 for t in thresholds):
        raise UsageError(
            f"protocol {protocol}: thresholds {tuple(thresholds)}", f"give IoU thresholds from {low:g} to below 1"
        )


def _converted(protocol: str, key: str, value: Any, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            if isinstance(value, str):
                return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]
            if isinstance(value, bool):
                return value
        elif isinstance(default, int):
            number = float(value)
            if number == int(number):
                return int(number)
        elif isinstance(default, float):
            number = float(value)
            if math.isfinite(number):
                return number
        elif isinstance(default, tuple):
            parts = [part for part in value.split(",") if part] if isinstance(value, str) else list(value)
            return tuple(_converted(protocol, key, part, default[0]) for part in parts)
        elif isinstance(value, str):
            return value
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"protocol {protocol}: {value!r} does not fit parameter {key!r}", f"its default is {default!r}")
