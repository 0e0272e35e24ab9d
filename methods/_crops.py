"""Training crops: a random window of an image and its target maps, flipped, turned and scaled alike by MONAI.

Which window, and by how much it is turned, is drawn here, so that a crop follows from a NumPy generator alone; what
happens to the pixels is the library's. MONAI's own random transforms zoom rows and columns apart, or interpolate twice.

Imports MONAI and so torch: import it inside the methods that need it, never at the top of a method's module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Affined, Compose, Flipd, Rotate90d
from numpy.typing import NDArray

from methods._augmentation import Augmentation

Arrays = Mapping[str, NDArray[Any]]
"""Arrays over one image by name, each (..., H, W) with the same H and W."""

LARGEST_LABEL = 2**24
"""Whole numbers are exact up to here in the single precision in which MONAI turns and scales."""


def random_crop(
    arrays: Arrays, size: int, augmentation: Augmentation, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """A ``size`` x ``size`` crop of all arrays at one random place, augmented.

    Every place at which the crop lies within the image is equally likely. An image smaller than the crop, and what
    a rotation brings in from beyond the edge, is filled by reflection. Where pixels fall between pixels, floating
    point arrays are interpolated linearly; integer and bool arrays (labels) take the nearest. Flips and right angles
    move pixels and change none.

    Args:
        arrays: name -> (..., H, W); may be memory-mapped, only the window is read.
        size: side of the crop, pixels.
        augmentation: what may happen to it.
        rng: every random choice comes from it, in a fixed order.

    Returns:
        name -> (..., size, size), contiguous, of the same dtype.

    Raises:
        ValueError: an integer array that is to be turned or scaled goes beyond :data:`LARGEST_LABEL`.
    """
    height, width = next(iter(arrays.values())).shape[-2:]
    row = int(rng.integers(max(height - size, 0) + 1)) - max(size - height, 0) // 2
    column = int(rng.integers(max(width - size, 0) + 1)) - max(size - width, 0) // 2
    flip_rows = augmentation.flip_vertical and rng.random() < 0.5
    flip_columns = augmentation.flip_horizontal and rng.random() < 0.5
    quarters = int(rng.integers(4)) if augmentation.right_angles else 0
    angle = rng.uniform(-augmentation.rotation, augmentation.rotation)
    scale = rng.uniform(1 - augmentation.zoom, 1 + augmentation.zoom)

    turned = angle != 0 or scale != 1
    margin = _margin(size, angle, scale) if turned else 0
    windows = {
        name: reflected_window(array, row - margin, column - margin, size + 2 * margin)
        for name, array in arrays.items()
    }
    names = tuple(arrays)
    transforms: list[Any] = []
    if turned:
        transforms.append(_turn(windows, size, angle, scale))
    if flip_rows:
        transforms.append(Flipd(names, spatial_axis=0))
    if flip_columns:
        transforms.append(Flipd(names, spatial_axis=1))
    if quarters:
        transforms.append(Rotate90d(names, k=quarters))
    crops = Compose(transforms)({name: window.reshape(-1, *window.shape[-2:]) for name, window in windows.items()})
    return {
        name: np.ascontiguousarray(crops[name], window.dtype).reshape(*window.shape[:-2], size, size)
        for name, window in windows.items()
    }


def reflected_window(array: NDArray[Any], row: int, column: int, side: int) -> NDArray[Any]:
    """A copy of the ``side`` x ``side`` window of ``array`` (..., H, W) whose first pixel is (row, column).

    Beyond the edges ``array`` is mirrored. The mirror repeats the edge pixel (``d c b a | a b c d | d c b a``) and
    goes on for as far as it is asked. Only the pixels of the window are read.
    """
    height, width = array.shape[-2:]
    if 0 <= row <= height - side and 0 <= column <= width - side:
        return np.array(array[..., row : row + side, column : column + side])
    rows, columns = _mirrored(row, side, height), _mirrored(column, side, width)
    top, left = rows.min(), columns.min()
    seen = np.asarray(array[..., top : rows.max() + 1, left : columns.max() + 1])
    return np.ascontiguousarray(seen[..., rows - top, :][..., columns - left])


def _mirrored(start: int, length: int, full: int) -> NDArray[np.int64]:
    """Which of ``full`` pixels in a row are seen from ``start`` on, with a mirror at each end."""
    before, after = max(-start, 0), max(start + length - full, 0)
    return np.pad(np.arange(full), (before, after), mode="symmetric")[start + before :][:length]


def _margin(size: int, angle: float, scale: float) -> int:
    """How far beyond the crop its turned and scaled frame reaches, pixels."""
    turn = math.radians(angle)
    reach = size * (abs(math.cos(turn)) + abs(math.sin(turn))) / scale
    return max(1, math.ceil((reach - size) / 2) + 1)


def _turn(windows: Arrays, size: int, angle: float, scale: float) -> Affined:
    """What turns windows by ``angle`` degrees, scales them by ``scale`` and cuts out their middle."""
    modes = []
    for name, window in windows.items():
        floating = np.issubdtype(window.dtype, np.floating)
        if not floating and window.dtype != bool and abs(window).max() > LARGEST_LABEL:
            raise ValueError(f"{name}: whole numbers above {LARGEST_LABEL} cannot be turned or scaled exactly")
        modes.append("bilinear" if floating else "nearest")
    return Affined(
        tuple(windows),
        rotate_params=math.radians(angle),
        scale_params=(1 / scale, 1 / scale),  # of the grid at which the window is read
        spatial_size=(size, size),
        mode=modes,
        padding_mode="reflection",
        dtype=torch.float32,
    )
