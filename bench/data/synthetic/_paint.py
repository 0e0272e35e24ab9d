"""Many bodies at once: where they compete for a pixel the thickest has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic._exact import TURN, UNIT, Draws, Field, cosine, sine
from bench.data.synthetic._shapes import GRID, Rod, Warp, lenses, pixels_of

Labels = NDArray[np.uint16]


def paint(bodies: Sequence[Sequence[Rod]], shape: tuple[int, int], warp: Warp) -> tuple[Field, Labels]:
    """Draw bodies of several rods each.

    Args:
        bodies: the rods of each body, in image coordinates.
        shape: (H, W) of the image.
        warp: of the whole image.

    Returns:
        the greatest thickness at each pixel, and the number of the body (from 1) that has it; of equals the first.
    """
    rods = [rod for body in bodies for rod in body]
    owners = np.repeat(np.arange(len(bodies)), [len(body) for body in bodies])
    winner = np.zeros(shape[0] * shape[1], np.int64)
    count = len(bodies) + 1
    if rods:
        table, owners, rod, rows, columns = pixels_of(rods, owners, shape, warp.reach)
        heights = lenses(table, rod, rows, columns, warp).astype(np.int64)
        # One number an offer: the thickness, and below it the body, an earlier one being larger.
        offers = heights * count + (count - 1 - owners[rod])
        offers[heights == 0] = 0
        np.maximum.at(winner, rows.astype(np.int64) * shape[1] + columns, offers)
    thickness = (winner // count).astype(np.int32).reshape(shape)
    labels = np.where(winner > 0, count - 1 - winner % count + 1, 0).astype(np.uint16).reshape(shape)
    return thickness, labels


def tidy(labels: Labels, smallest: int) -> Labels:
    """Each body as its largest 4-connected piece, numbered anew; pieces below ``smallest`` pixels are left out."""
    from scipy import ndimage

    result = np.zeros_like(labels)
    number = 0
    for index, window in enumerate(ndimage.find_objects(labels), 1):
        if window is None:
            continue
        mask = labels[window] == index
        if int(mask.sum()) < smallest:
            continue
        pieces, count = ndimage.label(mask)
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            if int(sizes.max()) < smallest:
                continue
            mask = pieces == int(sizes.argmax())
        number += 1
        result[window][mask] = number
    return result


def rims(labels: Labels) -> NDArray[np.bool_]:
    """Pixels of a body that have a pixel of another body or of the background below or to the right, or are such."""
    edge = np.zeros(labels.shape, np.bool_)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge & (labels > 0)


def scatter(
    draws: Draws,
    radii: Sequence[int],
    shape: tuple[int, int],
    *,
    spacing: int,
    together: int = 0,
    islands: int = 0,
    tries: int = 12,
) -> list[tuple[int, int] | None]:
    """Places for bodies that keep their distance, one after the other.

    Args:
        draws: what they follow from.
        radii: of the bodies, in 1/8 pixel.
        shape: (H, W) of the image in pixels.
        spacing: the least distance of two, percent of the sum of their radii.
        together: of 100 bodies, how many are put right beside an earlier one.
        islands: if positive, the others are put into this many round islands instead of anywhere.
        tries: after so many places that are too near another the body is given up.

    Returns:
        y, x of each body in 1/8 pixel, or None for one that found no place.
    """
    height, width = shape[0] * GRID, shape[1] * GRID
    centres = [(draws.integer(0, height), draws.integer(0, width)) for _ in range(islands)]
    placed = np.zeros((len(radii), 3), np.int64)
    count = 0
    found: list[tuple[int, int] | None] = []
    for radius in radii:
        place = None
        for _ in range(tries):
            if count and draws.chance(together):
                y0, x0, other = placed[draws.integer(0, count - 1)].tolist()
                distance = (other + radius) * spacing // 100 + draws.integer(0, radius)
            elif centres:
                (y0, x0), distance = (
                    centres[draws.integer(0, len(centres) - 1)],
                    draws.integer(0, min(height, width) // 4),
                )
            else:
                y0, x0, distance = draws.integer(0, height), draws.integer(0, width), 0
            away = draws.integer(0, TURN - 1)
            y, x = y0 + sine(away) * distance // UNIT, x0 + cosine(away) * distance // UNIT
            if not (-radius < y < height + radius and -radius < x < width + radius):
                continue
            others = placed[:count]
            apart = (others[:, 0] - y) ** 2 + (others[:, 1] - x) ** 2
            if (apart * 10_000 >= ((others[:, 2] + radius) * spacing) ** 2).all():
                place = (y, x)
                placed[count] = y, x, radius
                count += 1
                break
        found.append(place)
    return found
