"""Small generated images for trying a method out: any size, any number of cells, the same pixels everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic._colony import Style, fill, grow
from bench.data.synthetic._exact import Draws
from bench.data.synthetic._optics import background, phase_contrast, to_gray8

VERSION = 2
"""Raised whenever a pixel changes."""


def probe(
    name: str, shape: tuple[int, int], cells: int, radius: tuple[int, int] = (6, 9)
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """An image of cells in phase contrast, and its label image.

    Args:
        name: every pixel follows from it and from the other arguments.
        shape: (H, W), pixels.
        cells: how many are placed; where there is no room, fewer are.
        radius: of the smallest and the largest, pixels.

    Returns:
        (H, W) uint8, and (H, W) uint16 with 0 for background.
    """
    low, high = radius
    style = Style((cells, cells), (8 * low, 8 * high), (0, 30), (200, 400), together=0, spacing=105, outline=4)
    seed = f"probe {VERSION} {name}"
    colony = grow(style, seed, shape) if cells else []
    thickness, labels = fill(style, colony, seed, shape)
    image = phase_contrast(thickness) + background(Draws(f"{seed} background"), shape, tilt=6, shadow=4)
    return to_gray8(image, Draws(f"{seed} noise"), 60), labels.astype(np.uint16)
