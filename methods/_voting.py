"""From many overlapping candidates to the instances of an image: suppression, and mask voting. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench.rle import objects
from methods import _raster as raster


@dataclass(frozen=True)
class Candidates:
    """What the network says of one image, before suppression.

    Attributes:
        boxes: float (N, 4) x0, y0, x1, y1, pixels of the image that is voted in.
        masks: float32 (N, m, m), foreground probability in each box.
        scores: float (N, C), probability of each class.
    """

    boxes: NDArray[np.floating]
    masks: NDArray[np.float32]
    scores: NDArray[np.floating]


@dataclass(frozen=True)
class VotingRule:
    """How candidates become instances.

    Attributes:
        nms_iou: a candidate whose box overlaps a surer one of its class by more than this is suppressed.
        vote_iou: candidates whose boxes overlap a survivor by at least this vote on its mask.
        threshold: a pixel is foreground from this voted probability on.
        score_threshold: candidates that are less sure are no survivors; they still vote.
        max_detections: at most so many survivors an image, the surest.
        mask_nms_iou: a survivor whose voted mask overlaps that of a surer one of its class by more than this is
            suppressed as well; 1: none is.
    """

    nms_iou: float = 0.3
    vote_iou: float = 0.5
    threshold: float = 0.4
    score_threshold: float = 0.001
    max_detections: int = 100
    mask_nms_iou: float = 1.0


@dataclass(frozen=True)
class Voted:
    """The instances of one image, surest first.

    Attributes:
        rles: COCO RLEs (compressed counts).
        boxes: float32 (N, 4), the tight box of each mask.
        scores: float32 (N,).
        labels: int64 (N,), classes.
    """

    rles: list[bytes]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def overlaps(box: NDArray[np.floating], boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """IoU of one box (4,) with N boxes (N, 4); 0 where both are empty."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppress(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], iou: float, score_threshold: float
) -> list[int]:
    """Greedy non-maximum suppression: indices of the survivors, surest first (ties by index)."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= score_threshold]
    kept: list[int] = []
    while order.size:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        order = rest[overlaps(boxes[best], boxes[rest]) <= iou]
    return kept


def vote(candidates: Candidates, height: int, width: int, rule: VotingRule) -> Voted:
    """The instances of one image: per class suppression by box, then each survivor's mask by vote.

    The voters of a survivor are all candidates whose box overlaps its box enough. Their soft masks are averaged in
    the image, weighted by their scores for the survivor's class; where that reaches the threshold the mask is, and
    the box is the tight one around it. A survivor without a pixel is left out, as is one whose mask overlaps a surer
    one's too much. One mask is held at a time.

    Args:
        candidates: see :class:`Candidates`.
        height: of the image, pixels.
        width: of the image, pixels.
        rule: see :class:`VotingRule`.
    """
    survivors = [
        (float(candidates.scores[index, label]), index, label)
        for label in range(candidates.scores.shape[1])
        for index in suppress(candidates.boxes, candidates.scores[:, label], rule.nms_iou, rule.score_threshold)
    ]
    survivors.sort(key=lambda s: -s[0])
    rles: list[bytes] = []
    most = min(rule.max_detections, len(survivors))
    tight, sure, labels = np.zeros((most, 4), np.float32), np.zeros(most, np.float32), np.zeros(most, np.int64)
    for score, index, label in survivors:
        count = len(rles)
        if count == most:
            break
        mask, top, left = voted_mask(candidates, index, label, height, width, rule)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size == 0:
            continue
        rle = raster.encode_window(mask, top, left, height, width)
        box = np.array([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1], np.float32)
        if rule.mask_nms_iou < 1:
            near = (tight[:count, :2] < box[2:]).all(axis=1) & (tight[:count, 2:] > box[:2]).all(axis=1)
            surer = [rles[other] for other in np.flatnonzero(near & (labels[:count] == label))]
            if largest_overlap(rle, surer, height, width) > rule.mask_nms_iou:
                continue
        rles.append(rle)
        tight[count], sure[count], labels[count] = box, score, label
    count = len(rles)
    return Voted(rles, tight[:count], sure[:count], labels[:count])


def largest_overlap(rle: bytes, others: Sequence[bytes], height: int, width: int) -> float:
    """The largest IoU of a mask with others, COCO RLEs over ``height`` x ``width`` pixels; 0 where there is none."""
    if not others:
        return 0.0
    overlap = coco_mask.iou(objects([rle], height, width), objects(others, height, width), [0] * len(others))
    return float(overlap.max())


def voted_mask(
    candidates: Candidates, index: int, label: int, height: int, width: int, rule: VotingRule
) -> tuple[NDArray[np.bool_], int, int]:
    """The mask of one survivor, as bool (h, w) with the row and column of its first pixel in the image."""
    voters = np.flatnonzero(overlaps(candidates.boxes[index], candidates.boxes) >= rule.vote_iou)
    if voters.size == 0:  # a box without area overlaps nothing, itself included
        voters = np.array([index])
    weights = candidates.scores[voters, label]
    total = weights.sum()
    weights = weights / total if total > 0 else np.full(len(voters), 1 / len(voters))
    boxes = candidates.boxes[voters]
    top, bottom = raster.pixels_of(float(boxes[:, 1].min()), float(boxes[:, 3].max()), height)
    left, right = raster.pixels_of(float(boxes[:, 0].min()), float(boxes[:, 2].max()), width)
    average = np.zeros((bottom - top, right - left), np.float32)
    for voter, weight in zip(voters.tolist(), weights.tolist(), strict=True):
        patch, row, column = raster.paste(candidates.masks[voter], candidates.boxes[voter], height, width)
        if patch.size:
            window = average[row - top : row - top + patch.shape[0], column - left : column - left + patch.shape[1]]
            window += np.float32(weight) * patch
    # The weights sum to one in double precision only: a mask that is 0.4 everywhere shall stay foreground.
    return average >= np.float32(rule.threshold) - np.float32(1e-6), top, left
