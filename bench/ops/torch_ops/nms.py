"""Non-maximum suppression of boxes, with the results of mmcv's compiled CPU operators, index for index."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 128
"""Boxes that are compared with all others at a time, at most."""

MAX_OVERLAPS = 1 << 22
"""Overlaps held at a time."""

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


def _exceed(boxes: Tensor, others: Tensor, offset: int, threshold: float) -> Tensor:
    """Which IoUs of ``boxes`` (5, M) with ``others`` (5, K) exceed the threshold, bool (M, K).

    The five rows are x0, y0, x1, y1 and the area. The order of the operations is that of mmcv's CPU operator: another
    could round an IoU to the other side of the threshold.
    """
    x0, y0, x1, y1, area = boxes[:, :, None].unbind(0)
    other_x0, other_y0, other_x1, other_y1, other_area = others.unbind(0)
    width = torch.minimum(x1, other_x1).sub_(torch.maximum(x0, other_x0)).add_(offset).clamp_(min=0)
    height = torch.minimum(y1, other_y1).sub_(torch.maximum(y0, other_y0)).add_(offset).clamp_(min=0)
    intersection = width.mul_(height)
    union = (area + other_area).sub_(intersection)
    return intersection.div_(union) > threshold


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy suppression: from the best score down, a box goes that overlaps a kept one by more than the threshold.

    Args:
        boxes: floating (N, 4), x0, y0, x1, y1.
        scores: floating (N,); equal scores are taken in the order of ``scores.sort``, as mmcv does.
        iou_threshold: intersection over union above which the lower-scored box goes.
        offset: 0, or 1 where a box of x0 == x1 is one pixel wide.

    Returns:
        int64 (K,), indices of the kept boxes, best score first.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    order = scores.sort(0, descending=True).indices
    x0, y0, x1, y1 = boxes[order].unbind(1)
    rest = torch.stack([x0, y0, x1, y1, (x1 - x0 + offset) * (y1 - y0 + offset)])
    kept: list[Tensor] = []
    while order.numel():
        size = min(BLOCK, max(1, MAX_OVERLAPS // order.numel()))
        block, rest = rest[:, :size], rest[:, size:]
        survives = _survivors(_exceed(block, block, offset, iou_threshold).cpu().numpy())
        keep = torch.from_numpy(survives).to(boxes.device)
        kept.append(order[:size][keep])
        order = order[size:]
        if order.numel():
            clear = ~_exceed(block[:, keep], rest, offset, iou_threshold).any(dim=0)
            order, rest = order[clear], rest[:, clear]
    return torch.cat(kept)


def _survivors(suppresses: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices that stay when each box that stays, in order, removes those after it that it suppresses.

    Args:
        suppresses: bool (M, M), whether box i removes box j.
    """
    alive = np.ones(len(suppresses), np.bool_)
    spares = ~suppresses
    for i in range(len(alive) - 1):
        if alive[i]:
            alive[i + 1 :] &= spares[i, i + 1 :]
    return np.flatnonzero(alive)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft suppression (Bodla et al., Soft-NMS, 2017): overlapping boxes lose score instead of going at once.

    Works on the CPU, one best box after the other, like mmcv's operator.

    Args:
        boxes: floating (N, 4), x0, y0, x1, y1.
        scores: floating (N,).
        dets: (N, 5); its first K rows are overwritten with box and new score, best first.
        iou_threshold: intersection over union from which ``linear`` and ``naive`` act.
        sigma: width of the Gaussian.
        min_score: boxes that fall below it are dropped.
        method: 0 naive (an overlapping box drops to 0), 1 linear (times 1 - IoU), 2 Gaussian (times
            exp(-IoU^2 / sigma)).
        offset: 0, or 1 where a box of x0 == x1 is one pixel wide.

    Returns:
        int64 (K,), indices of the boxes that remain, in the order of ``dets``.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    table = boxes.detach().cpu().numpy()
    x0, y0, x1, y1 = (table[:, i].copy() for i in range(4))
    score = scores.detach().cpu().numpy().copy()
    area = (x1 - x0 + table.dtype.type(offset)) * (y1 - y0 + table.dtype.type(offset))
    index = np.arange(len(score))
    columns = (x0, y0, x1, y1, score, area, index)
    n, i = len(score), 0
    while i < n:
        # Two boxes without area have no IoU; a score that became undefined by one is never the best.
        best = i if np.isnan(score[i]) else i + int(np.nanargmax(score[i:n]))
        for column in columns:
            column[i], column[best] = column[best], column[i]
        later = slice(i + 1, n)
        width = np.maximum(np.minimum(x1[i], x1[later]) - np.maximum(x0[i], x0[later]) + offset, 0)
        height = np.maximum(np.minimum(y1[i], y1[later]) - np.maximum(y0[i], y0[later]) + offset, 0)
        intersection = (width * height).astype(score.dtype, copy=False)
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = intersection / (area[i] + area[later] - intersection)
        score[later] *= _decay(overlap, iou_threshold, sigma, method)
        n = _drop(np.flatnonzero(score[later] < min_score) + i + 1, columns, n)
        i += 1
    rows = np.stack([x0[:n], y0[:n], x1[:n], y1[:n], score[:n]], axis=1)
    dets[:n] = torch.from_numpy(rows).to(dets)
    return torch.from_numpy(index[:n].copy())


def _decay(overlap: NDArray[np.floating], threshold: float, sigma: float, method: int) -> NDArray[np.floating]:
    """The factor of each score, of the dtype of ``overlap``."""
    one = overlap.dtype.type(1)
    if method == NAIVE:
        return np.where(overlap >= overlap.dtype.type(threshold), one - one, one)
    if method == LINEAR:
        return np.where(overlap >= overlap.dtype.type(threshold), one - overlap, one)
    # In double and rounded once, like the C library's expf, so that equal scores stay equal.
    exponent = -(overlap * overlap) / overlap.dtype.type(sigma)
    return np.exp(exponent.astype(np.float64)).astype(overlap.dtype)


def _drop(dropped: NDArray[np.int64], columns: tuple[NDArray, ...], n: int) -> int:
    """Fill the place of each dropped box with the last one that is not dropped; return how many remain.

    The order in which mmcv leaves the boxes, which decides between equal scores later on.
    """
    gone = set(dropped.tolist())
    for place in dropped.tolist():
        while n > place and n - 1 in gone:
            n -= 1
        if n <= place:
            break
        n -= 1
        for column in columns:
            column[place] = column[n]
    return n
