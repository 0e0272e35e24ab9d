"""Many bodies at once: where they compete for a pixel the thickest has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic._exact import TURN, UNIT, Draws, Field, cosine, sine
from bench.data.synthetic._shapes import GRID, Rod, Warp, cover

Labels = NDArray[np.uint16]


def paint(bodies: Sequence[Sequence[Rod]], shape: tuple[int, int], warp: Warp | None) -> tuple[Field, Labels]:
    """Draw bodies of several rods each.

    Args:
        bodies: the rods of each body, in image coordinates.
        shape: (H, W) of the image.
        warp: of the whole image; None: outlines stay as they are.

    Returns:
        the greatest thickness at each pixel, and the number of the body (from 1) that has it; of equals the first.
    """
    rods = [rod for body in bodies for rod in body]
    owners = np.repeat(np.arange(len(bodies)), [len(body) for body in bodies])
    winner = np.zeros(shape[0] * shape[1], np.int32)
    count = len(bodies) + 1
    rod, places, heights = cover(rods, shape, warp)
    # One number an offer: the thickness, and below it the body, an earlier one being larger.
    np.maximum.at(winner, places, heights * np.int32(count) + (count - 1 - owners[rod]).astype(np.int32))
    thickness, labels = np.zeros_like(winner), np.zeros(len(winner), np.uint16)
    at = np.flatnonzero(winner)
    thickness[at], earlier = np.divmod(winner.take(at), np.int32(count))
    labels[at] = count - earlier
    return thickness.reshape(shape), labels.reshape(shape)


def tidy(labels: Labels, smallest: int) -> Labels:
    """Each body as its largest 4-connected piece, numbered anew; pieces below ``smallest`` pixels are left out."""
    from skimage.measure import label

    inside = np.flatnonzero(labels)
    pieces = label(labels, connectivity=1, background=0).reshape(-1).take(inside)
    sizes = np.bincount(pieces)
    owners = np.zeros(len(sizes), np.int64)
    owners[pieces] = labels.reshape(-1).take(inside)
    # The pieces of each body side by side, the largest first, of equals that which begins first.
    order = np.lexsort((np.arange(len(sizes)), -sizes, owners))
    order = order[owners[order] > 0]
    first = np.diff(owners[order], prepend=0) > 0
    kept = order[first & (sizes[order] >= smallest)]
    numbers = np.zeros(len(sizes), np.uint16)
    numbers[kept] = np.arange(1, len(kept) + 1)
    result = np.zeros_like(labels)
    result.reshape(-1)[inside] = numbers.take(pieces)
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
