"""What a microscope makes of a thickness: grey levels, in whole numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic._exact import Draws, Field, blur, smooth_noise


def phase_contrast(
    thickness: Field,
    *,
    edge: int = 60,
    body: int = 22,
    near: int = 2,
    far: int = 8,
    bright: int = 150,
    darkest: int = 110,
) -> Field:
    """Grey levels that a thickness adds: its negative, as far as it differs from its surroundings.

    A phase plate holds back the light that was not bent, and with it the slow part of the delay: thick parts are dark,
    their surroundings bright, and the inside of a wide flat body is as gray as the background.

    Args:
        thickness: of the specimen, 0 to about 500; beyond 300 more of it is brighter again.
        edge: how much the difference to the near surroundings counts, in 1/32.
        body: the same for the difference between the near and the far surroundings.
        near: radius of the near surroundings, pixels.
        far: radius of the far surroundings, pixels.
        bright: gain of what is brighter than the background, percent.
        darkest: grey levels below the background that dark parts approach and do not reach.
    """
    delay = blur(thickness, 1, 1)
    # Beyond a quarter of a wave more delay is brighter again.
    delay = np.where(delay > 300, 600 - delay, delay)
    close = blur(delay, near, 2)
    wide = blur(close, far, 1)
    change = (-(delay - close) * edge - (close - wide) * body) // 32
    return np.where(change > 0, change * bright // 100, change * darkest // (darkest - np.minimum(change, 0)))


def relief(thickness: Field, gain: int) -> Field:
    """Grey levels of differential interference contrast: the slope of the thickness, as if lit from the upper left.

    Args:
        thickness: of the specimen.
        gain: grey levels for a slope of 32 over two pixels on both axes.
    """
    padded = np.pad(blur(thickness, 1, 1), 1, mode="edge")
    slope = (padded[2:, 2:] - padded[:-2, :-2]) + (padded[2:, 1:-1] - padded[:-2, 1:-1]) // 2
    return slope * gain // 32


def background(
    draws: Draws,
    shape: tuple[int, int],
    *,
    level: tuple[int, int] = (112, 134),
    tilt: int = 18,
    shadow: int = 12,
    grain: int = 3,
) -> Field:
    """Uneven light, and faint shadows out of focus, in grey levels.

    Args:
        draws: what it follows from.
        shape: (H, W).
        level: darkest and brightest mean.
        tilt: the greatest difference from one side to the other.
        shadow: amplitude of shadows some 160 pixels wide.
        grain: amplitude of those some 20 pixels wide.
    """
    height, width = shape
    rows = np.arange(height, dtype=np.int32)[:, None] * draws.integer(-tilt, tilt) // height
    columns = np.arange(width, dtype=np.int32)[None, :] * draws.integer(-tilt, tilt) // width
    shade = smooth_noise(draws, shape, 23, grain, coarser=7, coarse_amplitude=shadow)
    return draws.integer(*level) + rows + columns + shade


def dot(field: Field, y: int, x: int, radius: int, height: int) -> None:
    """Add a small round lens to ``field``, cut off at its border.

    Args:
        field: changed in place.
        y: row of its centre, pixels.
        x: column of its centre, pixels.
        radius: pixels.
        height: what is added at its centre.
    """
    top, bottom = max(y - radius - 1, 0), min(y + radius + 2, field.shape[0])
    left, right = max(x - radius - 1, 0), min(x + radius + 2, field.shape[1])
    if top >= bottom or left >= right:
        return
    dy = np.arange(top - y, bottom - y, dtype=np.int32)[:, None]
    dx = np.arange(left - x, right - x, dtype=np.int32)[None, :]
    whole = (2 * radius + 1) ** 2
    field[top:bottom, left:right] += height * np.maximum(whole - 4 * (dy * dy + dx * dx), 0) // whole


def specks(field: Field, draws: Draws, most: int) -> None:
    """Add up to ``most`` strings of small specks, which belong to no cell, to a thickness."""
    height, width = field.shape
    for _ in range(draws.integer(most // 5, most)):
        y, x = draws.integer(0, height - 1), draws.integer(0, width - 1)
        drift_y, drift_x, darkest = draws.integer(-2, 2), draws.integer(-2, 2), draws.integer(20, 150)
        for _ in range(draws.pick((30, 20, 15, 10, 8, 6, 5, 3, 2, 1)) * 2 + 1):
            dot(field, y, x, draws.pick((45, 35, 20)), draws.integer(-darkest // 3, darkest))
            y, x = y + drift_y + draws.integer(-3, 3), x + drift_x + draws.integer(-3, 3)


def to_gray8(image: Field, draws: Draws, noise: int) -> NDArray[np.uint8]:
    """An 8-bit image: with noise of ``noise`` percent of 2.8 grey levels, cut off at black and white."""
    noisy = image + (draws.noise((image.shape[0], image.shape[1])) * noise // 100)
    return np.clip(noisy, 0, 255).astype(np.uint8)
