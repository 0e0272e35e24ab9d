"""What a dense method learns: arrays computed once an image from its true instances. numpy and scipy, no torch."""

from __future__ import annotations

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
