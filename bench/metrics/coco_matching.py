"""Which prediction gets which truth by the rules of the COCO API, at all its IoU thresholds and ranges of areas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.metrics import curves
from bench.metrics.matching import Pairs
from bench.metrics.segments import group_heads

THRESHOLDS = tuple(k / 20 for k in range(10, 20))
"""IoU 0.5, 0.55, ... 0.95."""


def surest(scores: NDArray[np.float64], classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The ``count`` surest predictions of each class, all in order of score."""
    ranked = curves.order(scores)
    if ranked.size <= count:
        return ranked
    by_class = ranked[np.argsort(classes[ranked], kind="stable")]
    labels = classes[by_class]
    place = np.arange(labels.size) - np.searchsorted(labels, labels)
    chosen = np.zeros(ranked.size, np.bool_)
    chosen[by_class[place < count]] = True
    return ranked[chosen[ranked]]


def judge(
    pairs: Pairs,
    near: NDArray[np.int64],
    kept: NDArray[np.int64],
    areas: NDArray[np.float64] | NDArray[np.int64],
    outside: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    ranges: NDArray[np.float64],
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """The bits ``hit`` and ``ignored`` of each prediction in ``kept``, (ranges, predictions)."""
    place = np.full(areas.size, -1)
    place[kept] = np.arange(kept.size)
    near = near[place[pairs.prediction[near]] >= 0]
    truth, iou, det = pairs.truth[near], pairs.iou[near], place[pairs.prediction[near]]
    # A prediction's own preference: the highest IoU first, of equals the last truth, as in the COCO API.
    liked = np.lexsort((-truth, -iou, det))
    truth, iou, det = truth[liked], iou[liked], det[liked]
    out_of_range = (areas[kept] < ranges[:, :1]) | (areas[kept] > ranges[:, 1:])
    every = np.uint16((1 << len(THRESHOLDS)) - 1)
    hit = np.zeros((len(ranges), kept.size), np.uint16)
    ignored = np.where(out_of_range, every, np.uint16(0))
    if det.size == 0:
        return hit, ignored
    heads = group_heads(det)
    matched = _assign_in_ranges(truth, iou, det, heads, outside, crowd)
    judged = det[heads]
    taken = matched >= 0
    ignoring = taken & outside[np.arange(len(ranges))[:, None, None], matched]
    hit[:, judged] = _bits(taken & ~ignoring)
    ignored[:, judged] = _bits(ignoring | (~taken & out_of_range[:, None, judged]))
    return hit, ignored


_POWERS = (1 << np.arange(len(THRESHOLDS))).astype(np.uint16)[:, None]


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """The flags (..., thresholds, D) as bits of a number, (..., D)."""
    return np.asarray((flags * _POWERS).sum(axis=-2, dtype=np.uint16))


def _assign_in_ranges(
    truth: NDArray[np.int64],
    iou: NDArray[np.float64],
    det: NDArray[np.int64],
    heads: NDArray[np.int64],
    outside: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """:func:`_assign` for each range of areas: truths to be ignored come after all others.

    Only where a prediction can choose between ignored truths and others does the range change who gets what.

    Returns:
        int64 (ranges, thresholds, D).
    """
    everywhere = _assign(truth, iou, heads, crowd)
    matched = np.broadcast_to(everywhere, (len(outside), *everywhere.shape))
    if heads.size == det.size:
        return matched
    matched = matched.copy()
    counts = np.diff(np.append(heads, det.size))
    shares = np.add.reduceat(outside[:, truth].astype(np.int64), heads, axis=1)
    for row in np.flatnonzero(((shares > 0) & (shares < counts)).any(axis=1)):
        again = np.lexsort((outside[row, truth], det))
        matched[row] = _assign(truth[again], iou[again], heads, crowd)
    return matched


def _assign(
    truth: NDArray[np.int64], iou: NDArray[np.float64], heads: NDArray[np.int64], crowd: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Who takes which truth, at every threshold.

    Every prediction asks for the truth it likes best of those left to it; a truth goes to the surest that asks (a crowd
    region to all); the others ask for their next. It ends where going through the predictions by score would,
    because all truths prefer the surer prediction.

    Args:
        truth: (E,), truths in the order each prediction likes them, predictions by score.
        iou: (E,), of those pairs.
        heads: (D,), where each prediction's truths begin.
        crowd: of each truth.

    Returns:
        int64 (thresholds, D), the truth or -1.
    """
    thresholds = np.array(THRESHOLDS)[:, None]
    open_ = iou >= thresholds
    count = truth.size
    lane = np.arange(len(THRESHOLDS))[:, None] * crowd.size
    numbers = np.arange(count)
    single = heads.size == count
    while True:
        asked = np.minimum.reduceat(np.where(open_, numbers, count), heads, axis=1)
        lanes, dets = np.nonzero(asked < count)
        edge = asked[lanes, dets]
        wanted = lane[lanes, 0] + truth[edge]
        surest = np.empty(lane.size * crowd.size, np.int64)
        surest[wanted[::-1]] = edge[::-1]  # within a threshold the surest is written last
        refused = (surest[wanted] != edge) & ~crowd[truth[edge]]
        if single or not refused.any():
            break
        open_[lanes[refused], edge[refused]] = False
    result = np.full(asked.shape, -1)
    got = ~refused
    result[lanes[got], dets[got]] = truth[edge[got]]
    return result
