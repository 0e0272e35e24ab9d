"""Cells as bodies of thickness: rods with round ends and changing width, bent by a field of displacements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic._exact import UNIT, Field, cosine, sine

GRID = 8
"""Coordinates and radii are whole numbers, this many to a pixel."""
_BLOCK = 1 << 14
"""Pixels that are worked on at once: few enough to stay in a processor's cache."""


class Rod(NamedTuple):
    """A rod from one point to another.

    Its thickness falls from ``thickness`` on the axis to 0 at the radius, like a lens; ``flatness`` cuts the lens off:
    1 is a lens, 4 a disc with a steep rim. Coordinates and radii in 1/8 pixel; a rod is at most 200 pixels long.
    """

    y0: int
    x0: int
    radius0: int
    y1: int
    x1: int
    radius1: int
    thickness: int
    flatness: int = 1


@dataclass(frozen=True)
class Warp:
    """Displacements of every pixel, (H, W) each, in 1/8 pixel, by which outlines become irregular."""

    rows: Field
    columns: Field

    @cached_property
    def reach(self) -> int:
        """The longest displacement, in whole pixels, rounded up."""
        return -(-max(int(np.abs(self.rows).max()), int(np.abs(self.columns).max())) // GRID)


@dataclass
class Canvas:
    """A window of an image into which rods are drawn: the thickness where any rod covers a pixel, 0 elsewhere."""

    top: int
    left: int
    thickness: Field

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where the window lies in the image."""
        height, width = self.thickness.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def draw(rods: Sequence[Rod], shape: tuple[int, int], warp: Warp) -> Canvas | None:
    """The union of rods, as the greatest thickness at each pixel.

    Args:
        rods: in image coordinates.
        shape: (H, W) of the image; what lies outside is cut off.
        warp: of the whole image.

    Returns:
        the smallest window that holds them, or None if they lie outside the image.
    """
    table, _, rod, rows, columns = pixels_of(rods, np.zeros(len(rods), np.int64), shape, warp.reach)
    if not rod.size:
        return None
    top, left = int(rows.min()), int(columns.min())
    canvas = Canvas(top, left, np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), np.int32))
    heights = lenses(table, rod, rows, columns, warp)
    np.maximum.at(canvas.thickness.reshape(-1), (rows - top) * canvas.thickness.shape[1] + columns - left, heights)
    return canvas


def pixels_of(
    rods: Sequence[Rod], owners: NDArray[np.int64], shape: tuple[int, int], margin: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """All pixels that rods may reach, one rod after the other.

    Args:
        rods: in image coordinates.
        owners: (N,), a number for each rod.
        shape: (H, W) of the image.
        margin: how far a warp can move a pixel.

    Returns:
        the rods that reach into the image as a table, their owners, and for each pixel its rod (a row of the table),
        its row and its column.
    """
    table = np.array(rods, np.int32)
    tops, lefts, bottoms, rights = _boxes(table, shape, margin)
    seen = (tops < bottoms) & (lefts < rights)
    table, owners = table[seen], owners[seen]
    tops, lefts, bottoms, rights = tops[seen], lefts[seen], bottoms[seen], rights[seen]
    widths = rights - lefts
    counts = (bottoms - tops) * widths
    rod = np.repeat(np.arange(len(table), dtype=np.int32), counts)
    place = np.arange(len(rod), dtype=np.int32) - np.repeat(np.cumsum(counts, dtype=np.int32) - counts, counts)
    return table, owners, rod, tops[rod] + place // widths[rod], lefts[rod] + place % widths[rod]


def curve(
    start: tuple[int, int], angle: int, bend: int, length: int, radii: tuple[int, int], thickness: tuple[int, int],
    pieces: int = 6, taper: int = 2, flatness: int = 1,
) -> list[Rod]:  # fmt: skip
    """A bent process that becomes thinner.

    Args:
        start: y, x of its root, in 1/8 pixel.
        angle: of its root, in 1/1024 turn.
        bend: how much the angle changes over its length.
        length: in 1/8 pixel.
        radii: at its root and at its tip, in 1/8 pixel.
        thickness: at its root and at its tip.
        pieces: rods it is made of.
        taper: 1: the radius falls evenly; 2: fast at the root.
        flatness: of its rods.
    """
    y, x = start
    rods = []
    radius = radii[0]
    for i in range(1, pieces + 1):
        direction = angle + bend * (2 * i - 1) // (2 * pieces)
        next_y = y + sine(direction) * length // (pieces * UNIT)
        next_x = x + cosine(direction) * length // (pieces * UNIT)
        left, whole = (pieces - i) ** taper, pieces**taper
        next_radius = radii[1] + (radii[0] - radii[1]) * left // whole
        thick = thickness[1] + (thickness[0] - thickness[1]) * left // whole
        rods.append(Rod(y, x, radius, next_y, next_x, next_radius, thick, flatness))
        y, x, radius = next_y, next_x, next_radius
    return rods


def tip(rods: list[Rod]) -> tuple[int, int]:
    """Where a curve ends: y, x in 1/8 pixel."""
    return rods[-1].y1, rods[-1].x1


def largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 4-connected component of a mask; of equals the first in reading order."""
    from scipy import ndimage

    components, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray(components == int(sizes.argmax()))


def _boxes(table: NDArray[np.int32], shape: tuple[int, int], margin: int) -> list[NDArray[np.int32]]:
    """Rows and columns that each rod can reach, inside the image: top, left, bottom, right."""
    y0, x0, radius0, y1, x1, radius1 = table.T[:6]
    reach = np.maximum(radius0, radius1) // GRID + margin + 1
    return [
        np.clip(np.minimum(y0, y1) // GRID - reach, 0, shape[0]),
        np.clip(np.minimum(x0, x1) // GRID - reach, 0, shape[1]),
        np.clip(np.maximum(y0, y1) // GRID + reach + 1, 0, shape[0]),
        np.clip(np.maximum(x0, x1) // GRID + reach + 1, 0, shape[1]),
    ]


def lenses(
    table: NDArray[np.int32],
    rod: NDArray[np.int32],
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    warp: Warp,
) -> Field:
    """The thickness that each rod has at its pixels; block by block, each small enough for a processor's cache."""
    result = np.empty(len(rod), np.int32)
    for start in range(0, len(rod), _BLOCK):
        block = slice(start, start + _BLOCK)
        result[block] = _lenses(table, rod[block], rows[block], columns[block], warp)
    return result


def _lenses(
    table: NDArray[np.int32],
    rod: NDArray[np.int32],
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    warp: Warp,
) -> Field:
    y0, x0, radius0, y1, x1, radius1, thickness, flatness = table.T
    place = rows * np.int32(warp.rows.shape[1]) + columns
    dy = rows * GRID + warp.rows.reshape(-1).take(place)
    dx = columns * GRID + warp.columns.reshape(-1).take(place)
    dy -= y0.take(rod)
    dx -= x0.take(rod)
    along_y, along_x = (y1 - y0).take(rod), (x1 - x0).take(rod)
    squared = np.maximum((y1 - y0) ** 2 + (x1 - x0) ** 2, 1)
    # The foot of each pixel on the axis, in 1/256 of the rod. One division of floats is exact in every bit, and
    # several times faster than one of integers.
    foot = ((dy * along_y + dx * along_x) * (256 / squared).take(rod)).clip(0, 256).astype(np.int32)
    along_y *= foot
    along_y >>= 8
    dy -= along_y
    along_x *= foot
    along_x >>= 8
    dx -= along_x
    foot *= (radius1 - radius0).take(rod)
    foot >>= 8
    radius = radius0.take(rod) + foot
    limit = radius * radius
    inside = limit - dy * dy - dx * dx
    lens = np.zeros(len(rod), np.int32)
    hit = np.flatnonzero(inside > 0)
    its = rod[hit]
    share = inside[hit] * (256 * flatness).take(its) / limit[hit]
    lens[hit] = np.minimum(share, 256).astype(np.int32) * thickness.take(its) >> 8
    return lens
