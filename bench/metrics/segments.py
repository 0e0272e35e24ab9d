"""An image cut into elementary segments: stretches of pixels that every mask covers wholly or not at all.

The ends of all runs of all masks cut the column-major line of pixels into segments. A mask is then a list of
segments, and whatever is asked of masks (intersections, unions, who lies on top of whom) is asked of some ten
thousand segments instead of some hundred thousand pixels. This is exact: no mask's edge runs through a segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.metrics.runs import Runs

NOBODY = -1
"""Owner of a segment that belongs to no instance."""

DENSE_TABLE = 1 << 21
"""Up to so many cells a table of truths by predictions is counted dense, beyond it sparse."""

Table = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Pairs that share pixels: truth index, prediction index, shared pixels; ordered by truth, then by prediction."""


@dataclass(frozen=True, eq=False)
class Cover:
    """Which mask covers which segment, one entry for each such pair, ordered by mask, then by segment.

    Attributes:
        segments: int64 (C,).
        masks: int64 (C,).
        n_masks: number of masks, covering something or not.
    """

    segments: NDArray[np.int64]
    masks: NDArray[np.int64]
    n_masks: int

    def where(self, kept: NDArray[np.bool_]) -> Cover:
        """Without the masks for which ``kept``, bool (N,), is False; the numbers of the others stay."""
        chosen = kept[self.masks]
        return Cover(self.segments[chosen], self.masks[chosen], self.n_masks)

    def depth(self, n_segments: int) -> NDArray[np.int64]:
        """How many masks cover each segment, int64 (S,)."""
        return np.bincount(self.segments, minlength=n_segments)


@dataclass(frozen=True, eq=False)
class Segments:
    """The elementary segments of an image under its truth masks and its predicted masks.

    Attributes:
        height: rows of the image.
        width: columns of the image.
        bounds: int64 (S + 1,), segment s is ``bounds[s]:bounds[s + 1]``; no segment crosses into another column.
        truth: which truth mask covers which segment.
        prediction: which predicted mask covers which segment.
    """

    height: int
    width: int
    bounds: NDArray[np.int64]
    truth: Cover
    prediction: Cover

    @classmethod
    def of(cls, truth: Runs, prediction: Runs) -> Segments:
        """Cut an image at the ends of all runs and at its columns."""
        height, width = truth.height, truth.width
        size = height * width
        columns = np.arange(0, size + 1, height)
        ends = (columns, truth.starts, truth.stops, prediction.starts, prediction.stops)
        positions = np.concatenate(ends, dtype=np.int32 if size <= np.iinfo(np.int32).max else np.int64)
        positions.sort()
        is_new = np.ones(positions.size, np.bool_)
        np.not_equal(positions[1:], positions[:-1], out=is_new[1:])
        bounds = positions[is_new].astype(np.int64)
        number = np.empty(size + 1, np.int32)
        number[bounds] = np.arange(bounds.size, dtype=np.int32)
        return cls(height, width, bounds, _cover(truth, number), _cover(prediction, number))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """int64 (S,), pixels of each segment."""
        return np.diff(self.bounds)

    def intersections(self) -> Table:
        """The pairs of a truth mask and a predicted mask that share pixels, overlaps counted for every mask."""
        keys, weights = [], []
        lengths = self.lengths[self.prediction.segments]
        for layer in _layers(self.truth, len(self)):
            on = layer[self.prediction.segments]
            hit = np.flatnonzero(on != NOBODY)
            keys.append(on[hit] * self.prediction.n_masks + self.prediction.masks[hit])
            weights.append(lengths[hit])
        return _table(keys, weights, self.truth.n_masks, self.prediction.n_masks)

    def shared(
        self, truth_owner: NDArray[np.int64], n_truth: int, prediction_owner: NDArray[np.int64], n_prediction: int
    ) -> Table:
        """The same for two label images, given by the owner of each segment (:data:`NOBODY` for background)."""
        both = np.flatnonzero((truth_owner != NOBODY) & (prediction_owner != NOBODY))
        key = truth_owner[both] * n_prediction + prediction_owner[both]
        return _table([key], [self.lengths[both]], n_truth, n_prediction)

    def covered(
        self,
        cover: Cover,
        number: NDArray[np.int64],
        count: int,
        prediction_owner: NDArray[np.int64],
        n_prediction: int,
    ) -> Table:
        """The same for masks that may overlap, ``number`` giving the row of each, and one label image."""
        owner = prediction_owner[cover.segments]
        hit = np.flatnonzero(owner != NOBODY)
        key = number[cover.masks[hit]] * n_prediction + owner[hit]
        return _table([key], [self.lengths[cover.segments[hit]]], count, n_prediction)

    def pixels(self, owner: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Pixels of each of ``count`` instances of a label image given by the owner of each segment."""
        return np.bincount(owner + 1, weights=self.lengths, minlength=count + 1)[1:].astype(np.int64)

    def label_image(self, owner: NDArray[np.int64], count: int) -> NDArray[np.unsignedinteger]:
        """A label image of ``count`` instances, transposed: (width, height), instance i has label i + 1."""
        labels = (owner + 1).astype(np.uint16 if count <= np.iinfo(np.uint16).max else np.uint32)
        return np.repeat(labels, self.lengths).reshape(self.width, self.height)


def expand(firsts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The integers ``firsts[i], firsts[i] + 1, ... (counts[i] of them)`` of every i, one after another."""
    total = np.cumsum(counts)
    return np.arange(int(total[-1]) if total.size else 0) + np.repeat(firsts - (total - counts), counts)


def group_heads(sorted_keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each group of equal keys begins."""
    is_head = np.ones(sorted_keys.size, np.bool_)
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=is_head[1:])
    return np.flatnonzero(is_head)


def _cover(runs: Runs, number: NDArray[np.int32]) -> Cover:
    first = number[runs.starts].astype(np.int64)
    count = number[runs.stops] - first
    return Cover(expand(first, count), np.repeat(runs.masks, count), len(runs))


def _layers(cover: Cover, n_segments: int) -> list[NDArray[np.int64]]:
    """Label images that together hold every mask: int64 (S,) each, the mask or :data:`NOBODY`."""
    layers: list[NDArray[np.int64]] = []
    segments, masks = cover.segments, cover.masks
    while segments.size:
        layer = np.full(n_segments, NOBODY)
        layer[segments] = masks
        layers.append(layer)
        hidden = layer[segments] != masks
        segments, masks = segments[hidden], masks[hidden]
    return layers


def _table(keys: list[NDArray[np.int64]], weights: list[NDArray[np.int64]], n_rows: int, n_columns: int) -> Table:
    """Sum weights by ``key = row * n_columns + column``: rows, columns and sums of those that occur, ordered."""
    if not keys:
        none = np.zeros(0, np.int64)
        return none, none, none
    key, weight = np.concatenate(keys), np.concatenate(weights)
    if n_rows * n_columns <= DENSE_TABLE:
        table = np.bincount(key, weights=weight, minlength=n_rows * n_columns)
        occurs = np.flatnonzero(table != 0)
        sums = table[occurs].astype(np.int64)
    else:
        order = np.argsort(key, kind="stable")
        key, weight = key[order], weight[order]
        heads = group_heads(key)
        occurs = key[heads]
        sums = np.add.reduceat(weight, heads) if heads.size else weight
    rows, columns = np.divmod(occurs, max(n_columns, 1))
    return rows, columns, sums
