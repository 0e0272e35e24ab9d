"""From predicted maps to instances: small functions over one image. numpy, scipy and scikit-image, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.api import Instances

FOUR = ndimage.generate_binary_structure(2, 1)
EIGHT = ndimage.generate_binary_structure(2, 2)


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``mask`` with its holes filled: background without an 8-connected way to the edge of the image.

    (Foreground is 4-connected in this module, so background is 8-connected.)
    """
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(mask, structure=EIGHT)
    return filled


def connected_components(mask: NDArray[np.bool_], min_area: int = 1) -> NDArray[np.int32]:
    """The 4-connected components of ``mask`` of at least ``min_area`` pixels, numbered in reading order from 1."""
    labels, _ = ndimage.label(mask, structure=FOUR, output=np.int32)
    return without_small(labels, min_area)


def watershed_of_distance(mask: NDArray[np.bool_], min_area: int = 1, depth: float = 1.0) -> NDArray[np.int32]:
    """``mask`` cut at its waists: a watershed on the distance to background, from the summits of that distance.

    A summit is a maximum of the Euclidean distance transform that stands at least ``depth`` pixels above every
    pass to a higher one (an h-maximum), so a ragged outline does not shatter a cell.
    Source: P. Soille, "Morphological Image Analysis", 2nd edition, sections 6.3.4 and 9.

    Args:
        mask: (H, W).
        min_area: smaller regions are dropped afterwards, pixels.
        depth: height of a summit above its pass, pixels, above 0.

    Returns:
        int32 (H, W), numbered from 1.
    """
    from skimage.segmentation import watershed  # slow to import, and seldom needed

    distance = ndimage.distance_transform_edt(mask).astype(np.float32)
    labels = watershed(-distance, summits(distance, depth), mask=mask).astype(np.int32)
    return without_small(labels, min_area)


def summits(height: NDArray[np.float32], depth: float) -> NDArray[np.int32]:
    """The maxima of ``height`` that stand ``depth`` or more above every pass to a higher one, numbered from 1.

    Passes are 4-connected, so what touches at a corner only does not count as one object.

    Args:
        height: (H, W), 0 or more; where it is 0 there is no summit.
        depth: above 0.

    Returns:
        int32 (H, W), 0 where there is no summit.
    """
    from skimage.morphology import local_maxima, reconstruction

    # Lower everything by `depth` and let it rise again under the original: shallow maxima drown, deep ones stay.
    drowned = reconstruction(np.maximum(height - np.float32(depth), 0), height, footprint=FOUR)
    maxima = local_maxima(drowned, connectivity=1) & (drowned > 0)
    labels, count = ndimage.label(maxima, structure=FOUR, output=np.int32)
    # An object lower than `depth` all over has drowned: its highest pixel is its summit.
    objects, n_objects = ndimage.label(height > 0, structure=FOUR)
    tallest = np.asarray(ndimage.maximum(labels, objects, np.arange(1, n_objects + 1)))
    drowned_objects = np.flatnonzero(tallest == 0) + 1
    for row, column in ndimage.maximum_position(height, objects, drowned_objects):
        count += 1
        labels[row, column] = count
    return labels


def without_small(labels: NDArray[np.int32], min_area: int) -> NDArray[np.int32]:
    """``labels`` without those of fewer than ``min_area`` pixels, the others numbered anew from 1 in their order."""
    keep = np.bincount(labels.ravel(), minlength=1) >= max(min_area, 1)
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


def mean_probability(labels: NDArray[np.int32], probability: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean of ``probability`` over each label 1..N of ``labels``, float64 (N,)."""
    flat = labels.ravel()
    sums = np.bincount(flat, weights=probability.ravel().astype(np.float64), minlength=1)
    return sums[1:] / np.bincount(flat, minlength=1)[1:]


def from_label_maps(
    maps: Sequence[NDArray[np.int32]], probabilities: Sequence[NDArray[np.float32]] | None = None
) -> Instances:
    """One label map a class as instances of these classes.

    Args:
        maps: for each class int32 (H, W) with labels 1..N; at least one class.
        probabilities: for each class float32 (H, W), whose mean over an instance becomes its score; without them
            the instances have no scores.
    """
    parts = [Instances.from_label_map(labels) for labels in maps]
    height, width = maps[0].shape
    return Instances(
        height,
        width,
        rles=tuple(rle for part in parts for rle in part.rles),
        class_ids=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        scores=None
        if probabilities is None
        else np.concatenate([mean_probability(m, p) for m, p in zip(maps, probabilities, strict=True)]),
        boxes=np.concatenate([part.boxes for part in parts]),
    )


def at_most(instances: Instances, count: int) -> Instances:
    """The ``count`` surest instances or, where there are no scores, the ``count`` largest, in their order."""
    if len(instances) <= count or instances.scores is not None:
        return instances.top(count)
    largest = np.argsort(-instances.areas, kind="stable")[:count]
    return instances.take(np.sort(largest))
