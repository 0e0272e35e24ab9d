"""Precision over recall, from ranked detections: for one set of images, or for many bootstrap resamples of it.

A detection is a true positive or a false positive whatever else is in the set, so only the order of the detections,
their images and their verdicts are kept; a resample counts each image's detections as often as it drew the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Needs = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""From the number of truths (R,) to the true positives (R, L) that each of L recall levels asks for; first level 0."""

_BLOCK = 1 << 15
"""Detections times resamples handled at once: what fits a core's cache."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Detections from the surest to the least sure, each a true positive, a false positive, or not counted.

    Attributes:
        counted: int64 (C,), which detections of the ranking count, ascending; None where all do.
        hits: int64 (K,), which of the counted are true positives, ascending.
        positives: int64 (n_images,), truths of each image.
    """

    counted: NDArray[np.int64] | None
    hits: NDArray[np.int64]
    positives: NDArray[np.int64]

    @property
    def n_positive(self) -> int:
        """Number of truths."""
        return int(self.positives.sum())

    def envelope(self) -> NDArray[np.float64]:
        """float64 (K,), the best precision at each true positive or after it."""
        precision = np.arange(1, self.hits.size + 1) / (self.hits + 1)
        return np.maximum.accumulate(precision[::-1])[::-1]

    def levels(self, needs: Needs) -> NDArray[np.float64]:
        """float64 (L,), the envelope at recall levels; 0 where the recall is never reached."""
        need = needs(np.array([self.n_positive]))[0]
        envelope = np.append(self.envelope(), 0.0)
        return envelope[np.clip(need - 1, 0, self.hits.size)]

    def area(self) -> float:
        """Area under the envelope: each true positive adds its precision over the number of truths."""
        return float(self.envelope().sum() / self.n_positive)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The detections of one class, from the surest to the least sure, and the curves that they make.

    Attributes:
        image: int64 (D,), the image each detection is on.
        curves: one for each IoU threshold, range of areas, or whatever else changes the verdicts.
    """

    image: NDArray[np.int64]
    curves: Sequence[Curve]

    def resampled(
        self, weights: NDArray[np.int64], needs: Needs, *, area: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Every curve in every resample.

        Args:
            weights: (R, n_images), how often each image counts.
            needs: recall levels.
            area: whether the area under the envelope is wanted, too.

        Returns:
            float64 (curves, R): the mean of the envelope over the recall levels, and the area under it (or zeros).
            Resamples without truth hold NaN.
        """
        small = weights.astype(np.int32)
        n_positive = np.array([weights @ curve.positives for curve in self.curves])
        means, areas = np.zeros((2, len(self.curves), len(weights)))
        step = max(1, _BLOCK // max(self.image.size, 1))
        for start in range(0, len(weights), step):
            rows = slice(start, start + step)
            drawn = np.take(small[rows], self.image, axis=1)
            seen_of_all = np.cumsum(drawn, axis=1, dtype=np.int32)
            for number, curve in enumerate(self.curves):
                if not curve.hits.size:
                    continue
                if curve.counted is None:
                    found = np.cumsum(np.take(drawn, curve.hits, axis=1), axis=1, dtype=np.int32)
                    seen = np.take(seen_of_all, curve.hits, axis=1)
                else:
                    mine = np.take(drawn, curve.counted, axis=1)
                    found = np.cumsum(np.take(mine, curve.hits, axis=1), axis=1, dtype=np.int32)
                    seen = np.take(np.cumsum(mine, axis=1, dtype=np.int32), curve.hits, axis=1)
                precision = found / np.maximum(seen, 1)
                means[number, rows] = _mean_of_levels(found, precision, needs(n_positive[number, rows]))
                if area:
                    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
                    areas[number, rows] = (envelope * np.diff(found, axis=1, prepend=0)).sum(axis=1)
        areas /= np.maximum(n_positive, 1)
        means[n_positive == 0] = np.nan
        areas[n_positive == 0] = np.nan
        return means, areas


def _mean_of_levels(
    found: NDArray[np.int32], precision: NDArray[np.float64], need: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean over recall levels of the best precision at each or beyond.

    Args:
        found: (R, K), true positives up to each hit.
        precision: (R, K), there.
        need: (R, L), true positives that each level asks for; the first 0.
    """
    count, width = found.shape
    row = np.arange(count)[:, None]
    if count == 1:
        at = np.searchsorted(found[0], need[0].astype(np.int32), side="left")[None]
    else:
        # All rows as one sorted line: each is lifted above the one before.
        lift = (max(int(found[:, -1].max()), int(need.max())) + 1) * row
        at = np.searchsorted((found + lift).ravel(), (need + lift).ravel(), side="left").reshape(need.shape)
        at = np.minimum(at - width * row, width)
    padded = np.zeros((count, width + 1))
    padded[:, :-1] = precision
    best = np.maximum.reduceat(padded.ravel(), (at + (width + 1) * row).ravel()).reshape(need.shape)
    return np.asarray(np.maximum.accumulate(best[:, ::-1], axis=1).mean(axis=1))


def eleven_points(n_positive: NDArray[np.int64]) -> NDArray[np.int64]:
    """Recall of at least 0, 0.1, ... 1, in exact arithmetic.

    Public evaluators compare floats, where a recall of 3/10 falls short of 0.1 + 0.1 + 0.1; here it does not.
    """
    return -(-n_positive[:, None] * np.arange(11) // 10)


_COCO_LEVELS = np.linspace(0.0, 1.0, 101)


def coco_points(n_positive: NDArray[np.int64]) -> NDArray[np.int64]:
    """Recall of at least 0, 0.01, ... 1, compared as floats exactly as the COCO API does."""
    total = np.maximum(n_positive, 1)[:, None]
    need = np.maximum(np.floor(_COCO_LEVELS * total).astype(np.int64) - 1, 0)
    for _ in range(2):
        need += need / total < _COCO_LEVELS
    return need


def order(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """From the surest to the least sure; ties in the order given."""
    return np.argsort(-scores, kind="stable")


def nan_mean(columns: Sequence[NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    """Mean over the columns that are defined, NaN where none is, float64 (count,)."""
    if not len(columns):
        return np.full(count, np.nan)
    table = np.array(columns)
    defined = ~np.isnan(table)
    total = np.where(defined, table, 0.0).sum(axis=0)
    return np.divide(total, defined.sum(axis=0), out=np.full(count, np.nan), where=defined.any(axis=0))
