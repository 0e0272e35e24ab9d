"""Training crops: a random window of an image and its target maps, flipped, turned and scaled alike. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""Arrays over one image by name, each (..., H, W) with the same H and W."""


@dataclass(frozen=True)
class Augmentation:
    """How a training crop may differ from the image.

    Attributes:
        flip_horizontal: left and right change places in half of the crops.
        flip_vertical: top and bottom likewise.
        right_angles: turned by 0, 90, 180 or 270 degrees.
        rotation: turned by up to so many degrees either way; 0 leaves every pixel as it is.
        zoom: scaled by a factor within [1 - zoom, 1 + zoom]; 0 leaves every pixel as it is.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    right_angles: bool = False
    rotation: float = 0.0
    zoom: float = 0.0


def random_crop(arrays: Arrays, size: int, augmentation: Augmentation, rng: np.random.Generator) -> dict[str, Any]:
    """A ``size`` x ``size`` crop of all arrays at one random place, augmented.

    Every place at which the crop lies within the image is equally likely. An image smaller than the crop, and what
    a rotation brings in from beyond the edge, is filled by reflection. Where pixels fall between pixels, floating
    point arrays are interpolated linearly; integer and bool arrays (labels) take the nearest.

    Args:
        arrays: name -> (..., H, W); may be memory-mapped, only the window is read.
        size: side of the crop, pixels.
        augmentation: what may happen to it.
        rng: every random choice comes from it, in a fixed order.

    Returns:
        name -> (..., size, size), contiguous, of the same dtype.
    """
    height, width = next(iter(arrays.values())).shape[-2:]
    row = int(rng.integers(max(height - size, 0) + 1)) - max(size - height, 0) // 2
    column = int(rng.integers(max(width - size, 0) + 1)) - max(size - width, 0) // 2
    flip_rows = augmentation.flip_vertical and rng.random() < 0.5
    flip_columns = augmentation.flip_horizontal and rng.random() < 0.5
    quarters = int(rng.integers(4)) if augmentation.right_angles else 0
    angle = rng.uniform(-augmentation.rotation, augmentation.rotation)
    scale = rng.uniform(1 - augmentation.zoom, 1 + augmentation.zoom)

    margin = 0 if angle == 0 and scale == 1 else _margin(size, angle, scale)
    crops = {}
    for name, array in arrays.items():
        window = reflected_window(array, row - margin, column - margin, size + 2 * margin, size + 2 * margin)
        if margin:
            window = _turned(window, size, angle, scale)
        if flip_rows:
            window = window[..., ::-1, :]
        if flip_columns:
            window = window[..., ::-1]
        crops[name] = np.ascontiguousarray(np.rot90(window, quarters, axes=(-2, -1)))
    return crops


def reflected_window(array: NDArray[Any], row: int, column: int, height: int, width: int) -> NDArray[Any]:
    """The window of ``array`` (..., H, W) whose first pixel is (row, column); beyond the edges it is mirrored.

    The mirror repeats the edge pixel (``d c b a | a b c d | d c b a``) and goes on for as far as it is asked.
    """
    full_height, full_width = array.shape[-2:]
    if row >= 0 and column >= 0 and row + height <= full_height and column + width <= full_width:
        return np.asarray(array[..., row : row + height, column : column + width])
    rows = _mirror(np.arange(row, row + height), full_height)
    columns = _mirror(np.arange(column, column + width), full_width)
    return np.asarray(array)[..., rows[:, None], columns]


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    folded = index % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def _margin(size: int, angle: float, scale: float) -> int:
    """How far beyond the crop its turned and scaled frame reaches, pixels."""
    turn = math.radians(angle)
    reach = size * (abs(math.cos(turn)) + abs(math.sin(turn))) / scale
    return max(1, math.ceil((reach - size) / 2) + 1)


def _turned(window: NDArray[Any], size: int, angle: float, scale: float) -> NDArray[Any]:
    """The central ``size`` x ``size`` of ``window`` (..., S, S) turned by ``angle`` degrees and scaled."""
    from scipy import ndimage  # slow to import, and seldom needed

    turn = math.radians(angle)
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) / scale
    offset = (window.shape[-1] - 1) / 2 - matrix @ np.full(2, (size - 1) / 2)
    order = 1 if np.issubdtype(window.dtype, np.floating) else 0
    planes = window.reshape(-1, *window.shape[-2:])
    out = np.empty((len(planes), size, size), window.dtype)
    for plane, target in zip(planes, out, strict=True):
        ndimage.affine_transform(plane, matrix, offset, output=target, order=order, mode="reflect")
    return out.reshape(*window.shape[:-2], size, size)
