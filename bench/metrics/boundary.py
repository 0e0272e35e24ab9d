"""Boundary F1: do the outlines of the instances lie where they should?

A pixel is on a boundary if it belongs to an instance and one of its four neighbours does not belong to the same; the
edge of the image makes no boundary. Precision is the share of the predicted boundary pixels that have a true one within
the tolerance (Euclidean distance between pixel centres), recall the share of the true ones that have a predicted one;
their harmonic mean is the F1 of an image, as in Csurka et al., BMVC 2013.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.metrics.matching import Flat


def boundary_f1(flat: Flat, tolerance: int) -> float:
    """F1 of the boundary pixels of one image.

    Args:
        flat: truth and prediction as label images.
        tolerance: pixels.

    Returns:
        0 to 1; 1 where there is neither truth nor prediction, 0 where there is only one of them or nothing is near.
    """
    if not flat.n_truth and not flat.n_prediction:
        return 1.0
    if not flat.n_truth or not flat.n_prediction:
        return 0.0
    truth, prediction = boundary(flat.truth_labels), boundary(flat.prediction_labels)
    n_truth, n_prediction = int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    if not n_truth or not n_prediction:
        # One instance that fills the image has no boundary.
        return float(n_truth == n_prediction)
    precision = np.count_nonzero(prediction & dilate(truth, tolerance)) / n_prediction
    recall = np.count_nonzero(truth & dilate(prediction, tolerance)) / n_truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of instances that have a 4-neighbour outside their instance, bool like ``labels``."""
    edge = np.zeros(labels.shape, np.bool_)
    change = labels[1:] != labels[:-1]
    edge[1:] |= change
    edge[:-1] |= change
    change = labels[:, 1:] != labels[:, :-1]
    edge[:, 1:] |= change
    edge[:, :-1] |= change
    return edge & (labels > 0)


def dilate(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Pixels within ``radius`` (Euclidean, between pixel centres) of one in ``mask``."""
    out = mask.copy()
    height, width = mask.shape
    for down in range(-radius, radius + 1):
        reach = int((radius * radius - down * down) ** 0.5)
        for right in range(-reach, reach + 1):
            if (down, right) == (0, 0) or abs(down) >= height or abs(right) >= width:
                continue
            here = out[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
            here |= mask[max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
    return out
