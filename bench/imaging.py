"""Grey levels: one rule by which every method sees 8-bit and 16-bit, gray and colour images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.8
"""Of a 16-bit image: what becomes black and what becomes white."""


def to_rgb8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8, the form that networks with ImageNet weights expect.

    8-bit images keep their grey levels; 16-bit images, whose range says nothing, are stretched linearly from
    their 0.5th to their 99.8th percentile. Gray is repeated over three channels, alpha is dropped.

    Args:
        image: (H, W) or (H, W, C) with C in 1, 2 (gray + alpha), 3, 4; uint8 or uint16.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] == 2:
        image = image[..., :1]
    image = image[..., :3]
    if image.dtype != np.uint8:
        image = _stretch(image)
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    return np.ascontiguousarray(image, dtype=np.uint8)


def to_gray(image: NDArray[Any]) -> NDArray[np.float32]:
    """An image as (H, W) float32 with zero mean and unit standard deviation; colour by ITU-R 601 luma.

    A constant image becomes all zeros.
    """
    values = image.astype(np.float32)
    if values.ndim == 3:
        luma = np.array([0.299, 0.587, 0.114], np.float32)
        values = values[..., 0] if values.shape[2] < 3 else values[..., :3] @ luma
    deviation = float(values.std())
    centred = values - np.float32(values.mean())
    return (centred / deviation if deviation > 0 else np.zeros_like(centred)).astype(np.float32)


def _stretch(image: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.percentile(image, [LOW_PERCENTILE, HIGH_PERCENTILE])
    if high <= low:
        low, high = float(image.min()), float(image.max())
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    scaled = (image.astype(np.float32) - low) * (255.0 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
