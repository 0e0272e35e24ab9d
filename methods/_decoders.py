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


# -- MU-Lux-CZ ----------------------------------------------------------------------------------------


def ellipse(side: int) -> NDArray[np.bool_]:
    """The pixels of a ``side`` x ``side`` square whose centres lie within the circle that fits it."""
    offset = np.arange(side) - (side - 1) / 2
    inside: NDArray[np.bool_] = offset[:, None] ** 2 + offset[None] ** 2 <= (side / 2) ** 2
    return inside


def plain_markers(probability: NDArray[np.float32], threshold: float, opening: int) -> NDArray[np.int32]:
    """Markers of cells of any shape: threshold, holes filled, opened by an ellipse, 8-connected components.

    Source: MU-Lux-CZ's post-processing of DIC images.

    Args:
        probability: (H, W), of being the inner part of a cell.
        threshold: a marker is above it.
        opening: side of the ellipse, pixels; 1 changes nothing.

    Returns:
        int32 (H, W), numbered from 1.
    """
    mask = fill_holes(probability > threshold)
    reach = opening  # beyond the edge of the image the marker goes on
    wide = np.pad(mask, reach, mode="edge")
    opened = ndimage.binary_opening(wide, ellipse(opening))[reach:-reach, reach:-reach]
    labels, _ = ndimage.label(opened, structure=EIGHT, output=np.int32)
    return labels


def domed_markers(probability: NDArray[np.float32], threshold: float, depth: float) -> NDArray[np.int32]:
    """Markers of round cells: the domes of the marker map, 8-connected.

    A dome is what stands less than ``depth`` below a summit and is not reached from a higher one (the image less its
    h-maxima transform is above 0), after a gray opening by 3 x 3.
    Source: MU-Lux-CZ's post-processing of round cells; P. Soille, "Morphological Image Analysis", section 6.3.4.

    Args:
        probability: (H, W), of being the inner part of a cell.
        threshold: a marker is above it.
        depth: of a dome, as a probability, above 0.

    Returns:
        int32 (H, W), numbered from 1.
    """
    from skimage.morphology import reconstruction

    # In 8 bits, as published: on real numbers every ripple of a plateau would be a summit.
    levels = ndimage.grey_opening((probability * 255).astype(np.uint8), size=(3, 3)).astype(np.float64)
    rest = reconstruction(np.maximum(levels - depth * 255, 0), levels)
    labels, _ = ndimage.label((levels > rest) & (levels > threshold * 255), structure=EIGHT, output=np.int32)
    return labels


def flood(
    markers: NDArray[np.int32], height: NDArray[np.float32], mask: NDArray[np.bool_], min_area: int = 1
) -> NDArray[np.int32]:
    """Marker-controlled watershed: every marker grows over ``mask`` and itself, from high ground down.

    Args:
        markers: int32 (H, W), numbered from 1.
        height: (H, W), what a marker floods first.
        mask: (H, W), as far as it may grow.
        min_area: smaller regions are dropped, pixels.

    Returns:
        int32 (H, W), numbered from 1.
    """
    from skimage.segmentation import watershed

    if not markers.any():
        return np.zeros_like(markers)
    labels = watershed(-height, markers, mask=mask | (markers > 0)).astype(np.int32)
    return without_small(labels, min_area)


def without_border(labels: NDArray[np.int32], border: int) -> NDArray[np.int32]:
    """``labels`` without those of which more than half lies within ``border`` pixels of the image's edge."""
    if border < 1:
        return labels
    inner = np.zeros(labels.shape, np.bool_)
    inner[border:-border, border:-border] = True
    whole = np.bincount(labels.ravel())
    within = np.bincount(labels[inner], minlength=len(whole))
    keep = within * 2 >= whole
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]


# -- CALT-US ------------------------------------------------------------------------------------------


def likeliest_of_three(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The maximum a posteriori of background, cell and touching, mended where touching is underrated.

    Source: the public package jcell of CALT-US's authors. A gap is background. A pixel is background where that is
    above 1/2, or above 0.98 of both others, or where touching is likeliest but the cell less so than background. Of the
    rest it is touching above 1/2, in cells above 0.1.

    Args:
        probability: (4, H, W), background, cell, touching, gap.

    Returns:
        uint8 (H, W), 0 background, 1 cell, 2 touching.
    """
    background = probability[0] + probability[3]
    cell, touching = probability[1], probability[2]
    classes = np.argmax(np.stack([background, cell, touching]), axis=0).astype(np.uint8)
    outside = (background > 0.5) | ((background > 0.98 * cell) & (background > 0.98 * touching))
    outside |= (classes == 2) & (background > cell)
    classes[((classes == 1) & (touching > 0.1)) | (touching > 0.5)] = 2
    classes[outside] = 0
    return classes


def thresholded_three(probability: NDArray[np.float32], cell: float, touching: float) -> NDArray[np.uint8]:
    """Touching from ``touching`` on, else cell from ``cell`` on, else background (CALT-US's TH).

    Args:
        probability: (4, H, W), background, cell, touching, gap.
        cell: threshold.
        touching: threshold.

    Returns:
        uint8 (H, W), 0 background, 1 cell, 2 touching.
    """
    classes = (probability[1] >= cell).astype(np.uint8)
    # A faint trace of touching far from any cell is no cell.
    classes[(probability[2] >= touching) & (probability[0] + probability[3] <= probability[1] + probability[2])] = 2
    return classes


def grown_cells(classes: NDArray[np.uint8], min_area: int = 1) -> NDArray[np.int32]:
    """Each 8-connected piece of class 1, grown over class 2 until nothing changes.

    Every round each pixel of the foreground that no cell has takes the largest label among its eight neighbours; no
    pixel changes hands. Source: the public package jcell of CALT-US's authors.

    Args:
        classes: (H, W), 0 background, 1 cell, 2 touching.
        min_area: smaller cells are dropped, pixels.

    Returns:
        int32 (H, W), numbered from 1.
    """
    labels, _ = ndimage.label(classes == 1, structure=EIGHT, output=np.int32)
    free = (classes != 0) & (labels == 0)
    while free.any():
        reached = ndimage.maximum_filter(labels, 3, mode="constant")
        new = free & (reached > 0)
        if not new.any():
            break
        labels[new] = reached[new]
        free &= ~new
    return without_small(labels, min_area)


def flooded_cells(
    probability: NDArray[np.float32], seed: float, background: float, min_area: int = 1
) -> NDArray[np.int32]:
    """Watershed on cell less touching, from each 4-connected piece where cell is sure (CALT-US's WTS).

    Args:
        probability: (4, H, W), background, cell, touching, gap.
        seed: cells begin above this probability of class cell.
        background: where that of the background, gaps included, is above this there is no cell.
        min_area: smaller cells are dropped, pixels.

    Returns:
        int32 (H, W), numbered from 1.
    """
    seeds, _ = ndimage.label(probability[1] > seed, structure=FOUR, output=np.int32)
    outside = probability[0] + probability[3] > background
    return flood(seeds, np.maximum(probability[1] - probability[2], 0), ~outside, min_area)


# -- Instance-U-Net -----------------------------------------------------------------------------------


def cut_between_centres(
    mask: NDArray[np.bool_],
    centres: Sequence[tuple[int, int]],
    *,
    edge: int,
    radius: float,
    min_area: int = 1,
) -> NDArray[np.int32]:
    """``mask`` cut by a watershed from given centres; the lines between two cells are background.

    Every centre within the mask, and not within ``edge`` pixels of the image's edge, becomes a disk within its own
    4-connected component; disks that touch are one marker. A component without a marker is one cell. The markers flood
    the distance to background, taken with holes filled, from its summits down; holes stay background.
    Source: Instance-U-Net with watershed, section 4.3; disk, edge rule and fallback after the public code of NuSeT, of
    the same authors.

    Args:
        mask: (H, W).
        centres: (row, column) of each object found.
        edge: pixels.
        radius: of the disks, pixels.
        min_area: smaller components and cells are dropped, pixels.

    Returns:
        int32 (H, W), numbered from 1.
    """
    from skimage.segmentation import watershed

    components = connected_components(mask, min_area)
    height, width = mask.shape
    seeds = np.zeros(mask.shape, np.bool_)
    for row, column in centres:
        if edge <= row < height - edge and edge <= column < width - edge:
            seeds[row, column] = components[row, column] > 0
    # All seeds of a component are widened together; what of a disk lies beyond a notch is no marker.
    has_seed = np.zeros(int(components.max()) + 1, np.bool_)
    has_seed[components[seeds]] = True
    markers = np.zeros(mask.shape, np.bool_)
    for label, window in enumerate(ndimage.find_objects(components), 1):
        component = components[window] == label
        if has_seed[label]:
            own = seeds[window] & component
            pieces, _ = ndimage.label(component & (ndimage.distance_transform_edt(~own) <= radius), structure=FOUR)
            component = np.isin(pieces, pieces[own])
        markers[window] |= component
    labels, _ = ndimage.label(markers, structure=FOUR, output=np.int32)
    if not labels.any():
        return labels
    distance = ndimage.distance_transform_edt(fill_holes(components > 0))
    cells = watershed(-distance, labels, mask=components > 0, watershed_line=True).astype(np.int32)
    return without_small(cells, min_area)
