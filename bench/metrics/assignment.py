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
    """Size of a maximum bipartite matching of the pairs (Hopcroft and Karp)."""
    if _no_repeats(truth) and _no_repeats(prediction):
        return int(truth.size)
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    truths, row = np.unique(truth, return_inverse=True)
    predictions, column = np.unique(prediction, return_inverse=True)
    shape = truths.size, predictions.size
    graph = csr_array((np.ones(truth.size, np.int8), (row, column)), shape=shape)
    return int(np.count_nonzero(maximum_bipartite_matching(graph, perm_type="column") >= 0))
