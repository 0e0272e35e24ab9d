"""What a dense method learns: arrays computed once an image from its true instances. numpy and scipy, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.api import Instances


def label_maps(truth: Instances, classes: int, policy: str = "smallest") -> NDArray[np.int32]:
    """One label map a class, so that instances of different classes may overlap.

    Args:
        truth: the instances of an image; crowd regions are left out.
        classes: how many classes there are.
        policy: the overlap policy within a class; by default the smaller instance is on top, so that none is hidden.

    Returns:
        int32 (classes, H, W), 0 is background.
    """
    maps = np.zeros((classes, *truth.shape), np.int32)
    for index in range(classes):
        maps[index] = truth.take((truth.class_ids == index) & ~truth.crowd).to_label_map(policy)
    return maps


def known(truth: Instances) -> NDArray[np.bool_]:
    """Pixels whose truth is known, bool (H, W): all but the crowd regions."""
    unknown = np.zeros(truth.shape, np.bool_)
    for index in np.flatnonzero(truth.crowd):
        unknown |= truth.mask(int(index))
    return ~unknown


def cell_boundaries(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """The outermost pixels of each cell: those with another label among their four neighbours.

    Each cell counts by itself, so both sides of a border that two cells share are boundaries; the edge of the image
    is none.

    Args:
        labels: (H, W), 0 is background.

    Returns:
        bool (H, W), within the foreground.
    """
    boundary = np.zeros(labels.shape, np.bool_)
    vertical = labels[1:] != labels[:-1]
    horizontal = labels[:, 1:] != labels[:, :-1]
    boundary[1:] |= vertical
    boundary[:-1] |= vertical
    boundary[:, 1:] |= horizontal
    boundary[:, :-1] |= horizontal
    return boundary & (labels != 0)


def class_balance(foreground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """w_c of Lin and Norouzi 2022: 1 on background, on foreground background pixels / foreground pixels.

    Where one of the two is absent there is nothing to balance: 1 everywhere.

    Args:
        foreground: (H, W).

    Returns:
        float32 (H, W), positive.
    """
    inside = int(foreground.sum())
    outside = foreground.size - inside
    ratio = outside / inside if inside and outside else 1.0
    return np.where(foreground, np.float32(ratio), np.float32(1))


def shape_aware_weights(labels: NDArray[np.integer], *, alpha: float, sigma: float) -> NDArray[np.float32]:
    """Pixel weights ``w_c + alpha exp(-D^2 / (2 sigma^2))``, D the distance to the nearest cell boundary.

    Source: S. Lin, N. Norouzi, "An Effective Deep Learning Framework for Cell Segmentation in Microscopy Images",
    2022, equation 3; w_c is :func:`class_balance`, boundaries are :func:`cell_boundaries`. An image without a
    boundary is infinitely far from one: w_c alone.

    Args:
        labels: (H, W), 0 is background; of the whole image, since w_c counts its pixels.
        alpha: weight of the boundary against the class (the paper: 10).
        sigma: how far the boundary reaches, pixels (the paper: 5).

    Returns:
        float32 (H, W).
    """
    weights = class_balance(labels != 0)
    boundary = cell_boundaries(labels)
    if boundary.any():
        distance = ndimage.distance_transform_edt(~boundary)
        weights += (alpha * np.exp(-(distance**2) / (2 * sigma**2))).astype(np.float32)
    return weights


def near_cells(labels: NDArray[np.integer], reach: float) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float64]]]:
    """For each cell the window of the image around it, and how far each of its pixels is from the cell.

    Args:
        labels: (H, W), 0 is background.
        reach: how far the window extends beyond the cell's box, pixels.

    Yields:
        rows and columns of the window, and distances over it in pixels, 0 inside the cell.
    """
    margin = math.ceil(reach)
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        rows, columns = (slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        yield (rows, columns), ndimage.distance_transform_edt(labels[rows, columns] != label)


def inverse_frequency(foreground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Weights in inverse proportion to the size of a pixel's class, 1 for the rarer of the two.

    Source: w_c of Instance-U-Net with watershed, equation 3, whose scale it leaves open; the largest weight is 1 here.
    Where one class is absent there is nothing to balance: 1 everywhere.

    Args:
        foreground: (H, W).

    Returns:
        float32 (H, W), above 0, at most 1.
    """
    inside = int(foreground.sum())
    outside = foreground.size - inside
    if not inside or not outside:
        return np.ones(foreground.shape, np.float32)
    rarer = min(inside, outside)
    return np.where(foreground, np.float32(rarer / inside), np.float32(rarer / outside))


def between_cells_weights(labels: NDArray[np.integer], *, strength: float, sigma: float) -> NDArray[np.float32]:
    """Pixel weights ``w_c + w_0 exp(-(d1 + d2)^2 / (2 sigma^2))``: high where two cells are near.

    Source: Instance-U-Net with watershed, equation 3, after Ronneberger 2015, equation 2; w_c is
    :func:`inverse_frequency`. d1 and d2 are the distances to the nearest and the second nearest cell, 0 inside one; a
    second cell farther than 6 sigma counts as none, which changes a weight by at most 2e-8 of w_0.

    Args:
        labels: (H, W), 0 is background; of the whole image, since w_c counts its pixels.
        strength: w_0 (the paper: 10).
        sigma: pixels (the paper: 5).

    Returns:
        float32 (H, W).
    """
    first, second = np.full(labels.shape, np.inf), np.full(labels.shape, np.inf)
    for window, distance in near_cells(labels, 6 * sigma):
        second[window] = np.minimum(second[window], np.maximum(first[window], distance))
        first[window] = np.minimum(first[window], distance)
    border = strength * np.exp(-((first + second) ** 2) / (2 * sigma**2))
    return inverse_frequency(labels != 0) + border.astype(np.float32)


def inner_markers(labels: NDArray[np.integer], *, share: int, median: int) -> NDArray[np.bool_]:
    """One marker a cell: the part of its largest piece that is far from its outline.

    Pixels whose distance to the outside exceeds ``floor(largest distance x (100 - share) / 99)``, smoothed by a median
    over ``median`` x ``median`` pixels. Source: the public DeepWater code of MU-Lux-CZ's authors. A marker that the
    median would erase stays as it was, so that no cell is without one.

    Args:
        labels: (H, W), 0 is background.
        share: how much of the way to the centre a marker may fill, percent (DeepWater: 70).
        median: side of the median's window, pixels (DeepWater: 5).

    Returns:
        bool (H, W).
    """
    markers = np.zeros(labels.shape, np.bool_)
    pieces: list[tuple[tuple[slice, slice], NDArray[np.bool_]]] = []
    for window, distance in near_cells(labels, 1):
        cell = _largest_piece(distance == 0)
        depth = _depth(cell)
        piece = depth > math.floor(depth.max() * (100 - share) / 99)
        markers[window] |= piece
        pieces.append((window, piece))
    smooth: NDArray[np.bool_] = ndimage.median_filter(markers.astype(np.uint8), size=median) > 0
    for window, piece in pieces:
        if not (smooth[window] & piece).any():
            smooth[window] |= piece
    return smooth


def crowding_weights(
    labels: NDArray[np.integer], markers: NDArray[np.bool_], *, reach: float, strength: float
) -> NDArray[np.float32]:
    """Pixel weights ``1 + strength sum_i max(reach - d_i, 0)`` over all cells, 1 in markers.

    d_i is the distance to cell i, 0 inside it. Source: one of the weightings in the public DeepWater code of
    MU-Lux-CZ's authors; the weights of the 2019 entry are not published.

    Args:
        labels: (H, W), 0 is background.
        markers: bool (H, W).
        reach: pixels (DeepWater: 20).
        strength: a pixel (DeepWater: 0.075).

    Returns:
        float32 (H, W), at least 1.
    """
    total = np.zeros(labels.shape)
    for window, distance in near_cells(labels, reach):
        total[window] += np.maximum(reach - distance, 0)
    return (1 + strength * np.where(markers, 0, total)).astype(np.float32)


BACKGROUND, CELL, TOUCHING, GAP = range(4)
"""The classes of :func:`four_classes`."""


def four_classes(
    labels: NDArray[np.integer], *, touching_radius: float, gap_radius: float, min_gap: int
) -> NDArray[np.uint8]:
    """Each pixel as background 0, cell 1, touching 2 (where cells meet) or gap 3 (narrow background between cells).

    Touching are the cells' pixels with another cell among their eight neighbours, widened by ``touching_radius``; gap
    is what a closing by ``gap_radius`` adds to the foreground. Source: F. A. Guerrero Pena et al., 2019, and the
    authors' public package jcell.

    Args:
        labels: (H, W), 0 is background.
        touching_radius: of the disk, pixels (the CTC entry: 1).
        gap_radius: of the disk, pixels (the CTC entry: 7).
        min_gap: smaller pieces of gap are background, pixels (jcell: 8).

    Returns:
        uint8 (H, W).
    """
    foreground = labels != 0
    largest = ndimage.maximum_filter(labels, 3, mode="nearest")
    smallest = ndimage.minimum_filter(np.where(foreground, labels, np.iinfo(labels.dtype).max), 3, mode="nearest")
    touching = foreground & ((largest != labels) | (smallest != labels))
    gap = ndimage.label(closed(foreground, gap_radius) & ~foreground, np.ones((3, 3)))[0]
    areas = np.bincount(gap.ravel())
    areas[0] = 0
    classes = foreground.astype(np.uint8)
    classes[(areas >= min_gap)[gap]] = GAP
    classes[widened(touching, touching_radius)] = TOUCHING
    return classes


def widened(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Dilation by a disk: the pixels at most ``radius`` from ``mask`` (H, W)."""
    if not mask.any():
        return mask.copy()
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~mask) <= radius
    return near


def closed(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Closing by a disk: ``mask`` (H, W) and what no disk of ``radius`` pixels outside it can reach.

    Beyond the edge of the image all is background.
    """
    margin = math.ceil(radius) + 1
    wide = widened(np.pad(mask, margin), radius)
    if not wide.any():
        return mask.copy()
    kept: NDArray[np.bool_] = ndimage.distance_transform_edt(wide) > radius
    return kept[margin:-margin, margin:-margin]


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    return mask if count < 2 else pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance to the outside; beyond the window there is none, unless the mask fills it."""
    if mask.all():
        return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    return np.asarray(ndimage.distance_transform_edt(mask))
