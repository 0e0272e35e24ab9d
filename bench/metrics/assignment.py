"""One-to-one matching of truths and predictions by IoU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.metrics.matching import Pairs


def true_positives(pairs: Pairs, thresholds: Sequence[float], *, strict: bool) -> NDArray[np.int64]:
    """The largest number of pairs, no truth and no prediction in two of them, at each IoU threshold.

    Args:
        pairs: what overlaps what.
        thresholds: at least 0.5.
        strict: whether IoU > t is asked, or IoU >= t.

    Returns:
        int64, one count for each threshold.
    """
    low = min(thresholds)
    close = np.flatnonzero(pairs.iou > low if strict else pairs.iou >= low)
    truth, prediction, iou = pairs.truth[close], pairs.prediction[close], pairs.iou[close]
    counts = []
    # Above 0.5 label images have no choice: a pair that agrees shares most of both.
    unambiguous = _no_repeats(truth) and _no_repeats(prediction)
    for threshold in thresholds:
        good = iou > threshold if strict else iou >= threshold
        if unambiguous:
            counts.append(int(np.count_nonzero(good)))
        else:
            counts.append(_largest_matching(truth[good], prediction[good]))
    return np.array(counts, np.int64)


def _no_repeats(indices: NDArray[np.int64]) -> bool:
    return indices.size == 0 or int(np.bincount(indices).max()) <= 1


def _largest_matching(truth: NDArray[np.int64], prediction: NDArray[np.int64]) -> int:
    """Size of a maximum bipartite matching (augmenting paths; the graphs are a few edges a node)."""
    if _no_repeats(truth) and _no_repeats(prediction):
        return int(truth.size)
    options: dict[int, list[int]] = {}
    for t, p in zip(truth.tolist(), prediction.tolist(), strict=True):
        options.setdefault(t, []).append(p)
    holder: dict[int, int] = {}
    size = 0
    for start in options:
        # Breadth first from ``start`` to a free prediction, alternating edges.
        came_from: dict[int, int] = {}
        queue = [start]
        free = None
        while queue and free is None:
            t = queue.pop(0)
            for p in options[t]:
                if p in came_from:
                    continue
                came_from[p] = t
                if p not in holder:
                    free = p
                    break
                queue.append(holder[p])
        if free is None:
            continue
        size += 1
        held = {t: p for p, t in holder.items()}
        step: int | None = free
        while step is not None:
            t = came_from[step]
            previous = held.get(t)
            holder[step] = t
            step = previous
    return size
