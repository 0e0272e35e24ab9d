"""What a microscope makes of a thickness: grey levels, in whole numbers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic._exact import Draws, Field, smooth_noise, tent


def phase_contrast(
    thickness: Field,
    *,
    edge: int = 60,
    body: int = 22,
    near: int = 2,
    far: int = 4,
    bright: int = 150,
    darkest: int = 110,
) -> Field:
    """Grey levels that a thickness adds: its negative, as far as it differs from its surroundings.

    A phase plate holds back the light that was not bent, and with it the slow part of the delay: thick parts are dark,
    their surroundings bright, and the inside of a wide flat body is as gray as the background.

    Args:
        thickness: of the specimen, 0 to about 500; beyond 300 more of it is brighter again.
        edge: how much the difference to the near surroundings counts, in 1/32.
        body: the same for the difference between the near and the far surroundings; with ``edge`` at most 130.
        near: the near surroundings are as wide as 2 to this power, pixels.
        far: the same for the far surroundings.
        bright: gain of what is brighter than the background, percent.
        darkest: grey levels below the background that dark parts approach and do not reach.
    """
    delay = tent(np.clip(thickness, -200, 800).astype(np.int16), 1)
    # Beyond a quarter of a wave more delay is brighter again.
    delay = np.int16(300) - np.abs(delay - np.int16(300))
    close = tent(delay, near)
    wide = tent(close, far)
    wide -= close
    close -= delay
    change = close * np.int16(edge // 2) + wide * np.int16(body // 2)
    change >>= 4
    return _response(bright, darkest).take(change.view(np.uint16))


@lru_cache(maxsize=16)
def _response(bright: int, darkest: int) -> Field:
    """Grey levels for every change of light, those below 0 at the end, as they lie in two's complement."""
    change = np.arange(1 << 16).astype(np.uint16).view(np.int16).astype(np.int32)
    dark = np.minimum(change, 0)
    levels = np.where(change > 0, change * bright // 100, dark * darkest // (darkest - dark))
    return levels.astype(np.int32)


def relief(thickness: Field, gain: int) -> Field:
    """Grey levels of differential interference contrast: the slope of the thickness, as if lit from the upper left.

    Args:
        thickness: of the specimen.
        gain: grey levels for a slope of 32 over two pixels on both axes, once the thickness is blurred.
    """
    padded = np.pad(tent(np.clip(thickness, -500, 2000).astype(np.int16), 2).astype(np.int32), 1, mode="edge")
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
    corner_y, corner_x = y - radius - 1, x - radius - 1
    lens = _lens(radius, height)
    field[top:bottom, left:right] += lens[top - corner_y : bottom - corner_y, left - corner_x : right - corner_x]


@lru_cache(maxsize=4096)
def _lens(radius: int, height: int) -> Field:
    away = np.arange(-radius - 1, radius + 2, dtype=np.int32) ** 2
    whole = (2 * radius + 1) ** 2
    return height * np.maximum(whole - 4 * (away[:, None] + away), 0) // whole


def specks(field: Field, draws: Draws, most: int) -> None:
    """Add up to ``most`` strings of small specks, which belong to no cell, to a thickness."""
    height, width = field.shape
    for _ in range(draws.integer(most // 5, most)):
        y, x = draws.integer(0, height - 1), draws.integer(0, width - 1)
        drift_y, drift_x, darkest = draws.integer(-2, 2), draws.integer(-2, 2), draws.integer(20, 150)
        for _ in range(draws.pick((30, 20, 15, 10, 8, 6, 5, 3, 2, 1)) * 2 + 1):
            dot(field, y, x, draws.pick((45, 35, 20)), draws.integer(-darkest // 3, darkest))
            y, x = y + drift_y + draws.integer(-3, 3), x + drift_x + draws.integer(-3, 3)


def dirt(field: Field, draws: Draws, most: int) -> None:
    """Add up to ``most`` patches of fine dirt, each of a few to some dozens of dark grains, to a thickness."""
    height, width = field.shape
    count = draws.integer(most // 4, most)
    rows, columns = draws.integers(0, height - 1, count), draws.integers(0, width - 1, count)
    spread, grains = draws.integers(1, 11, count) ** 2 // 8 + 2, draws.integers(1, 6, count) ** 2
    patch = np.repeat(np.arange(count), grains)
    scattered = [draws.integers(-64, 64, len(patch)) + draws.integers(-64, 64, len(patch)) for _ in range(2)]
    y = np.clip(rows[patch] + scattered[0] * spread[patch] // 64, 1, height - 2)
    x = np.clip(columns[patch] + scattered[1] * spread[patch] // 64, 1, width - 2)
    strength = draws.integers(15, 70, len(patch))
    for dy, dx, share in ((0, 0, 4), (-1, 0, 2), (1, 0, 2), (0, -1, 2), (0, 1, 2)):
        np.add.at(field, (y + dy, x + dx), strength * share // 4)


def to_gray8(image: Field, draws: Draws, noise: int) -> NDArray[np.uint8]:
    """An 8-bit image: with noise of ``noise`` percent of 2.8 grey levels, cut off at black and white."""
    noisy = draws.noise((image.shape[0], image.shape[1]))
    noisy *= noise
    noisy //= 100
    noisy += image
    return noisy.clip(0, 255).astype(np.uint8)
