"""Anchors over one feature map: where they lie, which are objects, and from predicted deltas to boxes. No torch.

Source: S. Ren, K. He, R. Girshick, J. Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal
Networks", 2015, section 3.1. Boxes are x0, y0, x1, y1 in pixels of the image, x1 and y1 exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]

LARGEST_GROWTH = math.log(1000 / 16)
"""Of a side, as a logarithm: more is not believed of an untrained network."""


@dataclass(frozen=True)
class AnchorShapes:
    """The anchors at one place of the feature map, for objects of a given size.

    Attributes:
        scales: sides, as multiples of the objects' size.
        ratios: height over width; the area does not depend on it.
        stride: pixels of the image from one place of the feature map to the next.
    """

    scales: tuple[float, ...] = (0.5, 1.0, 2.0)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    stride: int = 16

    @property
    def count(self) -> int:
        """Anchors a place."""
        return len(self.scales) * len(self.ratios)

    def grid(self, size: float, rows: int, columns: int) -> Boxes:
        """The anchors of a feature map of ``rows`` x ``columns`` places for objects of ``size`` pixels.

        Returns:
            (count, rows, columns, 4).
        """
        shapes = [(size * s / math.sqrt(r), size * s * math.sqrt(r)) for s in self.scales for r in self.ratios]
        half = np.array(shapes)[:, None, None] / 2  # width, height
        y, x = np.meshgrid(
            (np.arange(rows) + 0.5) * self.stride, (np.arange(columns) + 0.5) * self.stride, indexing="ij"
        )
        centres = np.stack([x, y], axis=-1)[None]
        return np.concatenate([centres - half, centres + half], axis=-1)


@dataclass(frozen=True)
class AnchorSampling:
    """Which anchors of an image a region proposal network learns from (Faster R-CNN, section 3.1.2).

    Attributes:
        positive_iou: an anchor is an object from this IoU with one on; so is the best anchor of each object.
        negative_iou: it is none if its IoU with every object is below this.
        count: anchors sampled an image, at most.
        positive_share: of them, at most.
    """

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    count: int = 256
    positive_share: float = 0.5


def boxes_of_labels(labels: NDArray[np.integer], min_area: int = 1) -> Boxes:
    """Tight boxes of the 8-connected pieces of each label that have at least ``min_area`` pixels.

    Pieces, not labels, count: a crop that is filled by reflection shows a cell twice.

    Args:
        labels: (H, W), 0 is background.
        min_area: pixels.

    Returns:
        (N, 4).
    """
    from scipy import ndimage
    from skimage.measure import label

    pieces = label(labels, background=0, connectivity=2)
    areas = np.bincount(pieces.ravel())[1:]
    found = [
        (columns.start, rows.start, columns.stop, rows.stop)
        for (rows, columns), area in zip(ndimage.find_objects(pieces), areas, strict=True)
        if area >= min_area
    ]
    return np.array(found, np.float64).reshape(-1, 4)


def typical_size(boxes: Boxes, otherwise: float) -> float:
    """The median of the longer sides of boxes (Instance-U-Net's base size), or ``otherwise`` where there is none."""
    return float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1))) if len(boxes) else otherwise


def overlaps(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """Intersection over union of each box of ``first`` (N, 4) with each of ``second`` (M, 4): (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)


def label_anchors(
    anchors: Boxes, truth: Boxes, shape: tuple[int, int], rule: AnchorSampling, rng: np.random.Generator
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """What each anchor is to learn.

    Only anchors that lie within the image take part.

    Args:
        anchors: (A, rows, columns, 4).
        truth: (N, 4), the objects; their number may be 0.
        shape: (height, width) of the image, pixels.
        rule: which are sampled.
        rng: draws the sample.

    Returns:
        int8 (A, rows, columns), 1 object, 0 none, -1 not sampled; and float32 (4 A, rows, columns), for each anchor
        dx, dy, dw, dh to its object, 0 where it has none.
    """
    flat = anchors.reshape(-1, 4)
    inside = np.flatnonzero((flat[:, :2] >= 0).all(axis=1) & (flat[:, 2] <= shape[1]) & (flat[:, 3] <= shape[0]))
    label = np.full(len(flat), -1, np.int8)
    deltas = np.zeros((len(flat), 4), np.float32)
    if len(truth) and len(inside):
        iou = overlaps(flat[inside], truth)
        best = iou.max(axis=1)
        best_of_each = iou.max(axis=0)
        is_best = ((iou == best_of_each) & (best_of_each > 0)).any(axis=1)
        positive = inside[(best >= rule.positive_iou) | is_best]
        negative = inside[(best < rule.negative_iou) & ~is_best]
        object_of = np.zeros(len(flat), np.int64)
        object_of[inside] = iou.argmax(axis=1)
        positive = _some(positive, int(rule.count * rule.positive_share), rng)
        label[positive] = 1
        deltas[positive] = to_deltas(flat[positive], truth[object_of[positive]])
    else:
        positive, negative = inside[:0], inside
    label[_some(negative, rule.count - len(positive), rng)] = 0
    count, rows, columns, _ = anchors.shape
    order = np.moveaxis(deltas.reshape(count, rows, columns, 4), -1, 1)
    return label.reshape(count, rows, columns), np.ascontiguousarray(order).reshape(4 * count, rows, columns)


def to_deltas(anchors: Boxes, boxes: Boxes) -> NDArray[np.float32]:
    """From anchors (N, 4) to boxes (N, 4): shifts in sides of the anchor, and logarithms of the growth of its sides."""
    sides, wanted = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + wanted / 2 - anchors[:, :2] - sides / 2) / sides
    return np.concatenate([shift, np.log(wanted / sides)], axis=1).astype(np.float32)


def to_boxes(anchors: Boxes, deltas: NDArray[Any], shape: tuple[int, int]) -> Boxes:
    """The inverse of :func:`to_deltas`, cut to an image of ``shape`` (height, width)."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sides / 2 + deltas[:, :2] * sides
    half = sides * np.exp(np.minimum(deltas[:, 2:], LARGEST_GROWTH)) / 2
    limit = np.array([shape[1], shape[0]])
    return np.concatenate([np.clip(centres - half, 0, limit), np.clip(centres + half, 0, limit)], axis=1)


def propose(
    probability: NDArray[np.float32],
    deltas: NDArray[np.float32],
    anchors: Boxes,
    shape: tuple[int, int],
    *,
    min_score: float,
    candidates: int,
    nms_iou: float,
    count: int,
) -> tuple[Boxes, NDArray[np.float64]]:
    """The boxes that a region proposal network finds in an image.

    Args:
        probability: (A, rows, columns), of an object.
        deltas: (4 A, rows, columns), for each anchor dx, dy, dw, dh.
        anchors: (A, rows, columns, 4).
        shape: (height, width) of the image, pixels.
        min_score: boxes of at most this probability are dropped.
        candidates: so many of the surest take part in the suppression.
        nms_iou: a box goes that overlaps a surer one by more.
        count: of boxes, at most.

    Returns:
        boxes (N, 4) and probabilities (N,), the surest first.
    """
    import torch

    from bench.ops.torch_ops.nms import nms

    scores = probability.ravel().astype(np.float64)
    by_anchor = np.moveaxis(deltas.reshape(len(probability), 4, *probability.shape[1:]), 1, -1).reshape(-1, 4)
    taken = np.flatnonzero(scores > min_score)
    taken = taken[np.argsort(-scores[taken], kind="stable")][:candidates]
    boxes, scores = to_boxes(anchors.reshape(-1, 4)[taken], by_anchor[taken], shape), scores[taken]
    real = (boxes[:, 2:] - boxes[:, :2] > 0).all(axis=1)
    boxes, scores = boxes[real], scores[real]
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), nms_iou, 0)[:count].numpy()
    return boxes[kept], scores[kept]


def _some(indices: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` of the indices by chance, or all where they are no more."""
    return indices if len(indices) <= count else rng.choice(indices, count, replace=False)


def centres_of(boxes: Boxes) -> Sequence[tuple[int, int]]:
    """(row, column) of the pixel in which the centre of each box (N, 4) lies."""
    return [(int((y0 + y1) / 2), int((x0 + x1) / 2)) for x0, y0, x1, y1 in boxes.tolist()]
