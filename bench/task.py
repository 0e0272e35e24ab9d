"""What a method is asked to do: the classes, the kind of image, and how large and many the objects are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from bench.instances import Instances, Sample

DEFAULT_MAX_DETECTIONS = 2000
"""Predictions kept an image where a data set's card does not say otherwise. mmdet's 100 is never used."""


@dataclass(frozen=True)
class ObjectStatistics:
    """How large and how many the objects of a data set are; methods derive anchors and caps from it.

    Sizes are sides in pixels: the square root of width times height of an object's tight box.

    Attributes:
        size_p05: 5th percentile of the sizes.
        size_median: median size.
        size_p95: 95th percentile.
        aspect_p95: 95th percentile of the longer over the shorter box side.
        per_image_median: median number of objects an image.
        per_image_max: largest number of objects in one image.
    """

    size_p05: float
    size_median: float
    size_p95: float
    aspect_p95: float
    per_image_median: float
    per_image_max: int

    @classmethod
    def measure(cls, truths: Iterable[Instances]) -> ObjectStatistics | None:
        """Measure over the truths of many images; None where they hold no object."""
        sizes: list[float] = []
        aspects: list[float] = []
        counts: list[int] = []
        for truth in truths:
            sides = truth.boxes[~truth.crowd, 2:] - truth.boxes[~truth.crowd, :2]
            sides = sides[(sides > 0).all(axis=1)]
            sizes.extend(np.sqrt(sides.prod(axis=1)).tolist())
            aspects.extend((sides.max(axis=1, initial=1) / sides.min(axis=1, initial=np.inf)).tolist())
            counts.append(len(sides))
        if not sizes:
            return None
        p05, median, p95 = np.percentile(sizes, [5, 50, 95])
        return cls(
            round(float(p05), 1),
            round(float(median), 1),
            round(float(p95), 1),
            round(float(np.percentile(aspects, 95)), 2),
            round(float(np.median(counts)), 1),
            max(counts),
        )


@dataclass(frozen=True)
class Task:
    """What a data set asks of a method.

    Attributes:
        classes: names of the classes, in the order of ``Instances.class_ids``.
        modality: of the microscope, as the card says it ("phase contrast", "fluorescence", "DIC", ...).
        max_detections: how many predictions an image may have.
        objects: size statistics of the objects, or None where unknown.
        overlap: whether truth masks of this data set may overlap.
        image_shape: (height, width) of a typical image in pixels, or None where unknown.
    """

    classes: tuple[str, ...] = ("cell",)
    modality: str = "unknown"
    max_detections: int = DEFAULT_MAX_DETECTIONS
    objects: ObjectStatistics | None = None
    overlap: bool = False
    image_shape: tuple[int, int] | None = None


@runtime_checkable
class SampleSource(Protocol):
    """A split, read lazily: a sequence of :class:`~bench.instances.Sample` by position."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]: ...
