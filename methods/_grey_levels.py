"""How the published dense methods scale an image before the network. numpy and scipy, no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import to_rgb8


def gray8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image as uint8 (H, W): :func:`bench.api.to_rgb8`, colour by ITU-R 601 luma."""
    colour = to_rgb8(image)
    luma = colour @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(luma).astype(np.uint8)


def equalised(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Global histogram equalisation, then scaled to [-0.5, 0.5].

    A grey level becomes the share of the pixels above the darkest level that are not brighter than it. Source:
    MU-Lux-CZ's preparation of DIC and Fluo-SIM+ images. An image of one grey level becomes -0.5 everywhere.

    Args:
        image: uint8 (H, W).

    Returns:
        float32 (H, W).
    """
    histogram = np.bincount(image.ravel(), minlength=256)
    below = np.cumsum(histogram)
    darkest = histogram[np.flatnonzero(histogram)[0]]
    rest = image.size - darkest
    table = np.rint((below - darkest).clip(min=0) * (255 / max(rest, 1)))
    return (table[image] / 255 - 0.5).astype(np.float32)


def evenly_lit(image: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    """Less its own blur, which is the illumination, and centred on the median, in units of the 8-bit range.

    Source: MU-Lux-CZ's preparation of PSC phase-contrast images.

    Args:
        image: uint8 (H, W).
        sigma: standard deviation of the blur, pixels.

    Returns:
        float32 (H, W).
    """
    from scipy import ndimage

    levels = image.astype(np.float32) / 255
    even = levels - ndimage.gaussian_filter(levels, sigma, mode="nearest")
    return even - np.float32(np.median(even))


def between_percentiles(image: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Grey levels so that one percentile becomes 0 and the other 1; colour by ITU-R 601 luma.

    Source: the public package jcell of CALT-US's authors. What lies outside is kept; an image in which the two
    percentiles agree is scaled by its range, and one without contrast becomes 0.

    Args:
        image: (H, W) or (H, W, C), uint8 or uint16.
        low: in [0, 100].
        high: in [0, 100].

    Returns:
        float32 (H, W).
    """
    from bench.api import to_gray

    levels = to_gray(image)
    dark, bright = np.percentile(levels, [low, high])
    if bright <= dark:
        dark, bright = float(levels.min()), float(levels.max())
    return ((levels - dark) / (bright - dark if bright > dark else 1)).astype(np.float32)
